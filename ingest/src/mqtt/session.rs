//! One client's session: what outlives its connection. It holds the subscriptions, the packet ids of QoS 2 publishes that
//! were taken but not released, and the messages that wait for the client or for its acknowledgement.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;
use smallvec::SmallVec;
use tokio::sync::Notify;

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
    fn bytes(&self) -> usize {
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
}

/// A delivery that the client has not finished acknowledging.
#[derive(Clone, Debug)]
pub enum InFlight {
    Publish {
        pkid: u16,
        delivery: Delivery,
    },
    /// The client has it (PUBREC); the release was sent.
    Released {
        pkid: u16,
    },
}

impl InFlight {
    pub fn pkid(&self) -> u16 {
        match self {
            Self::Publish { pkid, .. } | Self::Released { pkid } => *pkid,
        }
    }
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
    pub expiry_s: u32,
    /// By filter as it was asked for, `$share` included.
    pub subscriptions: HashMap<Box<str>, Subscription>,
    /// Packet ids of inbound QoS 2 publishes whose content is taken and whose release has not come.
    pub inbound: HashSet<u16>,
    queue: VecDeque<Delivery>,
    queued_bytes: usize,
    pub in_flight: VecDeque<InFlight>,
    last_pkid: u16,
    pub will: Option<super::broker::Will>,
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

impl Inner {
    /// Puts a message into the queue. At the limit a QoS 0 message is dropped; for another the oldest waiting ones make
    /// room. Returns how many were dropped.
    pub fn push(&mut self, delivery: Delivery, limits: QueueLimits) -> usize {
        let bytes = delivery.message.bytes();
        let mut dropped = 0;
        while self.queue.len() >= limits.messages_max || self.queued_bytes + bytes > limits.bytes_max {
            if delivery.qos == 0 || self.queue.is_empty() {
                return dropped + 1;
            }
            self.pop();
            dropped += 1;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(delivery);
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
        dropped
    }

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

    /// A packet id that is not in use; the client's receive maximum keeps some free.
    pub fn next_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.wrapping_add(1).max(1);
            if !self.in_flight.iter().any(|f| f.pkid() == self.last_pkid) {
                return self.last_pkid;
            }
        }
    }

    /// The client finished with an id (PUBACK or PUBCOMP). `false` when it was not in flight.
    pub fn finish(&mut self, pkid: u16) -> bool {
        let found = self.in_flight.iter().position(|f| f.pkid() == pkid);
        found.map(|at| self.in_flight.remove(at)).is_some()
    }

    /// The client has the message (PUBREC); only the release is left. `false` when it was not in flight.
    pub fn release(&mut self, pkid: u16) -> bool {
        let found = self.in_flight.iter_mut().find(|f| f.pkid() == pkid);
        found.map(|f| *f = InFlight::Released { pkid }).is_some()
    }
}
