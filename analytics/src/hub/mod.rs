//! Live topics: keyed states with a version, pushed to any number of subscribers.
//!
//! # What a topic is
//! A topic's state is a JSON object of collections, each an object of keys: `{"students": {"<id>": {...}}}`. A delta
//! has the same shape with only the keys that changed; a value replaces the old one whole, `null` removes the key.
//! A subscriber that applies what it gets holds exactly what a new snapshot would say.
//!
//! # Versions
//! A topic's version is an integer that grows by one with each change. A hub's versions begin at the start of the
//! process in milliseconds times [`VERSIONS_PER_MS`], so that a `since` that a client kept from an earlier process lies
//! below every version of this one and is answered with a snapshot; the numbers stay below 2^53, exact in JavaScript,
//! until the year 2109. A topic that was dropped and comes back begins above every version it ever had.
//!
//! # Who pays for what
//! A topic exists only while someone subscribes to it, and [`HISTORY_KEPT`] longer. A first subscriber makes the
//! topic *wanted*; its publisher takes the name from [`Publisher::take_wanted`] and gives the whole state once by
//! [`Hub::replace`]. A publisher claims a view, the last part of the name; what nobody claims is the hub's own list's. Updates to topics that nobody wants cost one look-up. Values are encoded when the first
//! subscriber pulls them, once, and the bytes are shared by all.
//!
//! # Slow readers
//! Subscriptions pull, so nothing is ever queued for one. A reader that fell behind by more than [`MERGE_BEHIND`]
//! changes, or out of the kept history, gets one delta with the newest value of each key that changed since; one that
//! is older than the kept tombstones gets a snapshot.

mod subscription;
mod topic;
mod value;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rollcall_model::time::UtcMillis;
use tokio::sync::Notify;

pub use subscription::{Subscription, Update};
use topic::Topic;
pub use value::{Changes, Value};

/// Versions reserved for each millisecond that a process runs: two million changes a second of one topic.
pub const VERSIONS_PER_MS: u64 = 2_048;

/// Most changes kept one by one for a subscriber that comes back.
pub const HISTORY_DELTAS_MAX: usize = 512;

/// Most bytes of kept changes of one topic, by estimate of [`VALUE_BYTES_ESTIMATE`] a changed key.
pub const HISTORY_BYTES_MAX: usize = 1024 * 1024;

/// What one changed key is taken to weigh: a status with its evidence.
pub const VALUE_BYTES_ESTIMATE: usize = 512;

/// Most removed keys a topic remembers, so that a slow reader can be told of the removal.
pub const TOMBSTONES_MAX: usize = 4_096;

/// A reader further behind than this many changes gets them merged into one delta.
pub const MERGE_BEHIND: u64 = 8;

/// How long a topic without subscribers is kept, so that a client that lost its network resumes with deltas.
pub const HISTORY_KEPT: Duration = Duration::from_secs(120);

/// The whole state of a topic at a version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub version: u64,
    /// A JSON object of collections.
    pub data: Bytes,
}

/// All live topics. Cheap to clone; all clones are one hub.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// Where the next new topic's versions begin.
    first_version: AtomicU64,
    /// Names that no publisher has claimed the view of.
    unclaimed: Arc<Wanted>,
    claimed: RwLock<HashMap<&'static str, Arc<Wanted>>>,
}

/// Names that wait for their first state.
#[derive(Default)]
struct Wanted {
    names: Mutex<Vec<Arc<str>>>,
    some: Notify,
}

impl Wanted {
    fn push(&self, name: Arc<str>) {
        self.names.lock().push(name);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.names.lock())
    }

    async fn some(&self) {
        loop {
            let notified = self.some.notified();
            if !self.names.lock().is_empty() {
                return;
            }
            notified.await;
        }
    }
}

/// Who gives the topics of one view their state. One at a time takes their names.
pub struct Publisher(Arc<Wanted>);

impl Publisher {
    /// Names of topics that wait for their first state; each is given once.
    pub fn take_wanted(&self) -> Vec<Arc<str>> {
        self.0.take()
    }

    /// Returns when some topic of the view is wanted. Cancel-safe.
    pub async fn wanted(&self) {
        self.0.some().await;
    }
}

/// What a hub holds now, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HubSize {
    pub topics: usize,
    pub subscribers: usize,
}

