//! Rows that are no longer hot and not yet in files, read from the log while a query runs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::{KindSet, Log};

use super::error::{HistoryError, blocking};
use super::snapshot::Pin;
use crate::hot::scan::Selection;
use crate::hot::{Erased, table};

/// Bytes of columns that are read from the log at a time.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// The rows of one kind in `[from, to)` of the log.
pub(super) struct LogRows {
    pub log: Arc<dyn Log>,
    pub kind: Kind,
    pub schema: SchemaRef,
    pub from: Offset,
    pub to: Offset,
    /// Which rows are wanted, as far as the table answers it.
    pub selection: Arc<Selection>,
    pub erased: Arc<Erased>,
    /// Without it the log might be trimmed under the query.
    pub pin: Arc<Pin>,
}

impl std::fmt::Debug for LogRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogRows({} {}..{})", self.kind.as_str(), self.from, self.to)
    }
}

struct Position {
    log: Arc<dyn Log>,
    kind: Kind,
    next: Offset,
    to: Offset,
    selection: Arc<Selection>,
    erased: Arc<Erased>,
    ready: std::vec::IntoIter<RecordBatch>,
    _pin: Arc<Pin>,
}

impl PartitionStream for LogRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let position = Position {
            log: Arc::clone(&self.log),
            kind: self.kind,
            next: self.from,
            to: self.to,
            selection: Arc::clone(&self.selection),
            erased: Arc::clone(&self.erased),
            ready: Vec::new().into_iter(),
            _pin: Arc::clone(&self.pin),
        };
        let batches = stream::try_unfold(position, |mut position| async move {
            loop {
                if let Some(batch) = position.ready.next() {
                    return Ok(Some((batch, position)));
                }
                if position.next >= position.to {
                    return Ok(None);
                }
                position.read().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(table::schema(self.kind)), batches))
    }
}

impl Position {
    async fn read(&mut self) -> Result<(), HistoryError> {
        let (log, kind, from, to) = (Arc::clone(&self.log), self.kind, self.next, self.to);
        let (selection, erased) = (Arc::clone(&self.selection), Arc::clone(&self.erased));
        let (next, ready) = blocking(move || {
            let read = log.read_kinds(from, READ_BYTES, KindSet::of(&[kind]))?;
            let mut ready = Vec::with_capacity(read.batches.len());
            for batch in read.batches.iter().filter(|batch| batch.first < to) {
                let rows = usize::try_from(to.0 - batch.first.0).unwrap_or(usize::MAX).min(batch.len());
                let shown = table::present(kind, batch.first, &batch.slice(0, rows).rows);
                ready.push(erased.apply(kind, selection.apply(shown)?)?);
            }
            Ok((read.next, ready))
        })
        .await?;
        // Everything before `to` is durable, so a read that does not move would never end.
        if next == from {
            return Err(HistoryError::Step(format!("the log has no row at {from}")));
        }
        (self.next, self.ready) = (next, ready.into_iter());
        Ok(())
    }
}
