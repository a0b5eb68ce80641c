//! The conclusion: what holds at an instant, and when the clock alone will change it.

use super::day::{Scan, StudentDay};
use super::marks::{self, Verdict, Word};
use super::presence::Presence;
use super::{Coverage, Flags, Window};
use crate::ids::MarkId;
use crate::policy::AttendancePolicy;
use crate::schedule::Span;
use crate::status::{Flag, Rule, Status};
use crate::time::UtcMillis;

/// What holds for one student and one window at one instant. Small and `Copy`; compare with
/// [`Conclusion::says_same`], because minutes grow with the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conclusion {
    pub status: Status,
    pub rule: Rule,
    /// Arrival for present and tardy, departure for early departure; else, or when no one knows, `None`.
    pub since: Option<UtcMillis>,
    pub flags: Flags,
    /// The mark that decided.
    pub mark: Option<MarkId>,
    /// By evidence: start of the presence that counts for the window.
    pub arrival: Option<UtcMillis>,
    /// By evidence: the last exit, when it lies before the window's end.
    pub departure: Option<UtcMillis>,
    /// Presence within scheduled instruction until now.
    pub present_ms: i64,
    /// Scheduled instruction of the whole window.
    pub scheduled_ms: i64,
    /// Only for a day: it is over, and its minutes are final but for late evidence and marks.
    pub day_over: bool,
}

impl Conclusion {
    /// Whether both say the same to a reader. Minutes count only once the day is over: until then they grow with
    /// the clock, and a change of them alone is no change of the conclusion.
    pub fn says_same(&self, other: &Self) -> bool {
        let minutes = |conclusion: &Self| if conclusion.day_over { conclusion.present_ms } else { 0 };
        let headline = |c: &Self| (c.status, c.rule, c.since, c.flags, c.mark, c.arrival, c.departure, c.day_over);
        headline(self) == headline(other) && minutes(self) == minutes(other)
    }

    /// Whole minutes of presence.
    pub fn present_min(&self) -> u32 {
        whole_minutes(self.present_ms)
    }

    /// Whole minutes of scheduled instruction.
    pub fn scheduled_min(&self) -> u32 {
        whole_minutes(self.scheduled_ms)
    }
}

fn whole_minutes(ms: i64) -> u32 {
    u32::try_from(ms / 60_000).unwrap_or(0)
}

impl StudentDay {
    /// What holds at `now`. Evidence with a later event time than `now` counts too: a device's clock may run ahead,
    /// and what was durably said is never hidden.
    pub fn conclude(&self, window: &Window<'_>, policy: &AttendancePolicy, coverage: &Coverage, now: UtcMillis) -> Conclusion {
        let seen = Seen::of(self, window, policy);
        let context = Context { day: self, window, policy, coverage, now, seen: &seen };
        let inferred = context.infer();
        let (word, flags) = match marks::verdict(&self.marks, window, policy) {
            Verdict::Says(word) => (Some(word), context.reconcile(&word)),
            Verdict::Implies(word) if !seen.any => (Some(word), Flags::NONE),
            _ if window.is_day() && seen.arrival.is_none() => {
                let word = marks::day_from_periods(&self.marks, window, policy);
                (word, word.map_or(Flags::NONE, |word| context.reconcile(&word)))
            }
            _ => (None, Flags::NONE),
        };
        let (present_ms, scheduled_ms) = context.minutes();
        let mut conclusion = Conclusion {
            status: inferred.status,
            rule: inferred.rule,
            since: inferred.since,
            flags,
            mark: None,
            arrival: seen.arrival.map(|presence| presence.from),
            departure: seen.departure(window),
            present_ms,
            scheduled_ms,
            day_over: window.is_day() && now >= window.span().ends,
        };
        match word {
            Some(word) => {
                conclusion.status = word.status;
                conclusion.rule = word.rule();
                conclusion.since = context.since_by_mark(&word);
                conclusion.mark = Some(word.mark.id);
            }
            None if context.used_late_evidence() => conclusion.flags.insert(Flag::LateEvidence),
            None => {}
        }
        conclusion
    }

    /// The next instant after `now` at which the clock alone changes what [`StudentDay::conclude`] says (in the
    /// sense of [`Conclusion::says_same`]); `None`: never. Holds as long as evidence, marks, timetable, policy and
    /// coverage stay as they are.
    pub fn next_change(&self, window: &Window<'_>, policy: &AttendancePolicy, coverage: &Coverage, now: UtcMillis) -> Option<UtcMillis> {
        let seen = Seen::of(self, window, policy);
        let settles = seen.departure(window).map(|departure| settles_at(window, policy, departure));
        let mut candidates =
            [Some(window.grace_until(policy)), Some(window.deadline(policy)), settles, window.is_day().then_some(window.span().ends)];
        candidates.sort_unstable();
        let current = self.conclude(window, policy, coverage, now);
        candidates.into_iter().flatten().filter(|at| *at > now).find(|at| !self.conclude(window, policy, coverage, *at).says_same(&current))
    }
}

