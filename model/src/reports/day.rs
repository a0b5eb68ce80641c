//! The rows of the facts, and what one day is worth.

use std::sync::Arc;

use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::attendance::MarkDetail;
use crate::ids::{DistrictId, MarkId, PeriodId, PersonId, SchoolId, SectionId};
use crate::status::{Authority, MarkStatus, Rule, Status};
use crate::time::UtcMillis;

/// What is on record about the reason of an absence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// A mark says `absent_excused`.
    Excused,
    /// The office has decided it by another mark, or a mark gives a reason that does not excuse.
    Unexcused,
    /// Nobody has said why: no mark decided, or a teacher's without a reason.
    Unexplained,
}

impl Absence {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Excused => "excused",
            Self::Unexcused => "unexcused",
            Self::Unexplained => "unexplained",
        }
    }
}

/// Of the mark that decided a status, what matters for the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecidingMark {
    pub id: MarkId,
    pub status: MarkStatus,
    pub authority: Authority,
    pub has_reason: bool,
}

impl From<&MarkDetail> for DecidingMark {
    fn from(mark: &MarkDetail) -> Self {
        let has_reason = mark.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
        Self { id: mark.id, status: mark.status, authority: mark.authority, has_reason }
    }
}

/// What one day (of a section: one meeting) of one student adds to the sums. Half-days are 0 to 2, and absent and unknown
/// ones are never more than 2 together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DayValue {
    pub absent_half_days: u8,
    pub unknown_half_days: u8,
    /// Of the absent half-days; `None`: there are none.
    pub absence: Option<Absence>,
    pub tardy: bool,
}

impl DayValue {
    /// Of a status and the half-days that are lacking to a full day. What lacks for want of evidence is unknown.
    pub fn new(status: Status, lacking_half_days: u32, mark: Option<&DecidingMark>) -> Self {
        let lacking = lacking_half_days.min(2) as u8;
        let (absent, unknown) = match status {
            Status::Unknown | Status::Expected => (0, lacking),
            Status::Present | Status::Tardy | Status::Absent | Status::EarlyDeparture => (lacking, 0),
        };
        Self {
            absent_half_days: absent,
            unknown_half_days: unknown,
            absence: (absent > 0).then(|| reason_of(mark)),
            tardy: status == Status::Tardy,
        }
    }

    /// Of one meeting of a section, which is attended or not as a whole.
    pub fn of_meeting(status: Status, mark: Option<&DecidingMark>) -> Self {
        let there = matches!(status, Status::Present | Status::Tardy | Status::EarlyDeparture);
        Self::new(status, if there { 0 } else { 2 }, mark)
    }
}

/// Why somebody was absent, by the mark that decided it: excused by `absent_excused`; unexcused by another mark of the office or one with a
/// reason; else unexplained.
pub fn reason_of(mark: Option<&DecidingMark>) -> Absence {
    match mark {
        Some(mark) if mark.status == MarkStatus::AbsentExcused => Absence::Excused,
        Some(mark) if mark.has_reason || mark.authority == Authority::Office => Absence::Unexcused,
        _ => Absence::Unexplained,
    }
}

/// Where a row of the facts comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The conclusion on record.
    Recorded,
    /// Nothing final was on record, so the rules were applied to the scans and marks that were known.
    Evidence,
    /// The student has no instruction on that date: nothing to be absent from.
    NothingScheduled,
}

impl Basis {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Evidence => "evidence",
            Self::NothingScheduled => "nothing_scheduled",
        }
    }
}

/// One student and one day in session on which the student was a member of the school, as it was known at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttendanceDay {
    pub district: DistrictId,
    pub school: SchoolId,
    pub student: PersonId,
    /// As the directory has it now; it keeps no history of grades.
    pub grade: Option<Arc<str>>,
    /// The school's local date.
    pub date: NaiveDate,
    /// The district counts the student's day here. Of several schools on one date exactly one is the home.
    pub home: bool,
    /// The last bell of the school's day has rung: only then is the day counted in reports.
    pub closed: bool,
    /// Closed days in session of the school in the date's week: what averages of that week are divided by.
    pub days_in_session: u32,
    pub status: Status,
    pub rule: Rule,
    pub value: DayValue,
    pub scheduled_min: u32,
    pub present_min: u32,
    /// By evidence or as a mark states it.
    pub arrival: Option<UtcMillis>,
    /// Whole minutes from the first bell to the arrival, of a tardy student whose arrival is known.
    pub late_min: Option<u32>,
    /// The mark that decided.
    pub mark: Option<MarkId>,
    pub basis: Basis,
    /// When this was concluded.
    pub known: UtcMillis,
}

