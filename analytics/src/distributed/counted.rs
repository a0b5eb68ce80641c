//! A worker's scan that counts: how many run, and what they have read.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::StreamExt;
use prometheus::IntGauge;

use super::share::scan_of;
use super::worker::WorkerMetrics;

/// The plan with its scans counted. It stands in each one's place, because the library forbids steps more or fewer.
pub(super) fn counted(plan: Arc<dyn ExecutionPlan>, metrics: &WorkerMetrics) -> Result<Arc<dyn ExecutionPlan>> {
    let counted = plan.transform_up(|step| {
        if scan_of(step.as_ref()).is_none() {
            return Ok(Transformed::no(step));
        }
        Ok(Transformed::yes(Arc::new(CountedScan { scan: step, metrics: metrics.clone() }) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(counted.data)
}

struct CountedScan {
    scan: Arc<dyn ExecutionPlan>,
    metrics: WorkerMetrics,
}

impl fmt::Debug for CountedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CountedScan").field(&self.scan).finish()
    }
}

impl DisplayAs for CountedScan {
    fn fmt_as(&self, shape: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scan.fmt_as(shape, f)
    }
}

/// A scan that runs, until its stream is dropped.
struct Running(IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ExecutionPlan for CountedScan {
    fn name(&self) -> &str {
        "CountedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.scan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no inputs") }
    }

    fn apply_expressions(&self, visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.scan.apply_expressions(visit)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.scan.execute(partition, context)?;
        self.metrics.running.inc();
        let (running, read) = (Running(self.metrics.running.clone()), self.metrics.rows.clone());
        let counted = rows.inspect(move |batch| {
            let _alive = &running;
            read.inc_by(batch.as_ref().map_or(0, |batch| batch.num_rows() as u64));
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}