/// The presence intervals that matter for a window.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// There is presence at some time of the day.
    pub any: bool,
    /// The last one that ended at or before the window's start.
    pub before: Option<Presence>,
    /// The first one that touches the window.
    pub arrival: Option<Presence>,
    /// The last one that touches the window.
    pub last: Option<Presence>,
    /// The longest delay of the scans after the arrival.
    delay_ms: i64,
}

impl Seen {
    pub fn of(day: &StudentDay, window: &Window<'_>, policy: &AttendancePolicy) -> Self {
        let mut seen = Self::default();
        for presence in day.intervals(policy) {
            seen.any = true;
            if presence.touches(window.span()) {
                let opening_ms = if seen.arrival.is_some() { day.scans[presence.opened_by].delay_ms() } else { 0 };
                seen.delay_ms = seen.delay_ms.max(presence.delay_ms).max(opening_ms);
                seen.arrival.get_or_insert(presence);
                seen.last = Some(presence);
            } else if seen.arrival.is_none() && presence.from < window.span().starts {
                seen.before = Some(presence);
            }
        }
        seen
    }

    pub fn departure(&self, window: &Window<'_>) -> Option<UtcMillis> {
        self.last.and_then(|presence| presence.until).filter(|until| *until < window.span().ends)
    }
}

/// When an exit becomes an early departure if nobody comes back: after the re-entry time. For the day also not
/// before the next period of the student has begun and its grace has passed, so that lunch outside school, or a free
/// period, is not taken for going home.
fn settles_at(window: &Window<'_>, policy: &AttendancePolicy, departure: UtcMillis) -> UtcMillis {
    let bridged = departure.plus_ms(policy.reentry_ms());
    if !window.is_day() || window.scheduled().any(|meeting| meeting.span.contains(departure)) {
        return bridged;
    }
    let next = window.scheduled().find(|meeting| meeting.span.starts > departure);
    next.map_or(bridged, |meeting| bridged.max(meeting.span.starts.plus_min(policy.grace_min)))
}

struct Inferred {
    status: Status,
    rule: Rule,
    since: Option<UtcMillis>,
}

struct Context<'a> {
    day: &'a StudentDay,
    window: &'a Window<'a>,
    policy: &'a AttendancePolicy,
    coverage: &'a Coverage,
    now: UtcMillis,
    seen: &'a Seen,
}

