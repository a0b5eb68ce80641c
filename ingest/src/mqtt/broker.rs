//! The generic broker: sessions by client id, who subscribed to what, retained messages, and what is due at a later time
//! (delayed wills, expiring sessions). Events never come through here; they go to the log. What outlives the process is
//! noted in the [`Journal`].
//!
//! One lock guards the tables, and it is taken before a session's lock, never after. Nothing blocks under either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::journal::{Journal, Record};
use super::session::{Delivery, Keeper, Link, Message, QueueLimits, Session, Subscription};
use super::tables::{Member, Tables, Timer, deliver};
use super::topic;
use crate::config::GatewayConfig;
use crate::metrics::Metrics;

/// Reason codes with which the broker ends connections.
pub const TAKEN_OVER: u8 = 0x8e;
pub const SHUTTING_DOWN: u8 = 0x8b;
pub const ADMINISTRATIVE: u8 = 0x98;
const QUOTA: u8 = 0x97;

/// A message to publish when a client is lost.
#[derive(Clone, Debug)]
pub struct Will {
    pub message: Arc<Message>,
    pub delay_s: u32,
    /// Seconds that the message lives from its publication.
    pub expiry_s: Option<u32>,
    /// The device that left it; in the product only a device that may still speak has its will published.
    pub owner: Option<DeviceId>,
}

/// What a new connection is to do first.
pub struct Attached {
    pub session: Arc<Session>,
    pub link: Arc<Link>,
    pub present: bool,
    /// Wills of the session's earlier life that fall due now.
    pub wills: Vec<Will>,
}

/// A client that asks for its session.
pub struct Arrival {
    pub client_id: Arc<str>,
    /// Place of its connection in the order in which the server accepted them.
    pub number: u64,
    pub owner: Option<DeviceId>,
    pub clean_start: bool,
    pub expiry_s: u32,
    pub will: Option<Will>,
}

/// A subscription that was granted.
pub struct Granted {
    /// What the client gets for it at once.
    pub retained: Vec<Delivery>,
    /// How much of the journal must be stored before the client is told.
    pub position: u64,
}

pub struct Broker {
    pub(super) tables: Mutex<Tables>,
    pub(super) journal: Arc<Journal>,
    limits: QueueLimits,
    sessions_offline_max: usize,
    subscriptions_max: usize,
    retained_max: usize,
    retained_bytes_max: usize,
    clients_per_device_max: usize,
    metrics: Arc<Metrics>,
    timers_changed: Notify,
}

impl Broker {
    pub fn new(config: &GatewayConfig, metrics: Arc<Metrics>, journal: Arc<Journal>) -> Self {
        Self {
            tables: Mutex::new(Tables::new(journal.clone())),
            journal,
            limits: QueueLimits { messages_max: config.queued_messages_max, bytes_max: config.queued_bytes_max },
            sessions_offline_max: config.sessions_offline_max,
            subscriptions_max: config.subscriptions_per_client_max,
            retained_max: config.retained_messages_max,
            retained_bytes_max: config.retained_bytes_max,
            clients_per_device_max: config.clients_per_device_max,
            metrics,
            timers_changed: Notify::new(),
        }
    }

