//! From scans to presence: toggling, repetitions, and gaps that are bridged.
//!
//! - `in` while outside opens an interval, `out` while inside closes it; a second `in` moves nothing, and an `out`
//!   without an `in` before it proves no presence.
//! - `auto` is the opposite of the state before it in event-time order, unless it comes within the repetition time
//!   of the student's previous scan of any direction: then it is the same scan once more. A burst counts once,
//!   however long it lasts.
//! - A gap of at most the re-entry time between two intervals is bridged: they are one.

use super::day::Scan;
use crate::event::Direction;
use crate::policy::AttendancePolicy;
use crate::schedule::Span;
use crate::time::UtcMillis;

/// One stretch of presence `[from, until)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    pub from: UtcMillis,
    /// `None`: no exit is known.
    pub until: Option<UtcMillis>,
    /// Place, in event-time order of the day's scans, of the one that opened it.
    pub(super) opened_by: usize,
    /// Place of the scan that closed it.
    pub(super) closed_by: Option<usize>,
    /// The longest time that any scan but the opening one took to arrive.
    pub(super) delay_ms: i64,
}

impl Presence {
    /// The stretch as a span; an open one has no end.
    pub fn span(&self) -> Span {
        Span::new(self.from, self.until.unwrap_or(UtcMillis(i64::MAX)))
    }

    pub(super) fn contains(&self, instant: UtcMillis) -> bool {
        self.span().contains(instant)
    }

    /// Whether it counts as presence in the window: it ends after the start and begins before the end.
    pub(super) fn touches(&self, window: Span) -> bool {
        self.span().ends > window.starts && self.from < window.ends
    }
}

/// The presence intervals of a day in order, with gaps of up to `reentry_min` bridged. Allocates nothing.
pub struct Intervals<'a> {
    raw: Raw<'a>,
    pending: Option<Presence>,
    bridge_ms: i64,
}

impl<'a> Intervals<'a> {
    pub(super) fn new(scans: &'a [Scan], policy: &AttendancePolicy) -> Self {
        let mut raw = Raw { steps: Steps::new(scans, policy) };
        let pending = raw.next();
        Self { raw, pending, bridge_ms: policy.reentry_ms() }
    }
}

impl Iterator for Intervals<'_> {
    type Item = Presence;

    fn next(&mut self) -> Option<Presence> {
        let mut current = self.pending.take()?;
        while let Some(next) = self.raw.next() {
            match current.until {
                Some(until) if next.from.0.saturating_sub(until.0) <= self.bridge_ms => {
                    let opening_ms = self.raw.steps.delay_ms(next.opened_by);
                    current.delay_ms = current.delay_ms.max(next.delay_ms).max(opening_ms);
                    current.until = next.until;
                    current.closed_by = next.closed_by;
                }
                _ => {
                    self.pending = Some(next);
                    break;
                }
            }
        }
        Some(current)
    }
}

/// Intervals before bridging.
struct Raw<'a> {
    steps: Steps<'a>,
}

impl Iterator for Raw<'_> {
    type Item = Presence;

    fn next(&mut self) -> Option<Presence> {
        loop {
            let opened = self.steps.find(|step| step.inside)?;
            let closed = self.steps.next();
            // In and out at the same instant is no stretch of time and proves no presence.
            if closed.is_some_and(|closed| closed.ts == opened.ts) {
                continue;
            }
            return Some(Presence {
                from: opened.ts,
                until: closed.map(|step| step.ts),
                opened_by: opened.scan,
                closed_by: closed.map(|step| step.scan),
                delay_ms: closed.map_or(0, |step| self.steps.delay_ms(step.scan)),
            });
        }
    }
}

/// A scan that changed the state.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub scan: usize,
    pub ts: UtcMillis,
    /// The state after it.
    pub inside: bool,
}

/// The scans that change the state, in event-time order; they alternate between in and out.
pub(super) struct Steps<'a> {
    all: &'a [Scan],
    scans: std::iter::Enumerate<std::slice::Iter<'a, Scan>>,
    previous: Option<UtcMillis>,
    inside: bool,
    repeat_ms: i64,
}

impl<'a> Steps<'a> {
    pub fn new(scans: &'a [Scan], policy: &AttendancePolicy) -> Self {
        let repeat_ms = policy.repeat_scan_ms();
        Self { all: scans, scans: scans.iter().enumerate(), previous: None, inside: false, repeat_ms }
    }

    /// How long the scan at this place took to arrive.
    fn delay_ms(&self, place: usize) -> i64 {
        let scan = &self.all[place];
        scan.received.0.saturating_sub(scan.ts.0)
    }
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        for (place, scan) in self.scans.by_ref() {
            let repeated = self.previous.is_some_and(|previous| scan.ts.0.saturating_sub(previous.0) <= self.repeat_ms);
            self.previous = Some(scan.ts);
            let inside = match scan.direction {
                Direction::In => true,
                Direction::Out => false,
                Direction::Auto if repeated => continue,
                Direction::Auto => !self.inside,
            };
            if inside != self.inside {
                self.inside = inside;
                return Some(Step { scan: place, ts: scan.ts, inside });
            }
        }
        None
    }
}
