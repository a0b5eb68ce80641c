//! Extractors whose refusals are problem documents: ids in paths, query parameters, JSON bodies.

use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::problem::ApiError;
use crate::state::ApiState;

/// Of a body that is too large, so much is read and dropped, so that a client which sends all of it before it reads hears why it was
/// refused. The connection of one that sends more, or takes longer, is cut.
const DROPPED_BYTES_MAX: usize = 16 * 1024 * 1024;
const DROPPING_MAX: Duration = Duration::from_secs(10);

/// The one id in a path. What is no id names nothing: 404.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr + Send> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ApiError::NotFound("thing"))?;
        text.parse().map(Self).map_err(|_| ApiError::NotFound("thing"))
    }
}

/// Query parameters; unknown or unreadable ones are refused by name.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|refused| malformed(StatusCode::BAD_REQUEST, "bad_query", refused.body_text()))
    }
}

/// A JSON body within the body limit.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A form of another site cannot send this type without asking first, so the check also guards the sign-in.
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = "send the body as JSON, with `Content-Type: application/json`".to_owned();
            return Err(malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
        }
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, state.config.body_bytes_max).await?;
        read_json(&bytes).map(Self)
    }
}

/// The whole body, of at most `bytes_max`.
pub(crate) async fn read(headers: &HeaderMap, body: HttpBody, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || malformed(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than this server accepts".to_owned());
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > bytes_max) {
        // The client waits to be told before it sends anything.
        return Err(too_large());
    }
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(length.unwrap_or_default().min(bytes_max));
    while let Some(piece) = pieces.next().await {
        let unreadable = |_| malformed(StatusCode::BAD_REQUEST, "body_unreadable", "the body ended before it was complete".to_owned());
        let piece = piece.map_err(unreadable)?;
        if whole.len() + piece.len() > bytes_max {
            let mut dropped = whole.len() + piece.len();
            drop(whole);
            let rest = async {
                while let Some(Ok(piece)) = pieces.next().await
                    && dropped <= DROPPED_BYTES_MAX
                {
                    dropped += piece.len();
                }
            };
            // Whether the rest came or not, the answer is the same.
            let _ = tokio::time::timeout(DROPPING_MAX, rest).await;
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (status, code) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_type"),
            _ => (StatusCode::BAD_REQUEST, "malformed_json"),
        };
        malformed(status, code, error.to_string())
    })
}

pub(crate) fn malformed(status: StatusCode, code: &'static str, message: String) -> ApiError {
    ApiError::Malformed { status, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_refused_for_what_it_is() {
        #[derive(serde::Deserialize, Debug)]
        #[allow(dead_code)]
        struct Wanted {
            number: u32,
        }
        let code = |text: &str| read_json::<Wanted>(text.as_bytes()).unwrap_err().code();
        assert_eq!(code("{"), "malformed_json");
        assert_eq!(code("{\"number\": \"x\"}"), "wrong_type");
        assert_eq!(code("{}"), "wrong_type");
        assert_eq!(code(&format!("{{\"x\": {}", "[".repeat(100_000))), "malformed_json");
    }
}
