//! Single values in and out of Arrow columns, for the codecs of rows.
//!
//! A batch that was built by `rollcall_stream` or read from a log has the columns of its kind in the types of
//! [`crate::schema`]; the codecs rely on it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, RecordBatch};
use arrow::datatypes::ArrowPrimitiveType;
use rollcall_model::event::Kind;

use crate::EventBatch;
use crate::schema::schema;

/// The columns of one batch.
pub(crate) struct Columns<'a>(pub &'a RecordBatch);

impl Columns<'_> {
    pub fn id(&self, column: usize, row: usize) -> [u8; 16] {
        let bytes = self.0.column(column).as_fixed_size_binary().value(row);
        bytes.try_into().expect("an id column is sixteen bytes wide by its schema")
    }

    pub fn id_or_none(&self, column: usize, row: usize) -> Option<[u8; 16]> {
        self.0.column(column).is_valid(row).then(|| self.id(column, row))
    }

    pub fn number<T: ArrowPrimitiveType>(&self, column: usize, row: usize) -> T::Native {
        self.0.column(column).as_primitive::<T>().value(row)
    }

    pub fn number_or_none<T: ArrowPrimitiveType>(&self, column: usize, row: usize) -> Option<T::Native> {
        self.0.column(column).is_valid(row).then(|| self.number::<T>(column, row))
    }

    pub fn flag(&self, column: usize, row: usize) -> bool {
        self.0.column(column).as_boolean().value(row)
    }

    pub fn flag_or_none(&self, column: usize, row: usize) -> Option<bool> {
        self.0.column(column).is_valid(row).then(|| self.flag(column, row))
    }

    pub fn text_or_none(&self, column: usize, row: usize) -> Option<String> {
        let texts = self.0.column(column).as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row).to_owned())
    }
}

/// A column of ids.
pub(crate) fn ids<'a>(ids: impl ExactSizeIterator<Item = Option<&'a [u8; 16]>>) -> ArrayRef {
    let mut column = FixedSizeBinaryBuilder::with_capacity(ids.len(), 16);
    for id in ids {
        match id {
            Some(id) => column.append_value(id).expect("an id is sixteen bytes wide"),
            None => column.append_null(),
        }
    }
    Arc::new(column.finish())
}

/// A batch of one kind from its columns, which the caller gives in the order and types of the schema.
pub(crate) fn batch(kind: Kind, columns: Vec<ArrayRef>) -> EventBatch {
    let rows = RecordBatch::try_new(Arc::clone(schema(kind)), columns).expect("the codec's columns are the schema's");
    EventBatch::new(kind, rows)
}

/// The rows of `batch` if it is of this kind, else none of them.
pub(crate) fn rows_of(batch: &EventBatch, kind: Kind) -> (Columns<'_>, std::ops::Range<usize>) {
    (Columns(&batch.rows), 0..if batch.kind == kind { batch.len() } else { 0 })
}
