//! What one read of a connection, one frame or one request adds up to before it is admitted.

use rollcall_model::event::Kind;
use rollcall_model::ids::{DeviceId, DistrictId};
use rollcall_stream::EventBatch;
use smallvec::SmallVec;

use super::columns::{Activities, DeadLetters, Head, Readings, Scans, Statuses};
use super::refusal::Refusal;
use crate::directory::{BadgeHolder, DeviceIdentity};

/// One decoded event: what deduplication needs to know, and how many rows of its kind belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub device: DeviceId,
    pub seq: u64,
    pub ts: i64,
    pub kind: Kind,
    pub rows: u32,
}

/// Decoded events of any number of payloads, in the order they arrived, as columns of each kind.
#[derive(Default)]
pub struct Intake {
    pub(super) scans: Scans,
    pub(super) readings: Readings,
    pub(super) activities: Activities,
    pub(super) statuses: Statuses,
    pub(super) dead: DeadLetters,
    pub(super) events: Vec<Taken>,
    pub(super) last_badge: LastBadge,
}

/// The badge that was resolved last. A wearable names the same one in every event. An intake lives for one read of a connection,
/// so a badge that is revoked is refused from the next read on.
#[derive(Default)]
pub(super) struct LastBadge {
    token: SmallVec<[u8; 64]>,
    holder: Option<(DistrictId, BadgeHolder)>,
}

impl LastBadge {
    #[inline]
    pub fn get(&self, district: DistrictId, token: &str) -> Option<BadgeHolder> {
        let (of, holder) = self.holder?;
        (of == district && self.token.as_slice() == token.as_bytes()).then_some(holder)
    }

    pub fn set(&mut self, district: DistrictId, token: &str, holder: BadgeHolder) {
        self.token.clear();
        self.token.extend_from_slice(token.as_bytes());
        self.holder = Some((district, holder));
    }
}

/// A place to cut back to when a payload turns out to be broken after some of its events were taken.
#[derive(Clone, Copy)]
pub struct Place([usize; 6]);

impl Intake {
    /// With room for about so many events of one kind; whichever it is makes it when its first one comes.
    pub fn expecting(events: usize) -> Self {
        let mut intake = Self::default();
        intake.scans.expect(events);
        intake.readings.expect(events);
        intake.activities.expect(events);
        intake.events.reserve(events);
        intake
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.dead.len() == 0
    }

    /// Events that were decoded; rows may be more.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    pub(super) fn place(&self) -> Place {
        let tables = [self.scans.len(), self.readings.len(), self.activities.len(), self.statuses.len(), self.dead.len()];
        let [scans, readings, activities, statuses, dead] = tables;
        Place([scans, readings, activities, statuses, dead, self.events.len()])
    }

    pub(super) fn cut_back(&mut self, to: Place) {
        let [scans, readings, activities, statuses, dead, events] = to.0;
        self.scans.truncate(scans);
        self.readings.truncate(readings);
        self.activities.truncate(activities);
        self.statuses.truncate(statuses);
        self.dead.truncate(dead);
        self.events.truncate(events);
    }

    /// Keeps a refused payload. Its rows are appended with the events, so it is as durable as they are.
    pub fn bury(&mut self, who: &DeviceIdentity, received: i64, topic: &str, refusal: &Refusal, payload: &[u8]) {
        let head = Head { seq: refusal.seq.unwrap_or(0), ts: received, received, offline: false };
        self.dead.push(who, head, topic, refusal.code.as_str(), &refusal.message, payload);
    }

    /// Turns the columns into batches; nothing is copied.
    pub fn finish(self) -> Finished {
        let mut batches = Vec::with_capacity(2);
        let mut add = |kind, rows: arrow::record_batch::RecordBatch| batches.push(EventBatch::new(kind, rows));
        if self.scans.len() > 0 {
            add(Kind::Scan, self.scans.finish());
        }
        if self.readings.len() > 0 {
            add(Kind::Telemetry, self.readings.finish());
        }
        if self.activities.len() > 0 {
            add(Kind::Activity, self.activities.finish());
        }
        if self.statuses.len() > 0 {
            add(Kind::Status, self.statuses.finish());
        }
        let dead = (self.dead.len() > 0).then(|| EventBatch::new(Kind::DeadLetter, self.dead.finish()));
        Finished { batches, dead, events: self.events }
    }
}

/// An intake as batches, ready to be admitted. It is unchanged by an admission that failed, so that it can be tried again.
#[derive(Clone)]
pub struct Finished {
    /// At most one batch of each kind of event.
    pub batches: Vec<EventBatch>,
    pub dead: Option<EventBatch>,
    pub events: Vec<Taken>,
}
