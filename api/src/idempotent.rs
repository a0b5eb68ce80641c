//! `Idempotency-Key` for every write: the same request sent again is answered with the first answer.
//!
//! A request without an answer may be sent again with its key: if the first was done, its answer comes back; if it is
//! still being worked on, 409. A key belongs to its account and to one method, path and body. Answers are kept a day;
//! failures of the server are not kept. An answer that shows a secret is not kept either, only that it was given: the
//! secret stands nowhere but in the first answer.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rollcall_store::idempotency::{self, Reservation};
use rollcall_store::secret::SecretHash;
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::extract::{self, malformed};
use crate::problem::ApiError;
use crate::state::ApiState;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set on an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEY_BYTES_MAX: usize = 128;
/// Largest answer that is kept: some 500 marks.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// Routes whose answers show a secret once.
const SECRET_PATHS: [&str; 3] = ["/api/v1/devices", "/api/v1/badges", "/api/v1/tokens"];

/// Has no caller yet, and an answer that sets a cookie.
const SIGN_IN_PATH: &str = "/api/v1/session";

pub async fn layer(state: State<ApiState>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || !request.headers().contains_key(KEY) || request.uri().path() == SIGN_IN_PATH {
        return next.run(request).await;
    }
    once(&state, request, next).await.unwrap_or_else(ApiError::into_response)
}

async fn once(state: &ApiState, request: Request, next: Next) -> Result<Response, ApiError> {
    let key = request.headers().get(KEY).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
        return Err(malformed(StatusCode::BAD_REQUEST, "bad_idempotency_key", message));
    }
    let (mut parts, body) = request.into_parts();
    let caller = <Caller as axum::extract::FromRequestParts<ApiState>>::from_request_parts(&mut parts, state).await?;
    let body = extract::read(&parts.headers, body, state.config.body_bytes_max).await?;
    let hash = request_hash(&parts.method, parts.uri.path(), &body);
    if let Some(known) = reserve(state, &caller, &key, &hash).await? {
        return Ok(known);
    }
    parts.extensions.insert(caller.clone());
    let shows_secret = SECRET_PATHS.contains(&parts.uri.path());
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(state, &caller, &key, response, shows_secret).await
}

fn request_hash(method: &Method, path: &str, body: &Bytes) -> SecretHash {
    let mut hash = Sha256::new();
    hash.update(method.as_str());
    hash.update([0]);
    hash.update(path);
    hash.update([0]);
    hash.update(body);
    hash.finalize().into()
}

/// The answer that was given before; `None`: the key is ours and the work is to be done.
async fn reserve(state: &ApiState, caller: &Caller, key: &str, hash: &SecretHash) -> Result<Option<Response>, ApiError> {
    let mut tenant = caller.tenant(state).await?;
    let reservation = idempotency::reserve(&mut tenant, caller.district, caller.who.account, key, hash).await?;
    tenant.commit().await?;
    match reservation {
        Reservation::Mine => Ok(None),
        Reservation::Answered { status, response } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
            let mut response = (status, response).into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(Some(response))
        }
        Reservation::InProgress => Err(ApiError::Conflict {
            code: "idempotency_in_progress",
            message: "the same request is being worked on; send it again in a moment".to_owned(),
        }),
        Reservation::OtherRequest => Err(ApiError::Conflict {
            code: "idempotency_key_reused",
            message: "this Idempotency-Key was used for another request".to_owned(),
        }),
    }
}

async fn keep(state: &ApiState, caller: &Caller, key: &str, response: Response, shows_secret: bool) -> Result<Response, ApiError> {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, RESPONSE_BYTES_MAX).await.map_err(ApiError::internal)?;
    let (kept_status, kept_bytes) = match parts.status.is_success() && shows_secret {
        true => shown_once().await?,
        false => (parts.status, bytes.clone()),
    };
    let kept = async {
        let mut tenant = caller.tenant(state).await?;
        if parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS {
            idempotency::release(&mut tenant, caller.who.account, key).await?;
        } else {
            idempotency::finish(&mut tenant, caller.who.account, key, kept_status.as_u16(), &kept_bytes).await?;
        }
        tenant.commit().await
    };
    // The work is done and the answer is true; only its repetition is lost.
    if let Err(error) = kept.await {
        tracing::warn!(%error, "an answer could not be kept for its Idempotency-Key");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// What a repetition of a request is told whose answer showed a secret.
async fn shown_once() -> Result<(StatusCode, Bytes), ApiError> {
    let told = ApiError::Conflict {
        code: "secret_shown_once",
        message: "this was done, and its secret was in the first answer; revoke it and make another".to_owned(),
    };
    let (parts, body) = told.into_response().into_parts();
    let bytes = axum::body::to_bytes(body, RESPONSE_BYTES_MAX).await.map_err(ApiError::internal)?;
    Ok((parts.status, bytes))
}
