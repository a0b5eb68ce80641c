//! What is known about one student on one local date: two sets that are kept sorted.

use super::marks;
use super::presence::Intervals;
use crate::event::Direction;
use crate::ids::{DeviceId, Offset};
use crate::policy::AttendancePolicy;
use crate::status::{Mark, ScanEvidence};
use crate::time::UtcMillis;

/// A scan without the student, whom the day's owner knows: a district keeps millions of them in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scan {
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub device: DeviceId,
    pub seq: u64,
    pub offset: Offset,
    pub direction: Direction,
    pub offline: bool,
}

impl Scan {
    fn order(&self) -> (UtcMillis, DeviceId, u64) {
        (self.ts, self.device, self.seq)
    }
}

/// A mark and whether a later one has withdrawn or superseded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HeldMark {
    pub mark: Mark,
    pub stands: bool,
}

/// The evidence and the marks of one student on one local date of the school.
///
/// A set of scans by (device, seq) in order of (event time, device, seq), and a set of marks by id in order of
/// (recorded, id): two days that were told the same are equal, whatever the order and however often.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StudentDay {
    pub(super) scans: Vec<Scan>,
    pub(super) marks: Vec<HeldMark>,
}

impl StudentDay {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one scan; false when it changed nothing. Of two scans that claim the same (device, seq), the one that
    /// the log has first counts.
    pub fn add_scan(&mut self, evidence: &ScanEvidence) -> bool {
        let scan = Scan {
            ts: evidence.ts,
            received: evidence.received,
            device: evidence.device,
            seq: evidence.seq,
            offset: evidence.offset,
            direction: evidence.direction,
            offline: evidence.offline,
        };
        let held = self.scans.iter().position(|held| held.seq == scan.seq && held.device == scan.device);
        if let Some(place) = held {
            if self.scans[place].offset <= scan.offset {
                return false;
            }
            self.scans.remove(place);
        }
        let place = self.scans.partition_point(|held| held.order() < scan.order());
        self.scans.insert(place, scan);
        true
    }

    /// Adds one mark about this student and date (of any period, or the day); false when it is already held.
    pub fn add_mark(&mut self, mark: Mark) -> bool {
        if self.marks.iter().any(|held| held.mark.id == mark.id) {
            return false;
        }
        let order = (mark.recorded, mark.id);
        let place = self.marks.partition_point(|held| (held.mark.recorded, held.mark.id) < order);
        self.marks.insert(place, HeldMark { mark, stands: true });
        marks::settle(&mut self.marks);
        true
    }

    pub fn is_empty(&self) -> bool {
        self.scans.is_empty() && self.marks.is_empty()
    }

    pub fn scans_len(&self) -> usize {
        self.scans.len()
    }

    /// Every mark ever made, withdrawn ones too, oldest first.
    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().map(|held| &held.mark)
    }

    /// The presence intervals of the day by evidence alone.
    pub fn intervals(&self, policy: &AttendancePolicy) -> Intervals<'_> {
        Intervals::new(&self.scans, policy)
    }

    /// First entry and last exit of the day by evidence, bells or not; without the exit: still in the building.
    /// `None`: no presence was seen.
    pub fn seen(&self, policy: &AttendancePolicy) -> Option<(UtcMillis, Option<UtcMillis>)> {
        let mut intervals = self.intervals(policy);
        let first = intervals.next()?;
        Some((first.from, intervals.last().unwrap_or(first).until))
    }

    /// Since when, and through which device, the student is in the building by evidence; `None`: not in it.
    pub fn inside_since(&self, policy: &AttendancePolicy) -> Option<(UtcMillis, DeviceId)> {
        let last = self.intervals(policy).last()?;
        last.until.is_none().then(|| (last.from, self.scans[last.opened_by].device))
    }
}
