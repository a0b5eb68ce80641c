//! The ingest WebSocket: every frame is answered in order, with its number, once it is durable.
//!
//! At most `WS_UNACKNOWLEDGED_MAX` frames wait for their answer; then none is taken until some have left. Frames that
//! have arrived together are admitted together. While none is taken, bytes are read ahead up to a limit, so that
//! pings behind them are answered; after it the device is held back by TCP. At a shutdown what is in the log already is
//! answered, then the connection is closed with 1001.

mod frames;
pub mod untrusted;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::ids::Offset;
use rollcall_model::limits::{PAYLOAD_BYTES_MAX, WS_UNACKNOWLEDGED_MAX};
use rollcall_model::time::UtcMillis;
use rollcall_stream::AppendError;
use rollcall_websocket::Io;
use serde_json::json;
use tokio::sync::watch;

use crate::decode::{Finished, Format, Framing, Intake, Refusal, Source};
use crate::directory::DeviceIdentity;
use crate::gateway::{Gateway, RETRY};
use crate::mqtt::wire::{Progress, Wire};
use frames::{Breach, Fragments, Said};

/// What one event takes in a frame, about; only to make room for those that were read.
const EVENT_BYTES_USUAL: usize = 112;

/// Frames admitted under one lock.
const FRAMES_PER_BATCH_MAX: usize = 1_024;

/// Bytes that are read ahead of the frames that can be taken.
const AHEAD_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

/// Answers that the peer has not taken; beyond it no frame is.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// A peer that has been silent this long is asked for a sign of life, and after twice as long it is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to read its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// At a shutdown, how long frames that are in the log may take to become durable; less than the gateway's own limit.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Close codes beside those of [`frames`].
const NORMAL: u16 = 1000;
const AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const RESTART: u16 = 1012;

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
    wire: Wire<Io>,
    fragments: Fragments,
    who: DeviceIdentity,
    directory_version: u64,
    durable: watch::Receiver<Offset>,
    frames: u64,
    waiting: VecDeque<Waiting>,
    stalled: Option<Batch>,
    /// Pings that were answered ahead of frames that wait, and how far the input was searched for them.
    pings_ahead: usize,
    searched: usize,
    heard: Instant,
    /// A ping was sent since something was heard.
    asked: bool,
    /// When the peer last took something, or had nothing to take.
    moved: Instant,
}

/// Why a feed ends; `None`: the peer is gone. The close code tells the device.
type Closed = Option<Breach>;

const STOPPED: Closed = Some(Breach(RESTART, "the server is restarting"));

