//! What is found while rows come is said before the word that they are complete: a client that has heard that word may be gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, PgWireConnectionState, SessionExtensions};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, ProtocolVersion};
use futures_util::Sink;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use super::answer;

/// Sentences that wait for the end of the rows.
pub type Late = Arc<Mutex<Vec<String>>>;

/// The client, with what is late put in front of each `CommandComplete`.
pub struct Telling<'a, C> {
    pub client: &'a mut C,
    pub late: &'a Late,
}

impl<C: Sink<PgWireBackendMessage> + Unpin> Telling<'_, C> {
    fn client(self: Pin<&mut Self>) -> Pin<&mut C> {
        Pin::new(self.get_mut().client)
    }
}

impl<C: Sink<PgWireBackendMessage> + Unpin> Sink<PgWireBackendMessage> for Telling<'_, C> {
    type Error = C::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.client().poll_ready(context)
    }

    /// The client writes into a buffer, which takes these few messages more.
    fn start_send(mut self: Pin<&mut Self>, message: PgWireBackendMessage) -> Result<(), C::Error> {
        if matches!(message, PgWireBackendMessage::CommandComplete(_)) {
            for warning in std::mem::take(&mut *self.late.lock()) {
                self.as_mut().client().start_send(PgWireBackendMessage::NoticeResponse(answer::warning(&warning).into()))?;
            }
        }
        self.client().start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.client().poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.client().poll_close(context)
    }
}

impl<C: ClientPortalStore> ClientPortalStore for Telling<'_, C> {
    type PortalStore = C::PortalStore;

    fn portal_store(&self) -> &C::PortalStore {
        self.client.portal_store()
    }
}

impl<C: ClientInfo> ClientInfo for Telling<'_, C> {
    fn socket_addr(&self) -> SocketAddr {
        self.client.socket_addr()
    }

    fn is_secure(&self) -> bool {
        self.client.is_secure()
    }

    fn protocol_version(&self) -> ProtocolVersion {
        self.client.protocol_version()
    }

    fn set_protocol_version(&mut self, version: ProtocolVersion) {
        self.client.set_protocol_version(version);
    }

    fn pid_and_secret_key(&self) -> (i32, SecretKey) {
        self.client.pid_and_secret_key()
    }

    fn set_pid_and_secret_key(&mut self, pid: i32, secret_key: SecretKey) {
        self.client.set_pid_and_secret_key(pid, secret_key);
    }

    fn state(&self) -> PgWireConnectionState {
        self.client.state()
    }

    fn set_state(&mut self, state: PgWireConnectionState) {
        self.client.set_state(state);
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.client.transaction_status()
    }

    fn set_transaction_status(&mut self, status: TransactionStatus) {
        self.client.set_transaction_status(status);
    }

    fn metadata(&self) -> &HashMap<String, String> {
        self.client.metadata()
    }

    fn metadata_mut(&mut self) -> &mut HashMap<String, String> {
        self.client.metadata_mut()
    }

    fn session_extensions(&self) -> &SessionExtensions {
        self.client.session_extensions()
    }

    fn sni_server_name(&self) -> Option<&str> {
        self.client.sni_server_name()
    }

    fn client_certificates<'a>(&self) -> Option<&[CertificateDer<'a>]> {
        self.client.client_certificates()
    }
}
