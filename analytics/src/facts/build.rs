//! From a conclusion on record, or from the evidence where none is final, to a row of the facts.

use std::collections::HashMap;

use rollcall_model::attendance::{Conclusion, Coverage, MarkDetail, StudentDay, Window};
use rollcall_model::ids::{MarkId, PersonId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::reports::day::{Basis, DayValue, DecidingMark, late_min};
use rollcall_model::reports::{absent_half_days, lacking_half_days};
use rollcall_model::schedule::Meeting;
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::UtcMillis;
use rollcall_store::query::reports::{ConclusionRow, Evidence};

/// What the facts say of one day or meeting.
pub(super) struct Said {
    pub status: Status,
    pub rule: Rule,
    pub value: DayValue,
    pub scheduled_min: u32,
    pub present_min: u32,
    pub arrival: Option<UtcMillis>,
    pub late_min: Option<u32>,
    pub mark: Option<MarkId>,
    pub basis: Basis,
    pub known: UtcMillis,
}

/// Whether a conclusion about a day was drawn when the day was over: only then are its minutes those of the day.
pub(super) fn is_final(row: &ConclusionRow) -> bool {
    row.ends.is_some_and(|ends| row.recorded >= ends)
}

/// What is on record about a day. Before the day is closed it is worth nothing yet.
pub(super) fn recorded_day(row: &ConclusionRow, policy: &AttendancePolicy, closed: bool) -> Said {
    let by_minutes = || lacking_half_days(i64::from(row.scheduled_min) * 60_000, i64::from(row.present_min) * 60_000, policy);
    let lacking = if closed { row.absent_half_days.unwrap_or_else(by_minutes) } else { 0 };
    said(row, DayValue::new(row.status, lacking, row.mark.as_ref()))
}

/// What is on record about a meeting.
pub(super) fn recorded_meeting(row: &ConclusionRow, closed: bool) -> Said {
    let value = DayValue::of_meeting(row.status, row.mark.as_ref());
    said(row, if closed { value } else { DayValue::default() })
}

fn said(row: &ConclusionRow, value: DayValue) -> Said {
    let came = matches!(row.status, Status::Present | Status::Tardy).then_some(row.since).flatten();
    let arrival = came.or(row.arrival);
    Said {
        status: row.status,
        rule: row.rule,
        value,
        scheduled_min: row.scheduled_min,
        present_min: row.present_min,
        arrival,
        late_min: late_min(row.status, arrival, row.starts),
        mark: row.mark.map(|mark| mark.id),
        basis: Basis::Recorded,
        known: row.recorded,
    }
}

/// Nothing is on record and the day is not closed.
pub(super) fn expected(scheduled_min: u32, as_of: UtcMillis) -> Said {
    nothing(Status::Expected, Rule::BeforeStart, scheduled_min, Basis::Recorded, as_of)
}

/// A student without any instruction on the date.
pub(super) fn nothing_scheduled(as_of: UtcMillis) -> Said {
    nothing(Status::Unknown, Rule::RollNotTaken, 0, Basis::NothingScheduled, as_of)
}

fn nothing(status: Status, rule: Rule, scheduled_min: u32, basis: Basis, known: UtcMillis) -> Said {
    let (value, arrival, late_min, mark) = (DayValue::default(), None, None, None);
    Said { status, rule, value, scheduled_min, present_min: 0, arrival, late_min, mark, basis, known }
}

/// The scans and marks of one date by student.
pub(super) struct Known {
    by_student: HashMap<PersonId, StudentDay>,
    coverage: Coverage,
    as_of: UtcMillis,
}

impl Known {
    /// Which gates were behind at a past instant is not kept. A date on which no gate of the school sent a single scan
    /// proves nothing by a missing one; on others the evidence counts as complete, as late evidence makes it sooner or
    /// later.
    pub fn new(evidence: Evidence, as_of: UtcMillis) -> Self {
        let coverage = if evidence.scans.is_empty() { Coverage::without_source() } else { Coverage::complete() };
        let mut by_student: HashMap<PersonId, StudentDay> = HashMap::new();
        for scan in &evidence.scans {
            by_student.entry(scan.student).or_default().add_scan(scan);
        }
        for mark in evidence.marks {
            by_student.entry(mark.student).or_default().add_mark(mark);
        }
        Self { by_student, coverage, as_of }
    }

    /// The rules applied to a closed day.
    pub fn day(&self, student: PersonId, meetings: &[Meeting], policy: &AttendancePolicy) -> Said {
        match Window::day(meetings) {
            Some(window) => self.conclude(student, &window, policy),
            None => nothing_scheduled(self.as_of),
        }
    }

    /// The rules applied to one meeting of a closed day.
    pub fn meeting(&self, student: PersonId, meetings: &[Meeting], index: usize, policy: &AttendancePolicy) -> Said {
        self.conclude(student, &Window::period(meetings, index), policy)
    }

    fn conclude(&self, student: PersonId, window: &Window<'_>, policy: &AttendancePolicy) -> Said {
        let empty = StudentDay::new();
        let day = self.by_student.get(&student).unwrap_or(&empty);
        let concluded = day.conclude(window, policy, &self.coverage, self.as_of);
        let mark = day.marks().find(|mark| Some(mark.id) == concluded.mark).map(|mark| DecidingMark::from(&MarkDetail::from(mark)));
        let arrival = arrival_of(&concluded);
        Said {
            status: concluded.status,
            rule: concluded.rule,
            value: match window.is_day() {
                true => DayValue::new(concluded.status, absent_half_days(&concluded, policy), mark.as_ref()),
                false => DayValue::of_meeting(concluded.status, mark.as_ref()),
            },
            scheduled_min: concluded.scheduled_min(),
            present_min: concluded.present_min(),
            arrival,
            late_min: late_min(concluded.status, arrival, Some(window.span().starts)),
            mark: concluded.mark,
            basis: Basis::Evidence,
            known: self.as_of,
        }
    }
}

fn arrival_of(concluded: &Conclusion) -> Option<UtcMillis> {
    let came = matches!(concluded.status, Status::Present | Status::Tardy).then_some(concluded.since).flatten();
    came.or(concluded.arrival)
}
