//! A hot table as DataFusion sees it: a scan over a snapshot that shares the batches' buffers.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions};
use rollcall_model::event::Kind;

use super::batch::{HotBatch, Left};
use super::pick::{self, Picked};
use super::scan::{self, Selection};
use super::table;
use super::visible::Visible;
use super::{HotSnapshot, HotTables};

/// Rows picked out of several batches are put together up to this many.
const PICKED_ROWS_MAX: usize = 8_192;

/// The newest snapshot of a kind, taken anew by each scan.
pub struct HotTable {
    tables: Arc<HotTables>,
    kind: Kind,
}

impl HotTable {
    /// # Panics
    /// When the kind is not a table.
    pub fn new(tables: Arc<HotTables>, kind: Kind) -> Self {
        table::schema(kind);
        Self { tables, kind }
    }
}

impl fmt::Debug for HotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HotTable({})", table::name(self.kind))
    }
}

#[async_trait]
impl TableProvider for HotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(table::schema(self.kind))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| scan::support(table::schema(self.kind), filter)).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.tables.snapshot(self.kind);
        let partitions = state.config().target_partitions();
        Ok(Arc::new(HotScan::new(self.kind, &snapshot, Visible::default(), projection, filters, limit, partitions)?))
    }
}

/// A scan of one snapshot. Batches that the statistics rule out are not part of it.
#[derive(Debug)]
pub struct HotScan {
    kind: Kind,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    selection: Arc<Selection>,
    visible: Visible,
    limit: Option<usize>,
    partitions: Vec<Vec<Arc<HotBatch>>>,
    considered: usize,
    properties: Arc<PlanProperties>,
}

impl HotScan {
    /// A scan of the visible rows of `snapshot` that may pass `filters`; exact for those that [`scan::support`] calls exact.
    pub fn new(
        kind: Kind,
        snapshot: &HotSnapshot,
        visible: Visible,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
        partitions: usize,
    ) -> Result<Self> {
        let whole = table::schema(kind);
        let schema = match projection {
            Some(columns) => Arc::new(whole.project(columns)?),
            None => Arc::clone(whole),
        };
        let selection = Selection::new(whole, filters);
        let wanted = |batch: &&Arc<HotBatch>| visible.reaches(batch) && selection.may_have(batch);
        let kept: Vec<Arc<HotBatch>> = snapshot.batches.iter().filter(wanted).cloned().collect();
        let share = kept.len().div_ceil(partitions.max(1)).max(1);
        let mut partitions: Vec<Vec<Arc<HotBatch>>> = kept.chunks(share).map(<[_]>::to_vec).collect();
        if partitions.is_empty() {
            partitions.push(Vec::new());
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            kind,
            schema,
            projection: projection.cloned(),
            selection: Arc::new(selection),
            visible,
            limit,
            partitions,
            considered: snapshot.batches.len(),
            properties: Arc::new(properties),
        })
    }

    /// Whether no batch is left to be read.
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(Vec::is_empty)
    }
}

impl DisplayAs for HotScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches: usize = self.partitions.iter().map(Vec::len).sum();
        write!(f, "HotScan: {}, batches={batches}/{}, partitions={}", table::name(self.kind), self.considered, self.partitions.len())
    }
}

impl ExecutionPlan for HotScan {
    fn name(&self) -> &'static str {
        "HotScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>, _: ReplaceChildrenOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let picking = Picking {
            batches: self.partitions[partition].clone().into_iter(),
            kind: self.kind,
            selection: Arc::clone(&self.selection),
            visible: self.visible.clone(),
            schema: Arc::clone(&self.schema),
            columns: self.projection.clone().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
            limit: self.limit.unwrap_or(usize::MAX),
            picked: Vec::new(),
            picked_rows: 0,
            ended: false,
        };
        let stream = futures_util::stream::iter(picking);
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let all = || self.partitions.iter().flatten();
        let rows: usize = match partition {
            Some(partition) => self.partitions[partition].iter().map(|batch| batch.rows.num_rows()).sum(),
            None => all().map(|batch| batch.rows.num_rows()).sum(),
        };
        let mut statistics = Statistics::new_unknown(&self.schema);
        let whole = || all().all(|batch| self.visible.is_whole(batch));
        let exact = self.selection.is_everything() && self.limit.is_none() && whole();
        statistics.num_rows = if exact { Precision::Exact(rows) } else { Precision::Inexact(rows) };
        Ok(Arc::new(statistics))
    }
}

/// The batches of one partition, reduced to the rows that are wanted. Whole batches pass as they are; rows picked out of
/// several are copied together, so that what is above does not see thousands of batches of three rows.
struct Picking {
    batches: std::vec::IntoIter<Arc<HotBatch>>,
    kind: Kind,
    selection: Arc<Selection>,
    visible: Visible,
    schema: SchemaRef,
    /// Of the table's columns.
    columns: Vec<usize>,
    limit: usize,
    picked: Vec<Picked>,
    picked_rows: usize,
    ended: bool,
}

impl Picking {
    fn project(&self, batch: &HotBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| Arc::clone(batch.rows.column(*column))).collect();
        // Perhaps only the number of rows is asked for.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// The picked rows as one batch.
    fn flush(&mut self) -> Result<RecordBatch> {
        let picked = std::mem::take(&mut self.picked);
        self.picked_rows = 0;
        Ok(pick::together(&picked, &self.schema, &self.columns)?)
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(batch) = self.batches.next() {
            let skip = self.visible.skip(&batch);
            match self.visible.unerased(self.kind, &batch, self.selection.left_of(&batch)) {
                Left::None => {}
                Left::All => return Ok(Some(self.project(&batch)?.slice(skip, batch.rows.num_rows() - skip))),
                Left::Rows(mut rows) => {
                    rows.drain(..rows.partition_point(|row| (*row as usize) < skip));
                    if rows.is_empty() {
                        continue;
                    }
                    self.picked_rows += rows.len();
                    self.picked.push((batch, rows));
                    if self.picked_rows >= PICKED_ROWS_MAX {
                        return self.flush().map(Some);
                    }
                }
            }
        }
        if self.picked.is_empty() { Ok(None) } else { self.flush().map(Some) }
    }
}

impl Iterator for Picking {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended || self.limit == 0 {
            return None;
        }
        match self.advance() {
            Ok(Some(batch)) => {
                let rows = batch.num_rows().min(self.limit);
                self.limit -= rows;
                Some(Ok(batch.slice(0, rows)))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// Whether a plan's node is a hot scan, for tests of pruning: how many batches it reads of how many.
pub fn batches_read(plan: &dyn ExecutionPlan) -> Option<(usize, usize)> {
    let scan = (plan as &dyn Any).downcast_ref::<HotScan>()?;
    Some((scan.partitions.iter().map(Vec::len).sum(), scan.considered))
}
