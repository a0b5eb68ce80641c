//! Rows picked out of several batches, put together as one.
//!
//! Arrow's `interleave` does this for any column; for ids it goes through a builder for each of the arrays, and for words it
//! puts all dictionaries together although they are one. A section's rows come from a thousand batches, so these two are
//! done here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, NullBufferBuilder, RecordBatch, RecordBatchOptions, UInt8Array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef, UInt8Type};
use arrow::error::ArrowError;

use super::batch::HotBatch;

/// Width of an id.
const ID_BYTES: i32 = 16;

/// A batch and which of its rows are wanted.
pub type Picked = (Arc<HotBatch>, Vec<u32>);

/// The picked rows in `schema`, whose columns are those at `columns` of the batches.
pub fn together(picked: &[Picked], schema: &SchemaRef, columns: &[usize]) -> Result<RecordBatch, ArrowError> {
    let rows: usize = picked.iter().map(|(_, rows)| rows.len()).sum();
    let mut places = Vec::new();
    let columns = columns.iter().map(|column| {
        let arrays: Vec<&dyn Array> = picked.iter().map(|(batch, _)| batch.rows.column(*column).as_ref()).collect();
        match arrays.first().map(|array| array.data_type()) {
            Some(DataType::FixedSizeBinary(ID_BYTES)) => ids(&arrays, picked, rows),
            Some(DataType::Dictionary(..)) if is_one_dictionary(&arrays) => words(&arrays, picked, rows),
            _ => {
                if places.is_empty() {
                    let rows = picked.iter().enumerate().flat_map(|(batch, (_, rows))| rows.iter().map(move |row| (batch, *row as usize)));
                    places.extend(rows);
                }
                interleave(&arrays, &places)
            }
        }
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    // Perhaps only the number of rows is asked for.
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

fn nulls(arrays: &[&dyn Array], picked: &[Picked], rows: usize) -> Option<NullBuffer> {
    if arrays.iter().all(|array| array.null_count() == 0) {
        return None;
    }
    let mut nulls = NullBufferBuilder::new(rows);
    for (array, (_, rows)) in arrays.iter().zip(picked) {
        rows.iter().for_each(|row| nulls.append(array.is_valid(*row as usize)));
    }
    nulls.finish()
}

fn ids(arrays: &[&dyn Array], picked: &[Picked], rows: usize) -> Result<ArrayRef, ArrowError> {
    let mut values = Vec::with_capacity(rows * ID_BYTES as usize);
    for (array, (_, rows)) in arrays.iter().zip(picked) {
        let ids = array.as_fixed_size_binary();
        rows.iter().for_each(|row| values.extend_from_slice(ids.value(*row as usize)));
    }
    Ok(Arc::new(FixedSizeBinaryArray::try_new(ID_BYTES, Buffer::from_vec(values), nulls(arrays, picked, rows))?))
}

fn is_one_dictionary(arrays: &[&dyn Array]) -> bool {
    let mut all = arrays.iter().map(|array| array.as_dictionary_opt::<UInt8Type>().map(|words| Arc::as_ptr(words.values()).cast::<()>()));
    let first = all.next().flatten();
    first.is_some() && all.all(|other| other == first)
}

fn words(arrays: &[&dyn Array], picked: &[Picked], rows: usize) -> Result<ArrayRef, ArrowError> {
    let mut codes = Vec::with_capacity(rows);
    for (array, (_, rows)) in arrays.iter().zip(picked) {
        let keys = array.as_dictionary::<UInt8Type>().keys().values();
        codes.extend(rows.iter().map(|row| keys[*row as usize]));
    }
    let keys = UInt8Array::new(codes.into(), nulls(arrays, picked, rows));
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::clone(arrays[0].as_dictionary::<UInt8Type>().values()))?))
}
