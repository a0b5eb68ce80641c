//! The state of one topic, its kept history, and what a reader at some version is owed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::subscription::Update;
use super::value::{Changes, Value};
use super::{HISTORY_BYTES_MAX, HISTORY_DELTAS_MAX, MERGE_BEHIND, TOMBSTONES_MAX, VALUE_BYTES_ESTIMATE};

/// Most merged deltas of the newest version kept encoded; readers at other versions get theirs encoded anew.
const MERGED_KEPT_MAX: usize = 16;

pub(super) enum Pull {
    Update(Update),
    Nothing,
    Ended,
}

pub(super) struct Topic {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// One key. A removed key stays as a tombstone so that a merged delta can say so.
struct Slot {
    value: Option<Value>,
    changed: u64,
}

struct Delta {
    version: u64,
    changes: Changes,
    encoded: OnceLock<Bytes>,
    weight_bytes: usize,
}

struct State {
    version: u64,
    primed: bool,
    ended: bool,
    subscribers: usize,
    /// When the last subscriber left.
    idle_since: Option<Instant>,
    collections: BTreeMap<&'static str, BTreeMap<Arc<str>, Slot>>,
    tombstones: usize,
    /// Readers below this version cannot be brought up by a delta: removals since then are forgotten.
    floor: u64,
    history: VecDeque<Arc<Delta>>,
    history_bytes: usize,
    snapshot: Option<Bytes>,
    /// Merged deltas to the newest version, by the version they start from.
    merged: Vec<(u64, Bytes)>,
}

impl Topic {
    pub(super) fn new(first_version: u64) -> Self {
        let state = State {
            version: first_version,
            primed: false,
            ended: false,
            subscribers: 0,
            idle_since: Some(Instant::now()),
            collections: BTreeMap::new(),
            tombstones: 0,
            floor: first_version,
            history: VecDeque::new(),
            history_bytes: 0,
            snapshot: None,
            merged: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: watch::Sender::new(first_version) }
    }

    pub(super) fn join(&self) -> watch::Receiver<u64> {
        let mut state = self.state.lock();
        state.subscribers += 1;
        state.idle_since = None;
        self.changed.subscribe()
    }

    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        state.subscribers -= 1;
        if state.subscribers == 0 {
            state.idle_since = Some(Instant::now());
        }
    }

    pub(super) fn subscribers(&self) -> usize {
        self.state.lock().subscribers
    }

    pub(super) fn is_primed(&self) -> bool {
        self.state.lock().primed
    }

    pub(super) fn idle_longer_than(&self, kept: Duration, now: Instant) -> bool {
        let state = self.state.lock();
        state.idle_since.is_some_and(|since| now.saturating_duration_since(since) > kept)
    }

    /// Ends the topic and returns the last version it had.
    pub(super) fn close(&self) -> u64 {
        let version = {
            let mut state = self.state.lock();
            state.ended = true;
            state.version
        };
        self.changed.send_replace(version);
        version
    }

    /// The version up to which a reader at `since` can be given change by change; `None`: it needs a snapshot.
    pub(super) fn resume(&self, since: u64) -> Option<u64> {
        let state = self.state.lock();
        (state.primed && state.in_history(since)).then_some(state.version)
    }

    pub(super) fn update(&self, changes: Changes) -> bool {
        let mut state = self.state.lock();
        if !state.primed || state.ended {
            return false;
        }
        if !changes.is_empty() {
            state.apply(changes);
            self.changed.send_replace(state.version);
        }
        true
    }

    pub(super) fn replace(&self, whole: Changes) {
        let mut state = self.state.lock();
        if state.primed {
            let changes = state.difference_to(whole);
            state.apply(changes);
        } else {
            let version = state.version;
            state.write(&whole, version);
            state.primed = true;
        }
        self.changed.send_replace(state.version);
    }

