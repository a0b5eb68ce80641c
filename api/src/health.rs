//! `/health/live`, `/health/ready` and `/metrics`: for supervisors and Prometheus, without sign-in and without
//! anything about people.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::TextEncoder;
use serde::Serialize;

use crate::problem::ApiError;
use crate::state::{ApiState, Check};

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Vec<Check>,
}

pub fn router() -> Router<ApiState> {
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready)).route("/metrics", get(metrics))
}

/// The process answers; nothing else is said.
async fn live() -> &'static str {
    "live\n"
}

/// 200 when everything is ready, else 503; in both cases says what is and what is not.
async fn ready(State(state): State<ApiState>) -> Response {
    let checks = (state.ready)();
    let ready = checks.iter().all(|check| check.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(Readiness { ready, checks })).into_response()
}

async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let text = TextEncoder::new().encode_to_string(&state.registry.gather()).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
