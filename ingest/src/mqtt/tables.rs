//! The broker's tables: who is here, who subscribed to what, what is retained, what is due later. Always behind the
//! broker's lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;
use smallvec::SmallVec;

use super::broker::{Arrival, Will};
use super::journal::{Journal, Record};
use super::session::{Delivery, Inner, Message, QueueLimits, Session, Subscription};
use super::topic;
use super::tree::Tree;
use crate::metrics::Metrics;

pub enum Timer {
    Will(Will),
    SessionEnd,
}

pub struct Member {
    pub session: Arc<Session>,
    pub subscription: Subscription,
}

/// A group of a shared subscription; each message goes to the next member that is connected.
#[derive(Default)]
pub struct Group {
    members: Vec<Member>,
    next: usize,
}

pub struct Tables {
    journal: Arc<Journal>,
    pub sessions: HashMap<Arc<str>, Arc<Session>>,
    pub owned: HashMap<DeviceId, SmallVec<[Arc<str>; 1]>>,
    pub subscribers: Tree<u64, Member>,
    pub groups: Tree<Box<str>, Group>,
    pub retained: BTreeMap<Arc<str>, Arc<Message>>,
    retained_bytes: usize,
    /// By time and session; a session has at most one of each kind.
    pub timers: BTreeMap<(Instant, u64, bool), (Arc<Session>, Timer)>,
    pub offline: BTreeMap<(Instant, u64), Arc<Session>>,
    last_session: u64,
    /// The server is shutting down.
    pub closed: bool,
}

/// Puts a delivery into a session's queue; QoS 0 does not wait for a client that is away.
pub fn deliver(session: &Session, delivery: Delivery, limits: QueueLimits) -> usize {
    let mut inner = session.inner.lock();
    if inner.link.is_none() && delivery.qos == 0 {
        return 0;
    }
    inner.push(delivery, limits)
}

impl Delivery {
    pub fn new(message: &Arc<Message>) -> Self {
        let subscription_ids = SmallVec::new();
        Self { message: message.clone(), qos: 0, retain: false, subscription_ids, pkid: 0, position: 0 }
    }

    pub fn join(&mut self, message: &Message, wanted: Subscription) {
        self.qos = self.qos.max(wanted.qos.min(message.qos));
        self.retain |= wanted.retain_as_published && message.retain;
        self.subscription_ids.extend(wanted.id);
    }
}

impl Group {
    pub fn deliver(&mut self, message: &Arc<Message>, limits: QueueLimits) -> usize {
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
    pub fn new(journal: Arc<Journal>) -> Self {
        Self {
            journal,
            sessions: HashMap::new(),
            owned: HashMap::new(),
            subscribers: Tree::default(),
            groups: Tree::default(),
            retained: BTreeMap::new(),
            retained_bytes: 0,
            timers: BTreeMap::new(),
            offline: BTreeMap::new(),
            last_session: 0,
            closed: false,
        }
    }

    /// Puts back a session of an earlier process, without what is due of it.
    pub fn restore_session(&mut self, session: &Arc<Session>) {
        self.last_session = self.last_session.max(session.id);
        self.sessions.insert(session.client_id.clone(), session.clone());
        if let Some(device) = session.owner {
            self.owned.entry(device).or_default().push(session.client_id.clone());
        }
        let subscriptions: Vec<_> = session.inner.lock().subscriptions.iter().map(|(asked, s)| (asked.clone(), *s)).collect();
        for (asked, subscription) in subscriptions {
            let member = Member { session: session.clone(), subscription };
            match topic::parse(&asked) {
                Some((Some(group), filter)) => self.join(group, filter, member),
                Some((None, filter)) => drop(self.subscribers.insert(filter, session.id, member)),
                None => {}
            }
        }
    }

    pub fn restore_retained(&mut self, message: Arc<Message>) {
        self.retained_bytes += message.bytes();
        self.retained.insert(message.topic.clone(), message);
    }

    pub fn create(&mut self, arrival: &Arrival, clients_per_device_max: usize, wills: &mut Vec<Will>) -> Option<Arc<Session>> {
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
    pub fn lose(&mut self, session: &Arc<Session>, ends: bool, reason: u8, metrics: &Metrics) -> Option<Will> {
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
    pub fn disarm(&mut self, session: &Session) -> Option<Will> {
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
    pub fn end(&mut self, session: &Session) -> Option<Will> {
        let will = self.disarm(session);
        let filters: Vec<Box<str>> = {
            let mut inner = session.inner.lock();
            inner.ended = true;
            inner.let_go();
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

    pub fn join(&mut self, group: &str, filter: &str, member: Member) {
        let key: Box<str> = group.into();
        if self.groups.get_mut(filter, &key).is_none() {
            self.groups.insert(filter, key.clone(), Group::default());
        }
        let group = self.groups.get_mut(filter, &key).expect("it was just put there");
        group.members.retain(|known| known.session.id != member.session.id);
        group.members.push(member);
    }

    pub fn forget(&mut self, session: &Session, asked: &str) {
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

    /// An empty payload takes the retained message away. Where a limit would be passed the message is not retained, and
    /// the one that was is gone. Returns whether it was done as asked.
    pub fn retain(&mut self, message: &Arc<Message>, messages_max: usize, bytes_max: usize) -> bool {
        self.no_longer_retain(&message.topic);
        if message.payload.is_empty() {
            return true;
        }
        let fits = self.retained.len() < messages_max && self.retained_bytes + message.bytes() <= bytes_max;
        if fits {
            self.journal.append(&Record::Retained { message });
            self.restore_retained(message.clone());
        }
        fits
    }

    fn no_longer_retain(&mut self, topic: &str) {
        if let Some(old) = self.retained.remove(topic) {
            self.retained_bytes -= old.bytes();
            self.journal.append(&Record::NotRetained { topic });
        }
    }

    pub fn retained_for(&mut self, filter: &str, wanted: Subscription) -> Vec<Delivery> {
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
                found.push(Delivery { message: message.clone(), qos, retain: true, subscription_ids, pkid: 0, position: 0 });
            }
        }
        for name in expired {
            self.no_longer_retain(&name);
        }
        found
    }
}
