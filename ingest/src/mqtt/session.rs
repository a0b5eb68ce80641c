//! One client's session: what outlives its connection. It holds the subscriptions, the packet ids of QoS 2 publishes that
//! were taken but not released, and the messages that wait for the client or for its acknowledgement. What changes in a
//! persistent session is noted in the journal.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::broker::Will;
use super::journal::{Journal, Record};

/// A message on its way to subscribers. Shared by all of them.
#[derive(Debug)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// MQTT 5 properties that travel unchanged, encoded.
    pub properties: Bytes,
    pub expires: Option<Instant>,
    /// The session that published it, for subscriptions that do not want their own.
    pub from: Option<u64>,
}

impl Message {
    /// What it counts for in the limits.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len() + 64
    }

    /// Seconds that are left of its life; `None` when it has no end.
    pub fn expiry_s(&self, now: Instant) -> Option<u32> {
        self.expires.map(|at| u32::try_from(at.saturating_duration_since(now).as_secs()).unwrap_or(u32::MAX))
    }

    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// What a client asked for with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub id: Option<u32>,
}

/// One message in one client's queue.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Arc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub subscription_ids: SmallVec<[u32; 1]>,
    /// 0 until one is chosen: in a persistent session when it is queued, otherwise when it is sent.
    pub pkid: u16,
    /// It may leave when this much of the journal is stored.
    pub position: u64,
}

/// A delivery that the client has not finished acknowledging.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub pkid: u16,
    pub delivery: Delivery,
    /// QoS 2: the client has it (PUBREC), and only the release goes out again.
    pub released: bool,
}

/// How others reach the task of a connection.
#[derive(Default)]
pub struct Link {
    pub wake: Notify,
    /// Place of the connection in the order in which the server accepted them.
    pub arrival: u64,
    /// Reason code with which the connection is to end; 0 while it may live.
    close: AtomicU8,
}

impl Link {
    pub fn new(arrival: u64) -> Self {
        Self { arrival, ..Self::default() }
    }

    /// Ends the connection; the first reason stands.
    pub fn close(&self, reason: u8) {
        let _ = self.close.compare_exchange(0, reason, Ordering::AcqRel, Ordering::Acquire);
        self.wake.notify_one();
    }

    pub fn closing(&self) -> Option<u8> {
        Some(self.close.load(Ordering::Acquire)).filter(|reason| *reason != 0)
    }
}

/// Shared by the broker and the connection's task.
pub struct Session {
    pub id: u64,
    pub client_id: Arc<str>,
    pub owner: Option<DeviceId>,
    pub inner: Mutex<Inner>,
}

/// The part of a session that changes.
#[derive(Default)]
pub struct Inner {
    pub link: Option<Arc<Link>>,
    /// Persistent sessions only.
    pub keeper: Option<Keeper>,
    pub expiry_s: u32,
    /// By filter as it was asked for, `$share` included.
    pub subscriptions: HashMap<Box<str>, Subscription>,
    /// Packet ids of inbound QoS 2 publishes whose content is taken and whose release has not come.
    pub inbound: HashSet<u16>,
    pub(super) queue: VecDeque<Delivery>,
    pub(super) queued_bytes: usize,
    pub in_flight: VecDeque<InFlight>,
    pub(super) last_pkid: u16,
    /// Of the connection, or waiting for its delay after it.
    pub will: Option<Will>,
    /// The wall clock's time at which the connection ended.
    pub offline_since_ms: Option<i64>,
    /// Where this session stands in the broker's tables of what is due, so that it can be taken out without a search.
    pub offline_at: Option<Instant>,
    pub will_at: Option<Instant>,
    pub end_at: Option<Instant>,
    /// The broker no longer knows this session; a connection that still holds it must not put it back.
    pub ended: bool,
}

/// Bounds of one client's queue.
#[derive(Clone, Copy)]
pub struct QueueLimits {
    pub messages_max: usize,
    pub bytes_max: usize,
}

/// Notes what happens to one persistent session.
pub struct Keeper {
    pub journal: Arc<Journal>,
    pub id: u64,
}

impl Keeper {
    /// Room for a message and its line; `None` when all sessions together have no more.
    fn queued(&self, delivery: &Delivery) -> Option<u64> {
        let room = self.journal.take_room(delivery.message.bytes());
        room.then(|| self.journal.append(&Record::Queued { id: self.id, delivery }))
    }

    fn finished(&self, delivery: &Delivery) {
        self.journal.give_room(delivery.message.bytes());
        self.journal.append(&Record::Finished { id: self.id, pkid: delivery.pkid });
    }
}

impl Session {
    /// The line of the session itself; `inner` is its own. Nothing for a session that is not persistent.
    pub fn note(&self, inner: &Inner) {
        if let Some(keeper) = &inner.keeper {
            keeper.journal.append(&self.record(inner, false));
        }
    }

    pub fn record<'a>(&'a self, inner: &'a Inner, anew: bool) -> Record<'a> {
        Record::Session {
            id: self.id,
            anew,
            client_id: &self.client_id,
            owner: self.owner,
            expiry_s: inner.expiry_s,
            offline_since_ms: inner.offline_since_ms,
            will: inner.will.as_ref(),
        }
    }

