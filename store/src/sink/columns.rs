//! The columns of a batch by type, and what the database could not take made takeable: the sink must never be stopped by one row,
//! so NUL characters become U+FFFD, and instants beyond PostgreSQL's range its ends.

use std::borrow::Cow;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt8Array, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt64Type};
use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::event::Kind;
use rollcall_stream::EventBatch;
use uuid::Uuid;

/// 2000-01-01, from which PostgreSQL counts, in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;
/// PostgreSQL's range of timestamps in microseconds since 2000.
const MICROS_MIN: i64 = -211_813_488_000_000_000;
const MICROS_MAX: i64 = 9_223_371_331_199_999_999;

/// A batch that does not have the columns of its kind. The log refuses those, so this is a defect.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of a {kind:?} batch has another type than its schema says")]
pub(crate) struct EncodeError {
    kind: Kind,
    column: usize,
}

/// A batch's columns by type.
pub(crate) struct Columns<'a> {
    kind: Kind,
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    pub fn of(batch: &'a EventBatch) -> Self {
        Self { kind: batch.kind, rows: &batch.rows }
    }

    pub fn wrong(&self, column: usize) -> EncodeError {
        EncodeError { kind: self.kind, column }
    }

    fn column(&self, column: usize) -> Result<&'a dyn Array, EncodeError> {
        self.rows.columns().get(column).map(AsRef::as_ref).ok_or_else(|| self.wrong(column))
    }

    pub fn ids(&self, column: usize) -> Result<&'a FixedSizeBinaryArray, EncodeError> {
        self.column(column)?.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16).ok_or_else(|| self.wrong(column))
    }

    pub fn i64s(&self, column: usize) -> Result<&'a Int64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Int64Type>().ok_or_else(|| self.wrong(column))
    }

    pub fn i32s(&self, column: usize) -> Result<&'a Int32Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Int32Type>().ok_or_else(|| self.wrong(column))
    }

    pub fn u64s(&self, column: usize) -> Result<&'a UInt64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| self.wrong(column))
    }

    pub fn u8s(&self, column: usize) -> Result<&'a UInt8Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<UInt8Type>().ok_or_else(|| self.wrong(column))
    }

    pub fn f64s(&self, column: usize) -> Result<&'a Float64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Float64Type>().ok_or_else(|| self.wrong(column))
    }

    pub fn bools(&self, column: usize) -> Result<&'a BooleanArray, EncodeError> {
        self.column(column)?.as_boolean_opt().ok_or_else(|| self.wrong(column))
    }

    pub fn texts(&self, column: usize) -> Result<&'a StringArray, EncodeError> {
        self.column(column)?.as_string_opt().ok_or_else(|| self.wrong(column))
    }

    pub fn bytes(&self, column: usize) -> Result<&'a BinaryArray, EncodeError> {
        self.column(column)?.as_binary_opt().ok_or_else(|| self.wrong(column))
    }
}

/// PostgreSQL's text has no NUL.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(crate) fn micros(ms: i64) -> i64 {
    ms.saturating_sub(EPOCH_MS).saturating_mul(1000).clamp(MICROS_MIN, MICROS_MAX)
}

pub(crate) fn instant(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// The UTC date of a number of days since 1970; the epoch for what no calendar holds.
pub(crate) fn date(days: i32) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(days.saturating_add(719_163)).unwrap_or_default()
}

pub(crate) fn id(ids: &FixedSizeBinaryArray, row: usize) -> Uuid {
    Uuid::from_slice(ids.value(row)).expect("the column's values have sixteen bytes")
}

pub(crate) fn optional_id(ids: &FixedSizeBinaryArray, row: usize) -> Option<Uuid> {
    ids.is_valid(row).then(|| id(ids, row))
}

pub(crate) fn offset(batch: &EventBatch, row: usize) -> i64 {
    (batch.first.0 + row as u64).cast_signed()
}
