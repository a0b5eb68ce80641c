//! `/live/v1`: one WebSocket, several subscriptions, one task.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use rollcall_websocket::{Limits, WebSocket};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::caller;
use crate::problem::ApiError;
use crate::state::ApiState;

use super::access::{Access, Change};
use super::feed::{Feed, Next};
use super::protocol::{self, Op};
use super::slots::LiveSlot;
use super::topic::Topic;
use super::what::{SQL, What};

/// Most topics followed on one connection.
pub const SUBSCRIPTIONS_MAX: usize = 64;

/// Largest message a client may send; a subscription is some 150 bytes, and one of `sql` has its question.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What a connection reads at a time: most messages fit.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Most operations of a client in [`OPS_WINDOW`]: a page that comes back asks for all its topics at once.
const OPS_MAX: u32 = 256;
const OPS_WINDOW: Duration = Duration::from_secs(10);

/// How long the closing frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The server pings this often; a client that was silent for [`SILENCE_MAX`] is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(65);

/// Largest message that is sent: a school of 5,000 with its building list, with room to spare.
const WRITE_BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why the server ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client closed or is gone.
    Gone,
    Slow,
    SessionEnded,
    Protocol,
    Idle,
    Shutdown,
}

impl End {
    /// Close code, label in the metrics and in the close frame.
    fn close(self) -> Option<(CloseCode, &'static str)> {
        match self {
            Self::Gone => None,
            Self::Slow => Some((CloseCode::Again, "slow")),
            Self::SessionEnded => Some((CloseCode::Policy, "session_ended")),
            Self::Protocol => Some((CloseCode::Policy, "protocol")),
            Self::Idle => Some((CloseCode::Away, "idle")),
            Self::Shutdown => Some((CloseCode::Restart, "shutdown")),
        }
    }
}

/// Upgrades to the live WebSocket.
pub async fn upgrade(State(state): State<ApiState>, mut request: Request) -> Result<Response, ApiError> {
    let caller = caller::identify(&state, request.headers()).await?;
    // Browsers send the cookie with a WebSocket of any page; `Origin` says whose it is.
    if !caller::is_own_origin(request.headers(), &state.config) {
        return Err(ApiError::CrossSite);
    }
    let config = &state.config;
    let slot = state.live.take(caller.who.account, config.live_connections_max, config.live_connections_per_account_max)?;
    let limits = Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        read_buffer_bytes: READ_BUFFER_BYTES,
        write_buffer_bytes_max: WRITE_BUFFER_BYTES_MAX,
    };
    let (response, pending) = match rollcall_websocket::accept(&mut request, &[], limits) {
        Ok(accepted) => accepted,
        Err(refused) => return Ok(refused.into_response()),
    };
    let access = Access::new(&state, &caller);
    tokio::spawn(async move {
        match pending.into_stream().await {
            Ok(socket) => Connection::new(state, access, socket, slot).run().await,
            Err(error) => tracing::debug!(%error, "a live connection ended before it began"),
        }
    });
    Ok(response)
}

/// What a subscription's future gives back: its feed, to be asked again.
type Pulled = (u64, (Feed, Next));
type Pull = Abortable<BoxFuture<'static, Pulled>>;

struct Followed {
    what: What,
    abort: AbortHandle,
}

struct Connection {
    state: ApiState,
    access: Access,
    socket: WebSocket,
    followed: HashMap<u64, Followed>,
    pulls: FuturesUnordered<Pull>,
    heard: Instant,
    ops: u32,
    ops_since: Instant,
    _slot: LiveSlot,
}

impl Connection {
    fn new(state: ApiState, access: Access, socket: WebSocket, slot: LiveSlot) -> Self {
        state.metrics.live_connections.inc();
        let now = Instant::now();
        Self {
            state,
            access,
            socket,
            followed: HashMap::new(),
            pulls: FuturesUnordered::new(),
            heard: now,
            ops: 0,
            ops_since: now,
            _slot: slot,
        }
    }

    async fn run(mut self) {
        let end = self.serve().await;
        if let Some((code, reason)) = end.close() {
            self.state.metrics.live_closed.with_label_values(&[reason]).inc();
            tracing::debug!(account = %self.access.account(), reason, "a live connection is closed");
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            // A slow reader may never take it; then the connection just ends.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(Some(frame))).await;
        }
    }

    async fn serve(&mut self) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.state.shutdown.clone();
        loop {
            let outcome = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(End::Shutdown),
                change = self.access.changed() => self.on_change(change).await,
                message = self.socket.next() => self.on_message(message).await,
                Some(pulled) = self.pulls.next(), if !self.pulls.is_empty() => match pulled {
                    Ok(pulled) => self.on_update(pulled).await,
                    // Unsubscribed meanwhile.
                    Err(_) => Ok(()),
                },
                _ = ping.tick() => self.on_tick().await,
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn on_tick(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(End::Idle);
        }
        self.write(Message::Ping(Bytes::new())).await
    }

