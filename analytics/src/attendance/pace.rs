//! Boards that change all at once, as at a bell, told one after another, so that a scan in that moment need not wait for all of them.
//!
//! When the bell rings, every board of a school shows another meeting, and every one of its watchers gets a whole board. Ten
//! thousand such messages keep two processors busy for a third of a second. What changes on many boards in one turn is therefore
//! held here and let go at a rate that leaves room; what changes on a few is told at once, with what was held of those boards.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rollcall_model::ids::SectionId;

use super::live::SchoolKey;
use crate::hub::Changes;

/// Most boards that may change in one turn and be told at once.
pub(super) const FEW: usize = 8;

/// Messages let go at a time, and how long until the next ones: twenty thousand a second.
const MESSAGES: usize = 200;
const INTERVAL: Duration = Duration::from_millis(10);

/// What is owed to the watchers of one board.
pub(super) enum Held {
    /// The board as it is when its turn comes.
    Whole(SchoolKey),
    /// What has changed.
    Part(Changes),
}

/// The boards whose changes wait.
#[derive(Default)]
pub(super) struct Pace {
    held: HashMap<SectionId, Held>,
    /// Those of `held`, and perhaps some that are not held any more, in the order in which they came.
    order: VecDeque<SectionId>,
    let_go: Option<Instant>,
}

impl Pace {
    /// Holds changes of a board behind those of others, or with what is held of it already.
    pub fn hold(&mut self, section: SectionId, more: Held) {
        let Some(held) = self.held.get_mut(&section) else {
            self.held.insert(section, more);
            self.order.push_back(section);
            return;
        };
        match (held, more) {
            (Held::Part(changes), Held::Part(newer)) => changes.extend(newer),
            (held @ Held::Part(_), whole @ Held::Whole(_)) => *held = whole,
            (Held::Whole(_), _) => {}
        }
    }

    /// What is held of a board, which is then held no more.
    pub fn take(&mut self, section: SectionId) -> Option<Held> {
        let held = self.held.remove(&section);
        if self.held.is_empty() {
            self.order.clear();
        }
        held
    }

    /// The boards whose turn has come at `now`; `watchers` says how many messages a board makes.
    pub fn due(&mut self, now: Instant, watchers: impl Fn(SectionId) -> usize) -> Vec<(SectionId, Held)> {
        let mut due = Vec::new();
        if self.held.is_empty() || self.let_go.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return due;
        }
        let mut messages = 0;
        while messages < MESSAGES
            && let Some(section) = self.order.pop_front()
        {
            if let Some(held) = self.held.remove(&section) {
                messages += watchers(section);
                due.push((section, held));
            }
        }
        self.let_go = Some(now);
        due
    }

    /// How long until the next boards are due; `None` when nothing is held.
    pub fn next(&self) -> Option<Duration> {
        if self.held.is_empty() {
            return None;
        }
        Some(self.let_go.map_or(Duration::ZERO, |last| INTERVAL.saturating_sub(last.elapsed())))
    }
}

#[cfg(test)]
mod tests {
    use rollcall_model::ids::{DistrictId, SchoolId};

    use super::*;

    fn section(number: u8) -> SectionId {
        SectionId::from_bytes([number; 16])
    }

    fn part(key: &str, value: u32) -> Held {
        let mut changes = Changes::new();
        changes.set("students", key, value);
        Held::Part(changes)
    }

    fn encoded(held: &Held) -> String {
        match held {
            Held::Whole(_) => "whole".to_owned(),
            Held::Part(changes) => String::from_utf8(changes.encode().to_vec()).unwrap(),
        }
    }

    #[test]
    fn boards_are_let_go_in_order_as_many_as_their_watchers_allow_and_each_once() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        (0..5).for_each(|number| pace.hold(section(number), part("a", 1)));
        let watchers = |_: SectionId| MESSAGES / 2;
        let numbers = |due: Vec<(SectionId, Held)>| due.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(numbers(pace.due(now, watchers)), [section(0), section(1)]);
        assert_eq!(numbers(pace.due(now + INTERVAL / 2, watchers)), []);
        assert!(pace.take(section(2)).is_some());
        assert_eq!(numbers(pace.due(now + INTERVAL, watchers)), [section(3), section(4)]);
        assert_eq!(pace.next(), None);
        // A board that nobody watches costs nothing.
        (0..100).for_each(|number| pace.hold(section(number), part("a", 1)));
        assert_eq!(pace.due(now + 2 * INTERVAL, |_| 0).len(), 100);
    }

    #[test]
    fn what_is_held_of_a_board_is_its_newest_and_the_whole_board_is_more_than_a_part() {
        let school = (DistrictId::from_bytes([1; 16]), SchoolId::from_bytes([2; 16]));
        let mut pace = Pace::default();
        pace.hold(section(1), part("a", 1));
        pace.hold(section(1), part("b", 2));
        pace.hold(section(1), part("a", 3));
        assert_eq!(encoded(&pace.take(section(1)).unwrap()), r#"{"students":{"a":3,"b":2}}"#);
        pace.hold(section(1), part("a", 1));
        pace.hold(section(1), Held::Whole(school));
        pace.hold(section(1), part("a", 2));
        let due = pace.due(Instant::now(), |_| 1);
        assert_eq!(due.iter().map(|(_, held)| encoded(held)).collect::<Vec<_>>(), ["whole"]);
    }
}
