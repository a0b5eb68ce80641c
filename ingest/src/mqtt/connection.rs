//! One client's task: bytes in, events to the log, acknowledgements out when the log says they are durable.
//!
//! All publishes of one read are decoded together and admitted under one lock. Their acknowledgements wait in order for the
//! log's durable offset and leave in one write. When the log has no room the task holds what it decoded, stops taking
//! publishes and goes on answering PINGREQ; it never drops and never acknowledges early. A log that has stopped ends the
//! connection without an acknowledgement.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::ids::Offset;
use rollcall_model::time::UtcMillis;
use rollcall_stream::AppendError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::broker::SHUTTING_DOWN;
use super::hello::{self, Client, Peer};
use super::outbound::Held;
use super::packet;
use super::wire::{Progress, Wire};
use super::{Version, Violation, frame};
use crate::decode::{Finished, Intake, Refusal};
use crate::directory::DeviceIdentity;
use crate::gateway::Gateway;

/// Events decoded before they are admitted; keeps one client's burst from holding the lock for long.
const BATCH_EVENTS_MAX: usize = 16_384;

/// What one event takes on the wire, about; only to make room for those that were read.
const EVENT_BYTES_USUAL: usize = 112;

/// Room for acknowledgements that is made beforehand; a read has rarely more publishes.
const ACKS_EXPECTED_MAX: usize = 512;

/// Acknowledgements that may wait for the log before publishes are no longer taken; above every receive maximum.
const UNACKNOWLEDGED_MAX: usize = 8_192;

/// Read ahead while the log has no room, to find PINGREQs behind publishes that wait.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// How soon an append is tried again when the log is full; its durable offset does not move then.
const RETRY: Duration = Duration::from_millis(50);

/// For sending the last bytes to a client that is disconnected.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An acknowledgement that waits for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub kind: u8,
    pub pkid: u16,
    pub reason: u8,
}

/// What one read adds up to.
pub(super) struct Batch {
    /// Who speaks, looked up with the first publish of events.
    pub who: Option<DeviceIdentity>,
    pub now: UtcMillis,
    /// Publishes of events in it.
    pub payloads: u64,
    pub intake: Intake,
    pub acks: Vec<Ack>,
    pub rejects: Vec<Refusal>,
    /// Even without new events the acknowledgements wait for this.
    pub at_least: Offset,
}

/// A batch that is ready to be admitted.
struct Submission {
    finished: Finished,
    acks: Vec<Ack>,
    rejects: Vec<Refusal>,
    at_least: Offset,
    since: Instant,
}

/// Acknowledgements of one batch, due when the log is durable up to `offset`.
struct Due {
    offset: Offset,
    acks: usize,
    rejects: Vec<Refusal>,
    since: Instant,
}

/// Why the task ends.
pub(super) enum End {
    /// The client said DISCONNECT; `true`: and does not want its will sent.
    Client(bool),
    /// The stream ended or failed.
    Lost,
    /// The server ends it for this reason.
    Server(u8),
}

pub(super) struct Connection<S> {
    pub gateway: Arc<Gateway>,
    pub wire: Wire<S>,
    pub client: Client,
    pub aliases_in: Vec<Option<Arc<str>>>,
    pub(super) aliases_out: HashMap<Arc<str>, u16>,
    pub acks: VecDeque<Ack>,
    due: VecDeque<Due>,
    stalled: Option<Box<Submission>>,
    durable: watch::Receiver<Offset>,
    /// How much of the journal is stored; only persistent sessions wait for it.
    pub(super) stored: watch::Receiver<u64>,
    pub(super) held: VecDeque<Held>,
    /// The next message for the client waits for the journal.
    pub(super) awaits_journal: bool,
    heard: Instant,
    moved: Instant,
    /// PINGREQs that were answered ahead of publishes that wait, and how far the input was searched for them.
    pub pings_ahead: usize,
    searched: usize,
    directory_version: u64,
    /// PUBRECs sent whose PUBREL has not come; counts against the receive maximum.
    pub unreleased: usize,
    pub end: Option<End>,
    timer: Pin<Box<Sleep>>,
}

