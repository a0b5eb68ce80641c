//! Which rows of the log a query may see of a table: those that no file has yet, and of nobody who was erased.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt64Type;
use arrow::error::ArrowError;
use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset, PersonId};
use rollcall_stream::schema::DISTRICT;

use super::batch::{HotBatch, Id, Left, id_at};
use super::table::person_column;

/// People whose rows before an offset are neither shown nor written any more.
#[derive(Clone, Default, Debug)]
pub struct Erased {
    before: HashMap<(DistrictId, PersonId), Offset>,
    /// The people alone, in order.
    people: Vec<Id>,
}

impl Erased {
    /// Of one person the greatest offset counts.
    pub fn new(erasures: impl Iterator<Item = (DistrictId, PersonId, Offset)>) -> Self {
        let mut erased = Self::default();
        for (district, person, offset) in erasures {
            let before = erased.before.entry((district, person)).or_insert(offset);
            *before = offset.max(*before);
        }
        erased.people = erased.before.keys().map(|(_, person)| *person.as_bytes()).collect();
        erased.people.sort_unstable();
        erased.people.dedup();
        erased
    }

    pub fn is_nobody(&self) -> bool {
        self.people.is_empty()
    }

    /// The rows without those of erased people, in a table's schema; the same batch if there are none.
    pub fn apply(&self, kind: Kind, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.is_nobody() {
            return Ok(rows);
        }
        let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some(!self.hides(kind, &rows, row))).collect();
        if kept.true_count() == rows.num_rows() { Ok(rows) } else { filter_record_batch(&rows, &kept) }
    }

    fn hides(&self, kind: Kind, rows: &RecordBatch, row: usize) -> bool {
        let people = rows.column(person_column(kind)).as_fixed_size_binary();
        if people.is_null(row) {
            return false;
        }
        let district = id_at(rows.column(DISTRICT).as_fixed_size_binary(), row);
        let key = (DistrictId::from_bytes(district), PersonId::from_bytes(id_at(people, row)));
        self.before.get(&key).is_some_and(|before| offsets(rows).value(row) < before.0)
    }

    /// Numbers of the rows that are hidden, ascending; found by the batch's postings.
    fn rows_of(&self, kind: Kind, batch: &HotBatch) -> Vec<u32> {
        let candidates = match batch.keep(person_column(kind), &self.people) {
            Left::None => return Vec::new(),
            Left::All => (0..batch.rows.num_rows() as u32).collect(),
            Left::Rows(rows) => rows,
        };
        candidates.into_iter().filter(|row| self.hides(kind, &batch.rows, *row as usize)).collect()
    }
}

fn offsets(rows: &RecordBatch) -> &UInt64Array {
    rows.column(rows.num_columns() - 1).as_primitive::<UInt64Type>()
}

/// What one query may see of a snapshot. By default everything.
#[derive(Clone, Debug, Default)]
pub struct Visible {
    /// Rows before this offset are read from elsewhere.
    pub from: Offset,
    pub erased: Arc<Erased>,
}

impl Visible {
    /// Whether any row of the batch may be seen, but for those of erased people.
    pub fn reaches(&self, batch: &HotBatch) -> bool {
        batch.last >= self.from
    }

    /// Whether every row of the batch may be seen.
    pub fn is_whole(&self, batch: &HotBatch) -> bool {
        batch.first >= self.from && self.erased.is_nobody()
    }

    /// How many rows at the batch's beginning are read from elsewhere.
    pub fn skip(&self, batch: &HotBatch) -> usize {
        if batch.first >= self.from { 0 } else { offsets(&batch.rows).values().partition_point(|offset| *offset < self.from.0) }
    }

    /// Those of the rows that are left whose people were not erased.
    pub fn unerased(&self, kind: Kind, batch: &HotBatch, left: Left) -> Left {
        if self.erased.is_nobody() || left == Left::None {
            return left;
        }
        let hidden = self.erased.rows_of(kind, batch);
        if hidden.is_empty() {
            return left;
        }
        let rows = match left {
            Left::Rows(rows) => rows,
            _ => (0..batch.rows.num_rows() as u32).collect(),
        };
        let rows: Vec<u32> = rows.into_iter().filter(|row| hidden.binary_search(row).is_err()).collect();
        if rows.is_empty() { Left::None } else { Left::Rows(rows) }
    }
}