    /// Everything of a persistent session, for a journal that is written anew.
    pub fn add_to(&self, journal: &Journal) {
        let inner = self.inner.lock();
        if inner.keeper.is_none() {
            return;
        }
        let id = self.id;
        let mut records = vec![self.record(&inner, true)];
        records.extend(inner.subscriptions.iter().map(|(asked, subscription)| Record::Subscribed {
            id,
            asked,
            subscription: *subscription,
        }));
        for in_flight in &inner.in_flight {
            let InFlight { pkid, delivery, released } = in_flight;
            records.push(Record::Queued { id, delivery });
            records.push(if *released { Record::Released { id, pkid: *pkid } } else { Record::Sent { id, pkid: *pkid } });
        }
        let waiting = inner.queue.iter().filter(|delivery| delivery.pkid != 0);
        records.extend(waiting.map(|delivery| Record::Queued { id, delivery }));
        // Under the session's lock, so that its later lines follow.
        journal.add_whole(&records);
    }
}

impl Inner {
    /// Puts a message into the queue. At the limit a QoS 0 message is dropped; for another the oldest waiting ones make
    /// room, and where all sessions together have none it is dropped. Returns how many were dropped.
    pub fn push(&mut self, mut delivery: Delivery, limits: QueueLimits) -> usize {
        let bytes = delivery.message.bytes();
        let mut dropped = 0;
        while self.queue.len() >= limits.messages_max || self.queued_bytes + bytes > limits.bytes_max {
            if delivery.qos == 0 || self.queue.is_empty() {
                return dropped + 1;
            }
            if let Some(oldest) = self.pop() {
                self.discard(&oldest);
            }
            dropped += 1;
        }
        if delivery.qos > 0 && self.keeper.is_some() {
            delivery.pkid = self.next_pkid();
            let Some(position) = self.keeper.as_ref().and_then(|keeper| keeper.queued(&delivery)) else { return dropped + 1 };
            delivery.position = position;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(delivery);
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
        dropped
    }

    /// Puts back what an earlier process had queued; it is in the journal and within its limits.
    pub fn restore(&mut self, delivery: Delivery) {
        self.queued_bytes += delivery.message.bytes();
        self.queue.push_back(delivery);
    }

    /// Takes the next message out of the queue; it is then sent ([`Inner::start`]) or dropped ([`Inner::discard`]).
    pub fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queued_bytes -= delivery.message.bytes();
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
        Some(delivery)
    }

    pub fn peek(&self) -> Option<&Delivery> {
        self.queue.front()
    }

    /// A message of QoS 1 or 2 is sent for the first time. Returns its packet id.
    pub fn start(&mut self, delivery: Delivery) -> u16 {
        let pkid = if delivery.pkid == 0 { self.next_pkid() } else { delivery.pkid };
        if let Some(keeper) = self.keeper.as_ref().filter(|_| delivery.pkid != 0) {
            keeper.journal.append(&Record::Sent { id: keeper.id, pkid });
        }
        self.in_flight.push_back(InFlight { pkid, delivery, released: false });
        pkid
    }

    /// A message that left the queue without being sent.
    pub fn discard(&self, delivery: &Delivery) {
        if let Some(keeper) = self.keeper.as_ref().filter(|_| delivery.pkid != 0) {
            keeper.finished(delivery);
        }
    }

    /// A packet id that is not in use; the client's receive maximum and the queue's limit keep some free.
    pub fn next_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.wrapping_add(1).max(1);
            let used = |pkid: u16| pkid == self.last_pkid;
            if !self.in_flight.iter().any(|f| used(f.pkid)) && !self.queue.iter().any(|d| used(d.pkid)) {
                return self.last_pkid;
            }
        }
    }

    /// The client finished with an id (PUBACK or PUBCOMP). `false` when it was not in flight.
    pub fn finish(&mut self, pkid: u16) -> bool {
        let found = self.in_flight.iter().position(|f| f.pkid == pkid).and_then(|at| self.in_flight.remove(at));
        if let Some(in_flight) = &found {
            self.discard(&in_flight.delivery);
        }
        found.is_some()
    }

    /// The client has the message (PUBREC); only the release is left, which may leave when as much of the journal as this
    /// returns is stored. `None` when it was not in flight.
    pub fn release(&mut self, pkid: u16) -> Option<u64> {
        let in_flight = self.in_flight.iter_mut().find(|f| f.pkid == pkid)?;
        in_flight.released = true;
        let keeper = self.keeper.as_ref().filter(|_| in_flight.delivery.pkid != 0);
        Some(keeper.map_or(0, |keeper| keeper.journal.append(&Record::Released { id: keeper.id, pkid })))
    }

    /// The session is not persistent any more, or has ended.
    pub fn let_go(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        let kept = self.in_flight.iter().map(|f| &f.delivery).chain(&self.queue).filter(|delivery| delivery.pkid != 0);
        keeper.journal.give_room(kept.map(|delivery| delivery.message.bytes()).sum());
        keeper.journal.append(&Record::Ended { id: keeper.id });
    }
}