/// Runs one client from its first byte to its last.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(gateway: Arc<Gateway>, stream: S, peer: Peer) {
    // Greeting and farewell are boxed, so that their state is no part of the task while the connection is idle.
    let Some(mut connection) = Box::pin(open(&gateway, stream, &peer)).await else { return };
    let clean = connection.run().await;
    Box::pin(close(&gateway, connection, &peer, clean)).await;
}

/// Greets a client; one that is refused is told so and closed.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(gateway: &Arc<Gateway>, stream: S, peer: &Peer) -> Option<Box<Connection<S>>> {
    let mut wire = Wire::new(stream);
    let limit = Duration::from_millis(gateway.config.connect_timeout_ms);
    let greeting = tokio::time::timeout(limit, hello::greet(gateway, &mut wire, peer));
    let greeted = tokio::select! {
        greeted = greeting => greeted.ok().flatten(),
        () = gateway.closing.cancelled() => None,
    };
    let Some(mut client) = greeted else {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, wire.close()).await;
        return None;
    };
    gateway.metrics.connections.with_label_values(&[peer.transport]).inc();
    if let Some(who) = &client.identity {
        gateway.presence.joined(who);
    }
    let wills = std::mem::take(&mut client.attached.wills);
    let mut connection = Box::new(Connection::new(gateway.clone(), wire, client));
    for will in wills {
        gateway.publish_will(will).await;
    }
    if connection.client.attached.present {
        connection.redeliver();
    }
    Some(connection)
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(gateway: &Gateway, mut connection: Box<Connection<S>>, peer: &Peer, clean: bool) {
    connection.stop().await;
    let (session, link) = (connection.client.attached.session.clone(), connection.client.attached.link.clone());
    let identity = connection.client.identity;
    drop(connection);
    let wills = gateway.broker.detach(&session, &link, clean);
    if let Some(who) = &identity {
        gateway.presence.left(who.device);
    }
    gateway.metrics.connections.with_label_values(&[peer.transport]).dec();
    for will in wills {
        gateway.publish_will(will).await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(gateway: Arc<Gateway>, wire: Wire<S>, client: Client) -> Self {
        let now = Instant::now();
        Self {
            durable: gateway.admission.log().durable(),
            stored: gateway.broker.journal.stored(),
            held: VecDeque::new(),
            awaits_journal: false,
            directory_version: gateway.directory.version(),
            gateway,
            wire,
            client,
            aliases_in: Vec::new(),
            aliases_out: HashMap::new(),
            acks: VecDeque::new(),
            due: VecDeque::new(),
            stalled: None,
            heard: now,
            moved: now,
            pings_ahead: 0,
            searched: 0,
            unreleased: 0,
            end: None,
            timer: Box::pin(tokio::time::sleep(Duration::from_secs(1))),
        }
    }

    /// Serves until the end; returns whether the client left without wanting its will sent.
    async fn run(&mut self) -> bool {
        loop {
            if let Err(violation) = self.turn() {
                tracing::debug!(client = %self.client.attached.session.client_id, what = violation.what, "protocol error");
                self.gateway.metrics.protocol_errors.inc();
                self.end = Some(End::Server(violation.reason));
            }
            match self.end {
                Some(End::Client(clean)) => return clean,
                Some(_) => return false,
                None => self.wait().await,
            }
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Result<(), Violation> {
        if let Some(reason) = self.client.attached.link.closing() {
            self.end = Some(End::Server(reason));
            return Ok(());
        }
        if let Some(submission) = self.stalled.take() {
            self.gateway.metrics.stalled.dec();
            self.submit(submission);
        }
        while self.end.is_none() && self.takes_publishes() && self.read_batch()? {}
        if !self.takes_publishes() {
            self.answer_pings_ahead()?;
        }
        self.release();
        self.answer_held();
        // A client hears of its subscription before the first message for it.
        if self.held.is_empty() {
            self.send_waiting();
        }
        Ok(())
    }

    fn takes_publishes(&self) -> bool {
        self.stalled.is_none()
            && self.acks.len() + self.held.len() < UNACKNOWLEDGED_MAX
            && self.wire.waiting() < self.gateway.config.output_bytes_max
    }

    fn reads(&self) -> bool {
        self.takes_publishes() || self.wire.input.len() < self.gateway.config.packet_bytes_max + READ_AHEAD_BYTES
    }

    /// An empty batch with room for the events of so many bytes.
    fn new_batch(&self, input_bytes: usize) -> Batch {
        let events = (input_bytes / EVENT_BYTES_USUAL).clamp(1, BATCH_EVENTS_MAX);
        Batch {
            who: None,
            now: self.gateway.admission.now(),
            payloads: 0,
            intake: Intake::expecting(events),
            acks: Vec::with_capacity(events.min(ACKS_EXPECTED_MAX)),
            rejects: Vec::new(),
            at_least: Offset(0),
        }
    }

    /// Decodes what was read. `false`: there was no whole packet.
    fn read_batch(&mut self) -> Result<bool, Violation> {
        if self.wire.input.is_empty() {
            return Ok(false);
        }
        let mut input = std::mem::take(&mut self.wire.input);
        let mut batch = self.new_batch(input.len());
        let mut at = 0;
        let outcome = loop {
            if self.end.is_some() || batch.intake.events() >= BATCH_EVENTS_MAX {
                break Ok(());
            }
            let found = match frame::next(&input[at..], self.gateway.config.packet_bytes_max) {
                Ok(Some(found)) => found,
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            };
            let whole = &input[at..at + found.total];
            at += found.total;
            if let Err(violation) = self.packet(whole, found, &mut batch) {
                break Err(violation);
            }
        };
        input.drain(..at);
        self.wire.input = input;
        self.searched = self.searched.saturating_sub(at);
        if batch.payloads > 0 {
            self.gateway.mqtt_payloads.inc_by(batch.payloads);
        }
        if !batch.intake.is_empty() || !batch.acks.is_empty() {
            let Batch { intake, acks, rejects, at_least, .. } = batch;
            let submission = Submission { finished: intake.finish(), acks, rejects, at_least, since: Instant::now() };
            self.submit(Box::new(submission));
        }
        outcome.map(|()| at > 0)
    }

    fn submit(&mut self, mut submission: Box<Submission>) {
        let finished = &submission.finished;
        let mut offset = submission.at_least;
        if !finished.events.is_empty() || finished.dead.is_some() {
            match self.gateway.admission.admit(finished) {
                Ok(admitted) => {
                    offset = offset.max(admitted.offset);
                    submission.rejects.extend(admitted.uncertain);
                }
                Err(AppendError::Busy | AppendError::Full) => {
                    self.gateway.metrics.stalled.inc();
                    self.stalled = Some(submission);
                    return;
                }
                Err(AppendError::Stopped(_)) => {
                    self.end = Some(End::Server(SHUTTING_DOWN));
                    return;
                }
            }
        }
        let mut inner = None;
        for ack in submission.acks.iter().filter(|ack| ack.kind == frame::PUBREC && ack.reason < 0x80) {
            inner.get_or_insert_with(|| self.client.attached.session.inner.lock()).inbound.insert(ack.pkid);
        }
        drop(inner);
        self.acks.extend(&submission.acks);
        let Submission { acks, rejects, since, .. } = *submission;
        self.due.push_back(Due { offset, acks: acks.len(), rejects, since });
    }

    /// Writes the acknowledgements that are due, in the order of their publishes.
    fn release(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let durable = *self.durable.borrow_and_update();
        while let Some(due) = self.due.front().filter(|due| due.offset <= durable) {
            self.gateway.metrics.ack_seconds.observe(due.since.elapsed().as_secs_f64());
            for ack in self.acks.drain(..due.acks) {
                packet::write_acknowledgement(&mut self.wire.output, self.client.version, ack.kind, ack.pkid, ack.reason);
                self.unreleased += usize::from(ack.kind == frame::PUBREC && ack.reason < 0x80);
            }
            let due = self.due.pop_front().expect("it is at the front");
            if let Some(who) = &self.client.identity {
                self.gateway.send_rejects(who.device, &due.rejects);
            }
        }
        if self.due.is_empty() {
            (self.due, self.acks) = (VecDeque::new(), VecDeque::new());
        }
    }

    fn answer_pings_ahead(&mut self) -> Result<(), Violation> {
        while let Some(found) = frame::next(&self.wire.input[self.searched..], self.gateway.config.packet_bytes_max)? {
            self.searched += found.total;
            if found.kind() == frame::PINGREQ {
                self.pings_ahead += 1;
                self.wire.output.extend_from_slice(&[0xd0, 0]);
            }
        }
        Ok(())
    }

    /// Sleeps until something can have changed.
    async fn wait(&mut self) {
        let reads = self.reads();
        self.arm(reads);
        let waits_for_journal = !self.held.is_empty() || self.awaits_journal;
        let waits_for_log = !self.due.is_empty() || self.stalled.is_some();
        let waiting = self.wire.waiting();
        tokio::select! {
            biased;
            progress = self.wire.progress(reads) => match progress {
                Ok(Progress::Read) => self.heard = Instant::now(),
                Ok(Progress::Wrote) => self.moved = Instant::now(),
                Ok(Progress::Ended) | Err(_) => self.end = Some(End::Lost),
            },
            changed = self.durable.changed(), if waits_for_log => if changed.is_err() {
                self.end = Some(End::Server(SHUTTING_DOWN));
            },
            // The journal lives as long as the gateway.
            _ = self.stored.changed(), if waits_for_journal => {}
            () = self.client.attached.link.wake.notified() => {}
            () = self.timer.as_mut() => self.check_time(reads, waiting),
        }
    }

    /// The next instant at which the clock alone changes something.
    fn deadline(&self, reads: bool) -> Instant {
        let now = Instant::now();
        let mut deadline = now + Duration::from_secs(3600);
        if let Some(limit) = self.client.keep_alive.filter(|_| reads) {
            deadline = deadline.min(self.heard + limit);
        }
        if self.wire.waiting() > 0 {
            deadline = deadline.min(self.moved + Duration::from_millis(self.gateway.config.write_timeout_ms));
        }
        if self.stalled.is_some() {
            deadline = deadline.min(now + RETRY);
        }
        deadline
    }

    /// Sets the timer when something is due sooner; one that is set too soon is set again when it fires.
    fn arm(&mut self, reads: bool) {
        if self.wire.waiting() == 0 {
            self.moved = Instant::now();
        }
        let deadline = self.deadline(reads).into();
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
    }

    fn check_time(&mut self, reads: bool, waiting: usize) {
        let now = Instant::now();
        if self.client.keep_alive.is_some_and(|limit| reads && now >= self.heard + limit) {
            self.end = Some(End::Server(0x8d));
        } else if waiting > 0 && now >= self.moved + Duration::from_millis(self.gateway.config.write_timeout_ms) {
            // It does not read, so it would not read a DISCONNECT either.
            self.end = Some(End::Lost);
        }
        if !reads {
            // What we do not read cannot count against the client.
            self.heard = now;
        }
    }

    /// Whether the device may still speak; looked up again when the directory has changed.
    pub(super) fn identity(&mut self) -> Result<DeviceIdentity, Violation> {
        let known = self.client.identity.expect("only asked in the namespace of devices");
        let version = self.gateway.directory.version();
        if version == self.directory_version {
            return Ok(known);
        }
        let found = self.gateway.directory.device(known.device).ok_or(Violation::new(0x87, "the device was disabled"))?;
        if found.district != known.district {
            return Err(Violation::new(0x87, "the device changed its district"));
        }
        self.directory_version = version;
        self.client.identity = Some(found);
        Ok(found)
    }

    /// Tells the client why, as far as its version can, and closes the stream.
    async fn stop(&mut self) {
        if self.stalled.take().is_some() {
            self.gateway.metrics.stalled.dec();
        }
        match self.end {
            Some(End::Server(reason)) => packet::write_disconnect(&mut self.wire.output, self.client.version, reason),
            Some(End::Lost) => return,
            _ => {}
        }
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.wire.close()).await;
    }
}

impl<S> Connection<S> {
    pub(super) fn is_v5(&self) -> bool {
        self.client.version == Version::V5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50,000 devices are connected and silent most of the time, so what their task holds while idle is a promise.
    #[test]
    fn an_idle_connection_is_small() {
        fn task_bytes<F>(_: fn(Arc<Gateway>, tokio::net::TcpStream, Peer) -> F) -> usize {
            size_of::<F>()
        }
        let task = task_bytes(serve::<tokio::net::TcpStream>);
        let connection = size_of::<Connection<tokio::net::TcpStream>>();
        assert!(task + connection < 2 * 1024, "task {task}, connection {connection}");
    }
}
