//! The rows of a running query on their way to a door.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Dependency;
use datafusion::logical_expr::LogicalPlan;
use futures_util::{Stream, StreamExt};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::QueryError;
use super::job::Lacks;
use super::reads::Read;
use crate::history::QueryWarnings;

/// Batches that wait for the door; the query stops making more until one is taken.
pub(super) const WAITING_BATCHES_MAX: usize = 4;

/// A running query: a stream of batches. Dropping it cancels the query and frees what it holds.
///
/// An error is the last item. A query whose stream ended without one is whole.
pub struct QueryStream {
    /// How the rows are shown: ids and words of codes are text.
    pub schema: SchemaRef,
    /// What the reader of the result should know: figures left out, a source that could not be read.
    pub warnings: Vec<String>,
    /// Those of the warnings that say what the result has not.
    pub lacks: Lacks,
    /// Names of the tables that the query reads.
    pub tables: Vec<String>,
    /// What of those tables its rows depend on.
    pub reads: Vec<Read>,
    /// What tells its rows apart.
    pub key: RowKey,
    /// Whether the text asks for an order of the rows.
    pub is_ordered: bool,
    pub(super) lacking: Arc<QueryWarnings>,
    /// Its last item says that all rows were there, or why not.
    pub(super) rows: mpsc::Receiver<Result<Option<RecordBatch>, QueryError>>,
    pub(super) has_ended: bool,
    pub(super) _running: Running,
    pub(super) started: Instant,
    pub(super) rows_seen: usize,
}

/// What tells the rows of a result apart, as far as the text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKey {
    /// There is at most one row.
    Single,
    /// These columns of the result, such as those it is grouped by.
    Columns(Vec<usize>),
    /// Nothing but all of the row.
    Whole,
}

impl RowKey {
    pub(super) fn of(plan: &LogicalPlan) -> Self {
        if plan.max_rows() == Some(1) {
            return Self::Single;
        }
        let width = plan.schema().fields().len();
        let covers = |targets: &[usize]| (0..width).all(|place| targets.contains(&place));
        let known = plan.schema().functional_dependencies().iter();
        let unique = known.filter(|known| known.mode == Dependency::Single && covers(&known.target_indices));
        unique
            .map(|known| &known.source_indices)
            .min_by_key(|columns| columns.len())
            .map_or(Self::Whole, |columns| Self::Columns(columns.clone()))
    }
}

/// Whether the text itself asks for an order, not one of its subqueries.
pub(super) fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(step) => is_ordered(&step.input),
        LogicalPlan::Limit(step) => is_ordered(&step.input),
        LogicalPlan::SubqueryAlias(step) => is_ordered(&step.input),
        _ => false,
    }
}

/// What ends with the stream.
pub(super) struct Running {
    pub task: JoinHandle<()>,
    pub wanted: super::cancel::Wanted,
    pub _open: Option<super::engine::Open>,
    /// The engine's threads live as long as a query that runs on them.
    pub _engine: Arc<super::engine::Inner>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wanted.end();
        self.task.abort();
    }
}

impl QueryStream {
    /// Rows that have been taken so far.
    pub fn rows(&self) -> usize {
        self.rows_seen
    }

    /// Since the query was given to the engine.
    pub fn elapsed(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// What was found since the stream began that its reader should know too, such as a worker that did not finish. Complete when
    /// the stream has ended.
    pub fn later_warnings(&self) -> Vec<String> {
        let all = self.lacking.all().into_iter().map(|warning| warning.to_string());
        all.filter(|warning| !self.warnings.contains(warning)).collect()
    }

    /// What the result has not after all: what was known before its rows, and what was found since. Complete when the stream has ended.
    pub fn later_lacks(&self) -> Lacks {
        self.lacks.clone().with(&self.lacking.all())
    }

    /// All of the result, for callers that know it to be small.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }

    /// Ends the query now.
    pub fn cancel(self) {}
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let item = match ready!(self.rows.poll_recv(context)) {
            Some(Ok(Some(batch))) => {
                self.rows_seen += batch.num_rows();
                return Poll::Ready(Some(Ok(batch)));
            }
            Some(Ok(None)) => None,
            Some(Err(error)) => Some(Err(error)),
            // Whoever made the rows is gone without a word: they may not be all.
            None => Some(Err(QueryError::Stopped)),
        };
        self.has_ended = true;
        Poll::Ready(item)
    }
}
