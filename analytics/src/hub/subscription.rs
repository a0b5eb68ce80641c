//! One follower of one topic.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::topic::{Pull, Topic};

/// What a subscriber is to apply next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Replaces everything.
    Snapshot { version: u64, data: Bytes },
    /// Brings a state of version `from` to `version`. `from` is `version - 1` unless changes were merged.
    Delta { from: u64, version: u64, data: Bytes },
}

impl Update {
    pub fn version(&self) -> u64 {
        match self {
            Self::Snapshot { version, .. } | Self::Delta { version, .. } => *version,
        }
    }

    pub fn data(&self) -> &Bytes {
        match self {
            Self::Snapshot { data, .. } | Self::Delta { data, .. } => data,
        }
    }
}

/// A follower of a topic. It holds a version and no queue.
pub struct Subscription {
    topic: Arc<Topic>,
    changed: watch::Receiver<u64>,
    /// The version the subscriber holds; `None` until its first snapshot.
    at: Option<u64>,
    /// Up to this version changes come one by one, because the subscriber asked to resume.
    exact_until: u64,
}

impl Subscription {
    /// Counts the subscriber; called under the lock of the hub's map, so that a topic is not swept meanwhile.
    pub(super) fn new(topic: Arc<Topic>, since: Option<u64>) -> Self {
        let changed = topic.join();
        let resumed = since.and_then(|since| topic.resume(since).map(|until| (since, until)));
        let (at, exact_until) = resumed.map_or((None, 0), |(since, until)| (Some(since), until));
        Self { topic, changed, at, exact_until }
    }

    /// The next update, waiting for one; `None` when the topic does not exist or has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            self.changed.mark_unchanged();
            match self.topic.pull(self.at, self.exact_until) {
                Pull::Update(update) => {
                    self.at = Some(update.version());
                    return Some(update);
                }
                Pull::Ended => return None,
                Pull::Nothing => {}
            }
            if self.changed.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The next update if there is one now.
    pub fn try_next(&mut self) -> Option<Update> {
        match self.topic.pull(self.at, self.exact_until) {
            Pull::Update(update) => {
                self.at = Some(update.version());
                Some(update)
            }
            Pull::Ended | Pull::Nothing => None,
        }
    }

    /// The version the subscriber holds after what it pulled.
    pub fn version(&self) -> Option<u64> {
        self.at
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.leave();
    }
}
