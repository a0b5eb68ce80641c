//! One batch of a hot table, with what is known of its rows without looking at them.
//!
//! Statistics prune whole batches; a postings list (the row numbers by a hash of the id) finds the rows of one section, device
//! or person among some 32,768, at less than four bytes a row and column. A section's rows come from hundreds of batches, and each
//! look into another place is a wait for memory: a search looks at where a bucket begins, at the bucket, and at the rows themselves.

use arrow::array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampMillisecondType, UInt64Type};
use rollcall_model::ids::Offset;

use super::table::OFFSET;

/// Sixteen bytes of a UUID.
pub type Id = [u8; 16];

/// A column with at most this many different ids in a batch has them listed; one with more is searched.
pub const SMALL_SET_MAX: usize = 64;

/// Rows fewer than this are looked through: a postings list would cost more than it saves.
const POSTINGS_ROWS_MIN: usize = 1_024;

/// Rows of a bucket of postings, if ids were spread evenly: as many as are looked at together.
const BUCKET_ROWS: usize = 8;

/// Columns that queries pick single values of.
const POSTED: [&str; 5] = ["school", "section", "device", "person", "student"];

/// What is known of an id column.
#[derive(Debug)]
pub struct IdStats {
    /// All ids of the column, in order; `None`: more than [`SMALL_SET_MAX`].
    pub set: Option<Vec<Id>>,
    pub has_null: bool,
    /// Numbers of the rows with an id, ordered by it; `None`: the set says enough, or nobody asks by this column.
    postings: Option<Postings>,
}

/// The rows of a column by the hash of their id.
#[derive(Debug)]
struct Postings {
    /// Where each bucket begins among the rows, and the last ends. Their number is one more than a power of two.
    begins: Vec<u16>,
    /// Bucket after bucket, in each ascending.
    rows: Vec<u16>,
    /// Of each row, a part of the hash that the bucket does not tell.
    tags: Vec<u8>,
}

/// Rows of one table, in the order of the log, with their statistics. Immutable; shared by all queries.
#[derive(Debug)]
pub struct HotBatch {
    pub rows: RecordBatch,
    /// Offset of the first row.
    pub first: Offset,
    /// Offset of the last row. Between the two may lie rows of other kinds.
    pub last: Offset,
    /// Least and greatest event time, in milliseconds.
    pub ts: (i64, i64),
    /// Least and greatest time of receipt, in milliseconds.
    pub received: (i64, i64),
    /// By column; `None` where the column holds no ids.
    ids: Vec<Option<IdStats>>,
    /// Bytes that the batch keeps from being freed for its column values, postings and offsets.
    pub bytes: usize,
}

/// The id at `row` of a column that holds ids.
pub fn id_at(column: &FixedSizeBinaryArray, row: usize) -> Id {
    column.value(row).try_into().expect("an id column is sixteen bytes wide by its schema")
}

fn bounds(rows: &RecordBatch, name: &str) -> (i64, i64) {
    let Some(column) = rows.column_by_name(name) else { return (i64::MIN, i64::MAX) };
    let values = column.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>();
    let least = values.values().iter().min().copied().unwrap_or(i64::MAX);
    (least, values.values().iter().max().copied().unwrap_or(i64::MIN))
}

impl IdStats {
    fn of(column: &FixedSizeBinaryArray, post: bool) -> Self {
        let has_null = column.null_count() > 0;
        let mut set: Vec<Id> = Vec::new();
        let mut is_small = true;
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let id = id_at(column, row);
            if let Err(place) = set.binary_search(&id) {
                if set.len() == SMALL_SET_MAX {
                    is_small = false;
                    break;
                }
                set.insert(place, id);
            }
        }
        let worth = post && column.len() >= POSTINGS_ROWS_MIN && (!is_small || set.len() > 1);
        Self { set: is_small.then_some(set), has_null, postings: worth.then(|| Postings::of(column)).flatten() }
    }

    /// All or none, where the set of ids tells; never single rows.
    fn decide(&self, wanted: &[Id]) -> Option<Left> {
        let set = self.set.as_ref()?;
        let hits = set.iter().filter(|id| wanted.binary_search(id).is_ok()).count();
        if hits == 0 {
            return Some(Left::None);
        }
        (hits == set.len() && !self.has_null).then_some(Left::All)
    }

    /// The rows whose id is one of `wanted`, ascending; `None`: there are no postings, look through the column.
    fn rows_of(&self, column: &FixedSizeBinaryArray, wanted: &[Id]) -> Option<Vec<u32>> {
        let postings = self.postings.as_ref()?;
        let mut found = Vec::new();
        wanted.iter().for_each(|id| found.extend(postings.rows_of(column, id)));
        found.sort_unstable();
        Some(found)
    }
}

