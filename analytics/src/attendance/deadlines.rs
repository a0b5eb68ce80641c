//! When the clock alone will change something. Entries are never taken back: whoever is due asks whether it still is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rollcall_model::ids::{DistrictId, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;

use super::seam::DayKey;

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// A student's conclusions.
    Person(DayKey, PersonId),
    /// A meeting starts or ends, so boards show another one.
    Bell(DayKey),
    /// A gate may have become silent, or a coarse change of coverage was put off.
    Coverage(DistrictId, SchoolId),
    /// Midnight at a school.
    Midnight(DistrictId, SchoolId),
}

#[derive(Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(UtcMillis, Due)>>,
}

impl Deadlines {
    pub fn push(&mut self, at: UtcMillis, due: Due) {
        self.heap.push(Reverse((at, due)));
    }

    pub fn next(&self) -> Option<UtcMillis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is not after `now`.
    pub fn pop(&mut self, now: UtcMillis) -> Option<(UtcMillis, Due)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Drops stale entries, so that the heap stays within the number of live ones.
    pub fn retain(&mut self, mut live: impl FnMut(UtcMillis, &Due) -> bool) {
        self.heap.retain(|Reverse((at, due))| live(*at, due));
    }
}
