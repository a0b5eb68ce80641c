//! The live stream: topics pushed over a WebSocket (`/live/v1`) or as Server-Sent Events (`/live/v1/events`).
//!
//! # Promises
//! - Every message was authorised for its reader: rights are looked at when a topic is asked for and again whenever the
//!   directory has changed since, before anything is sent. A revoked right ends the subscription at once; an ended session
//!   ends the connection.
//! - Readers pull. What a reader has not taken is merged by the hub, never queued; a reader that does not take a message
//!   within `live_write_timeout` is disconnected with 1013.
//! - The topic `sql` is a question: its result, then what changes in it (`rollcall_analytics::query::live`). It
//!   ends when the rights of its reader have changed; the reader then subscribes again.
//! - One task a connection; values are encoded once for all readers and copied into each envelope.

mod access;
mod feed;
mod pressure;
mod protocol;
mod slots;
mod socket;
mod sse;
mod topic;
mod what;

use axum::Router;
use axum::routing::get;

use crate::state::ApiState;

pub use pressure::watch as watch_pressure;
pub use slots::LiveSlots;
pub(crate) use topic::Topic;

pub fn router() -> Router<ApiState> {
    Router::new().route("/live/v1", get(socket::upgrade)).route("/live/v1/events", get(sse::events))
}
