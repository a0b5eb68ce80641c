//! The rows of history: their division by district and day, and their order in a file. Their schema is that of
//! [`crate::hot::table`].

use arrow::array::{AsArray, FixedSizeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{TimestampMillisecondType, UInt64Type};
use chrono::NaiveDate;
use rollcall_model::event::Kind;
use rollcall_model::ids::DistrictId;
use rollcall_stream::schema::{DEVICE, DISTRICT, SCHOOL, TS};

use super::error::HistoryError;
use super::manifest::Tombstone;
use crate::hot::{Erased, table};

const DAY_MS: i64 = 86_400_000;
/// 1970-01-01 as chrono counts days.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// Event times in milliseconds.
fn instants(rows: &RecordBatch) -> &[i64] {
    rows.column(TS).as_primitive::<TimestampMillisecondType>().values()
}

fn offsets(rows: &RecordBatch) -> &UInt64Array {
    rows.column(rows.num_columns() - 1).as_primitive::<UInt64Type>()
}

/// Whose rows are not shown and not written.
pub(super) fn erased(tombstones: &[Tombstone]) -> Erased {
    Erased::new(tombstones.iter().map(|stone| (stone.district, stone.person, stone.before)))
}

fn ids(rows: &RecordBatch, column: usize) -> &FixedSizeBinaryArray {
    rows.column(column).as_fixed_size_binary()
}

pub(super) fn id(ids: &FixedSizeBinaryArray, row: usize) -> [u8; 16] {
    ids.value(row).try_into().expect("an id column is sixteen bytes wide by its schema")
}

/// The rows of one file to be.
pub(super) struct Portion {
    pub district: DistrictId,
    pub date: NaiveDate,
    /// Sorted by school, device, event time and offset. Not empty.
    pub rows: RecordBatch,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    district: [u8; 16],
    day: i64,
    school: [u8; 16],
    device: [u8; 16],
    ts: i64,
    offset: u64,
    row: u32,
}

/// Divides rows of one kind by district and day of event time, and sorts each portion. A million rows are hundreds of megabytes, so what
/// is not needed any more is let go before more is made.
pub(super) fn divide(kind: Kind, batches: Vec<RecordBatch>) -> Result<Vec<Portion>, HistoryError> {
    let rows = concat_batches(table::schema(kind), &batches)?;
    drop(batches);
    let (districts, schools, devices) = (ids(&rows, DISTRICT), ids(&rows, SCHOOL), ids(&rows, DEVICE));
    let (times, offsets) = (instants(&rows), offsets(&rows));
    let count = u32::try_from(rows.num_rows()).map_err(|_| HistoryError::Step("too many rows for one file".into()))?;
    let mut places: Vec<Place> = (0..count)
        .map(|row| {
            let at = row as usize;
            let ts = times[at];
            let (district, school, device) = (id(districts, at), id(schools, at), id(devices, at));
            Place { district, day: ts.div_euclid(DAY_MS), school, device, ts, offset: offsets.value(at), row }
        })
        .collect();
    places.sort_unstable();
    let order = UInt32Array::from_iter_values(places.iter().map(|place| place.row));
    let runs = places.chunk_by(|a, b| (a.district, a.day) == (b.district, b.day));
    let runs: Vec<_> = runs.map(|run| (run[0].district, run[0].day, run.len())).collect();
    drop(places);
    let sorted = take_record_batch(&rows, &order)?;
    drop(rows);
    let mut begin = 0;
    let portion = |(district, day, length)| {
        let rows = sorted.slice(begin, length);
        begin += length;
        Portion { district: DistrictId::from_bytes(district), date: date(day), rows }
    };
    Ok(runs.into_iter().map(portion).collect())
}

/// The day of a row; an instant outside the calendar, which intake refuses, counts as the first day.
fn date(day: i64) -> NaiveDate {
    i32::try_from(day)
        .ok()
        .and_then(|day| day.checked_add(EPOCH_DAYS_FROM_CE))
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .unwrap_or_default()
}

/// Least and greatest value of the columns that the manifest knows of each file.
pub(super) struct Bounds {
    pub ts: (i64, i64),
    pub school: ([u8; 16], [u8; 16]),
    pub offset: (u64, u64),
}

/// Of rows that are sorted by school and not empty.
pub(super) fn bounds(rows: &RecordBatch) -> Bounds {
    let times = instants(rows);
    let offsets = offsets(rows).values();
    let schools = ids(rows, SCHOOL);
    Bounds {
        ts: (times.iter().min().copied().unwrap_or_default(), times.iter().max().copied().unwrap_or_default()),
        school: (id(schools, 0), id(schools, rows.num_rows() - 1)),
        offset: (offsets.iter().min().copied().unwrap_or_default(), offsets.iter().max().copied().unwrap_or_default()),
    }
}
