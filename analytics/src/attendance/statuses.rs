//! Every conclusion of a school's day at once, for SQL.

use chrono::NaiveDate;
use rollcall_model::ids::{PeriodId, PersonId, SectionId};
use rollcall_model::schedule::Span;
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::UtcMillis;

use super::day::Day;

/// What holds for one expected student and one meeting, or the day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusNow {
    pub student: PersonId,
    /// `None`: the day.
    pub meeting: Option<(SectionId, PeriodId, Span)>,
    pub status: Status,
    pub since: Option<UtcMillis>,
    pub rule: Rule,
}

/// The day of a school at one moment.
#[derive(Clone, Debug)]
pub struct DayStatuses {
    pub date: NaiveDate,
    /// Another one of the same date: something has changed.
    pub version: u64,
    /// In order of student and time, the day last; `None`: all is as it was at the version that the caller knows.
    pub rows: Option<Vec<StatusNow>>,
}

impl Day {
    /// Every conclusion of the day, unless nothing has changed since what is known.
    pub(super) fn statuses(&self, known: Option<(NaiveDate, u64)>) -> DayStatuses {
        let (date, version) = (self.key.date, self.version);
        if known == Some((date, version)) {
            return DayStatuses { date, version, rows: None };
        }
        let mut students: Vec<_> = self.plan.students.iter().collect();
        students.sort_unstable_by_key(|(id, _)| **id);
        let mut rows = Vec::with_capacity(students.iter().map(|(_, places)| places.len() + 1).sum());
        for (id, places) in students {
            let windows = self.people.get(id).map_or(&[][..], |person| person.windows.as_slice());
            for (index, window) in windows.iter().enumerate() {
                let Some(concluded) = window.concluded else { continue };
                let meeting = places.get(index).map(|place| {
                    let meeting = &self.plan.meetings[*place as usize].meeting;
                    (meeting.section, meeting.period, meeting.span)
                });
                rows.push(StatusNow { student: *id, meeting, status: concluded.status, since: concluded.since, rule: concluded.rule });
            }
        }
        DayStatuses { date, version, rows: Some(rows) }
    }
}
