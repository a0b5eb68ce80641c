//! Arrow Flight SQL: the door through which ADBC, JDBC and ODBC drivers bring in the tools that analysts know.
//!
//! - Accounts are those of the pages. A driver's user name and password (a Basic handshake) get a token, which ends with the action
//!   `CloseSession` or when it is not used; an API token may be sent as `authorization: Bearer` instead. See [`crate::drivers`].
//! - A ticket is the question's text itself. It grants nothing: the text is planned for whoever presents it, with that
//!   caller's scope, limits and audit, exactly as at `POST /api/v1/sql`.
//! - Nothing is kept between calls: a prepared statement's handle is its text with the values that are bound to its
//!   parameters, one row of them. Updates, transactions and Substrait plans are refused, and the server's information says so.
//! - What must be said with an answer stands in the metadata of its schema and in the head of the call; what is found while its rows come
//!   (a worker that was lost), in the metadata of a last batch without rows and in the call's trailer.
//! - A driver cancels a query by ending its stream of rows; a driver that goes away does so too.

mod answer;
mod auth;
mod metadata;
mod prepared;
mod service;
mod values;

use std::io;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::state::ApiState;

/// Named in the audit.
const DOOR: &str = "flight";

/// Calls that one connection may have open at a time.
const CALLS_PER_CONNECTION_MAX: u32 = 32;
/// A driver that says nothing for this long is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest message that a client may send; questions are text.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Certificate chain and key as PEM.
pub struct FlightTls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

/// Serves until `shutdown`; then takes no more calls and ends when those that run have ended. Without `tls` it speaks
/// plain gRPC, which is for loopback addresses only: the caller sees to that.
pub async fn run(state: ApiState, listener: TcpListener, tls: Option<FlightTls>, shutdown: CancellationToken) -> io::Result<()> {
    let service = FlightServiceServer::new(service::Door::new(state)).max_decoding_message_size(REQUEST_BYTES_MAX);
    let mut server = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(tls) = tls {
        let identity = Identity::from_pem(tls.certificate, tls.key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(io::Error::other)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.add_service(service).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await.map_err(io::Error::other)
}
