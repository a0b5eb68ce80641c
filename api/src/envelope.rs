//! What surrounds every request: its id, its log line, its metrics, and the headers that keep browsers safe.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use crate::problem::REQUEST_ID;
use crate::state::ApiState;

pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id that is taken over from a client or proxy.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The page loads nothing from elsewhere and has no inline script; styles of components may be inline attributes.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data: blob:; font-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// Gives the request an id, measures and logs it, and sets the response's security headers.
pub async fn envelope(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = taken_over(request.headers()).unwrap_or_else(|| Uuid::new_v4().to_string());
    let id: Arc<str> = id.into();
    let method = request.method().clone();
    // The pattern, never the path: ids would make one time series each.
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    let elapsed = started.elapsed();
    let status = response.status();
    state.metrics.requests.with_label_values(&[method.as_str(), &route, status.as_str()]).inc();
    state.metrics.request_seconds.with_label_values(&[&route]).observe(elapsed.as_secs_f64());
    tracing::debug!(request = &*id, %method, route, status = status.as_u16(), elapsed_us = elapsed.as_micros() as u64, "answered");
    secure(response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

fn taken_over(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID_HEADER)?.to_str().ok()?;
    let sound = !id.is_empty()
        && id.len() <= REQUEST_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    sound.then(|| id.to_owned())
}

fn secure(headers: &mut HeaderMap) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(self), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Answers about people must not lie in a shared cache; static files set their own.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
