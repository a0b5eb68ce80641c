//! The generic broker: sessions by client id, who subscribed to what, retained messages, and what is due at a later time
//! (delayed wills, expiring sessions). Events never come through here; they go to the log.
//!
//! One lock guards the tables, and it is taken before a session's lock, never after. Nothing blocks under either.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::session::{Delivery, Inner, Link, Message, QueueLimits, Session, Subscription};
use super::topic;
use super::tree::Tree;
use crate::config::GatewayConfig;
use crate::directory::DeviceIdentity;
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
    pub identity: Option<DeviceIdentity>,
}

enum Timer {
    Will(Will),
    SessionEnd,
}

struct Member {
    session: Arc<Session>,
    subscription: Subscription,
}

/// A group of a shared subscription; each message goes to the next member that is connected.
#[derive(Default)]
struct Group {
    members: Vec<Member>,
    next: usize,
}

#[derive(Default)]
struct Tables {
    sessions: HashMap<Arc<str>, Arc<Session>>,
    owned: HashMap<DeviceId, SmallVec<[Arc<str>; 1]>>,
    subscribers: Tree<u64, Member>,
    groups: Tree<Box<str>, Group>,
    retained: BTreeMap<Arc<str>, Arc<Message>>,
    /// By time and session; a session has at most one of each kind.
    timers: BTreeMap<(Instant, u64, bool), (Arc<Session>, Timer)>,
    offline: BTreeMap<(Instant, u64), Arc<Session>>,
    last_session: u64,
    /// The server is shutting down.
    closed: bool,
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

pub struct Broker {
    tables: Mutex<Tables>,
    limits: QueueLimits,
    sessions_offline_max: usize,
    subscriptions_max: usize,
    retained_max: usize,
    clients_per_device_max: usize,
    metrics: Arc<Metrics>,
    timers_changed: Notify,
}

impl Broker {
    pub fn new(config: &GatewayConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            tables: Mutex::default(),
            limits: QueueLimits { messages_max: config.queued_messages_max, bytes_max: config.queued_bytes_max },
            sessions_offline_max: config.sessions_offline_max,
            subscriptions_max: config.subscriptions_per_client_max,
            retained_max: config.retained_messages_max,
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
                session.inner.lock().will_at = Some(at);
                tables.timers.insert((at, session.id, false), (session.clone(), Timer::Will(will)));
            }
            will => due.extend(will),
        }
        if expiry_s != u32::MAX {
            let at = now + Duration::from_secs(expiry_s.into());
            session.inner.lock().end_at = Some(at);
            tables.timers.insert((at, session.id, true), (session.clone(), Timer::SessionEnd));
        }
        session.inner.lock().offline_at = Some(now);
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
                    session.inner.lock().will_at = None;
                    wills.push(will);
                }
                (session, Timer::SessionEnd) => wills.extend(tables.end(&session)),
            }
        }
        (wills, tables.timers.first_key_value().map(|((at, ..), _)| *at))
    }

    /// Subscribes; `Err` is the reason code of the refusal. Returns the retained messages that the client gets for it.
    pub fn subscribe(&self, session: &Arc<Session>, asked: &str, subscription: Subscription, handling: u8) -> Result<Vec<Delivery>, u8> {
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
        drop(inner);
        let member = Member { session: session.clone(), subscription };
        if let Some(group) = group {
            // Retained messages are not sent for shared subscriptions.
            tables.join(group, filter, member);
            return Ok(Vec::new());
        }
        tables.subscribers.insert(filter, session.id, member);
        if handling == 2 || (handling == 1 && existed) {
            return Ok(Vec::new());
        }
        Ok(tables.retained_for(filter, subscription))
    }

    /// Puts retained messages into a client's queue.
    pub fn enqueue(&self, session: &Session, deliveries: Vec<Delivery>) {
        let mut inner = session.inner.lock();
        let dropped: usize = deliveries.into_iter().map(|delivery| inner.push(delivery, self.limits)).sum();
        self.metrics.messages_dropped.inc_by(dropped as u64);
    }

    /// Whether there was such a subscription.
    pub fn unsubscribe(&self, session: &Session, asked: &str) -> bool {
        let mut tables = self.tables.lock();
        let existed = session.inner.lock().subscriptions.remove(asked).is_some();
        tables.forget(session, asked);
        existed
    }

    /// Sends a message to everyone who subscribed to its topic and keeps it when it is to be retained. Returns whether
    /// anyone had subscribed.
    pub fn route(&self, message: Arc<Message>) -> bool {
        let mut tables = self.tables.lock();
        if message.retain {
            tables.retain(&message, self.retained_max);
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

/// Puts a delivery into a session's queue; QoS 0 does not wait for a client that is away.
fn deliver(session: &Session, delivery: Delivery, limits: QueueLimits) -> usize {
    let mut inner = session.inner.lock();
    if inner.link.is_none() && delivery.qos == 0 {
        return 0;
    }
    inner.push(delivery, limits)
}

impl Delivery {
    fn new(message: &Arc<Message>) -> Self {
        Self { message: message.clone(), qos: 0, retain: false, subscription_ids: SmallVec::new() }
    }

    fn join(&mut self, message: &Message, wanted: Subscription) {
        self.qos = self.qos.max(wanted.qos.min(message.qos));
        self.retain |= wanted.retain_as_published && message.retain;
        self.subscription_ids.extend(wanted.id);
    }
}

impl Group {
    fn deliver(&mut self, message: &Arc<Message>, limits: QueueLimits) -> usize {
        let count = self.members.len();
        let online = |member: &Member| member.session.inner.lock().link.is_some();
        let turn = (0..count).map(|i| (self.next + i) % count);
        let chosen = turn.clone().find(|at| online(&self.members[*at])).or_else(|| turn.clone().next());
        let Some(at) = chosen else { return 0 };
        self.next = (at + 1) % count;
        let mut delivery = Delivery::new(message);
        delivery.join(message, self.members[at].subscription);
        deliver(&self.members[at].session, delivery, limits)
    }
}

impl Tables {
    fn create(&mut self, arrival: &Arrival, clients_per_device_max: usize, wills: &mut Vec<Will>) -> Option<Arc<Session>> {
        if let Some(device) = arrival.owner {
            let ids = self.owned.get(&device).cloned().unwrap_or_default();
            if ids.len() >= clients_per_device_max {
                // One that nobody uses makes room; when all are connected the new one is refused.
                let sessions = ids.iter().filter_map(|id| self.sessions.get(id));
                let idle = sessions.filter(|session| session.inner.lock().link.is_none()).min_by_key(|session| session.id);
                let idle = idle.cloned()?;
                wills.extend(self.end(&idle));
            }
            self.owned.entry(device).or_default().push(arrival.client_id.clone());
        }
        self.last_session += 1;
        let (id, client_id) = (self.last_session, arrival.client_id.clone());
        let session = Arc::new(Session { id, client_id, owner: arrival.owner, inner: Mutex::new(Inner::default()) });
        self.sessions.insert(arrival.client_id.clone(), session.clone());
        Some(session)
    }

    /// Takes the connection from a session whose client comes anew, and finds whether its will falls due by that.
    fn lose(&mut self, session: &Arc<Session>, ends: bool, reason: u8, metrics: &Metrics) -> Option<Will> {
        let mut inner = session.inner.lock();
        let will = inner.will.take();
        if let Some(link) = inner.link.take() {
            link.close(reason);
            metrics.takeovers.inc();
            // A delayed will is not sent when its client is back before the delay is over.
            return will.filter(|will| ends || will.delay_s == 0);
        }
        None
    }

    /// The client is back, or the session has ended: nothing of it is due any more. Returns a will that still waited.
    fn disarm(&mut self, session: &Session) -> Option<Will> {
        let mut inner = session.inner.lock();
        let (offline, will, end) = (inner.offline_at.take(), inner.will_at.take(), inner.end_at.take());
        drop(inner);
        if let Some(at) = offline {
            self.offline.remove(&(at, session.id));
        }
        if let Some(at) = end {
            self.timers.remove(&(at, session.id, true));
        }
        match self.timers.remove(&(will?, session.id, false)) {
            Some((_, Timer::Will(will))) => Some(will),
            _ => None,
        }
    }

    /// Ends a session; a will that waited for its delay falls due by that and is returned.
    fn end(&mut self, session: &Session) -> Option<Will> {
        let will = self.disarm(session);
        let filters: Vec<Box<str>> = {
            let mut inner = session.inner.lock();
            inner.ended = true;
            inner.subscriptions.drain().map(|(filter, _)| filter).collect()
        };
        for asked in &filters {
            self.forget(session, asked);
        }
        if self.sessions.get(&session.client_id).is_some_and(|current| current.id == session.id) {
            self.sessions.remove(&session.client_id);
            if let Some(device) = session.owner {
                let ids = self.owned.entry(device).or_default();
                ids.retain(|id| *id != session.client_id);
                if ids.is_empty() {
                    self.owned.remove(&device);
                }
            }
        }
        will
    }

    fn join(&mut self, group: &str, filter: &str, member: Member) {
        let key: Box<str> = group.into();
        if self.groups.get_mut(filter, &key).is_none() {
            self.groups.insert(filter, key.clone(), Group::default());
        }
        let group = self.groups.get_mut(filter, &key).expect("it was just put there");
        group.members.retain(|known| known.session.id != member.session.id);
        group.members.push(member);
    }

    fn forget(&mut self, session: &Session, asked: &str) {
        match topic::parse(asked) {
            Some((None, filter)) => drop(self.subscribers.remove(filter, &session.id)),
            Some((Some(group), filter)) => {
                let key: Box<str> = group.into();
                if let Some(group) = self.groups.get_mut(filter, &key) {
                    group.members.retain(|member| member.session.id != session.id);
                    group.next = 0;
                    if group.members.is_empty() {
                        self.groups.remove(filter, &key);
                    }
                }
            }
            None => {}
        }
    }

    /// An empty payload takes the retained message away. At the limit new topics are not retained.
    fn retain(&mut self, message: &Arc<Message>, retained_max: usize) {
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if self.retained.len() < retained_max || self.retained.contains_key(&message.topic) {
            self.retained.insert(message.topic.clone(), message.clone());
        }
    }

    fn retained_for(&mut self, filter: &str, wanted: Subscription) -> Vec<Delivery> {
        let (now, prefix) = (Instant::now(), topic::literal_prefix(filter));
        let mut expired = Vec::new();
        let mut found = Vec::new();
        for (name, message) in self.retained.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)) {
            if !name.starts_with(prefix) {
                break;
            }
            if message.is_expired(now) {
                expired.push(name.clone());
            } else if topic::matches(name, filter) {
                let (qos, subscription_ids) = (message.qos.min(wanted.qos), wanted.id.into_iter().collect());
                found.push(Delivery { message: message.clone(), qos, retain: true, subscription_ids });
            }
        }
        for name in expired {
            self.retained.remove(&name);
        }
        found
    }
}
