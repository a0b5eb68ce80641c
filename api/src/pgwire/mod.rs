//! The PostgreSQL wire protocol: the door of psql, JDBC, and the tools that speak to PostgreSQL only.
//!
//! - Everything that is asked goes through the query engine with the caller's scope, limits and audit, exactly as at
//!   `POST /api/v1/sql`; also what tools ask of `pg_catalog`, which knows the caller's own tables and nothing else.
//! - Accounts are those of the pages: e-mail and password, or an API token as the password. Both travel as they are, so the
//!   door asks for TLS unless the peer is on this machine. Argon2id does not go together with SCRAM. The session that a password
//!   begins ends with the connection.
//! - Nothing is written. `BEGIN`, `COMMIT`, savepoints and the harmless settings that drivers send are answered and change nothing: every
//!   question sees the tables as they are at its own begin.
//! - What must be said with a result (a file of history that cannot be read, figures with noise) comes as a `WARNING` before it; what is
//!   found while its rows come (a worker that was lost), after the last of them.
//! - Cursors (`DECLARE`, `FETCH`, `CLOSE`) go forward over the rows of a query that runs meanwhile.
//! - A connection keeps a number of prepared statements and portals, which is bounded.
//! - A query ends when its client cancels it (psql's Ctrl-C) or is gone.

mod answer;
mod catalog;
mod connection;
mod cursor;
mod kept;
mod late;
mod parameters;
mod portal;
mod rows;
mod serve;
mod statements;
mod word;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::state::ApiState;
use connection::{Connection, Handlers, Running};

/// Connections at a time; one more is closed at once.
const CONNECTIONS_MAX: usize = 128;

/// How often it is looked whether a client that has sent something is still there.
const GONE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Certificate chain and key as PEM.
pub struct Tls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

/// Serves until `shutdown`; connections that are open then end. Without `tls` it is for loopback addresses only: the caller
/// sees to that.
pub async fn run(state: ApiState, listener: TcpListener, tls: Option<Tls>, shutdown: CancellationToken) -> io::Result<()> {
    let tls = tls.map(acceptor).transpose()?;
    let (running, places, tracker) = (Arc::new(Running::default()), Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files: they are closed in time.
                tracing::warn!(%error, "a PostgreSQL connection could not be accepted");
                tokio::time::sleep(GONE_LOOK_INTERVAL).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "too many PostgreSQL connections");
            continue;
        };
        let (stream, probe) = match twice(stream) {
            Ok(both) => both,
            Err(error) => {
                // Too many open files, again: this connection is closed, and the others go on.
                tracing::warn!(%error, %peer, "a PostgreSQL connection could not be kept");
                continue;
            }
        };
        let gone = shutdown.child_token();
        let connection = Arc::new(Connection::new(state.clone(), running.clone(), tls.is_some(), gone.clone()));
        let (tls, ended) = (tls.clone(), gone.clone());
        tracker.spawn(async move {
            let _place = place;
            tokio::select! {
                () = gone.cancelled() => {}
                () = closed(probe) => gone.cancel(),
                () = connection.keep() => {}
                served = AssertUnwindSafe(serve::serve(stream, tls, Handlers(connection.clone()))).catch_unwind() => match served {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, %peer, "a PostgreSQL connection ended"),
                    // Its session is ended all the same.
                    Err(_) => tracing::error!(%peer, "a PostgreSQL connection panicked"),
                },
            }
            ended.cancel();
            connection.end().await;
        });
    }
    tracker.close();
    tracker.wait().await;
    Ok(())
}

/// The connection, and a second look at it.
fn twice(stream: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let probe = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, TcpStream::from_std(probe)?))
}

/// Returns when the client has closed the connection, also while a query runs and nobody reads from it.
async fn closed(probe: TcpStream) {
    loop {
        match probe.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            // There is something to read, for others.
            Ok(_) => tokio::time::sleep(GONE_LOOK_INTERVAL).await,
            Err(_) => return,
        }
    }
}

fn acceptor(tls: Tls) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(&tls.certificate).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
