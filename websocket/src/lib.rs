//! Turns one HTTP upgrade request into a WebSocket stream. Both the ingest endpoints and the live endpoint stand on it,
//! so that handshake, subprotocol choice and size limits are written once.
//!
//! [`accept`] checks the request and returns the response to send at once, with a [`Pending`] stream. A task of the
//! caller then awaits [`Pending::into_stream`]: the stream exists only after the response has left.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The bytes of an upgraded connection.
pub type Io = TokioIo<Upgraded>;

/// A server's side of one WebSocket.
pub type WebSocket = WebSocketStream<Io>;

/// What one connection may cost. A message above `message_bytes_max` ends the connection with close code 1009.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub message_bytes_max: usize,
    /// Allocated for the whole life of the connection, so it decides what an idle one costs.
    pub read_buffer_bytes: usize,
    /// Bytes that may wait for a slow reader before a send fails; must exceed the largest message that is sent.
    pub write_buffer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 256 * 1024, read_buffer_bytes: 4 * 1024, write_buffer_bytes_max: 4 * 1024 * 1024 }
    }
}

/// Why a request is no acceptable upgrade. As a response it says so with the status a client can act on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("this address speaks WebSocket: send GET with `Connection: Upgrade` and `Upgrade: websocket`")]
    NotAnUpgrade,
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    #[error("`Sec-WebSocket-Key` is missing or is not 16 bytes in base64")]
    Key,
    #[error("none of the offered subprotocols is spoken here; offer one of: {0}")]
    Protocol(String),
    #[error("the connection ended before it became a WebSocket: {0}")]
    Ended(#[from] hyper::Error),
}

impl IntoResponse for UpgradeError {
    fn into_response(self) -> Response {
        let (status, upgrade) = match self {
            Self::NotAnUpgrade => (StatusCode::UPGRADE_REQUIRED, Some("websocket")),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, None),
            _ => (StatusCode::BAD_REQUEST, None),
        };
        let mut response = (status, self.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Some(name) = upgrade {
            headers.insert(header::UPGRADE, HeaderValue::from_static(name));
        }
        response
    }
}

/// A WebSocket whose handshake response has not left yet.
pub struct Pending {
    upgrade: OnUpgrade,
    limits: Limits,
    /// The subprotocol that was chosen, if any was asked for.
    pub protocol: Option<&'static str>,
}

impl Pending {
    /// As [`Pending::into_stream`], for a caller that reads and writes frames itself; the limits are then its own.
    pub async fn into_io(self) -> Result<Io, UpgradeError> {
        Ok(TokioIo::new(self.upgrade.await?))
    }

    /// Waits until the response has been sent. Cancelling it closes the connection.
    pub async fn into_stream(self) -> Result<WebSocket, UpgradeError> {
        let upgraded = self.upgrade.await?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(self.limits.message_bytes_max))
            .max_frame_size(Some(self.limits.message_bytes_max))
            .read_buffer_size(self.limits.read_buffer_bytes)
            .write_buffer_size(self.limits.read_buffer_bytes)
            .max_write_buffer_size(self.limits.write_buffer_bytes_max.max(self.limits.read_buffer_bytes + 1));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }
}

/// Checks the handshake. `protocols` are the subprotocols spoken here, most preferred first; when it is empty none is
/// chosen, otherwise the client must offer one of them.
pub fn accept(request: &mut Request<Body>, protocols: &[&'static str], limits: Limits) -> Result<(Response, Pending), UpgradeError> {
    let headers = request.headers();
    let asks = contains(headers, header::CONNECTION, "upgrade") && contains(headers, header::UPGRADE, "websocket");
    if request.method() != Method::GET || !asks {
        return Err(UpgradeError::NotAnUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return Err(UpgradeError::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|k| k.len() == 24).ok_or(UpgradeError::Key)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| UpgradeError::Key)?;
    let protocol = protocols.iter().copied().find(|p| contains(headers, header::SEC_WEBSOCKET_PROTOCOL, p));
    if protocol.is_none() && !protocols.is_empty() {
        return Err(UpgradeError::Protocol(protocols.join(", ")));
    }
    let upgrade = hyper::upgrade::on(request);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok((response, Pending { upgrade, limits, protocol }))
}

/// Whether a comma-separated header, which may be repeated, holds a token; tokens compare without case.
fn contains(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(extra: &[(&'static str, &str)]) -> Request<Body> {
        let mut builder = Request::builder().header("connection", "keep-alive, Upgrade").header("upgrade", "WebSocket");
        builder = builder.header("sec-websocket-version", "13");
        for (name, value) in extra {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_answer_is_that_of_the_standard() {
        // Key and answer of RFC 6455, section 1.3.
        let mut asked = request(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-protocol", "x, mqtt")]);
        let (response, pending) = accept(&mut asked, &["mqtt"], Limits::default()).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
        assert_eq!(pending.protocol, Some("mqtt"));
    }

    #[test]
    fn what_is_no_upgrade_is_told_so() {
        let mut plain = Request::builder().body(Body::empty()).unwrap();
        let refused = accept(&mut plain, &[], Limits::default()).err().unwrap().into_response();
        assert_eq!(refused.status(), StatusCode::UPGRADE_REQUIRED);
        let mut no_key = request(&[]);
        assert!(matches!(accept(&mut no_key, &[], Limits::default()), Err(UpgradeError::Key)));
        let mut foreign = request(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-protocol", "chat")]);
        assert!(matches!(accept(&mut foreign, &["mqtt"], Limits::default()), Err(UpgradeError::Protocol(_))));
    }
}
