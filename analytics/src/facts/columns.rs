//! Rows of the facts as Arrow batches, and what each column says.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, FixedSizeBinaryBuilder, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use rollcall_model::reports::day::{AttendanceDay, AttendancePeriod, Membership, week_of};
use rollcall_model::time::UtcMillis;

/// A column's name, type, whether it may be null, and one sentence.
pub type Column = (&'static str, DataType, bool, &'static str);

pub const ID: DataType = DataType::FixedSizeBinary(16);
pub const TEXT: DataType = DataType::Utf8;
pub const COUNT: DataType = DataType::Int32;
pub const FLAG: DataType = DataType::Boolean;

pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn who() -> Vec<Column> {
    vec![
        ("district", ID, false, "The district."),
        ("school", ID, false, "The school."),
        ("student", ID, false, "The student, by pseudonymous id."),
        ("grade", TEXT, true, "The grade's code as the roster has it now."),
        ("date", DataType::Date32, false, "The school's local date."),
        ("week", DataType::Date32, false, "The Monday of the date's week."),
        ("closed", FLAG, false, "The last bell of the school's day had rung by `as_of`; reports count closed days only."),
        ("as_of", instant(), false, "As it was known at this instant: now, unless a query says `as_of = ...`."),
    ]
}

fn value(what: &'static str) -> Vec<Column> {
    vec![
        ("status", TEXT, false, "expected, present, tardy, absent, early_departure or unknown."),
        ("rule", TEXT, false, "The rule that led to the status."),
        ("enrolled_half_days", COUNT, false, what),
        ("attended_half_days", COUNT, false, "Enrolled, less absent, less unknown."),
        ("absent_half_days", COUNT, false, "Excused or not."),
        ("unknown_half_days", COUNT, false, "Neither attended nor absent: the evidence is missing."),
        ("absence", TEXT, true, "excused, unexcused or unexplained; null: not absent."),
        ("tardy", FLAG, false, "The student came late."),
        ("late_min", COUNT, true, "Whole minutes from the bell to the arrival of a tardy student; null: not known."),
        ("scheduled_min", COUNT, false, "Minutes of scheduled instruction."),
        ("arrival", instant(), true, "By evidence or as a mark states it."),
        ("mark", ID, true, "The mark that decided."),
        ("basis", TEXT, false, "recorded, evidence (the rules applied to what was known) or nothing_scheduled."),
        ("known_at", instant(), false, "When this was concluded."),
    ]
}

const HOME: Column = ("home", FLAG, false, "The district counts the student's day here; true at exactly one of several schools.");

const DAYS: Column = (
    "days_in_session",
    COUNT,
    false,
    "Closed days in session of the school in the date's week, whoever was a member then: what averages of the week are divided by.",
);

pub static DAY: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let own = [HOME, DAYS, ("present_min", COUNT, false, "Minutes of presence within scheduled instruction.")];
    [who(), own.to_vec(), value("2; 0 while the day is not closed.")].concat()
});

pub static PERIOD: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let held = "How often the section met on closed days of the date's week: what its averages of the week are divided by.";
    let own = [("section", ID, false, "The section."), ("period", ID, false, "The period."), ("meetings_held", COUNT, false, held)];
    [who(), own.to_vec(), value("A meeting counts as 2; 0 while the day is not closed.")].concat()
});

pub static MEMBERSHIP: LazyLock<Vec<Column>> = LazyLock::new(|| [who(), vec![HOME, DAYS]].concat());