impl Hub {
    /// `started` is the instant this process started: the base of all versions.
    pub fn new(started: UtcMillis) -> Self {
        let base = started.0.max(0) as u64 * VERSIONS_PER_MS;
        Self {
            inner: Arc::new(Inner {
                topics: RwLock::new(HashMap::new()),
                first_version: AtomicU64::new(base),
                unclaimed: Arc::default(),
                claimed: RwLock::default(),
            }),
        }
    }

    /// Begins to follow a topic. With `since` inside the kept history the changes after it come one by one; otherwise a
    /// snapshot comes first. The caller has authorised the subscriber; dropping the subscription ends it.
    pub fn subscribe(&self, topic: &str, since: Option<u64>) -> Subscription {
        loop {
            if let Some(found) = self.inner.topics.read().get(topic) {
                return Subscription::new(found.clone(), since);
            }
            self.create(topic);
        }
    }

    /// The state now, waiting for the publisher if nobody wanted the topic before. `None`: there is no such topic.
    pub async fn snapshot(&self, topic: &str) -> Option<Snapshot> {
        match self.subscribe(topic, None).next().await? {
            Update::Snapshot { version, data } => Some(Snapshot { version, data }),
            Update::Delta { .. } => unreachable!("a subscription without `since` begins with a snapshot"),
        }
    }

    /// Applies changes to a topic that is live; false when nobody wants it or its first state is still owed. An empty
    /// set of changes makes no version.
    pub fn update(&self, topic: &str, changes: Changes) -> bool {
        match self.get(topic) {
            Some(topic) => topic.update(changes),
            None => false,
        }
    }

    /// Gives the whole state: the first one of a wanted topic, or a new one (another day) as one change in which keys
    /// that are no longer there are removed.
    pub fn replace(&self, topic: &str, state: Changes) -> bool {
        match self.get(topic) {
            Some(topic) => {
                topic.replace(state);
                true
            }
            None => false,
        }
    }

    /// Ends a topic and its subscriptions: it is not known, or exists no longer.
    pub fn close(&self, topic: &str) {
        let removed = self.inner.topics.write().remove(topic);
        if let Some(topic) = removed {
            self.retire(&topic);
        }
    }

    /// Whether anybody follows the topic, or did so lately, and it has its state.
    pub fn is_live(&self, topic: &str) -> bool {
        self.get(topic).is_some_and(|topic| topic.is_primed())
    }

    /// How many follow the topic.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.get(topic).map_or(0, |topic| topic.subscribers())
    }

    /// Takes over the topics whose name ends with this view ("engagement"). Claim before anybody can subscribe.
    pub fn publisher(&self, view: &'static str) -> Publisher {
        Publisher(self.inner.claimed.write().entry(view).or_default().clone())
    }

    /// Names of unclaimed topics that wait for their first state; each is given once.
    pub fn take_wanted(&self) -> Vec<Arc<str>> {
        self.inner.unclaimed.take()
    }

    /// Returns when some unclaimed topic is wanted. Cancel-safe.
    pub async fn wanted(&self) {
        self.inner.unclaimed.some().await;
    }

    /// Drops topics that nobody has followed for [`HISTORY_KEPT`] before `now`. The publisher calls it now and then.
    pub fn sweep(&self, now: Instant) {
        let mut removed = Vec::new();
        self.inner.topics.write().retain(|_, topic| {
            let keep = !topic.idle_longer_than(HISTORY_KEPT, now);
            if !keep {
                removed.push(topic.clone());
            }
            keep
        });
        for topic in removed {
            self.retire(&topic);
        }
    }

    pub fn size(&self) -> HubSize {
        let topics = self.inner.topics.read();
        HubSize { topics: topics.len(), subscribers: topics.values().map(|topic| topic.subscribers()).sum() }
    }

    fn get(&self, topic: &str) -> Option<Arc<Topic>> {
        self.inner.topics.read().get(topic).cloned()
    }

    fn create(&self, name: &str) {
        let name: Arc<str> = name.into();
        let mut topics = self.inner.topics.write();
        if topics.contains_key(&name) {
            return;
        }
        let first = self.inner.first_version.load(Ordering::Acquire);
        topics.insert(name.clone(), Arc::new(Topic::new(first)));
        let view = name.rsplit('/').next().unwrap_or_default();
        let claimed = self.inner.claimed.read().get(view).cloned();
        claimed.unwrap_or_else(|| self.inner.unclaimed.clone()).push(name);
    }

    /// Ends what is left of a removed topic; whatever is created under its name later begins above its versions.
    fn retire(&self, topic: &Topic) {
        self.inner.first_version.fetch_max(topic.close() + 1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
