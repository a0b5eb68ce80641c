//! The ingest WebSocket: every frame is answered in order, with its number, once it is durable.
//!
//! At most `WS_UNACKNOWLEDGED_MAX` frames wait for their answer; then nothing is read until some have left. Frames that
//! have arrived together are admitted together. While the log has no room, frames are read ahead up to a limit, so that
//! pings behind them are answered; after it the device is held back by TCP. At a shutdown what is in the log already is
//! answered, then the connection is closed with 1001.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use rollcall_model::ids::Offset;
use rollcall_model::limits::{PAYLOAD_BYTES_MAX, WS_UNACKNOWLEDGED_MAX};
use rollcall_model::time::UtcMillis;
use rollcall_stream::AppendError;
use rollcall_websocket::WebSocket;
use serde_json::json;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::decode::{Finished, Format, Framing, Intake, Refusal, Source};
use crate::directory::DeviceIdentity;
use crate::gateway::{Gateway, RETRY};

/// What one event takes in a frame, about; only to make room for those that were read.
const EVENT_BYTES_USUAL: usize = 112;

/// Frames admitted under one lock.
const FRAMES_PER_BATCH_MAX: usize = 256;

/// Bytes of frames that are read ahead of the ones that can be admitted.
const AHEAD_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

/// A peer that has been silent this long is asked for a sign of life, and after twice as long it is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to read its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// At a shutdown, how long frames that are in the log may take to become durable; less than the gateway's own limit.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A frame that waits for the log.
struct Waiting {
    number: u64,
    offset: Offset,
    refusal: Option<Refusal>,
    since: Instant,
}

/// Decoded frames that the log has no room for, with their numbers and refusals.
struct Batch {
    finished: Finished,
    frames: Vec<(u64, Option<Refusal>)>,
    since: Instant,
}

struct Feed {
    gateway: Arc<Gateway>,
    socket: WebSocket,
    who: DeviceIdentity,
    directory_version: u64,
    durable: watch::Receiver<Offset>,
    frames: u64,
    waiting: VecDeque<Waiting>,
    stalled: Option<Batch>,
    /// Read, not decoded yet.
    ahead: VecDeque<Message>,
    ahead_bytes: usize,
    heard: Instant,
    /// A ping was sent since something was heard.
    asked: bool,
}