    async fn on_message(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                if self.ops_since.elapsed() > OPS_WINDOW {
                    (self.ops, self.ops_since) = (0, Instant::now());
                }
                self.ops += 1;
                if self.ops > OPS_MAX {
                    return Err(End::Protocol);
                }
                match serde_json::from_str(&text) {
                    Ok(op) => self.on_op(op).await,
                    Err(error) => self.say(protocol::refusal(None, "malformed", &error.to_string())).await,
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                // tungstenite has put the pong into its buffer; it leaves with the next write.
                self.flush().await
            }
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Err(End::Protocol),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(tungstenite::Error::Capacity(_) | tungstenite::Error::Utf8(_))) => Err(End::Protocol),
            Some(Err(_)) => Err(End::Gone),
        }
    }

    async fn on_op(&mut self, op: Op) -> Result<(), End> {
        match op {
            Op::Ping => self.say(protocol::PONG.to_owned()).await,
            Op::Unsubscribe { id } => {
                self.forget(id);
                Ok(())
            }
            Op::Subscribe { id, topic, since, sql } => match self.follow(id, &topic, since, sql) {
                Ok(()) => Ok(()),
                Err(refusal) => self.say(refusal).await,
            },
        }
    }

    fn follow(&mut self, id: u64, name: &str, since: Option<u64>, sql: Option<String>) -> Result<(), String> {
        if self.followed.contains_key(&id) {
            return Err(protocol::refusal(Some(id), "id_in_use", "this id has a subscription; unsubscribe it first"));
        }
        if self.followed.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection follows at most {SUBSCRIPTIONS_MAX} topics");
            return Err(protocol::refusal(Some(id), "too_many_subscriptions", &message));
        }
        let (what, feed) = match (name, sql) {
            (SQL, Some(sql)) => {
                let asks = self.access.asks().map_err(|error| protocol::refused(Some(id), &error))?;
                (What::Query(Box::new(asks.clone())), Feed::query(self.state.clone(), asks, sql, since))
            }
            (SQL, None) => return Err(protocol::refusal(Some(id), "malformed", "the topic sql has its question in \"sql\"")),
            (_, Some(_)) => return Err(protocol::refusal(Some(id), "malformed", "only the topic sql has a question")),
            (name, None) => {
                let topic = Topic::parse(name).ok_or_else(|| protocol::refusal(Some(id), "unknown_topic", "there is no such topic"))?;
                self.access.check(topic).map_err(|error| protocol::refused(Some(id), &error))?;
                (What::Topic(topic), Feed::Topic(self.state.hub.subscribe(&self.access.told_as(topic, name), since)))
            }
        };
        let abort = self.pull(id, feed);
        self.followed.insert(id, Followed { what, abort });
        self.state.metrics.live_subscriptions.inc();
        Ok(())
    }

    /// Asks a feed for its next update.
    fn pull(&mut self, id: u64, feed: Feed) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let next = async move { (id, feed.next().await) };
        self.pulls.push(Abortable::new(next.boxed(), registration));
        abort
    }

    fn forget(&mut self, id: u64) {
        if let Some(followed) = self.followed.remove(&id) {
            followed.abort.abort();
            self.state.metrics.live_subscriptions.dec();
        }
    }

    async fn on_update(&mut self, (id, (feed, next)): Pulled) -> Result<(), End> {
        if self.access.take_stale() {
            // The directory has changed since this was allowed: check again before anything is said.
            self.on_change(Change::Rights).await?;
        }
        if !self.followed.contains_key(&id) {
            return Ok(());
        }
        let update = match next {
            Next::Update(update) => update,
            Next::Ended => {
                self.forget(id);
                return self.say(protocol::refusal(Some(id), "topic_ended", "this topic is not published now")).await;
            }
            Next::Failed(error) => {
                self.forget(id);
                return self.say(protocol::refused(Some(id), &error)).await;
            }
        };
        self.state.metrics.live_messages.with_label_values(&[protocol::kind(&update)]).inc();
        let text = Utf8Bytes::try_from(protocol::update(Some(id), &update)).map_err(|_| End::Protocol)?;
        self.write(Message::Text(text)).await?;
        // Only now is the next one asked for: what changes meanwhile is merged by the hub.
        let abort = self.pull(id, feed);
        if let Some(followed) = self.followed.get_mut(&id) {
            followed.abort = abort;
        }
        Ok(())
    }

    async fn on_change(&mut self, change: Change) -> Result<(), End> {
        if matches!(change, Change::Ended) {
            return Err(End::SessionEnded);
        }
        let refused: Vec<(u64, String)> =
            self.followed.iter().filter_map(|(id, followed)| Some((*id, followed.what.refused(Some(*id), &self.access)?))).collect();
        for (id, refusal) in refused {
            self.forget(id);
            self.say(refusal).await?;
        }
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<(), End> {
        self.write(Message::text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(self.state.config.live_write_timeout, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match tokio::time::timeout(self.state.config.live_write_timeout, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.metrics.live_connections.dec();
        self.state.metrics.live_subscriptions.sub(self.followed.len() as i64);
    }
}