impl Context<'_> {
    /// The status by evidence, coverage and clock alone.
    fn infer(&self) -> Inferred {
        let Some(arrival) = self.seen.arrival.map(|presence| presence.from) else { return self.infer_unseen() };
        let tardy_until = self.window.tardy_until(self.policy);
        if arrival > tardy_until && !self.window.is_day() {
            return self.negative(Status::Absent, Rule::ArrivedAfterCutoff, None, self.arrival_matters_until());
        }
        if let Some(departure) = self.seen.departure(self.window) {
            let settles = settles_at(self.window, self.policy, departure);
            if self.now >= settles {
                return self.negative(Status::EarlyDeparture, Rule::LeftBeforeEnd, Some(departure), settles);
            }
        }
        let (status, rule) = if arrival <= self.window.grace_until(self.policy) {
            (Status::Present, Rule::ArrivedByGrace)
        } else if arrival <= tardy_until {
            (Status::Tardy, Rule::ArrivedAfterGrace)
        } else {
            (Status::Tardy, Rule::ArrivedAfterCutoff)
        };
        Inferred { status, rule, since: Some(arrival) }
    }

    /// No presence touches the window: the clock decides what its lack means.
    fn infer_unseen(&self) -> Inferred {
        let without_since = |status, rule| Inferred { status, rule, since: None };
        if self.now < self.window.deadline(self.policy) {
            let overdue = self.now >= self.window.grace_until(self.policy);
            return without_since(Status::Expected, if overdue { Rule::Awaited } else { Rule::BeforeStart });
        }
        let rule = match (self.seen.before, self.coverage.has_source) {
            (Some(_), _) => Rule::LeftBeforeStart,
            (None, true) => Rule::NoEvidence,
            (None, false) => return without_since(Status::Unknown, Rule::RollNotTaken),
        };
        self.negative(Status::Absent, rule, None, self.arrival_matters_until())
    }

    /// The last instant at which an arrival would still have made the student present or tardy.
    fn arrival_matters_until(&self) -> UtcMillis {
        self.window.tardy_until(self.policy).min(self.window.span().ends.plus_ms(-1))
    }

    /// A conclusion that rests on the lack of evidence up to an instant: unknown while a gate may still hold some.
    fn negative(&self, status: Status, rule: Rule, since: Option<UtcMillis>, until: UtcMillis) -> Inferred {
        if self.coverage.complete_until(until) {
            Inferred { status, rule, since }
        } else {
            Inferred { status: Status::Unknown, rule: Rule::GateBehind, since: None }
        }
    }

    /// What the gate and the deciding mark say of each other.
    fn reconcile(&self, word: &Word<'_>) -> Flags {
        let mut flags = Flags::NONE;
        match word.status {
            Status::Absent => {
                let in_time = |p: Presence| self.window.is_day() || p.from <= self.window.tardy_until(self.policy);
                if self.seen.arrival.is_some_and(in_time) {
                    flags.insert(Flag::InButMarkedAbsent);
                }
            }
            Status::Present | Status::Tardy => self.reconcile_present(word, &mut flags),
            Status::EarlyDeparture if !self.seen.any => self.missed_scan(word, &mut flags),
            Status::EarlyDeparture | Status::Expected | Status::Unknown => {}
        }
        flags
    }

    fn reconcile_present(&self, word: &Word<'_>, flags: &mut Flags) {
        let stated = self.stated_at(word);
        let (mut inside, mut left) = (false, false);
        for presence in self.day.intervals(self.policy) {
            inside |= presence.contains(stated);
            left |= presence.until.is_some_and(|until| until <= stated);
        }
        if inside {
            let departure = self.seen.departure(self.window).map(|at| settles_at(self.window, self.policy, at));
            if departure.is_some_and(|settles| self.now >= settles) {
                flags.insert(Flag::LeftAfterMark);
            }
        } else if left {
            flags.insert(Flag::ReentryGap);
        } else if self.seen.arrival.is_none() {
            self.missed_scan(word, flags);
        }
    }

    fn missed_scan(&self, word: &Word<'_>, flags: &mut Flags) {
        if self.coverage.has_source && self.coverage.complete_until(self.stated_at(word)) {
            flags.insert(Flag::MissedScan);
        }
    }

    /// The instant of the window for which a mark speaks: what it states, else when it was made.
    fn stated_at(&self, word: &Word<'_>) -> UtcMillis {
        let span = self.window.span();
        word.mark.at.unwrap_or(word.mark.recorded).min(span.ends.plus_ms(-1)).max(span.starts)
    }

    fn since_by_mark(&self, word: &Word<'_>) -> Option<UtcMillis> {
        let arrival = self.seen.arrival.map(|presence| presence.from);
        match word.status {
            Status::Present | Status::Tardy => word.at.or(arrival),
            Status::EarlyDeparture => word.at.or(self.seen.departure(self.window)),
            Status::Expected | Status::Absent | Status::Unknown => None,
        }
    }

    /// Whether the board had already said something else because a scan took long to arrive: an arrival received
    /// after the deadline before which it happened, or any scan delayed by more than the re-entry time.
    fn used_late_evidence(&self) -> bool {
        let reentry_ms = self.policy.reentry_ms();
        if let Some(arrival) = self.seen.arrival {
            let scan = &self.day.scans[arrival.opened_by];
            let deadline = self.window.deadline(self.policy);
            let late = if scan.ts < deadline { scan.received >= deadline } else { scan.delay_ms() > reentry_ms };
            return late || self.seen.delay_ms > reentry_ms;
        }
        false
    }

    /// (present, scheduled) milliseconds. Minutes follow the precedence: a period marked absent has none; one marked
    /// otherwise has those of the evidence, or without any evidence in it those that the mark states.
    fn minutes(&self) -> (i64, i64) {
        let (mut present_ms, mut scheduled_ms) = (0, 0);
        let mut counted_until = UtcMillis(i64::MIN);
        for meeting in self.window.scheduled() {
            // Two sections in one period are one stretch of instruction.
            let span = Span::new(meeting.span.starts.max(counted_until), meeting.span.ends);
            counted_until = counted_until.max(span.ends);
            scheduled_ms += span.length_ms();
            let until_now = Span::new(span.starts, span.ends.min(self.now));
            present_ms += self.present_within(meeting, until_now);
        }
        (present_ms, scheduled_ms)
    }

    fn present_within(&self, meeting: &crate::schedule::Meeting, span: Span) -> i64 {
        let by_evidence = || self.day.intervals(self.policy).map(|p| p.span().overlap_ms(span)).sum::<i64>();
        if self.day.marks.is_empty() {
            return by_evidence();
        }
        let period = Window { meetings: self.window.meetings, meeting: Some(0), span: meeting.span };
        let period = Window { meeting: self.place_of(meeting), ..period };
        match marks::verdict(&self.day.marks, &period, self.policy) {
            Verdict::Nothing => by_evidence(),
            Verdict::Says(word) if word.status == Status::Absent => 0,
            Verdict::Says(word) if !self.touched(meeting.span) => {
                let stated = match (word.status, word.at) {
                    (Status::Tardy | Status::Present, Some(at)) => Span::new(at, span.ends),
                    (Status::EarlyDeparture, Some(at)) => Span::new(span.starts, at),
                    _ => span,
                };
                stated.overlap_ms(span)
            }
            Verdict::Implies(_) if !self.seen.any => span.length_ms(),
            Verdict::Says(_) | Verdict::Implies(_) => by_evidence(),
        }
    }

    fn place_of(&self, meeting: &crate::schedule::Meeting) -> Option<usize> {
        self.window.meetings.iter().position(|other| other == meeting)
    }

    fn touched(&self, span: Span) -> bool {
        self.day.intervals(self.policy).any(|presence| presence.touches(span))
    }
}

impl Scan {
    /// How long it took to arrive.
    pub(super) fn delay_ms(&self) -> i64 {
        self.received.0.saturating_sub(self.ts.0)
    }
}
