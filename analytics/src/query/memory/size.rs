//! How many bytes the values of arrays have: of texts, lists and what is in them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::Result;

/// Whether a row of this type can be wide.
pub fn can_be_wide(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => true,
        // What repeats a row copies of these a key or a view of sixteen bytes.
        DataType::Dictionary(..) | DataType::Utf8View | DataType::BinaryView => false,
        other => other.is_nested(),
    }
}

/// Bytes of all values. Of a dictionary as many as its keys would be if each were its longest word.
pub fn bytes(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => span(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().map(u64::from).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(u64::from).sum(),
        DataType::Dictionary(..) => rows.saturating_mul(longest(array.as_any_dictionary().values().as_ref())),
        DataType::List(_) | DataType::Map(..) | DataType::LargeList(_) => {
            elements(array).map_or(0, |inner| bytes(inner.as_ref())) + 4 * rows
        }
        DataType::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            let from = usize::try_from(list.value_offset(0)).unwrap_or(0);
            bytes(list.values().slice(from, list.len() * usize::try_from(*length).unwrap_or(0)).as_ref())
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes(column.as_ref())).sum(),
        DataType::FixedSizeBinary(width) => rows * u64::from(width.unsigned_abs()),
        other => rows * other.primitive_width().unwrap_or(1) as u64,
    }
}

/// Bytes of the longest value.
pub fn longest(array: &dyn Array) -> u64 {
    widths(array).into_iter().max().unwrap_or(0)
}

/// Bytes of each value.
pub fn widths(array: &dyn Array) -> Vec<u64> {
    fn of_lists<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Vec<u64> {
        // From the sum over the elements up to each, so that an empty list costs nothing.
        let mut sums = vec![0];
        sums.extend(widths(list.values().as_ref()).into_iter().scan(0, |sum, width| {
            *sum += width;
            Some(*sum)
        }));
        list.value_offsets().windows(2).map(|ends| sums[ends[1].as_usize()] - sums[ends[0].as_usize()]).collect()
    }
    match array.data_type() {
        DataType::Utf8 => steps(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => steps(array.as_string::<i64>().value_offsets()),
        DataType::Binary => steps(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => steps(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().map(u64::from).collect(),
        DataType::BinaryView => array.as_binary_view().lengths().map(u64::from).collect(),
        DataType::List(_) => of_lists(array.as_list::<i32>()),
        DataType::LargeList(_) => of_lists(array.as_list::<i64>()),
        DataType::Struct(_) => {
            let mut sums = vec![0; array.len()];
            for column in array.as_struct().columns() {
                for (sum, width) in sums.iter_mut().zip(widths(column.as_ref())) {
                    *sum += width;
                }
            }
            sums
        }
        _ if array.is_empty() => Vec::new(),
        // All alike, or not made by any function here that repeats rows.
        _ => vec![bytes(array).div_ceil(array.len() as u64); array.len()],
    }
}

/// The values of all lists, one after the other.
pub fn elements(array: &dyn Array) -> Option<ArrayRef> {
    fn between(values: &ArrayRef, offsets: &[impl OffsetSizeTrait]) -> Option<ArrayRef> {
        let (first, last) = (offsets.first()?.as_usize(), offsets.last()?.as_usize());
        Some(values.slice(first, last - first))
    }
    match array.data_type() {
        DataType::List(_) => between(array.as_list::<i32>().values(), array.as_list::<i32>().value_offsets()),
        DataType::LargeList(_) => between(array.as_list::<i64>().values(), array.as_list::<i64>().value_offsets()),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            between(&entries, map.value_offsets())
        }
        DataType::FixedSizeList(..) => Some(Arc::clone(array.as_fixed_size_list().values())),
        _ => None,
    }
}

/// The values of lists in lists, however deep, and how many there are in each row.
pub fn leaves(array: &ArrayRef) -> Result<Vec<u64>> {
    let list = match array.data_type() {
        DataType::LargeList(_) => Arc::clone(array),
        DataType::List(field) => cast(array, &DataType::LargeList(Arc::clone(field)))?,
        DataType::FixedSizeList(field, _) => cast(array, &DataType::LargeList(Arc::clone(field)))?,
        _ => return Ok(vec![1; array.len()]),
    };
    let list = list.as_list::<i64>();
    let inner = leaves(list.values())?;
    // An empty list may become a row of its own.
    let row = |ends: &[i64]| inner[ends[0].as_usize()..ends[1].as_usize()].iter().sum::<u64>().max(1);
    Ok(list.value_offsets().windows(2).map(row).collect())
}

fn span(offsets: &[impl OffsetSizeTrait]) -> u64 {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (last.as_usize() - first.as_usize()) as u64,
        _ => 0,
    }
}

fn steps(offsets: &[impl OffsetSizeTrait]) -> Vec<u64> {
    offsets.windows(2).map(|ends| (ends[1].as_usize() - ends[0].as_usize()) as u64).collect()
}
