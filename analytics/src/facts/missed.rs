//! Why a day was missed of which only periods have marks.

use std::collections::HashMap;

use chrono::NaiveDate;
use rollcall_model::attendance::{Coverage, MarkDetail, StudentDay, Window};
use rollcall_model::ids::PersonId;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::reports::day::{Absence, DecidingMark, reason_of};
use rollcall_model::reports::lacking_half_days;
use rollcall_model::schedule::Meeting;
use rollcall_model::status::{Mark, MarkStatus};
use rollcall_model::time::UtcMillis;

use super::build::Said;

/// Marks of students' days of whom one says why a period was missed.
#[derive(Default)]
pub(super) struct Missed {
    days: HashMap<(NaiveDate, PersonId), StudentDay>,
    as_of: UtcMillis,
}

impl Missed {
    pub fn new(marks: Vec<Mark>, as_of: UtcMillis) -> Self {
        let mut days: HashMap<_, StudentDay> = HashMap::new();
        for mark in marks {
            days.entry((mark.date, mark.student)).or_default().add_mark(mark);
        }
        Self { days, as_of }
    }

    /// Puts the reason of the periods in the place of none. A day is excused when nothing would lack without the periods that are; it is
    /// unexcused when nothing would lack without those that have any reason; else a part of it is still unexplained, and so is the day.
    pub fn explain(
        &self,
        said: &mut Said,
        date: NaiveDate,
        student: PersonId,
        meetings: impl FnOnce() -> Vec<Meeting>,
        policy: &AttendancePolicy,
    ) {
        let Some(day) = self.days.get(&(date, student)).filter(|_| said.value.absence.is_some()) else { return };
        // A mark about the day says all of it. One about a period may have decided the day of somebody who was not seen.
        if said.mark.is_some_and(|id| day.marks().any(|mark| mark.id == id && mark.period.is_none())) {
            return;
        }
        let (mut excused_ms, mut reasoned_ms) = (0, 0);
        let meetings = meetings();
        for (index, meeting) in meetings.iter().enumerate().filter(|(_, meeting)| meeting.instructional) {
            // By its marks alone: what was scanned says nothing of reasons.
            let concluded = day.conclude(&Window::period(&meetings, index), policy, &Coverage::without_source(), self.as_of);
            let deciding = day
                .marks()
                .find(|mark| Some(mark.id) == concluded.mark)
                .filter(|mark| matches!(mark.status, MarkStatus::AbsentExcused | MarkStatus::AbsentUnexcused));
            let Some(mark) = deciding.map(|mark| DecidingMark::from(&MarkDetail::from(mark))) else { continue };
            match reason_of(Some(&mark)) {
                Absence::Excused => excused_ms += meeting.span.length_ms(),
                Absence::Unexcused => reasoned_ms += meeting.span.length_ms(),
                Absence::Unexplained => {}
            }
        }
        let lacks_besides = |explained_ms: i64| {
            let (scheduled_ms, present_ms) = (i64::from(said.scheduled_min) * 60_000, i64::from(said.present_min) * 60_000);
            lacking_half_days(scheduled_ms, present_ms + explained_ms, policy) > 0
        };
        said.value.absence = Some(if !lacks_besides(excused_ms) {
            Absence::Excused
        } else if !lacks_besides(excused_ms + reasoned_ms) {
            Absence::Unexcused
        } else {
            Absence::Unexplained
        });
    }
}
