//! Listeners: TCP and TLS, limits on connections, an orderly stop.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use rollcall_model::ids::DeviceId;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;
use crate::gateway::Gateway;
use crate::mqtt::connection;
use crate::mqtt::hello::Peer;
use crate::places::Place;

/// How long connections may take to end after they were told to.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// After an accept fails for want of file descriptors, some must be given back before the next can succeed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("{path}: {reason}")]
    Certificate { path: PathBuf, reason: String },
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the sessions of devices in {path}: {source}")]
    Sessions { path: PathBuf, source: io::Error },
}

/// Sockets that are bound already, so that a port in use is known before anything starts.
#[derive(Default)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    /// Needs `GatewayConfig::tls`.
    pub tls: Option<TcpListener>,
}

/// Serves MQTT until shutdown, then ends every connection and writes the last word on each device.
pub async fn run(gateway: Arc<Gateway>, listeners: Listeners, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let acceptor = gateway.config.tls.as_ref().map(acceptor).transpose()?;
    let after_drain = CancellationToken::new();
    let presence = {
        let (gateway, admission, stop) = (gateway.clone(), gateway.admission.clone(), after_drain.clone());
        tokio::spawn(async move { gateway.presence.run(admission, stop).await })
    };
    let journal = gateway.journal_file.lock().take().map(|file| {
        let (gateway, stop) = (gateway.clone(), after_drain.clone());
        tokio::spawn(async move { gateway.broker.keep(file, stop).await })
    });
    let wills = tokio::spawn({
        let gateway = gateway.clone();
        async move {
            loop {
                for will in gateway.broker.next_wills().await {
                    gateway.publish_will(will).await;
                }
            }
        }
    });
    let mut connections = JoinSet::new();
    accept_all(&gateway, &listeners, acceptor, &shutdown, &mut connections).await;
    drop(listeners);
    gateway.close();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
        gateway.upgraded.wait().await;
    });
    if drained.await.is_err() {
        let left = connections.len() + gateway.upgraded.len();
        tracing::warn!(left, "connections were cut because they did not end in time");
        gateway.cut.cancel();
        connections.shutdown().await;
        gateway.upgraded.wait().await;
    }
    wills.abort();
    after_drain.cancel();
    if let Err(panic) = presence.await {
        tracing::error!(%panic, "the task that writes who is connected failed");
    }
    if let Some(Err(panic)) = OptionFuture::from(journal).await {
        tracing::error!(%panic, "the task that keeps sessions failed");
    }
    Ok(())
}

async fn accept_all(
    gateway: &Arc<Gateway>,
    listeners: &Listeners,
    acceptor: Option<TlsAcceptor>,
    shutdown: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    loop {
        let (accepted, tls) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = accept(listeners.tcp.as_ref()) => (accepted, None),
            accepted = accept(listeners.tls.as_ref().filter(|_| acceptor.is_some())) => (accepted, acceptor.clone()),
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(panic) = ended {
                    tracing::error!(%panic, "the task of a connection failed");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = gateway.places.take(Some(address.ip())) else {
                    gateway.metrics.connections_refused.with_label_values(&["limit"]).inc();
                    continue;
                };
                let transport = if tls.is_some() { "tls" } else { "tcp" };
                let peer = Peer { address: Some(address.ip()), transport, arrival: gateway.next_arrival(), certificate: None };
                connections.spawn(serve(gateway.clone(), stream, peer, tls, place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn serve(gateway: Arc<Gateway>, stream: TcpStream, peer: Peer, tls: Option<TlsAcceptor>, _place: Place) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let Some(tls) = tls else { return connection::serve(gateway, stream, peer).await };
    // Boxed, so that a connection without TLS does not carry its state.
    Box::pin(serve_tls(gateway, stream, peer, tls)).await;
}

async fn serve_tls(gateway: Arc<Gateway>, stream: TcpStream, peer: Peer, tls: TlsAcceptor) {
    let limit = Duration::from_millis(gateway.config.connect_timeout_ms);
    let Ok(Ok(stream)) = tokio::time::timeout(limit, tls.accept(stream)).await else {
        gateway.metrics.connections_refused.with_label_values(&["tls"]).inc();
        return;
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| device_of(chain.first()?));
    connection::serve(gateway, stream, Peer { certificate, ..peer }).await;
}

/// The device that the common name of a verified certificate is the id of.
fn device_of(certificate: &CertificateDer<'_>) -> Option<DeviceId> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok()?.parse().ok()
}

/// Reads the PEM files; called again only by a restart.
fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, GatewayError> {
    let failed =
        |path: &Path, error: rustls::pki_types::pem::Error| GatewayError::Certificate { path: path.into(), reason: error.to_string() };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, GatewayError> {
        let chain =
            CertificateDer::pem_file_iter(path).and_then(|found| found.collect::<Result<Vec<_>, _>>()).map_err(|e| failed(path, e))?;
        if chain.is_empty() {
            return Err(GatewayError::Certificate { path: path.into(), reason: "there is no certificate in it".into() });
        }
        Ok(chain)
    };
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|e| failed(&config.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &config.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated().build();
            let reason = |e: rustls::server::VerifierBuilderError| GatewayError::Certificate { path: path.clone(), reason: e.to_string() };
            builder.with_client_cert_verifier(verifier.map_err(reason)?)
        }
    };
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?)))
}
