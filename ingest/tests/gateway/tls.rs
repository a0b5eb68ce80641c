//! The TLS listener: a token over TLS, and a client certificate instead of a token. The keys beside this file protect
//! nothing; their authority's key was thrown away.

use std::path::PathBuf;
use std::sync::Arc;

use rollcall_ingest::{GatewayConfig, TlsConfig};
use rollcall_model::event::DeviceKind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Hello, Server};

/// The common name of `device.pem`.
const NAMED: &str = "11111111-2222-4333-8444-555555555555";

fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/certificates")).join(name)
}

async fn server() -> Server {
    let tls = TlsConfig { certificate: file("server.pem"), key: file("server.key"), client_authority: Some(file("authority.pem")) };
    Server::with(GatewayConfig { tls: Some(tls), ..GatewayConfig::default() }).await
}

/// Sends CONNECT over TLS and returns CONNACK's two bytes.
async fn connect(server: &Server, with_certificate: bool, hello: &Hello) -> Vec<u8> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("authority.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(file("device.pem")).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(file("device.key")).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let stream = TcpStream::connect(("127.0.0.1", server.tls_port.unwrap())).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(&hello.encode()).await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    answer[2..].to_vec()
}

#[tokio::test]
async fn a_token_or_a_certificate() {
    let server = server().await;
    let who = server.device();
    assert_eq!(connect(&server, false, &Hello::new(&who)).await, [0, 0]);
    let mut named = server.device_of(DeviceKind::Gate);
    named.device = NAMED.parse().unwrap();
    let by_certificate = Hello { user: String::new(), ..Hello::new(&named) };
    assert_eq!(connect(&server, true, &by_certificate).await, [0, 5], "not registered yet");
    server.directory.devices.lock().insert(named.device, named);
    assert_eq!(connect(&server, true, &by_certificate).await, [0, 0]);
    assert_eq!(connect(&server, false, &by_certificate).await, [0, 4], "nothing proves who it is");
    assert_eq!(connect(&server, true, &Hello::new(&who)).await, [0, 4], "the certificate names another device");
}

#[tokio::test]
async fn one_that_does_not_speak_tls_is_closed() {
    let server = server().await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.tls_port.unwrap())).await.unwrap();
    stream.write_all(&Hello::new(&server.device()).encode()).await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(&[0x20]));
}
