//! What of a conclusion is a matter of record, so that a row is written when that changes and never twice.

use rollcall_model::attendance::{Conclusion, Flags};
use rollcall_model::ids::MarkId;
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::UtcMillis;

use super::seam::LastStatus;

/// The recorded part of a conclusion. Two conclusions with equal records make one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// However it is worded: the clock moves the wording for everybody, and no row would say more.
    Expected,
    Concluded {
        status: Status,
        rule: Rule,
        since: Option<UtcMillis>,
        flags: Flags,
        mark: Option<MarkId>,
        arrival: Option<UtcMillis>,
        departure: Option<UtcMillis>,
        /// Minutes of a day that is over; before, they grow with the clock.
        present_min: Option<u32>,
    },
}

impl Record {
    fn of(concluded: &Conclusion) -> Self {
        if concluded.status == Status::Expected {
            return Self::Expected;
        }
        Self::Concluded {
            status: concluded.status,
            rule: concluded.rule,
            since: concluded.since,
            flags: concluded.flags,
            mark: concluded.mark,
            arrival: concluded.arrival,
            departure: concluded.departure,
            present_min: concluded.day_over.then(|| concluded.present_min()),
        }
    }

    /// The record of a row that was written earlier, perhaps by another process.
    pub fn of_written(last: &LastStatus) -> Self {
        if last.status == Status::Expected {
            return Self::Expected;
        }
        let day_over = last.meeting.is_none() && last.detail.ends.is_some_and(|ends| last.recorded >= ends);
        Self::Concluded {
            status: last.status,
            rule: last.rule,
            since: last.since,
            flags: last.detail.flags,
            mark: last.detail.mark.as_ref().map(|mark| mark.id),
            arrival: last.detail.arrival,
            departure: last.detail.departure,
            present_min: day_over.then_some(last.detail.present_min),
        }
    }

    /// The record to write for a conclusion; `None`: the last one written says it already, or nothing was ever written
    /// and nothing is all there is to say.
    pub fn to_write(concluded: &Conclusion, written: Option<&Self>) -> Option<Self> {
        let record = Self::of(concluded);
        let said = written.unwrap_or(&Self::Expected);
        (*said != record).then_some(record)
    }
}
