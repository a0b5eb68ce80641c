//! The rows of history: their tables, their division by district and day, their order in a file, and who is erased.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMillisecondType, UInt64Type};
use chrono::NaiveDate;
use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset, PersonId};
use rollcall_stream::EventBatch;
use rollcall_stream::schema::{COMMON, DEVICE, DISTRICT, SCHOOL, TS, schema};

use super::error::HistoryError;
use super::manifest::Tombstone;

/// What history keeps. Heartbeats and dead letters are the database's alone.
pub const KINDS: [Kind; 4] = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Mark];

const DAY_MS: i64 = 86_400_000;
/// 1970-01-01 as chrono counts days.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// The name of a kind's table and folder.
pub const fn table_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => "scans",
        Kind::Telemetry => "telemetry",
        Kind::Activity => "activity",
        Kind::Mark => "marks",
        Kind::Status => "device_status",
        Kind::DeadLetter => "dead_letters",
    }
}

static SCHEMAS: LazyLock<HashMap<Kind, SchemaRef>> = LazyLock::new(|| {
    let with_offset = |kind: Kind| {
        let mut fields: Vec<_> = schema(kind).fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("offset", DataType::UInt64, false)));
        (kind, Arc::new(Schema::new(fields)))
    };
    Kind::ALL.iter().copied().map(with_offset).collect()
});

/// The columns of the log in their order, and `offset`, the row's place in the log.
pub fn table_schema(kind: Kind) -> SchemaRef {
    SCHEMAS[&kind].clone()
}

/// The column that names the person a row is about.
pub(super) const fn person_column(kind: Kind) -> usize {
    match kind {
        Kind::Mark => COMMON + 1,
        _ => COMMON,
    }
}

/// Event times in milliseconds, whichever way the schema says it.
fn instants(rows: &RecordBatch) -> &[i64] {
    let column = rows.column(TS);
    match column.data_type() {
        DataType::Timestamp(..) => column.as_primitive::<TimestampMillisecondType>().values(),
        _ => column.as_primitive::<Int64Type>().values(),
    }
}

fn offsets(rows: &RecordBatch) -> &UInt64Array {
    rows.column(rows.num_columns() - 1).as_primitive::<UInt64Type>()
}

/// The rows of a batch of the log with their offsets.
pub fn with_offsets(batch: &EventBatch) -> RecordBatch {
    let mut columns = batch.rows.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from_iter_values(batch.first.0..batch.next().0)));
    RecordBatch::try_new(table_schema(batch.kind), columns).expect("the columns are the log's and one more")
}

/// The rows from an offset on of a batch in the log's order; `None` if there are none.
pub(super) fn from_offset(rows: &RecordBatch, from: Offset) -> Option<RecordBatch> {
    let offsets = offsets(rows);
    let skip = offsets.values().partition_point(|offset| *offset < from.0);
    (skip < rows.num_rows()).then(|| rows.slice(skip, rows.num_rows() - skip))
}

/// Whose rows are not shown and not written.
#[derive(Clone, Default, Debug)]
pub(super) struct Erased(HashMap<(DistrictId, PersonId), Offset>);

impl Erased {
    pub fn new(tombstones: &[Tombstone]) -> Self {
        let mut erased = HashMap::new();
        for stone in tombstones {
            let before = erased.entry((stone.district, stone.person)).or_insert(stone.before);
            *before = stone.before.max(*before);
        }
        Self(erased)
    }

    /// The rows without those of erased people; the same batch if there are none.
    pub fn apply(&self, kind: Kind, rows: RecordBatch) -> Result<RecordBatch, HistoryError> {
        if self.0.is_empty() {
            return Ok(rows);
        }
        let (districts, people) = (ids(&rows, DISTRICT), ids(&rows, person_column(kind)));
        let offsets = offsets(&rows);
        let kept: BooleanArray = (0..rows.num_rows())
            .map(|row| {
                let erased = people.is_valid(row).then(|| {
                    let key = (DistrictId::from_bytes(id(districts, row)), PersonId::from_bytes(id(people, row)));
                    self.0.get(&key).is_some_and(|before| offsets.value(row) < before.0)
                });
                Some(!erased.unwrap_or(false))
            })
            .collect();
        if kept.true_count() == rows.num_rows() { Ok(rows) } else { Ok(filter_record_batch(&rows, &kept)?) }
    }
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

/// Divides rows of one kind by district and day of event time, and sorts each portion.
pub(super) fn divide(kind: Kind, batches: &[RecordBatch]) -> Result<Vec<Portion>, HistoryError> {
    let rows = concat_batches(&table_schema(kind), batches)?;
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
    let sorted = take_record_batch(&rows, &order)?;
    let mut portions = Vec::new();
    let mut begin = 0;
    for run in places.chunk_by(|a, b| (a.district, a.day) == (b.district, b.day)) {
        let rows = sorted.slice(begin, run.len());
        portions.push(Portion { district: DistrictId::from_bytes(run[0].district), date: date(run[0].day), rows });
        begin += run.len();
    }
    Ok(portions)
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
