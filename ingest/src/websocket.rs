//! The ingest WebSocket: every frame is answered in order, with its number, once it is durable.
//!
//! At most `WS_UNACKNOWLEDGED_MAX` frames wait for their answer; then nothing is read until some have left. Frames that
//! have arrived together are admitted together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, SinkExt, StreamExt};
use rollcall_model::ids::Offset;
use rollcall_model::limits::WS_UNACKNOWLEDGED_MAX;
use rollcall_websocket::WebSocket;
use serde_json::json;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::decode::{Format, Framing, Intake, Refusal, Source};
use crate::directory::DeviceIdentity;
use crate::gateway::Gateway;

/// Frames admitted under one lock.
const FRAMES_PER_BATCH_MAX: usize = 256;

/// A peer that has been silent this long is asked for a sign of life, and after twice as long it is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to read its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A frame that waits for the log.
struct Waiting {
    number: u64,
    offset: Offset,
    refusal: Option<Refusal>,
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
    heard: Instant,
}

/// Why a feed ends; the close code tells the device.
type Closed = Option<(CloseCode, &'static str)>;

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
        heard: Instant::now(),
    };
    if let Err(Some((code, reason))) = feed.run().await {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = tokio::time::timeout(WRITE_TIMEOUT, feed.socket.close(Some(frame))).await;
    }
    gateway.presence.left(who.device);
    gauge.dec();
}

impl Feed {
    async fn run(&mut self) -> Result<(), Closed> {
        loop {
            let reads = self.waiting.len() < WS_UNACKNOWLEDGED_MAX;
            tokio::select! {
                biased;
                changed = self.durable.changed(), if !self.waiting.is_empty() => {
                    changed.map_err(|_| Some((CloseCode::Restart, "the server is restarting")))?;
                    self.answer().await?;
                }
                message = self.socket.next(), if reads => self.batch(message).await?,
                () = tokio::time::sleep_until((self.heard + SILENCE).into()), if reads => self.ask().await?,
            }
            if self.gateway.is_closing() {
                return Err(Some((CloseCode::Away, "the server is shutting down")));
            }
        }
    }

    /// Takes a message and whatever has arrived behind it.
    async fn batch(&mut self, first: Option<Result<Message, Error>>) -> Result<(), Closed> {
        self.heard = Instant::now();
        self.check()?;
        let mut intake = Intake::default();
        let mut taken = VecDeque::new();
        let mut next = Some(first);
        let mut ended = Ok(());
        while let Some(message) = next.take() {
            match message {
                Some(Ok(Message::Text(text))) => {
                    taken.push_back(self.decode(text.as_bytes(), Format::Json(Framing::Document), &mut intake))
                }
                Some(Ok(Message::Binary(bytes))) => taken.push_back(self.decode(&bytes, Format::ArrowStream, &mut intake)),
                Some(Ok(Message::Close(_))) | None => ended = Err(None),
                Some(Ok(_)) => {}
                Some(Err(Error::Capacity(_))) => ended = Err(Some((CloseCode::Size, "a frame above the permitted size"))),
                Some(Err(Error::Utf8(_))) => ended = Err(Some((CloseCode::Invalid, "a text frame that is not UTF-8"))),
                Some(Err(_)) => ended = Err(None),
            }
            let room = taken.len() < FRAMES_PER_BATCH_MAX && self.waiting.len() + taken.len() < WS_UNACKNOWLEDGED_MAX;
            if room && ended.is_ok() {
                next = self.socket.next().now_or_never();
            }
        }
        let stopped = |_| Some((CloseCode::Restart, "the server is restarting"));
        let admitted = self.gateway.admit(&intake.finish()).await.map_err(stopped)?;
        let since = self.heard;
        let mut uncertain = admitted.uncertain.into_iter();
        self.waiting.extend(taken.into_iter().map(|(number, refusal)| Waiting {
            number,
            offset: admitted.offset,
            refusal: refusal.or_else(|| uncertain.next()),
            since,
        }));
        self.answer().await?;
        ended
    }

    fn decode(&mut self, payload: &[u8], format: Format, intake: &mut Intake) -> (u64, Option<Refusal>) {
        self.frames += 1;
        self.gateway.metrics.publishes.with_label_values(&["ingest_websocket"]).inc();
        let source = Source { topic: "websocket", kind: None, format };
        let outcome = self.gateway.decoder.decode(&self.who, self.gateway.admission.now(), source, payload, intake);
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
        let mut any = false;
        let sending = async {
            while let Some(frame) = self.waiting.front().filter(|frame| frame.offset <= durable) {
                let answer = match &frame.refusal {
                    None => format!("{{\"ack\":{}}}", frame.number),
                    Some(r) => json!({ "reject": frame.number, "code": r.code.as_str(), "message": r.message }).to_string(),
                };
                self.gateway.metrics.ack_seconds.observe(frame.since.elapsed().as_secs_f64());
                self.waiting.pop_front();
                self.socket.feed(Message::text(answer)).await?;
                any = true;
            }
            if any { self.socket.flush().await } else { Ok(()) }
        };
        // A peer that reads none of its answers is ended; its frames are unacknowledged and come again.
        match tokio::time::timeout(WRITE_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(None),
        }
    }

    /// Asks a silent peer for a sign of life.
    async fn ask(&mut self) -> Result<(), Closed> {
        let ping = async {
            self.socket.send(Message::Ping(Bytes::new())).await.ok()?;
            self.socket.next().await.filter(Result::is_ok)
        };
        match tokio::time::timeout(SILENCE, ping).await {
            Ok(Some(message)) => self.batch(Some(message)).await,
            _ => Err(None),
        }
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