    /// What a reader that holds version `at` is to apply next.
    pub(super) fn pull(&self, at: Option<u64>, exact_until: u64) -> Pull {
        let mut state = self.state.lock();
        if state.ended {
            return Pull::Ended;
        }
        if !state.primed {
            return Pull::Nothing;
        }
        let version = state.version;
        let Some(at) = at else { return Pull::Update(state.encode_snapshot()) };
        if at == version {
            return Pull::Nothing;
        }
        let one_by_one = at < exact_until || version - at <= MERGE_BEHIND;
        if one_by_one && state.in_history(at) {
            let delta = state.history[state.history.len() - (version - at) as usize].clone();
            drop(state);
            let data = delta.encoded.get_or_init(|| delta.changes.encode()).clone();
            return Pull::Update(Update::Delta { from: at, version: delta.version, data });
        }
        if at < state.floor { Pull::Update(state.encode_snapshot()) } else { Pull::Update(state.encode_merged(at)) }
    }
}

impl State {
    /// Whether every change after `version` is kept.
    fn in_history(&self, version: u64) -> bool {
        version <= self.version && self.version - version <= self.history.len() as u64
    }

    fn apply(&mut self, changes: Changes) {
        self.version += 1;
        let version = self.version;
        self.write(&changes, version);
        self.snapshot = None;
        self.merged.clear();
        let weight_bytes = VALUE_BYTES_ESTIMATE * (1 + changes.len());
        self.history_bytes += weight_bytes;
        self.history.push_back(Arc::new(Delta { version, changes, encoded: OnceLock::new(), weight_bytes }));
        while self.history.len() > HISTORY_DELTAS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.weight_bytes;
        }
        if self.tombstones > TOMBSTONES_MAX {
            self.bury();
        }
    }

    fn write(&mut self, changes: &Changes, version: u64) {
        for (&name, keys) in &changes.collections {
            let collection = self.collections.entry(name).or_default();
            for (key, value) in keys {
                let slot = Slot { value: value.clone(), changed: version };
                let was = collection.insert(key.clone(), slot);
                self.tombstones -= usize::from(was.is_some_and(|slot| slot.value.is_none()));
                self.tombstones += usize::from(value.is_none());
            }
        }
    }

    /// Forgets the older half of the tombstones.
    fn bury(&mut self) {
        let dead = |slot: &Slot| slot.value.is_none();
        let slots = self.collections.values().flat_map(BTreeMap::values);
        let mut removed_at: Vec<u64> = slots.filter(|slot| dead(slot)).map(|slot| slot.changed).collect();
        removed_at.sort_unstable();
        let until = removed_at[removed_at.len() / 2];
        for collection in self.collections.values_mut() {
            collection.retain(|_, slot| !dead(slot) || slot.changed > until);
        }
        self.tombstones = removed_at.iter().filter(|&&at| at > until).count();
        self.floor = until;
    }

    /// The changes that turn the state into `whole`.
    fn difference_to(&self, mut whole: Changes) -> Changes {
        for (&name, collection) in &self.collections {
            for (key, slot) in collection {
                let kept = whole.collections.get(name).is_some_and(|keys| keys.contains_key(key));
                if slot.value.is_some() && !kept {
                    whole.put(name, key.clone(), None);
                }
            }
        }
        whole
    }

    fn encode_snapshot(&mut self) -> Update {
        let version = self.version;
        if let Some(data) = &self.snapshot {
            return Update::Snapshot { version, data: data.clone() };
        }
        let mut whole = Changes::new();
        for (&name, collection) in &self.collections {
            whole.declare(name);
            for (key, slot) in collection.iter().filter(|(_, slot)| slot.value.is_some()) {
                whole.put(name, key.clone(), slot.value.clone());
            }
        }
        let data = whole.encode();
        self.snapshot = Some(data.clone());
        Update::Snapshot { version, data }
    }

    /// One delta with the newest value of every key that changed after `from`, which is not below the floor.
    fn encode_merged(&mut self, from: u64) -> Update {
        let version = self.version;
        if let Some((_, data)) = self.merged.iter().find(|(start, _)| *start == from) {
            return Update::Delta { from, version, data: data.clone() };
        }
        let mut changes = Changes::new();
        for (&name, collection) in &self.collections {
            for (key, slot) in collection.iter().filter(|(_, slot)| slot.changed > from) {
                changes.put(name, key.clone(), slot.value.clone());
            }
        }
        let data = changes.encode();
        if self.merged.len() < MERGED_KEPT_MAX {
            self.merged.push((from, data.clone()));
        }
        Update::Delta { from, version, data }
    }
}
