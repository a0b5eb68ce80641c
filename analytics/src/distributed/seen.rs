//! What a share has handed on, so that a second run can go on from there.

use arrow::array::RecordBatch;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{DataFusionError, Result, exec_err};

/// A number and a digest of rows in their order, however they were divided into batches.
#[derive(Default)]
pub(super) struct Seen {
    rows: u64,
    digest: u64,
    /// How far the second run has come, while it is behind the first.
    again: u64,
    again_digest: u64,
    hashes: Vec<u64>,
}

/// An odd number with about as many ones as noughts: the order of rows counts.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Seen {
    /// Notes rows that are handed on.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        self.digest = self.digested(self.digest, batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Of a batch of the second run the rows that were not handed on by the first.
    ///
    /// # Errors
    /// When the rows before them are not those of the first run.
    pub fn rest(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let behind = usize::try_from(self.rows - self.again).unwrap_or(usize::MAX).min(batch.num_rows());
        if behind == 0 {
            return Ok(batch);
        }
        self.again_digest = self.digested(self.again_digest, &batch.slice(0, behind))?;
        self.again += behind as u64;
        if self.again == self.rows && self.again_digest != self.digest {
            return Err(differs());
        }
        Ok(batch.slice(behind, batch.num_rows() - behind))
    }

    /// The second run has ended.
    ///
    /// # Errors
    /// When it had fewer rows than were handed on.
    pub fn end(&self) -> Result<()> {
        if self.again < self.rows { Err(differs()) } else { Ok(()) }
    }

    fn digested(&mut self, mut digest: u64, batch: &RecordBatch) -> Result<u64> {
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        if batch.num_columns() > 0 {
            create_hashes(batch.columns(), &RandomState::with_seed(STEP), &mut self.hashes)?;
        }
        for hash in &self.hashes {
            digest = (digest ^ hash).wrapping_mul(STEP).rotate_left(23);
        }
        Ok(digest)
    }
}

fn differs() -> DataFusionError {
    let error: Result<()> = exec_err!("a worker was lost after it had given rows that come otherwise here");
    error.expect_err("it was just made")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array};
    use arrow::datatypes::UInt8Type;

    use super::*;

    fn rows(numbers: std::ops::Range<i64>) -> RecordBatch {
        let words: DictionaryArray<UInt8Type> = numbers.clone().map(|number| if number % 3 == 0 { "in" } else { "out" }).collect();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        RecordBatch::try_from_iter([("number", numbers), ("word", Arc::new(words) as ArrayRef)]).unwrap()
    }

    fn rest(seen: &mut Seen, batches: &[std::ops::Range<i64>]) -> Result<Vec<usize>> {
        let left = batches.iter().map(|range| Ok(seen.rest(rows(range.clone()))?.num_rows())).collect();
        seen.end().and(left)
    }

    #[test]
    fn a_second_run_goes_on_where_the_first_ended_however_it_is_divided() {
        for batches in [vec![0..10, 10..20], vec![0..7, 7..20], vec![0..20], vec![0..3, 3..4, 4..11, 11..20]] {
            let mut seen = Seen::default();
            seen.add(&rows(0..4)).unwrap();
            seen.add(&rows(4..10)).unwrap();
            assert_eq!(rest(&mut seen, &batches).unwrap().iter().sum::<usize>(), 10, "{batches:?}");
        }
        assert_eq!(rest(&mut Seen::default(), &[0..5, 5..6]).unwrap(), [5, 1], "nothing was handed on");
    }

    #[test]
    fn other_rows_are_noticed() {
        // Another order, another row, fewer rows.
        for batches in [vec![5..10, 0..5], vec![1..11], vec![0..9]] {
            let mut seen = Seen::default();
            seen.add(&rows(0..10)).unwrap();
            assert!(rest(&mut seen, &batches).is_err(), "{batches:?}");
        }
    }
}
