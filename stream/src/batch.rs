//! The unit that moves.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

/// Rows of one kind, in the schema of [`crate::schema::schema`]. Cheap to clone: columns are shared, never copied.
#[derive(Clone, Debug)]
pub struct EventBatch {
    pub kind: Kind,
    /// Offset of the first row; row `i` has `first.0 + i`. Zero until the log has assigned one.
    pub first: Offset,
    pub rows: Arc<RecordBatch>,
}

impl EventBatch {
    pub fn new(kind: Kind, rows: RecordBatch) -> Self {
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
}
