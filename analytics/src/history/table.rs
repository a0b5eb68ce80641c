//! One name for hot rows and history: the table that queries see.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, project_schema};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

use super::error::HistoryError;
use super::gap::LogRows;
use super::rows::{from_offset, table_schema};
use super::snapshot::Snapshot;
use super::warnings::{QueryWarnings, Warning};
use super::{Core, History, cold};

/// Hot rows of one kind at one instant.
#[derive(Clone, Debug, Default)]
pub struct HotPart {
    /// Every row of the kind from here on, up to `end`, is in the batches.
    pub first: Offset,
    pub end: Offset,
    /// In the order of offsets, in the schema of [`table_schema`].
    pub batches: Vec<RecordBatch>,
}

/// Where the newest rows are. Rows are shared, not copied.
pub trait HotRows: Send + Sync + std::fmt::Debug + 'static {
    fn part(&self, kind: Kind) -> HotPart;
}

/// The table of one kind: files for offsets before the manifest's `next`, hot rows from there on, and the log for what is in
/// neither: not hot any more, or not yet. Each scan sees one state: every row that was durable when it began, once.
#[derive(Debug)]
pub struct HistoryTable {
    history: History,
    hot: Arc<dyn HotRows>,
    kind: Kind,
    schema: SchemaRef,
}

impl HistoryTable {
    pub fn new(history: History, hot: Arc<dyn HotRows>, kind: Kind) -> Self {
        Self { history, hot, kind, schema: table_schema(kind) }
    }

    /// The rows of the log in a range of offsets, none before the snapshot's `next`; `None` for an empty range.
    fn log_rows(
        &self,
        snapshot: &Snapshot,
        (from, to): (Offset, Offset),
        projection: Option<&Vec<usize>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let from = from.max(snapshot.next);
        if from >= to {
            return Ok(None);
        }
        let rows = LogRows {
            log: Arc::clone(&self.history.0.log),
            kind: self.kind,
            schema: Arc::clone(&self.schema),
            from,
            to,
            erased: Arc::clone(&snapshot.erased),
            pin: Arc::clone(&snapshot.pin),
        };
        let scan = StreamingTableExec::try_new(Arc::clone(&self.schema), vec![Arc::new(rows)], projection, None, false, None)?;
        Ok(Some(Arc::new(scan)))
    }

    fn hot_rows(
        &self,
        snapshot: &Snapshot,
        hot: HotPart,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut divided = vec![Vec::new(); partitions.clamp(1, hot.batches.len().max(1))];
        let count = divided.len();
        let mut rows = 0;
        for (at, batch) in hot.batches.iter().enumerate() {
            let Some(batch) = from_offset(batch, snapshot.next) else { continue };
            let batch = snapshot.erased.apply(self.kind, batch).map_err(external)?;
            rows += batch.num_rows();
            divided[at % count].push(batch);
        }
        if rows == 0 {
            return Ok(None);
        }
        let scan = MemorySourceConfig::try_new_exec(&divided, Arc::clone(&self.schema), projection.cloned())?;
        Ok(Some(scan))
    }
}

fn external(error: HistoryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl Core {
    /// The files that a query reads, and what it must be warned of.
    async fn readable(&self, session: &dyn Session, snapshot: &mut Snapshot, filters: &[Expr]) -> Result<Vec<Arc<super::FileEntry>>> {
        let schema = table_schema(snapshot.kind);
        let pruned = cold::prune(session, &schema, filters, std::mem::take(&mut snapshot.files))?;
        match self.sound(pruned).await {
            Ok((sound, damaged)) => {
                for (file, reason) in damaged {
                    self.found_damaged(&file.path, &reason);
                    snapshot.warnings.push(Warning::Damaged { path: file.path.clone(), rows: file.rows, reason });
                }
                Ok(sound)
            }
            // The store went away since the last sign of life: the answer is what is here, and says so.
            Err(error) => {
                let reason = error.describe();
                self.set_away(Some(reason.clone()));
                snapshot.warnings.push(Warning::Away { rows_before: snapshot.next.0, reason });
                Ok(Vec::new())
            }
        }
    }
}

#[async_trait]
impl TableProvider for HistoryTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters prune files, row groups and pages; whoever plans keeps them for the rows.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let core = &self.history.0;
        let mut snapshot = self.history.snapshot(self.kind).await;
        // After the snapshot: what it does not have is hot by now, or in the log, which it keeps from being trimmed.
        let hot = self.hot.part(self.kind);
        let (hot_first, hot_end, durable) = (hot.first, hot.end, *core.log.durable().borrow());
        let files = core.readable(session, &mut snapshot, filters).await?;
        let partitions = session.config().target_partitions();
        let mut parts = Vec::with_capacity(3);
        if !files.is_empty() {
            parts.push(cold::plan(session, &core.place, &self.schema, &files, projection, limit)?);
        }
        parts.extend(self.log_rows(&snapshot, (snapshot.next, hot_first), projection)?);
        parts.extend(self.hot_rows(&snapshot, hot, projection, partitions)?);
        parts.extend(self.log_rows(&snapshot, (hot_end, durable), projection)?);
        warn(session, self.kind, snapshot.warnings);
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

/// Hands the warnings to the query, if whoever runs it listens.
fn warn(session: &dyn Session, kind: Kind, warnings: Vec<Warning>) {
    let listener = session.config().get_extension::<QueryWarnings>();
    for warning in warnings {
        match &listener {
            Some(listener) => listener.add(warning),
            None => tracing::warn!(kind = kind.as_str(), %warning, "a query's result is not complete"),
        }
    }
}