/// One student and one meeting of a section in which the student was enrolled, as it was known at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttendancePeriod {
    pub district: DistrictId,
    pub school: SchoolId,
    pub section: SectionId,
    pub period: PeriodId,
    pub student: PersonId,
    pub grade: Option<Arc<str>>,
    pub date: NaiveDate,
    /// The meeting is over and the last bell of the school's day has rung.
    pub closed: bool,
    /// How often the section met on closed days of the date's week: what its averages of that week are divided by.
    pub meetings_held: u32,
    pub status: Status,
    pub rule: Rule,
    pub value: DayValue,
    pub scheduled_min: u32,
    pub arrival: Option<UtcMillis>,
    pub late_min: Option<u32>,
    pub mark: Option<MarkId>,
    pub basis: Basis,
    pub known: UtcMillis,
}

/// One student and one day in session on which the student was a member of the school.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub district: DistrictId,
    pub school: SchoolId,
    pub student: PersonId,
    pub grade: Option<Arc<str>>,
    pub date: NaiveDate,
    pub home: bool,
    pub closed: bool,
    /// Closed days in session of the school in the date's week.
    pub days_in_session: u32,
}

/// The Monday of a date's week, by which weeks are named.
pub fn week_of(date: NaiveDate) -> NaiveDate {
    date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into())).unwrap_or(date)
}

/// Whole minutes begun after the bell, of a tardy student whose arrival is known.
pub fn late_min(status: Status, arrival: Option<UtcMillis>, bell: Option<UtcMillis>) -> Option<u32> {
    let (arrival, bell) = arrival.filter(|_| status == Status::Tardy).zip(bell)?;
    u32::try_from((arrival.0 - bell.0) / 60_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(status: MarkStatus, authority: Authority, has_reason: bool) -> DecidingMark {
        DecidingMark { id: MarkId::random(), status, authority, has_reason }
    }

    #[test]
    fn what_lacks_is_absent_unless_nobody_knows() {
        let value = |status, lacking| {
            let value = DayValue::new(status, lacking, None);
            (value.absent_half_days, value.unknown_half_days)
        };
        assert_eq!(value(Status::Absent, 2), (2, 0));
        assert_eq!(value(Status::EarlyDeparture, 1), (1, 0));
        assert_eq!(value(Status::Unknown, 2), (0, 2));
        assert_eq!(value(Status::Present, 0), (0, 0));
        assert_eq!(DayValue::of_meeting(Status::Tardy, None), DayValue { tardy: true, ..DayValue::default() });
    }

    #[test]
    fn an_absence_is_explained_by_a_reason_or_by_the_office() {
        let cases = [
            (None, Absence::Unexplained),
            (Some(mark(MarkStatus::AbsentUnexcused, Authority::Teacher, false)), Absence::Unexplained),
            (Some(mark(MarkStatus::AbsentUnexcused, Authority::Teacher, true)), Absence::Unexcused),
            (Some(mark(MarkStatus::AbsentUnexcused, Authority::Office, false)), Absence::Unexcused),
            (Some(mark(MarkStatus::AbsentExcused, Authority::Teacher, false)), Absence::Excused),
            (Some(mark(MarkStatus::EarlyDeparture, Authority::Office, true)), Absence::Unexcused),
        ];
        for (mark, absence) in cases {
            assert_eq!(DayValue::new(Status::Absent, 1, mark.as_ref()).absence, Some(absence), "{mark:?}");
        }
        assert_eq!(DayValue::new(Status::Present, 0, None).absence, None);
    }

    #[test]
    fn lateness_counts_whole_minutes_after_the_bell() {
        let late = |arrival| late_min(Status::Tardy, Some(UtcMillis(arrival)), Some(UtcMillis(0)));
        assert_eq!([late(5 * 60_000 + 59_999), late(6 * 60_000)], [Some(5), Some(6)]);
        assert_eq!(late_min(Status::Present, Some(UtcMillis(1)), Some(UtcMillis(0))), None);
        assert_eq!(late_min(Status::Tardy, None, Some(UtcMillis(0))), None);
    }
}