    /// Gives a client its session and ends the connection that has it now. `Err` is the reason code of the refusal: the
    /// device has too many clients, or a newer connection of this client is here already. The latter happens where a client
    /// gave up a connection whose credentials were still being checked: it must not take the session from its successor.
    pub fn attach(&self, arrival: Arrival) -> Result<Attached, u8> {
        let mut tables = self.tables.lock();
        if tables.closed {
            return Err(SHUTTING_DOWN);
        }
        let mut wills = Vec::new();
        let mut kept = None;
        if let Some(old) = tables.sessions.get(&arrival.client_id).cloned() {
            if old.inner.lock().link.as_ref().is_some_and(|link| link.arrival > arrival.number) {
                return Err(TAKEN_OVER);
            }
            // A session belongs to whom it was made for: nobody inherits another device's queue.
            let ends = arrival.clean_start || old.owner != arrival.owner || old.inner.lock().expiry_s == 0;
            wills.extend(tables.lose(&old, ends, TAKEN_OVER, &self.metrics));
            if ends {
                wills.extend(tables.end(&old));
            } else {
                tables.disarm(&old);
                kept = Some(old);
            }
        }
        let present = kept.is_some();
        let session = match kept {
            Some(session) => session,
            None => tables.create(&arrival, self.clients_per_device_max, &mut wills).ok_or(QUOTA)?,
        };
        let link = Arc::new(Link::new(arrival.number));
        {
            let mut inner = session.inner.lock();
            inner.link = Some(link.clone());
            inner.expiry_s = arrival.expiry_s;
            inner.will = arrival.will;
            inner.offline_since_ms = None;
            if arrival.expiry_s == 0 {
                inner.let_go();
            } else {
                inner.keeper.get_or_insert_with(|| Keeper { journal: self.journal.clone(), id: session.id });
                session.note(&inner);
            }
        }
        Ok(Attached { session, link, present, wills })
    }