pub fn schema(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().map(|(name, kind, nullable, _)| Field::new(*name, kind.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub fn ids<'a>(ids: impl ExactSizeIterator<Item = Option<&'a [u8; 16]>>) -> Result<ArrayRef, ArrowError> {
    let mut column = FixedSizeBinaryBuilder::with_capacity(ids.len(), 16);
    for id in ids {
        match id {
            Some(id) => column.append_value(id)?,
            None => column.append_null(),
        }
    }
    Ok(Arc::new(column.finish()))
}

pub fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub fn counts(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(values.map(|value| value.and_then(|value| i32::try_from(value).ok())).collect::<Int32Array>())
}

pub fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

pub fn instants(values: impl Iterator<Item = Option<UtcMillis>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|value| value.0)).collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// Days since 1970-01-01, as Arrow counts dates.
pub fn date32(date: NaiveDate) -> i32 {
    i32::try_from((date - NaiveDate::default()).num_days()).unwrap_or_default()
}

pub fn dates(values: impl Iterator<Item = NaiveDate>) -> ArrayRef {
    Arc::new(values.map(|date| Some(date32(date))).collect::<Date32Array>())
}

/// The columns of [`who`] and of [`value`] are the same in several tables, whose rows have the same fields.
macro_rules! who {
    ($rows:expr, $as_of:expr) => {
        vec![
            ids($rows.iter().map(|row| Some(row.district.as_bytes())))?,
            ids($rows.iter().map(|row| Some(row.school.as_bytes())))?,
            ids($rows.iter().map(|row| Some(row.student.as_bytes())))?,
            texts($rows.iter().map(|row| row.grade.as_deref())),
            dates($rows.iter().map(|row| row.date)),
            dates($rows.iter().map(|row| week_of(row.date))),
            flags($rows.iter().map(|row| row.closed)),
            instants($rows.iter().map(|_| Some($as_of))),
        ]
    };
}

macro_rules! value {
    ($rows:expr) => {{
        let half_days = |closed: bool, lacking: u8| if closed { 2 - u32::from(lacking) } else { 0 };
        vec![
            texts($rows.iter().map(|row| Some(row.status.as_str()))),
            texts($rows.iter().map(|row| Some(row.rule.as_str()))),
            counts($rows.iter().map(|row| Some(half_days(row.closed, 0)))),
            counts($rows.iter().map(|row| Some(half_days(row.closed, row.value.absent_half_days + row.value.unknown_half_days)))),
            counts($rows.iter().map(|row| Some(row.value.absent_half_days.into()))),
            counts($rows.iter().map(|row| Some(row.value.unknown_half_days.into()))),
            texts($rows.iter().map(|row| row.value.absence.map(|absence| absence.as_str()))),
            flags($rows.iter().map(|row| row.value.tardy)),
            counts($rows.iter().map(|row| row.late_min)),
            counts($rows.iter().map(|row| Some(row.scheduled_min))),
            instants($rows.iter().map(|row| row.arrival)),
            ids($rows.iter().map(|row| row.mark.as_ref().map(|mark| mark.as_bytes())))?,
            texts($rows.iter().map(|row| Some(row.basis.as_str()))),
            instants($rows.iter().map(|row| Some(row.known))),
        ]
    }};
}

pub fn days(rows: &[AttendanceDay], as_of: UtcMillis) -> Result<RecordBatch, ArrowError> {
    let own = vec![
        flags(rows.iter().map(|row| row.home)),
        counts(rows.iter().map(|row| Some(row.days_in_session))),
        counts(rows.iter().map(|row| Some(row.present_min))),
    ];
    RecordBatch::try_new(schema(&DAY), [who!(rows, as_of), own, value!(rows)].concat())
}

pub fn periods(rows: &[AttendancePeriod], as_of: UtcMillis) -> Result<RecordBatch, ArrowError> {
    let own = vec![
        ids(rows.iter().map(|row| Some(row.section.as_bytes())))?,
        ids(rows.iter().map(|row| Some(row.period.as_bytes())))?,
        counts(rows.iter().map(|row| Some(row.meetings_held))),
    ];
    RecordBatch::try_new(schema(&PERIOD), [who!(rows, as_of), own, value!(rows)].concat())
}

pub fn membership(rows: &[Membership], as_of: UtcMillis) -> Result<RecordBatch, ArrowError> {
    let own = vec![flags(rows.iter().map(|row| row.home)), counts(rows.iter().map(|row| Some(row.days_in_session)))];
    RecordBatch::try_new(schema(&MEMBERSHIP), [who!(rows, as_of), own].concat())
}