/// Serves one ingest WebSocket to its end.
pub async fn serve(gateway: Arc<Gateway>, io: Io, who: DeviceIdentity) {
    let gauge = gateway.metrics.connections.with_label_values(&["ingest_websocket"]);
    gauge.inc();
    gateway.presence.joined(&who);
    let now = Instant::now();
    let mut feed = Feed {
        durable: gateway.admission.log().durable(),
        directory_version: gateway.directory.version(),
        gateway: gateway.clone(),
        wire: Wire::new(io),
        fragments: Fragments::default(),
        who,
        frames: 0,
        waiting: VecDeque::new(),
        stalled: None,
        pings_ahead: 0,
        searched: 0,
        heard: now,
        asked: false,
        moved: now,
    };
    if let Err(Some(reason)) = feed.run().await {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, feed.close(reason)).await;
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
            self.turn()?;
            let reads = self.takes() || self.wire.input.len() < AHEAD_BYTES_MAX;
            let overdue = self.overdue(reads);
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.drain().await,
                progress = self.wire.progress(reads) => match progress {
                    Ok(Progress::Read) => (self.heard, self.asked) = (Instant::now(), false),
                    Ok(Progress::Wrote) => self.moved = Instant::now(),
                    Ok(Progress::Ended) | Err(_) => return Err(None),
                },
                changed = self.durable.changed(), if !self.waiting.is_empty() || self.stalled.is_some() => changed.map_err(|_| STOPPED)?,
                () = tokio::time::sleep(RETRY), if self.stalled.is_some() => {}
                () = tokio::time::sleep_until(overdue.into()) => self.ask()?,
            }
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Result<(), Closed> {
        if let Some(batch) = self.stalled.take() {
            self.gateway.metrics.stalled.dec();
            self.submit(batch)?;
        }
        while self.takes() && self.read_batch()? {}
        if !self.takes() {
            self.answer_pings_ahead()?;
        }
        self.answer();
        Ok(())
    }

    fn takes(&self) -> bool {
        self.stalled.is_none() && self.waiting.len() < WS_UNACKNOWLEDGED_MAX && self.wire.waiting() < OUTPUT_BYTES_MAX
    }

    /// Takes frames that were read, decodes and admits them. `false`: there was no whole one.
    fn read_batch(&mut self) -> Result<bool, Closed> {
        if self.wire.input.is_empty() {
            return Ok(false);
        }
        self.check()?;
        let room = FRAMES_PER_BATCH_MAX.min(WS_UNACKNOWLEDGED_MAX - self.waiting.len());
        // Clock and counter once for the frames that came together.
        let now = self.gateway.admission.now();
        let (mut input, mut fragments) = (std::mem::take(&mut self.wire.input), std::mem::take(&mut self.fragments));
        let mut intake = Intake::expecting((input.len() / EVENT_BYTES_USUAL).max(1));
        let (mut frames, mut at) = (Vec::with_capacity((input.len() / EVENT_BYTES_USUAL).clamp(1, room)), 0);
        let outcome = loop {
            if frames.len() == room {
                break Ok(());
            }
            let (taken, said) = match frames::next(&mut input[at..], &mut fragments, PAYLOAD_BYTES_MAX) {
                Ok(Some(next)) => next,
                Ok(None) => break Ok(()),
                Err(breach) => break Err(Some(breach)),
            };
            at += taken;
            if let Err(end) = self.said(said, now, &mut intake, &mut frames) {
                break Err(end);
            }
        };
        input.drain(..at);
        (self.wire.input, self.fragments) = (input, fragments);
        self.searched = self.searched.saturating_sub(at);
        // What came before the end is taken, although nobody may be left to be answered.
        if !frames.is_empty() {
            self.gateway.websocket_payloads.inc_by(frames.len() as u64);
            self.submit(Batch { finished: intake.finish(), frames, since: self.heard })?;
        }
        outcome.map(|()| at > 0)
    }

    fn said(
        &mut self,
        said: Said<'_>,
        now: UtcMillis,
        intake: &mut Intake,
        frames: &mut Vec<(u64, Option<Refusal>)>,
    ) -> Result<(), Closed> {
        match said {
            Said::Text(text) if std::str::from_utf8(text).is_err() => {
                return Err(Some(Breach(frames::INVALID, "a text frame that is not UTF-8")));
            }
            Said::Text(text) => frames.push(self.decode(text, Format::Json(Framing::Document), now, intake)),
            Said::Binary(bytes) => frames.push(self.decode(bytes, Format::ArrowStream, now, intake)),
            Said::Ping(_) if self.pings_ahead > 0 => self.pings_ahead -= 1,
            Said::Ping(content) => frames::put_pong(&mut self.wire.output, content),
            Said::Pong | Said::Part => {}
            Said::Close(code) => return Err(Some(Breach(code.unwrap_or(NORMAL), ""))),
        }
        Ok(())
    }

    fn answer_pings_ahead(&mut self) -> Result<(), Closed> {
        while let Some(found) = frames::header(&self.wire.input[self.searched..], PAYLOAD_BYTES_MAX)? {
            if found.opcode == frames::PING && self.wire.waiting() < OUTPUT_BYTES_MAX {
                let content = frames::content(&self.wire.input[self.searched..], found);
                frames::put_pong(&mut self.wire.output, &content);
                self.pings_ahead += 1;
            } else if found.opcode == frames::PING {
                break;
            }
            self.searched += found.end;
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

    /// Writes the answers of everything that is durable.
    fn answer(&mut self) {
        if self.wire.waiting() == 0 {
            self.moved = Instant::now();
        }
        let durable = *self.durable.borrow_and_update();
        let mut observed = None;
        while let Some(frame) = self.waiting.front().filter(|frame| frame.offset <= durable) {
            match &frame.refusal {
                None => frames::put_ack(&mut self.wire.output, frame.number),
                Some(r) => {
                    let text = json!({ "reject": frame.number, "code": r.code.as_str(), "message": r.message }).to_string();
                    frames::put_text(&mut self.wire.output, &text);
                }
            }
            // Frames that came together became durable together.
            if observed.replace(frame.since) != Some(frame.since) {
                self.gateway.metrics.ack_seconds.observe(frame.since.elapsed().as_secs_f64());
            }
            self.waiting.pop_front();
        }
    }

    /// When the peer's silence, or its not reading, has lasted too long.
    fn overdue(&self, reads: bool) -> Instant {
        let silent = self.heard + if self.asked { 2 * SILENCE } else { SILENCE };
        let unread = self.moved + WRITE_TIMEOUT;
        match (reads, self.wire.waiting() > 0) {
            (true, true) => silent.min(unread),
            (true, false) => silent,
            (false, true) => unread,
            // Held back by us, it cannot be heard.
            (false, false) => Instant::now() + SILENCE,
        }
    }

    /// Asks a silent peer for a sign of life. One that was asked already is gone, and so is one that reads none of its answers:
    /// its frames are unacknowledged and come again.
    fn ask(&mut self) -> Result<(), Closed> {
        if self.wire.waiting() > 0 && self.moved.elapsed() >= WRITE_TIMEOUT {
            return Err(None);
        }
        if self.heard.elapsed() >= SILENCE {
            if std::mem::replace(&mut self.asked, true) && self.heard.elapsed() >= 2 * SILENCE {
                return Err(None);
            }
            frames::put_ping(&mut self.wire.output);
        }
        Ok(())
    }

    /// Takes nothing more and answers what is in the log already.
    async fn drain(&mut self) -> Result<(), Closed> {
        let draining = async {
            loop {
                self.answer();
                while self.wire.waiting() > 0 {
                    if !matches!(self.wire.progress(false).await, Ok(Progress::Wrote)) {
                        return;
                    }
                }
                if self.waiting.is_empty() || self.durable.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, draining).await;
        Err(Some(Breach(AWAY, "the server is shutting down")))
    }

    /// Says why, and reads on until the peer has heard it: closing a socket with unread input would take the word back.
    async fn close(&mut self, Breach(code, reason): Breach) {
        // An empty reason answers the peer's own close frame.
        let answered = reason.is_empty();
        frames::put_close(&mut self.wire.output, code, reason);
        loop {
            while let Ok(Some(found)) = frames::header(&self.wire.input, PAYLOAD_BYTES_MAX) {
                if found.opcode == frames::CLOSE && self.wire.waiting() == 0 {
                    return;
                }
                self.wire.input.drain(..found.end);
            }
            if answered && self.wire.waiting() == 0 {
                return;
            }
            match self.wire.progress(true).await {
                Ok(Progress::Read | Progress::Wrote) => {}
                Ok(Progress::Ended) | Err(_) => return,
            }
        }
    }

    /// Whether the device may still speak, when the directory has changed.
    fn check(&mut self) -> Result<(), Closed> {
        let version = self.gateway.directory.version();
        if version != self.directory_version {
            let gone = Some(Breach(POLICY, "the device was disabled"));
            self.who = self.gateway.directory.device(self.who.device).filter(|d| d.district == self.who.district).ok_or(gone)?;
            self.directory_version = version;
        }
        Ok(())
    }
}
