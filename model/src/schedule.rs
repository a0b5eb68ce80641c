//! From local bell times to instants: which sections meet on a date, and when exactly.
//!
//! Rules for local times that a zone's clock change touches:
//! - A time that occurs twice (the fold in autumn) is its first occurrence.
//! - A time that does not occur (the gap in spring) is the first instant after the gap.
//!
//! Both keep the order of bells, so a period never ends before it starts. A period that lies wholly inside the gap
//! has no length and does not meet. Minutes are always differences of instants: a period across the spring gap is
//! shorter than its wall-clock times say, one across the autumn fold longer.

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::ids::{PeriodId, SectionId};
use crate::time::UtcMillis;

/// A half-open stretch of time `[starts, ends)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Span {
    pub starts: UtcMillis,
    pub ends: UtcMillis,
}

impl Span {
    pub const fn new(starts: UtcMillis, ends: UtcMillis) -> Self {
        Self { starts, ends }
    }

    /// Length in milliseconds; 0 for a span that ends before it starts.
    pub const fn length_ms(self) -> i64 {
        let length = self.ends.0 - self.starts.0;
        if length > 0 { length } else { 0 }
    }

    pub const fn contains(self, instant: UtcMillis) -> bool {
        self.starts.0 <= instant.0 && instant.0 < self.ends.0
    }

    /// Milliseconds that both spans cover.
    pub fn overlap_ms(self, other: Self) -> i64 {
        Self::new(self.starts.max(other.starts), self.ends.min(other.ends)).length_ms()
    }
}

/// One line of a bell schedule, in the school's local wall-clock time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bell {
    pub period: PeriodId,
    pub starts: NaiveTime,
    pub ends: NaiveTime,
    /// Lunch and breaks are not: they make no scheduled minutes.
    pub instructional: bool,
}

impl Bell {
    /// When the bell rings on this date in this zone.
    pub fn span_on(&self, date: NaiveDate, zone: Tz) -> Span {
        Span::new(instant_of(date, self.starts, zone), instant_of(date, self.ends, zone))
    }
}

/// A named bell schedule as it holds from a date on; a later one of the same name replaces it from its own date.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BellSchedule {
    pub name: String,
    pub valid_from: NaiveDate,
    pub bells: Vec<Bell>,
}

/// The bells that hold on `date` under the schedule called `name`: the newest `valid_from` that is not after the
/// date, so that a schedule changed in mid-year leaves earlier days as they were. `None`: none holds yet.
pub fn schedule_on<'a>(schedules: impl IntoIterator<Item = &'a BellSchedule>, name: &str, date: NaiveDate) -> Option<&'a BellSchedule> {
    schedules.into_iter().filter(|schedule| schedule.name == name && schedule.valid_from <= date).max_by_key(|schedule| schedule.valid_from)
}

/// When a section meets: in a period, on some weekdays and rotation days, between two dates.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MeetingRule {
    pub section: SectionId,
    pub period: PeriodId,
    /// Bit 0 is Monday, bit 6 Sunday.
    pub weekdays: u8,
    /// Rotation day ("A"); empty: every.
    pub cycle: String,
    /// First date, inclusive; `None`: since ever.
    pub valid_from: Option<NaiveDate>,
    /// First date no longer, exclusive; `None`: for ever.
    pub valid_to: Option<NaiveDate>,
}

impl MeetingRule {
    /// Whether the section meets on a date in session whose rotation day is `cycle` (`None`: the day has none).
    pub fn meets_on(&self, date: NaiveDate, cycle: Option<&str>) -> bool {
        self.weekdays & (1 << date.weekday().num_days_from_monday()) != 0
            && (self.cycle.is_empty() || cycle == Some(self.cycle.as_str()))
            && self.valid_from.is_none_or(|from| from <= date)
            && self.valid_to.is_none_or(|to| date < to)
    }
}

/// One section in one period of one date, with its instants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meeting {
    pub section: SectionId,
    pub period: PeriodId,
    pub span: Span,
    pub instructional: bool,
}

/// The meetings that `rules` and `bells` make on a date in session, in order of (start, end, period, section). A
/// period that the day's bells do not have does not meet; two rules that name the same section and period make one.
pub fn meetings_on<'a>(
    rules: impl IntoIterator<Item = &'a MeetingRule>,
    bells: &[Bell],
    date: NaiveDate,
    cycle: Option<&str>,
    zone: Tz,
) -> Vec<Meeting> {
    let mut meetings: Vec<Meeting> = rules
        .into_iter()
        .filter(|rule| rule.meets_on(date, cycle))
        .filter_map(|rule| {
            let bell = bells.iter().find(|bell| bell.period == rule.period)?;
            let span = bell.span_on(date, zone);
            let meeting = Meeting { section: rule.section, period: rule.period, span, instructional: bell.instructional };
            (span.length_ms() > 0).then_some(meeting)
        })
        .collect();
    sort_meetings(&mut meetings);
    meetings.dedup();
    meetings
}

/// Puts a student's meetings into the order that windows rely on.
pub fn sort_meetings(meetings: &mut [Meeting]) {
    meetings.sort_unstable_by_key(|m| (m.span.starts, m.span.ends, m.period, m.section));
}

/// From the start of the first to the end of the last instructional meeting; `None` without any.
pub fn day_span(meetings: &[Meeting]) -> Option<Span> {
    let mut instructional = meetings.iter().filter(|meeting| meeting.instructional).map(|meeting| meeting.span);
    let first = instructional.next()?;
    Some(instructional.fold(first, |day, span| Span::new(day.starts.min(span.starts), day.ends.max(span.ends))))
}

/// The local date of an instant: the date to which evidence belongs.
pub fn local_date(instant: UtcMillis, zone: Tz) -> Option<NaiveDate> {
    instant.to_chrono().map(|utc| utc.with_timezone(&zone).date_naive())
}

/// The instants of one local date, midnight to midnight: 23, 24 or 25 hours in most zones.
pub fn date_span(date: NaiveDate, zone: Tz) -> Span {
    let next = date.succ_opt().unwrap_or(date);
    Span::new(instant_of(date, NaiveTime::MIN, zone), instant_of(next, NaiveTime::MIN, zone))
}

/// The instant at which clocks in `zone` show `time` on `date`; see the module for the gap and the fold.
pub fn instant_of(date: NaiveDate, time: NaiveTime, zone: Tz) -> UtcMillis {
    let local = date.and_time(time);
    match zone.from_local_datetime(&local).earliest() {
        Some(instant) => UtcMillis(instant.timestamp_millis()),
        None => after_gap(local, zone),
    }
}

/// The first instant whose local time is not before `local`, which lies in a gap. Offsets lie within 15 hours of
/// UTC and a gap is at most a whole day (Samoa, 2011), so the instant lies within the searched range.
fn after_gap(local: NaiveDateTime, zone: Tz) -> UtcMillis {
    let reached = |utc_ms: i64| {
        let Some(utc) = UtcMillis(utc_ms).to_chrono().map(|utc| utc.naive_utc()) else { return true };
        let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
        utc + Duration::seconds(offset.into()) >= local
    };
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let centre = local.and_utc().timestamp_millis();
    let (mut before, mut after) = (centre - 40 * HOUR_MS, centre + 40 * HOUR_MS);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if reached(middle) { after = middle } else { before = middle }
    }
    UtcMillis(after)
}
