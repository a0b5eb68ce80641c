//! `/live/v1/events`: one topic as Server-Sent Events, for clients without WebSocket.
//!
//! Each event is named after its `op`, carries the same JSON as the WebSocket (without `id`), and has the version as its
//! `id`, so that a browser that comes back says `Last-Event-ID` and gets the missing deltas. HTTP pulls the stream, so a
//! slow reader is merged by the hub like any.
//!
//! `?topic=sql&sql=…` is a live query with the rights, bounds and audit that it has on a WebSocket. Its first event comes when
//! it has been computed.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use rollcall_analytics::hub::Update;
use serde::Deserialize;

use crate::caller::Caller;
use crate::extract::Params;
use crate::problem::ApiError;
use crate::state::ApiState;

use super::access::{Access, Change};
use super::feed::{Feed, Next};
use super::protocol;
use super::slots::LiveSlot;
use super::topic::Topic;
use super::what::{self, What};

/// A comment keeps proxies from ending a quiet stream.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    topic: String,
    since: Option<u64>,
    sql: Option<String>,
}

/// What the stream waits for. It is kept while other things happen: an update that is on its way must not be lost.
type Pull = BoxFuture<'static, (Feed, Next)>;

struct Following {
    state: ApiState,
    access: Access,
    what: What,
    pull: Pull,
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
    let access = Access::new(&state, &caller);
    // A browser repeats the first address when it comes back, so what it has seen since counts more.
    let seen = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let since = seen.or(query.since);
    let config = &state.config;
    let slot = state.live.take(caller.who.account, config.live_connections_max, config.live_connections_per_account_max)?;
    let (what, feed) = match (query.topic.as_str(), query.sql) {
        (what::SQL, Some(sql)) => {
            let asks = access.asks()?;
            (What::Query(Box::new(asks.clone())), Feed::query(state.clone(), asks, sql, since))
        }
        (what::SQL, None) => return Err(ApiError::field("sql", "missing", "the topic sql has its question in sql")),
        (_, Some(_)) => return Err(ApiError::field("sql", "unknown", "only the topic sql has a question")),
        (name, None) => {
            let topic = Topic::parse(name).ok_or(ApiError::NotFound("topic"))?;
            access.check(topic)?;
            (What::Topic(topic), Feed::Topic(state.hub.subscribe(&access.told_as(topic, name), since)))
        }
    };
    state.metrics.live_connections.inc();
    state.metrics.live_subscriptions.inc();
    let following = Following { state, access, what, pull: feed.next().boxed(), ended: false, _slot: slot };
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
                        Change::Rights => self.what.refused(None, &self.access),
                    };
                    if let Some(refusal) = refusal {
                        return Some(self.end(&refusal));
                    }
                }
                (feed, next) = &mut self.pull => return Some(self.on_next(feed, next)),
                () = tokio::time::sleep(KEEP_ALIVE_EVERY) => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
    }

    fn on_next(&mut self, feed: Feed, next: Next) -> Bytes {
        // The directory may have changed since this was allowed: then it is checked before anything is said.
        let refusal = if self.access.take_stale() { self.what.refused(None, &self.access) } else { None };
        if let Some(refusal) = refusal {
            return self.end(&refusal);
        }
        match next {
            Next::Update(update) => {
                // What changes until this one has been taken is merged by the hub.
                self.pull = feed.next().boxed();
                self.state.metrics.live_messages.with_label_values(&[protocol::kind(&update)]).inc();
                event(&update)
            }
            Next::Ended => self.end(&protocol::refusal(None, "topic_ended", "this topic is not published now")),
            Next::Failed(error) => self.end(&protocol::refused(None, &error)),
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