    /// The connection has ended. Returns the wills that fall due now. `clean` tells a DISCONNECT that discards the will.
    pub fn detach(&self, session: &Arc<Session>, link: &Arc<Link>, clean: bool) -> SmallVec<[Will; 1]> {
        let mut tables = self.tables.lock();
        let (now, mut due) = (Instant::now(), SmallVec::new());
        let (will, expiry_s) = {
            let mut inner = session.inner.lock();
            if !inner.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
                return due;
            }
            inner.link = None;
            (inner.will.take().filter(|_| !clean), inner.expiry_s)
        };
        if expiry_s == 0 {
            due.extend(tables.end(session));
            due.extend(will);
            return due;
        }
        match will {
            Some(will) if will.delay_s > 0 => {
                let at = now + Duration::from_secs(will.delay_s.min(expiry_s).into());
                let mut inner = session.inner.lock();
                (inner.will_at, inner.will) = (Some(at), Some(will.clone()));
                drop(inner);
                tables.timers.insert((at, session.id, false), (session.clone(), Timer::Will(will)));
            }
            will => due.extend(will),
        }
        if expiry_s != u32::MAX {
            let at = now + Duration::from_secs(expiry_s.into());
            session.inner.lock().end_at = Some(at);
            tables.timers.insert((at, session.id, true), (session.clone(), Timer::SessionEnd));
        }
        let mut inner = session.inner.lock();
        (inner.offline_at, inner.offline_since_ms) = (Some(now), Some(self.journal.times().wall_ms));
        session.note(&inner);
        drop(inner);
        tables.offline.insert((now, session.id), session.clone());
        if tables.offline.len() > self.sessions_offline_max {
            if let Some((_, oldest)) = tables.offline.pop_first() {
                due.extend(tables.end(&oldest));
            }
        }
        drop(tables);
        self.timers_changed.notify_one();
        due
    }

    /// Waits for the next wills that fall due; sessions that expire end on the way.
    pub async fn next_wills(&self) -> Vec<Will> {
        loop {
            let changed = self.timers_changed.notified();
            let (wills, next) = self.fire();
            if !wills.is_empty() {
                return wills;
            }
            match next {
                Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
                None => changed.await,
            }
        }
    }

    fn fire(&self) -> (Vec<Will>, Option<Instant>) {
        let mut tables = self.tables.lock();
        let (now, mut wills) = (Instant::now(), Vec::new());
        while let Some(entry) = tables.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                (session, Timer::Will(will)) => {
                    let mut inner = session.inner.lock();
                    (inner.will_at, inner.will) = (None, None);
                    session.note(&inner);
                    wills.push(will);
                }
                (session, Timer::SessionEnd) => wills.extend(tables.end(&session)),
            }
        }
        (wills, tables.timers.first_key_value().map(|((at, ..), _)| *at))
    }

    /// Subscribes; `Err` is the reason code of the refusal.
    pub fn subscribe(&self, session: &Arc<Session>, asked: &str, subscription: Subscription, handling: u8) -> Result<Granted, u8> {
        let Some((group, filter)) = topic::parse(asked) else { return Err(0x8f) };
        let mut tables = self.tables.lock();
        let mut inner = session.inner.lock();
        if inner.ended {
            return Err(0x80);
        }
        if inner.subscriptions.len() >= self.subscriptions_max && !inner.subscriptions.contains_key(asked) {
            return Err(0x97);
        }
        let existed = inner.subscriptions.insert(asked.into(), subscription).is_some();
        let noted = inner.keeper.as_ref().map(|k| k.journal.append(&Record::Subscribed { id: k.id, asked, subscription }));
        let position = noted.unwrap_or(0);
        drop(inner);
        let member = Member { session: session.clone(), subscription };
        if let Some(group) = group {
            // Retained messages are not sent for shared subscriptions.
            tables.join(group, filter, member);
            return Ok(Granted { retained: Vec::new(), position });
        }
        tables.subscribers.insert(filter, session.id, member);
        if handling == 2 || (handling == 1 && existed) {
            return Ok(Granted { retained: Vec::new(), position });
        }
        Ok(Granted { retained: tables.retained_for(filter, subscription), position })
    }

    /// Puts retained messages into a client's queue.
    pub fn enqueue(&self, session: &Session, deliveries: Vec<Delivery>) {
        let mut inner = session.inner.lock();
        let dropped: usize = deliveries.into_iter().map(|delivery| inner.push(delivery, self.limits)).sum();
        self.metrics.messages_dropped.inc_by(dropped as u64);
    }

    /// Whether there was such a subscription, and how much of the journal must be stored before the client is told.
    pub fn unsubscribe(&self, session: &Session, asked: &str) -> (bool, u64) {
        let mut tables = self.tables.lock();
        let mut inner = session.inner.lock();
        let existed = inner.subscriptions.remove(asked).is_some();
        let noted = inner.keeper.as_ref().filter(|_| existed).map(|k| k.journal.append(&Record::Unsubscribed { id: k.id, asked }));
        drop(inner);
        tables.forget(session, asked);
        (existed, noted.unwrap_or(0))
    }

    /// Sends a message to everyone who subscribed to its topic and keeps it when it is to be retained. Returns whether
    /// anyone had subscribed.
    pub fn route(&self, message: Arc<Message>) -> bool {
        let mut tables = self.tables.lock();
        if message.retain {
            let retained = tables.retain(&message, self.retained_max, self.retained_bytes_max);
            self.metrics.messages_dropped.inc_by(u64::from(!retained));
        }
        // A client whose filters overlap gets one copy, of the highest QoS, with every identifier.
        let mut found: HashMap<u64, (Arc<Session>, Delivery)> = HashMap::new();
        tables.subscribers.for_matches(&message.topic, |id, member| {
            let wanted = member.subscription;
            if wanted.no_local && message.from == Some(*id) {
                return;
            }
            let entry = found.entry(*id).or_insert_with(|| (member.session.clone(), Delivery::new(&message)));
            entry.1.join(&message, wanted);
        });
        let mut dropped = 0;
        let any = !found.is_empty();
        for (session, delivery) in found.into_values() {
            dropped += deliver(&session, delivery, self.limits);
        }
        let mut shared = false;
        tables.groups.for_matches(&message.topic, |_, group| {
            shared = true;
            dropped += group.deliver(&message, self.limits);
        });
        self.metrics.messages_dropped.inc_by(dropped as u64);
        any || shared
    }

    /// Ends every connection of a device.
    pub fn disconnect(&self, device: DeviceId, reason: u8) -> usize {
        let tables = self.tables.lock();
        let ids = tables.owned.get(&device).map(|ids| ids.as_slice()).unwrap_or_default();
        let links = ids.iter().filter_map(|id| tables.sessions.get(id)).filter_map(|s| s.inner.lock().link.clone());
        links.map(|link| link.close(reason)).count()
    }

    /// Ends every connection and lets no other in.
    pub fn close_all(&self) {
        let mut tables = self.tables.lock();
        tables.closed = true;
        let links = tables.sessions.values().filter_map(|session| session.inner.lock().link.clone());
        links.for_each(|link| link.close(SHUTTING_DOWN));
    }
}
