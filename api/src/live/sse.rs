//! `/live/v1/events`: one topic as Server-Sent Events, for clients without WebSocket.
//!
//! Each event is named after its `op`, carries the same JSON as the WebSocket (without `id`), and has the version as its
//! `id`, so that a browser that comes back says `Last-Event-ID` and gets the missing deltas. HTTP pulls the stream, so a
//! slow reader is merged by the hub like any.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use rollcall_analytics::hub::{Subscription, Update};
use serde::Deserialize;

use crate::caller::Caller;
use crate::extract::Params;
use crate::problem::ApiError;
use crate::state::ApiState;

use super::access::{Access, Change};
use super::protocol;
use super::slots::LiveSlot;
use super::topic::Topic;

/// A comment keeps proxies from ending a quiet stream.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    topic: String,
    since: Option<u64>,
}

struct Following {
    state: ApiState,
    access: Access,
    topic: Topic,
    subscription: Subscription,
    ended: bool,
    _slot: LiveSlot,
}

/// Follows a topic.
pub async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, ApiError> {
    let topic = Topic::parse(&query.topic).ok_or(ApiError::NotFound("topic"))?;
    let access = Access::new(&state, &caller);
    access.check(topic)?;
    let config = &state.config;
    let slot = state.live.take(caller.who.account, config.live_connections_max, config.live_connections_per_account_max)?;
    // A browser repeats the first address when it comes back, so what it has seen since counts more.
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let subscription = state.hub.subscribe(&query.topic, seen.or(query.since));
    state.metrics.live_connections.inc();
    state.metrics.live_subscriptions.inc();
    let following = Following { state, access, topic, subscription, ended: false, _slot: slot };
    let body = Body::from_stream(stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    }));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl Following {
    /// The next event, or `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let shutdown = self.state.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                change = self.access.changed() => {
                    let refusal = match change {
                        Change::Ended => Some(protocol::refused(None, &ApiError::Unauthenticated)),
                        Change::Rights => self.access.check(self.topic).err().map(|error| protocol::refused(None, &error)),
                    };
                    if let Some(refusal) = refusal {
                        return Some(self.end(&refusal));
                    }
                }
                update = self.subscription.next() => return Some(match update {
                    Some(_) if self.access.take_stale() && self.access.check(self.topic).is_err() => {
                        self.end(&protocol::refused(None, &ApiError::Forbidden("this topic is no longer this account's to follow")))
                    }
                    Some(update) => {
                        self.state.metrics.live_messages.with_label_values(&[protocol::kind(&update)]).inc();
                        event(&update)
                    }
                    None => self.end(&protocol::refusal(None, "topic_ended", "this topic is not published now")),
                }),
                () = tokio::time::sleep(KEEP_ALIVE_EVERY) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }

    fn end(&mut self, refusal: &str) -> Bytes {
        self.ended = true;
        Bytes::from(format!("event: error\ndata: {refusal}\n\n"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.state.metrics.live_connections.dec();
        self.state.metrics.live_subscriptions.dec();
    }
}

/// One event. The data is one line: encoded JSON has no line breaks.
fn event(update: &Update) -> Bytes {
    let message = protocol::update(None, update);
    let name = if matches!(update, Update::Snapshot { .. }) { "snapshot" } else { "delta" };
    let mut out = BytesMut::with_capacity(message.len() + 64);
    out.put_slice(format!("id: {}\nevent: {name}\ndata: ", update.version()).as_bytes());
    out.put_slice(&message);
    out.put_slice(b"\n\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_version_as_its_id() {
        let update = Update::Snapshot { version: 57, data: Bytes::from_static(b"{}") };
        let expected = "id: 57\nevent: snapshot\ndata: {\"op\":\"snapshot\",\"version\":57,\"data\":{}}\n\n";
        assert_eq!(event(&update), expected.as_bytes());
    }
}
