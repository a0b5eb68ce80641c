//! Marks as rows. A mark travels through the log like any event, so it is durable before its author is told so.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int32Array, Int64Array, StringArray, UInt8Array, UInt64Array};
use arrow::datatypes::{Int32Type, Int64Type, UInt8Type};
use chrono::{Datelike, NaiveDate};
use rollcall_model::event::Kind;
use rollcall_model::ids::{AccountId, DistrictId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Authority, Mark, MarkStatus};
use rollcall_model::time::UtcMillis;

use crate::EventBatch;
use crate::column::{self, Columns, rows_of};
use crate::schema::{COMMON, DEVICE, DISTRICT, SCHOOL, TS};

const MARK: usize = COMMON;
const STUDENT: usize = COMMON + 1;
const SECTION: usize = COMMON + 2;
const PERIOD: usize = COMMON + 3;
const DATE: usize = COMMON + 4;
const STATUS: usize = COMMON + 5;
const AUTHORITY: usize = COMMON + 6;
const REASON: usize = COMMON + 7;
const SUPERSEDES: usize = COMMON + 8;
const AT: usize = COMMON + 9;

/// 1970-01-01 as chrono counts days.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// Marks of one district as a batch, in the order given.
pub fn encode(district: DistrictId, marks: &[Mark]) -> EventBatch {
    column::batch(
        Kind::Mark,
        vec![
            column::ids(marks.iter().map(|_| Some(district.as_bytes()))),
            column::ids(marks.iter().map(|mark| Some(mark.school.as_bytes()))),
            column::ids(marks.iter().map(|mark| Some(mark.author.as_bytes()))),
            Arc::new(UInt64Array::from(vec![0; marks.len()])),
            Arc::new(Int64Array::from_iter_values(marks.iter().map(|mark| mark.recorded.0))),
            Arc::new(Int64Array::from_iter_values(marks.iter().map(|mark| mark.recorded.0))),
            Arc::new(BooleanArray::from(vec![false; marks.len()])),
            column::ids(marks.iter().map(|mark| Some(mark.id.as_bytes()))),
            column::ids(marks.iter().map(|mark| Some(mark.student.as_bytes()))),
            column::ids(marks.iter().map(|mark| mark.section.as_ref().map(SectionId::as_bytes))),
            column::ids(marks.iter().map(|mark| mark.period.as_ref().map(PeriodId::as_bytes))),
            Arc::new(Int32Array::from_iter_values(marks.iter().map(|mark| days(mark.date)))),
            Arc::new(UInt8Array::from_iter_values(marks.iter().map(|mark| mark.status.code()))),
            Arc::new(UInt8Array::from_iter_values(marks.iter().map(|mark| mark.authority.code()))),
            Arc::new(StringArray::from_iter(marks.iter().map(|mark| mark.reason.as_deref()))),
            column::ids(marks.iter().map(|mark| mark.supersedes.as_ref().map(MarkId::as_bytes))),
            Arc::new(Int64Array::from_iter(marks.iter().map(|mark| mark.at.map(|at| at.0)))),
        ],
    )
}

/// The marks of a batch in its order; none for a batch of another kind. A row with a code or a date that this program
/// does not know is left out and reported as an error.
pub fn decode(batch: &EventBatch) -> impl Iterator<Item = (Offset, DistrictId, Mark)> + '_ {
    let (columns, rows) = rows_of(batch, Kind::Mark);
    rows.filter_map(move |row| {
        let offset = Offset(batch.first.0 + row as u64);
        let mark = one(&columns, row);
        if mark.is_none() {
            tracing::error!(%offset, "a mark has an unknown code or date and is left out");
        }
        mark.map(|mark| (offset, DistrictId::from_bytes(columns.id(DISTRICT, row)), mark))
    })
}

fn one(columns: &Columns<'_>, row: usize) -> Option<Mark> {
    Some(Mark {
        id: MarkId::from_bytes(columns.id(MARK, row)),
        school: SchoolId::from_bytes(columns.id(SCHOOL, row)),
        student: PersonId::from_bytes(columns.id(STUDENT, row)),
        section: columns.id_or_none(SECTION, row).map(SectionId::from_bytes),
        period: columns.id_or_none(PERIOD, row).map(PeriodId::from_bytes),
        date: date(columns.number::<Int32Type>(DATE, row))?,
        status: MarkStatus::from_code(columns.number::<UInt8Type>(STATUS, row))?,
        authority: Authority::from_code(columns.number::<UInt8Type>(AUTHORITY, row))?,
        author: AccountId::from_bytes(columns.id(DEVICE, row)),
        reason: columns.text_or_none(REASON, row),
        supersedes: columns.id_or_none(SUPERSEDES, row).map(MarkId::from_bytes),
        recorded: UtcMillis(columns.number::<Int64Type>(TS, row)),
        at: columns.number_or_none::<Int64Type>(AT, row).map(UtcMillis),
    })
}

fn days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - EPOCH_DAYS_FROM_CE
}

fn date(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(EPOCH_DAYS_FROM_CE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u8) -> Mark {
        Mark {
            id: MarkId::from_bytes([number; 16]),
            school: SchoolId::from_bytes([2; 16]),
            student: PersonId::from_bytes([3; 16]),
            section: None,
            period: None,
            date: NaiveDate::from_ymd_opt(2026, 11, 20).unwrap(),
            status: MarkStatus::AbsentExcused,
            authority: Authority::Office,
            author: AccountId::from_bytes([4; 16]),
            reason: None,
            supersedes: None,
            recorded: UtcMillis(1_795_238_283_412),
            at: None,
        }
    }

    #[test]
    fn marks_come_back_as_they_were() {
        let full = Mark {
            section: Some(SectionId::from_bytes([5; 16])),
            period: Some(PeriodId::from_bytes([6; 16])),
            date: NaiveDate::from_ymd_opt(1969, 12, 31).unwrap(),
            reason: Some("dentist, back at eleven".to_owned()),
            supersedes: Some(MarkId::from_bytes([1; 16])),
            at: Some(UtcMillis(-5)),
            ..mark(2)
        };
        let marks = [mark(1), full];
        let district = DistrictId::from_bytes([9; 16]);
        let mut batch = encode(district, &marks);
        batch.first = Offset(70);
        let decoded: Vec<_> = decode(&batch).collect();
        let [first, second] = marks;
        assert_eq!(decoded, [(Offset(70), district, first), (Offset(71), district, second)]);
        assert_eq!(crate::scan::decode(&batch).count(), 0);
    }

    #[test]
    fn days_count_from_the_epoch() {
        assert_eq!(days(NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()), 0);
        assert_eq!(days(NaiveDate::from_ymd_opt(2026, 11, 20).unwrap()), 20_777);
        assert_eq!(date(i32::MAX), None);
    }
}