/// Bits that differ between ids wherever the ids differ: version 7 begins with the time, version 4 is random throughout.
fn hash(id: &Id) -> u64 {
    let [high, low] = [0, 8].map(|from| u64::from_be_bytes(id[from..from + 8].try_into().expect("eight of sixteen bytes")));
    // The golden ratio as a fraction of 64 bits carries every bit up to the highest, which are used.
    (high ^ low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Postings {
    /// `None` when a number of a row would not fit.
    fn of(column: &FixedSizeBinaryArray) -> Option<Self> {
        u16::try_from(column.len()).ok()?;
        let buckets = (column.len() / BUCKET_ROWS).next_power_of_two();
        let place = |hash: u64| (hash >> 32) as usize & (buckets - 1);
        let hashes: Vec<u64> = (0..column.len()).map(|row| hash(&id_at(column, row))).collect();
        let valid = || (0..column.len() as u16).filter(|row| column.is_valid(usize::from(*row)));
        let mut begins = vec![0_u16; buckets + 1];
        valid().for_each(|row| begins[place(hashes[usize::from(row)]) + 1] += 1);
        for bucket in 0..buckets {
            begins[bucket + 1] += begins[bucket];
        }
        let (mut rows, mut tags) = (vec![0; usize::from(begins[buckets])], vec![0; usize::from(begins[buckets])]);
        let mut next = begins.clone();
        for row in valid() {
            let hash = hashes[usize::from(row)];
            let at = &mut next[place(hash)];
            (rows[usize::from(*at)], tags[usize::from(*at)]) = (row, (hash >> u64::BITS - u8::BITS) as u8);
            *at += 1;
        }
        Some(Self { begins, rows, tags })
    }

    /// The rows of an id, ascending.
    fn rows_of<'a>(&'a self, column: &'a FixedSizeBinaryArray, id: &'a Id) -> impl Iterator<Item = u32> + 'a {
        let hash = hash(id);
        let bucket = (hash >> 32) as usize & (self.begins.len() - 2);
        let bucket = usize::from(self.begins[bucket])..usize::from(self.begins[bucket + 1]);
        let tag = (hash >> u64::BITS - u8::BITS) as u8;
        let alike = self.rows[bucket.clone()].iter().zip(&self.tags[bucket]).filter(move |(_, of_row)| **of_row == tag);
        alike.map(|(row, _)| *row).filter(|row| column.value(usize::from(*row)) == id.as_slice()).map(u32::from)
    }

    fn bytes(&self) -> usize {
        size_of_val(self.begins.as_slice()) + size_of_val(self.rows.as_slice()) + size_of_val(self.tags.as_slice())
    }
}

/// Which rows of a batch a test leaves.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    All,
    None,
    /// These, ascending.
    Rows(Vec<u32>),
}

impl HotBatch {
    /// Takes rows in a table's schema; there must be at least one.
    pub fn new(rows: RecordBatch) -> Self {
        let offsets = rows.column_by_name(OFFSET).expect("a table's schema ends with the offset").as_primitive::<UInt64Type>();
        let first = Offset(offsets.value(0));
        let last = Offset(offsets.value(offsets.len() - 1));
        let stats = rows.schema_ref().fields().iter().zip(rows.columns()).map(|(field, column)| match field.data_type() {
            DataType::FixedSizeBinary(16) => Some(IdStats::of(column.as_fixed_size_binary(), POSTED.contains(&field.name().as_str()))),
            _ => None,
        });
        let ids: Vec<Option<IdStats>> = stats.collect();
        let posted = ids.iter().flatten().filter_map(|stats| stats.postings.as_ref()).map(Postings::bytes).sum::<usize>();
        let values = rows.columns().iter().map(|column| value_bytes(column.as_ref())).sum::<usize>();
        Self { ts: bounds(&rows, "ts"), received: bounds(&rows, "received"), bytes: values + posted, rows, first, last, ids }
    }

