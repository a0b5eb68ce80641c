//! Rows of files that are picked by where people stand ([`super::runs`]), as a scan of its own.
//!
//! With its rows known, a file has nothing left that conditions could leave out: looking at statistics and filters of fifty files takes
//! longer than reading twenty rows of each. So the scan below is one without conditions, the tests of ids look at what it gives, and
//! no rule of the optimizer puts other conditions into it. Workers are not asked either.

use std::fmt;
use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};
use futures_util::{StreamExt, stream};
use parquet::arrow::arrow_reader::RowSelection;
use rollcall_model::event::Kind;

use super::Core;
use super::manifest::FileEntry;
use crate::hot::scan::Selection;
use crate::hot::table::person_column;

/// Whoever asks for more people than this reads so much that looking for each is no gain.
const PEOPLE_MAX: usize = 1_000;

/// Indexes that are read at the same time; an object store answers each after a good while.
const READS_MAX: usize = 16;

/// A file, and the rows of it that are enough.
pub(super) struct Picked {
    pub file: Arc<FileEntry>,
    pub rows: ParquetRowSelection,
    /// How many those are.
    pub count: u64,
}

/// What a scan reads.
#[derive(Default)]
pub(super) struct Pick {
    /// Files that are read as conditions on them allow.
    pub whole: Vec<Arc<FileEntry>>,
    pub picked: Vec<Picked>,
}

impl Core {
    /// Of the files those, and of their rows those, in which the people that the selection names may stand. A file whose index cannot be
    /// used is read whole.
    pub(super) async fn pick(&self, kind: Kind, files: Vec<Arc<FileEntry>>, selection: &Selection) -> Pick {
        let mut pick = Pick::default();
        let Some(people) = selection.wanted(person_column(kind)).filter(|people| people.len() <= PEOPLE_MAX) else {
            return Pick { whole: files, ..pick };
        };
        let look = |file: Arc<FileEntry>| async move { (self.runs(&file).await, file) };
        let mut looked = stream::iter(files).map(look).buffered(READS_MAX);
        while let Some((runs, file)) = looked.next().await {
            let Some(runs) = runs else {
                pick.whole.push(file);
                continue;
            };
            let rows = runs.rows_of(people);
            let count = rows.iter().map(|run| run.len() as u64).sum();
            if count > 0 {
                let rows = ParquetRowSelection::new(RowSelection::from_consecutive_ranges(rows.into_iter(), file.rows as usize));
                pick.picked.push(Picked { file, rows, count });
            }
        }
        pick
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct PickedScan {
    /// What is done; it is not shown to those who optimize plans.
    inner: Arc<dyn ExecutionPlan>,
    files: usize,
    rows: u64,
}

impl PickedScan {
    pub fn new(inner: Arc<dyn ExecutionPlan>, picked: &[Picked]) -> Self {
        Self { inner, files: picked.len(), rows: picked.iter().map(|picked| picked.count).sum() }
    }
}

impl DisplayAs for PickedScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PickedScan: files={}, rows={}", self.files, self.rows)
    }
}

impl ExecutionPlan for PickedScan {
    fn name(&self) -> &'static str {
        "PickedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.inner.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.schema());
        Ok(Arc::new(unknown.with_num_rows(Precision::Inexact(usize::try_from(self.rows).unwrap_or(usize::MAX)))))
    }
}
