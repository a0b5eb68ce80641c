//! How complete a school's evidence is: a conclusion that rests on the absence of evidence needs to know.

use serde::{Deserialize, Serialize};

use crate::ids::DeviceId;
use crate::policy::AttendancePolicy;
use crate::time::UtcMillis;

/// Why a device's evidence is incomplete.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BehindReason {
    /// It is not connected.
    Offline,
    /// It says that events wait in its queue.
    Queued,
    /// It was heard regularly and no longer is.
    Silent,
}

/// A gate or room scanner whose evidence is complete only up to an instant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Behind {
    pub device: DeviceId,
    pub reason: BehindReason,
    /// Its evidence is complete for event times up to and including this instant.
    #[serde(with = "crate::time::rfc3339")]
    pub since: UtcMillis,
}

/// What is known of the evidence of one school. A device that is not behind is complete until now.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Coverage {
    /// Whether any enabled gate or room scanner is in service. Without one, a missing scan means nothing.
    pub has_source: bool,
    /// The devices that are behind; empty when evidence is complete.
    pub behind: Vec<Behind>,
    /// When silence will put a further device behind if nothing is heard; conclusions hold until then.
    pub valid_until: Option<UtcMillis>,
}

impl Coverage {
    /// A school without any gate or room scanner.
    pub const fn without_source() -> Self {
        Self { has_source: false, behind: Vec::new(), valid_until: None }
    }

    /// A school all of whose gates are connected and drained.
    pub const fn complete() -> Self {
        Self { has_source: true, behind: Vec::new(), valid_until: None }
    }

    /// Whether every scan with an event time up to `instant` is known.
    pub fn complete_until(&self, instant: UtcMillis) -> bool {
        self.behind.iter().all(|behind| behind.since >= instant)
    }

    /// Sums up a school's gates and room scanners (the enabled ones; tablets and wearables prove no absence).
    pub fn assess(sources: impl IntoIterator<Item = (DeviceId, SourceState)>, policy: &AttendancePolicy, now: UtcMillis) -> Self {
        let mut coverage = Self::default();
        for (device, state) in sources {
            let Some(since) = state.complete_until else { continue };
            coverage.has_source = true;
            let silent_at = state.silent_at(policy);
            let reason = if state.connected == Some(false) {
                BehindReason::Offline
            } else if state.queued > 0 {
                BehindReason::Queued
            } else if silent_at.is_some_and(|at| at <= now) {
                BehindReason::Silent
            } else {
                coverage.valid_until = [coverage.valid_until, silent_at].into_iter().flatten().min();
                continue;
            };
            coverage.behind.push(Behind { device, reason, since });
        }
        coverage.behind.sort_unstable_by_key(|behind| (behind.since, behind.device));
        coverage
    }
}

/// What is known of one gate or room scanner. Feed it every word of the device in the log's order.
///
/// A device that never spoke is not in service yet: it is no source, and hides nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SourceState {
    /// `None`: it holds no connection (HTTP), and only its words tell that it is alive.
    connected: Option<bool>,
    /// Whether it ever sent a heartbeat; only then does silence on a living connection mean anything.
    reports: bool,
    heard: Option<UtcMillis>,
    queued: u64,
    complete_until: Option<UtcMillis>,
}

impl SourceState {
    /// The gateway's own word that the device connected or disconnected at this instant.
    pub fn connection(&mut self, at: UtcMillis, connected: bool) {
        // A device that reports its queue and comes back may hold one; it is behind until its heartbeat says otherwise.
        if connected && self.connected == Some(false) && self.reports {
            self.queued = self.queued.max(1);
        }
        self.connected = Some(connected);
        if connected {
            self.hear(at);
            self.complete_until.get_or_insert(at);
        }
    }

    /// A heartbeat: event time, and how many events still wait in the device.
    pub fn heartbeat(&mut self, ts: UtcMillis, queued: u64) {
        self.reports = true;
        self.queued = queued;
        self.hear(ts);
        if queued == 0 {
            self.complete(ts);
        } else {
            self.complete_until.get_or_insert(ts);
        }
    }

    /// A scan (of anyone) that the device sent. While a queue drains, only its own scans, which come in order, tell
    /// how far it is: a live one may overtake them.
    pub fn scan(&mut self, ts: UtcMillis, received: UtcMillis, offline: bool) {
        self.hear(received);
        if offline || self.queued == 0 {
            self.complete(ts.min(received));
        }
    }

    fn hear(&mut self, at: UtcMillis) {
        self.heard = self.heard.max(Some(at));
    }

    fn complete(&mut self, until: UtcMillis) {
        self.complete_until = self.complete_until.max(Some(until));
    }

    fn silent_at(&self, policy: &AttendancePolicy) -> Option<UtcMillis> {
        let watched = self.reports || self.connected.is_none();
        self.heard.filter(|_| watched).map(|heard| heard.plus_ms(i64::from(policy.gate_silence_max_s) * 1_000))
    }
}
