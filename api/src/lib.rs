//! HTTP for people and programs: REST under `/api/v1`, the live stream under `/live/v1`, health, metrics and the
//! dashboard. See protocol.md for what clients may rely on.
//!
//! # Promises
//! - A write is answered once it is durable in the log and shown by the live state, or not at all.
//! - Every route and every live topic is checked against the caller's rights, from the directory as it is now; what
//!   lies in another district does not exist for the caller.
//! - Everything is bounded: bodies, waits, password checks, live connections, subscriptions, what is remembered.
//! - Errors are problem documents with a stable code; no database message reaches a client.

mod caller;
mod carried;
mod dashboard;
mod dates;
mod drivers;
mod envelope;
mod erasing;
mod exporting;
mod extract;
pub mod flight;
mod health;
mod idempotent;
mod live;
mod marking;
mod metrics;
mod openapi;
mod page;
pub mod pgwire;
mod problem;
pub mod query;
mod rights;
mod routes;
mod schema;
mod state;
mod throttle;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use tower_http::compression::CompressionLayer;

pub use erasing::Eraser;
pub use exporting::Exporter;
pub use openapi::openapi_json;
pub use problem::{ApiError, FieldError, Problem};
pub use state::{ApiConfig, ApiParts, ApiState, Check, ReadyChecks};

/// Everything the server answers over HTTP, except device intake, which the binary adds with [`Router::merge`].
pub fn router(state: ApiState) -> Router {
    let (api, document) = openapi::api().split_for_parts();
    let api = api.route_layer(from_fn_with_state(state.clone(), idempotent::layer));
    Router::new()
        .merge(api)
        .merge(live::router())
        .merge(openapi::router(&document))
        .merge(health::router())
        .fallback(dashboard::serve)
        .layer(DefaultBodyLimit::max(state.config.body_bytes_max))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(state.clone(), envelope::envelope))
        .with_state(state)
}
