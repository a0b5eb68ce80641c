//! Which sequence numbers of one device were taken, as runs of neighbours. A device that counts by one needs a single run
//! however many events it has sent.

use smallvec::SmallVec;

/// Sequence numbers `first..=last`, all of them taken, and the latest event time among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    pub last: u64,
    pub ts_max: i64,
}

/// What is known of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate,
    /// Below what is remembered: it may have been taken or not.
    Uncertain,
}

/// The runs of one device in ascending order, never touching one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    runs: SmallVec<[Run; 1]>,
    /// Below it nothing is known any more. It is 0 unless the device ever had more runs than are kept.
    floor: u64,
}

impl Runs {
    pub fn restore(floor: u64, runs: impl IntoIterator<Item = Run>) -> Self {
        Self { runs: runs.into_iter().collect(), floor }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.floor == 0
    }

    /// Takes a number that is new. The usual case, one more than the last, does not search.
    #[inline]
    pub fn insert(&mut self, seq: u64, ts: i64) -> Verdict {
        if let Some(last) = self.runs.last_mut() {
            if last.last.checked_add(1) == Some(seq) {
                last.last = seq;
                last.ts_max = last.ts_max.max(ts);
                return Verdict::New;
            }
        }
        self.insert_anywhere(seq, ts)
    }

    fn insert_anywhere(&mut self, seq: u64, ts: i64) -> Verdict {
        // The first run that ends at or after the number.
        let at = self.runs.partition_point(|run| run.last < seq);
        if self.runs.get(at).is_some_and(|run| run.first <= seq) {
            return Verdict::Duplicate;
        }
        if seq < self.floor {
            return Verdict::Uncertain;
        }
        let joins_left = at > 0 && self.runs[at - 1].last.checked_add(1) == Some(seq);
        let joins_right = self.runs.get(at).is_some_and(|run| seq.checked_add(1) == Some(run.first));
        match (joins_left, joins_right) {
            (true, true) => {
                let right = self.runs.remove(at);
                let left = &mut self.runs[at - 1];
                left.last = right.last;
                left.ts_max = left.ts_max.max(right.ts_max).max(ts);
            }
            (true, false) => {
                let left = &mut self.runs[at - 1];
                left.last = seq;
                left.ts_max = left.ts_max.max(ts);
            }
            (false, true) => {
                let right = &mut self.runs[at];
                right.first = seq;
                right.ts_max = right.ts_max.max(ts);
            }
            (false, false) => self.runs.insert(at, Run { first: seq, last: seq, ts_max: ts }),
        }
        Verdict::New
    }

    /// Gives back a number whose append failed.
    pub fn remove(&mut self, seq: u64) {
        let at = self.runs.partition_point(|run| run.last < seq);
        let Some(run) = self.runs.get(at).copied().filter(|run| run.first <= seq) else { return };
        match (run.first == seq, run.last == seq) {
            (true, true) => drop(self.runs.remove(at)),
            (true, false) => self.runs[at].first = seq + 1,
            (false, true) => self.runs[at].last = seq - 1,
            (false, false) => {
                self.runs[at].last = seq - 1;
                self.runs.insert(at + 1, Run { first: seq + 1, ..run });
            }
        }
    }

    /// Forgets runs whose every event is older than `horizon`: such an event is refused for its age before anyone asks
    /// whether it was taken. Should there still be more than `runs_max`, the lowest go and the floor rises above them.
    pub fn forget(&mut self, horizon: i64, runs_max: usize) {
        self.runs.retain(|run| run.ts_max >= horizon);
        if self.runs.len() > runs_max {
            let drop_to = self.runs.len() - runs_max;
            self.floor = self.floor.max(self.runs[drop_to - 1].last.saturating_add(1));
            self.runs.drain(..drop_to);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a naive set: insert and give back in any order.
        #[test]
        fn same_as_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..40), 0..300)) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for (insert, seq) in steps {
                if insert {
                    let expected = if set.insert(seq) { Verdict::New } else { Verdict::Duplicate };
                    prop_assert_eq!(runs.insert(seq, seq as i64), expected);
                } else {
                    runs.remove(seq);
                    set.remove(&seq);
                }
                let held: BTreeSet<u64> = runs.runs().iter().flat_map(|r| r.first..=r.last).collect();
                prop_assert_eq!(&held, &set);
                prop_assert!(runs.runs().windows(2).all(|w| w[0].last + 1 < w[1].first));
            }
        }

        /// However little is kept, a number that was never inserted is never called a duplicate, and one that was
        /// inserted is never called new.
        #[test]
        fn forgetting_never_invents(steps in proptest::collection::vec(0u64..200, 0..300), runs_max in 1usize..8) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for seq in steps {
                match runs.insert(seq, 0) {
                    Verdict::New => prop_assert!(set.insert(seq)),
                    Verdict::Duplicate => prop_assert!(set.contains(&seq)),
                    Verdict::Uncertain => prop_assert!(seq < runs.floor()),
                }
                runs.forget(i64::MIN, runs_max);
                prop_assert!(runs.runs().len() <= runs_max);
            }
        }
    }

    #[test]
    fn a_dense_device_needs_one_run_and_the_ends_of_the_range_work() {
        let mut runs = Runs::default();
        for seq in 0..10_000 {
            assert_eq!(runs.insert(seq, 1), Verdict::New);
        }
        assert_eq!(runs.runs().len(), 1);
        assert_eq!(runs.insert(u64::MAX, 1), Verdict::New);
        assert_eq!(runs.insert(u64::MAX, 1), Verdict::Duplicate);
        assert_eq!(runs.insert(u64::MAX - 1, 1), Verdict::New);
        runs.forget(2, 10);
        assert!(runs.is_empty());
    }
}
