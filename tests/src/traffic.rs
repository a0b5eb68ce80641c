//! Devices that never give up: each sends numbered events, many at a time, notes every acknowledgement in its ledger, and
//! after a lost connection sends again what was not acknowledged, as real ones do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::district::{Device, Student, now_ms};
use crate::ledger::{Event, Ledger, Word};
use crate::mqtt::{Link, publish_packet};

/// Publishes of one device that may be unacknowledged; below the server's receive maximum.
const WINDOW: usize = 64;
const RECONNECT: Duration = Duration::from_millis(20);

/// What a device has to say.
#[derive(Clone)]
pub enum Source {
    Readings,
    /// Scans of these students, in and out in turn for each.
    Scans(Vec<Student>),
}

struct Sender {
    address: String,
    device: Device,
    source: Source,
    /// Pause between two new events.
    pause: Duration,
    ledger: Arc<Mutex<Ledger>>,
    /// How far the device's clock is ahead of this machine's, in milliseconds.
    ahead_ms: Arc<AtomicI64>,
    /// No new events any more.
    drain: Arc<AtomicBool>,
    random: StdRng,
    next_seq: u64,
    inside: Vec<bool>,
}

/// A device at work.
pub struct Sending {
    pub device: Device,
    ledger: Arc<Mutex<Ledger>>,
    ahead_ms: Arc<AtomicI64>,
    drain: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Sending {
    /// Starts a device that makes about `per_s` events a second against a server that may come and go.
    pub fn start(address: &str, device: &Device, source: Source, per_s: u32, seed: u64) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (drain, ahead_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let inside = if let Source::Scans(students) = &source { vec![false; students.len()] } else { Vec::new() };
        let sender = Sender {
            address: address.to_owned(),
            device: device.clone(),
            source,
            pause: Duration::from_secs(1) / per_s.max(1),
            ledger: ledger.clone(),
            ahead_ms: ahead_ms.clone(),
            drain: drain.clone(),
            random: StdRng::seed_from_u64(seed),
            next_seq: 1,
            inside,
        };
        Self { device: device.clone(), ledger, ahead_ms, drain, task: tokio::spawn(sender.run()) }
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn acknowledged(&self) -> usize {
        self.ledger().acknowledged.len()
    }

    /// Sets the device's clock: so far ahead of this machine's.
    pub fn set_clock(&self, ahead: Duration) {
        self.ahead_ms.store(i64::try_from(ahead.as_millis()).unwrap_or(0), Ordering::Release);
    }

    /// Waits until `more` events beyond those of now are acknowledged.
    pub async fn progress(&self, more: usize, at_most: Duration) -> Result<()> {
        let wanted = self.acknowledged() + more;
        let reached = async {
            while self.acknowledged() < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(at_most, reached).await;
        waited.with_context(|| format!("{} of {wanted} events were acknowledged within {at_most:?}", self.acknowledged()))
    }

    /// Makes no new events, waits until all are acknowledged, and hands the ledger over.
    pub async fn finish(self, at_most: Duration) -> Result<(Device, Ledger)> {
        self.drain.store(true, Ordering::Release);
        let mut task = self.task;
        if timeout(at_most, &mut task).await.is_err() {
            task.abort();
            let ledger = self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let left: Vec<u64> = ledger.unacknowledged().take(5).map(|event| event.seq).collect();
            anyhow::bail!("{}: not everything was acknowledged within {at_most:?}: {left:?}", self.device.id);
        }
        let ledger = self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Ok((self.device, ledger))
    }

    /// Stops at once; what is unacknowledged stays so.
    pub fn abandon(self) -> (Device, Ledger) {
        self.task.abort();
        let ledger = self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        (self.device, ledger)
    }
}

impl Sender {
    async fn run(mut self) {
        while !self.is_done() {
            if let Ok(link) = Link::open(&self.address, &self.device).await {
                // How a connection ends is the server's business; what was acknowledged until then stands in the ledger.
                let _ = self.session(link).await;
            }
            sleep(RECONNECT.mul_f64(self.random.random_range(0.5..2.0))).await;
        }
    }

    fn is_done(&self) -> bool {
        self.drain.load(Ordering::Acquire) && self.ledger().unacknowledged().next().is_none()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn session(&mut self, mut link: Link) -> Result<()> {
        let mut again: VecDeque<Event> = self.ledger().unacknowledged().cloned().collect();
        let mut in_flight: VecDeque<(u16, u64)> = VecDeque::new();
        let mut packet_id = 0u16;
        let mut due = Instant::now();
        loop {
            if in_flight.is_empty() && again.is_empty() && self.is_done() {
                return Ok(());
            }
            let room = in_flight.len() < WINDOW;
            let makes = !self.drain.load(Ordering::Acquire);
            if room && (!again.is_empty() || makes && Instant::now() >= due) {
                let event = again.pop_front().unwrap_or_else(|| {
                    due += self.pause;
                    self.make()
                });
                packet_id = packet_id % 60_000 + 1;
                in_flight.push_back((packet_id, event.seq));
                link.send(&publish_packet(event.topic(), packet_id, event.payload().to_string().as_bytes())).await?;
                continue;
            }
            tokio::select! {
                ids = link.acknowledged() => self.note(&ids?, &mut in_flight),
                () = tokio::time::sleep_until(due.max(Instant::now() + Duration::from_millis(1))), if room && makes => {}
                () = sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    fn make(&mut self) -> Event {
        let seq = self.next_seq;
        self.next_seq += 1;
        let word = match &self.source {
            Source::Readings => Word::Reading { value: (seq % 1000) as f64 },
            Source::Scans(students) => {
                let who = self.random.random_range(0..students.len());
                self.inside[who] = !self.inside[who];
                let direction = if self.inside[who] { "in" } else { "out" };
                Word::Scan { badge: students[who].badge.clone(), person: students[who].id.clone(), direction }
            }
        };
        let event = Event { seq, ts_ms: now_ms() + self.ahead_ms.load(Ordering::Acquire), word };
        self.ledger().sent.insert(seq, event.clone());
        event
    }

    fn note(&self, ids: &[u16], in_flight: &mut VecDeque<(u16, u64)>) {
        let mut ledger = self.ledger();
        for id in ids {
            match in_flight.pop_front() {
                Some((expected, seq)) if expected == *id => {
                    ledger.acknowledged.insert(seq);
                }
                other => ledger.breaches.push(format!("PUBACK {id} where {other:?} was next")),
            }
        }
    }
}