    /// The place in the log of a row.
    pub fn offset_of(&self, row: usize) -> Offset {
        let offsets = self.rows.column(self.rows.num_columns() - 1).as_primitive::<UInt64Type>();
        Offset(offsets.value(row))
    }

    pub fn id_stats(&self, column: usize) -> Option<&IdStats> {
        self.ids.get(column)?.as_ref()
    }

    /// The rows whose id in `column` is one of `wanted`, which is in order.
    pub fn keep(&self, column: usize, wanted: &[Id]) -> Left {
        let Some(stats) = self.id_stats(column) else { return Left::All };
        if let Some(decided) = stats.decide(wanted) {
            return decided;
        }
        let ids = self.rows.column(column).as_fixed_size_binary();
        let rows = stats.rows_of(ids, wanted).unwrap_or_else(|| {
            let hit = |row: &u32| ids.is_valid(*row as usize) && wanted.binary_search(&id_at(ids, *row as usize)).is_ok();
            (0..ids.len() as u32).filter(hit).collect()
        });
        if rows.is_empty() { Left::None } else { Left::Rows(rows) }
    }

    /// Those of the rows whose id in `column` is one of `wanted`, which is in order.
    pub fn keep_of(&self, column: usize, wanted: &[Id], mut rows: Vec<u32>) -> Left {
        match self.id_stats(column).map(|stats| stats.decide(wanted)) {
            None | Some(Some(Left::All)) => {}
            Some(Some(_)) => return Left::None,
            Some(None) => {
                let ids = self.rows.column(column).as_fixed_size_binary();
                rows.retain(|row| ids.is_valid(*row as usize) && wanted.binary_search(&id_at(ids, *row as usize)).is_ok());
            }
        }
        if rows.is_empty() { Left::None } else { Left::Rows(rows) }
    }
}

/// Bytes of a column's values, whatever larger buffers they are slices of.
fn value_bytes(column: &dyn Array) -> usize {
    let rows = column.len();
    let nulls = column.nulls().map_or(0, |_| rows.div_ceil(8));
    let values = match column.data_type() {
        DataType::Boolean => rows.div_ceil(8),
        DataType::FixedSizeBinary(width) => rows * *width as usize,
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().value_offsets();
            (offsets[rows] - offsets[0]) as usize + rows * 4
        }
        DataType::Dictionary(key, _) => rows * key.primitive_width().unwrap_or(1),
        other => rows * other.primitive_width().unwrap_or(0),
    };
    values + nulls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_find_what_looking_through_finds() {
        // Many ids begin alike, some are missing, and rows without an id stand between.
        let id = |begins: u64, ends: u64| -> Id {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(begins * 1_000_003).to_be_bytes());
            id[8..].copy_from_slice(&ends.to_be_bytes());
            id
        };
        let rows: Vec<Option<Id>> = (0..3_000_u64).map(|row| (row % 17 != 3).then(|| id(row * 7 % 41 * 2, row % 5))).collect();
        let column = FixedSizeBinaryArray::try_from_sparse_iter_with_size(rows.iter().copied(), 16).unwrap();
        let postings = Postings::of(&column).unwrap();
        for (begins, ends) in (0..84).flat_map(|begins| (0..6).map(move |ends| (begins, ends))) {
            let wanted = id(begins, ends);
            let mut found: Vec<u32> = postings.rows_of(&column, &wanted).collect();
            found.sort_unstable();
            let expected: Vec<u32> = (0..3_000).filter(|row| rows[*row as usize] == Some(wanted)).collect();
            assert_eq!(found, expected, "{begins} {ends}");
        }
    }
}
