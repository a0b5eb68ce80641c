//! The unit that moves.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

use crate::log::{KindSet, ReadBatch};
use crate::schema::schema;

/// What a column costs beside its values, measured as resident memory of batches of one scan.
const COLUMN_OVERHEAD_BYTES: usize = 320;

/// Rows of one kind, in the schema of [`crate::schema::schema`]. Cheap to clone: columns are shared, never copied.
#[derive(Clone, Debug)]
pub struct EventBatch {
    pub kind: Kind,
    /// Offset of the first row; row `i` has `first.0 + i`. Zero until the log has assigned one.
    pub first: Offset,
    pub rows: Arc<RecordBatch>,
}

impl EventBatch {
    /// # Panics
    /// When `rows` has another schema than the kind: such a frame could be written but never read again.
    pub fn new(kind: Kind, rows: RecordBatch) -> Self {
        let expected = schema(kind);
        let same = Arc::ptr_eq(expected, rows.schema_ref()) || expected.fields() == rows.schema_ref().fields();
        assert!(same, "a {} batch in the schema {:?}", kind.as_str(), rows.schema_ref());
        Self { kind, first: Offset(0), rows: Arc::new(rows) }
    }

    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One past the offset of the last row.
    pub fn next(&self) -> Offset {
        Offset(self.first.0 + self.len() as u64)
    }

    /// Bytes of the column values of these rows, whatever larger buffers they may be slices of. Validity bits are left out.
    pub fn bytes(&self) -> usize {
        self.rows.columns().iter().map(|column| column_bytes(column.as_ref())).sum()
    }

    /// Bytes of memory that the batch keeps: its values, and the array, the buffers' headers and their alignment of each column, which
    /// are most of it when a batch is one row.
    pub fn footprint(&self) -> usize {
        self.bytes() + self.rows.num_columns() * COLUMN_OVERHEAD_BYTES
    }

    /// The rows from `skip` on, sharing the columns.
    #[must_use]
    pub fn slice(&self, skip: usize, len: usize) -> Self {
        let rows = Arc::new(self.rows.slice(skip, len));
        Self { kind: self.kind, first: Offset(self.first.0 + skip as u64), rows }
    }
}

fn column_bytes(column: &dyn Array) -> usize {
    let rows = column.len();
    let text_bytes = |offsets: &[i32]| match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (last - first) as usize + rows * 4,
        _ => 0,
    };
    match column.data_type() {
        DataType::Boolean => rows.div_ceil(8),
        DataType::FixedSizeBinary(width) => rows * *width as usize,
        DataType::Utf8 => text_bytes(column.as_string::<i32>().value_offsets()),
        DataType::Binary => text_bytes(column.as_binary::<i32>().value_offsets()),
        other => rows * other.primitive_width().unwrap_or(0),
    }
}

impl ReadBatch {
    /// What a read from `from` returns of `batches`, which are consecutive and the first of which holds `from`.
    pub(crate) fn take<'a>(batches: impl Iterator<Item = &'a EventBatch>, from: Offset, bytes_max: usize, kinds: KindSet) -> Self {
        let mut read = Self { batches: Vec::new(), next: from };
        let mut bytes = 0;
        for batch in batches {
            if kinds.contains(batch.kind) {
                let skip = from.0.saturating_sub(batch.first.0) as usize;
                let batch = if skip == 0 { batch.clone() } else { batch.slice(skip, batch.len() - skip) };
                bytes += batch.bytes();
                if bytes > bytes_max && !read.batches.is_empty() {
                    break;
                }
                read.batches.push(batch);
            }
            read.next = batch.next();
        }
        read
    }
}