/// Why a feed ends; the close code tells the device.
type Closed = Option<(CloseCode, &'static str)>;

const STOPPED: Closed = Some((CloseCode::Restart, "the server is restarting"));

/// Serves one ingest WebSocket to its end.
pub async fn serve(gateway: Arc<Gateway>, socket: WebSocket, who: DeviceIdentity) {
    let gauge = gateway.metrics.connections.with_label_values(&["ingest_websocket"]);
    gauge.inc();
    gateway.presence.joined(&who);
    let mut feed = Feed {
        durable: gateway.admission.log().durable(),
        directory_version: gateway.directory.version(),
        gateway: gateway.clone(),
        socket,
        who,
        frames: 0,
        waiting: VecDeque::new(),
        stalled: None,
        ahead: VecDeque::new(),
        ahead_bytes: 0,
        heard: Instant::now(),
        asked: false,
    };
    if let Err(Some((code, reason))) = feed.run().await {
        feed.close(CloseFrame { code, reason: reason.into() }).await;
    }
    if feed.stalled.is_some() {
        gateway.metrics.stalled.dec();
    }
    gateway.presence.left(who.device);
    gauge.dec();
}

impl Feed {
    async fn run(&mut self) -> Result<(), Closed> {
        let closing = self.gateway.closing.clone();
        loop {
            let reads = self.reads();
            let patience = if self.asked { 2 * SILENCE } else { SILENCE };
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.drain().await,
                changed = self.durable.changed(), if !self.waiting.is_empty() || self.stalled.is_some() => changed.map_err(|_| STOPPED)?,
                message = self.socket.next(), if reads => self.read(message)?,
                () = tokio::time::sleep(RETRY), if self.stalled.is_some() => {}
                () = tokio::time::sleep_until((self.heard + patience).into()), if reads => self.ask().await?,
            }
            self.take()?;
            self.answer().await?;
        }
    }

    fn reads(&self) -> bool {
        let stalled = self.stalled.as_ref().map_or(0, |batch| batch.frames.len());
        self.waiting.len() + stalled + self.ahead.len() < WS_UNACKNOWLEDGED_MAX && self.ahead_bytes < AHEAD_BYTES_MAX
    }

    /// Puts a message and whatever has arrived behind it into the line. Pings are answered by the library on the way.
    fn read(&mut self, first: Option<Result<Message, Error>>) -> Result<(), Closed> {
        (self.heard, self.asked) = (Instant::now(), false);
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    self.ahead_bytes += message.len();
                    self.ahead.push_back(message);
                }
                Some(Ok(Message::Close(_))) | None => return self.end(None),
                Some(Ok(_)) => {}
                Some(Err(Error::Capacity(_))) => return self.end(Some((CloseCode::Size, "a frame above the permitted size"))),
                Some(Err(Error::Utf8(_))) => return self.end(Some((CloseCode::Invalid, "a text frame that is not UTF-8"))),
                Some(Err(_)) => return self.end(None),
            }
            if self.ahead.len() < FRAMES_PER_BATCH_MAX && self.reads() {
                next = self.socket.next().now_or_never();
            }
        }
        Ok(())
    }

    /// Takes the frames that came before the end, although nobody is left to be answered.
    fn end(&mut self, why: Closed) -> Result<(), Closed> {
        self.take()?;
        Err(why)
    }

    /// Decodes and admits what stands in line, until the log has no room.
    fn take(&mut self) -> Result<(), Closed> {
        if let Some(batch) = self.stalled.take() {
            self.gateway.metrics.stalled.dec();
            self.submit(batch)?;
        }
        while self.stalled.is_none() && !self.ahead.is_empty() {
            self.check()?;
            // Clock and counter once for the frames that came together.
            let now = self.gateway.admission.now();
            let mut intake = Intake::expecting((self.ahead_bytes / EVENT_BYTES_USUAL).max(1));
            let mut frames = Vec::with_capacity(self.ahead.len().min(FRAMES_PER_BATCH_MAX));
            while frames.len() < FRAMES_PER_BATCH_MAX {
                let Some(message) = self.ahead.pop_front() else { break };
                self.ahead_bytes -= message.len();
                frames.push(match &message {
                    Message::Text(text) => self.decode(text.as_bytes(), Format::Json(Framing::Document), now, &mut intake),
                    other => self.decode(&other.clone().into_data(), Format::ArrowStream, now, &mut intake),
                });
            }
            self.gateway.websocket_payloads.inc_by(frames.len() as u64);
            self.submit(Batch { finished: intake.finish(), frames, since: self.heard })?;
        }
        Ok(())
    }

    fn submit(&mut self, batch: Batch) -> Result<(), Closed> {
        let admitted = match self.gateway.admission.admit(&batch.finished) {
            Ok(admitted) => admitted,
            Err(AppendError::Busy | AppendError::Full) => {
                self.gateway.metrics.stalled.inc();
                self.stalled = Some(batch);
                return Ok(());
            }
            Err(AppendError::Stopped(_)) => return Err(STOPPED),
        };
        let mut uncertain = admitted.uncertain.into_iter();
        self.waiting.extend(batch.frames.into_iter().map(|(number, refusal)| Waiting {
            number,
            offset: admitted.offset,
            refusal: refusal.or_else(|| uncertain.next()),
            since: batch.since,
        }));
        Ok(())
    }

    fn decode(&mut self, payload: &[u8], format: Format, now: UtcMillis, intake: &mut Intake) -> (u64, Option<Refusal>) {
        self.frames += 1;
        let source = Source { topic: "websocket", kind: None, format };
        let outcome = self.gateway.decoder.decode(&self.who, now, source, payload, intake);
        self.gateway.metrics.decoded(&outcome);
        let (refused, all) = (outcome.refusals.len(), outcome.refusals.len() + outcome.accepted);
        let mut refusal = outcome.refusals.into_iter().next();
        if let Some(first) = refusal.as_mut().filter(|_| refused < all || refused > 1) {
            first.message = format!("{refused} of {all} events refused, the others taken; {}", first.message);
        }
        (self.frames, refusal)
    }

    /// Sends the answers of everything that is durable.
    async fn answer(&mut self) -> Result<(), Closed> {
        let durable = *self.durable.borrow_and_update();
        let mut observed = None;
        let sending = async {
            while let Some(frame) = self.waiting.front().filter(|frame| frame.offset <= durable) {
                let answer = match &frame.refusal {
                    None => format!("{{\"ack\":{}}}", frame.number),
                    Some(r) => json!({ "reject": frame.number, "code": r.code.as_str(), "message": r.message }).to_string(),
                };
                // Frames that came together became durable together.
                if observed.replace(frame.since) != Some(frame.since) {
                    self.gateway.metrics.ack_seconds.observe(frame.since.elapsed().as_secs_f64());
                }
                self.waiting.pop_front();
                self.socket.feed(Message::text(answer)).await?;
            }
            if observed.is_some() { self.socket.flush().await } else { Ok(()) }
        };
        // A peer that reads none of its answers is ended; its frames are unacknowledged and come again.
        match tokio::time::timeout(WRITE_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(None),
        }
    }

    /// Asks a silent peer for a sign of life; one that was asked already is gone.
    async fn ask(&mut self) -> Result<(), Closed> {
        if std::mem::replace(&mut self.asked, true) {
            return Err(None);
        }
        let ping = self.socket.send(Message::Ping(Bytes::new()));
        tokio::time::timeout(WRITE_TIMEOUT, ping).await.ok().and_then(Result::ok).ok_or(None)
    }

    /// Takes nothing more and answers what is in the log already.
    async fn drain(&mut self) -> Result<(), Closed> {
        let limit = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        self.answer().await?;
        while !self.waiting.is_empty() {
            match tokio::time::timeout_at(limit, self.durable.changed()).await {
                Ok(Ok(())) => self.answer().await?,
                _ => break,
            }
        }
        Err(Some((CloseCode::Away, "the server is shutting down")))
    }

    /// Says why, and reads on until the peer has heard it: closing a socket with unread input would take the word back.
    async fn close(&mut self, frame: CloseFrame) {
        let closing = async {
            self.socket.close(Some(frame)).await?;
            while self.socket.next().await.is_some_and(|message| message.is_ok()) {}
            Ok::<(), Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Whether the device may still speak, when the directory has changed.
    fn check(&mut self) -> Result<(), Closed> {
        let version = self.gateway.directory.version();
        if version != self.directory_version {
            let gone = Some((CloseCode::Policy, "the device was disabled"));
            self.who = self.gateway.directory.device(self.who.device).filter(|d| d.district == self.who.district).ok_or(gone)?;
            self.directory_version = version;
        }
        Ok(())
    }
}
