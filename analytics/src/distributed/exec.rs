//! A share of the workers as a step of the server's plan.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures_util::{StreamExt, stream};

use super::seen::Seen;
use super::share::{has_groups, partition};
use super::workers::{Given, Workers};
use crate::history::{QueryWarnings, Warning};

/// A share: each of its partitions is given to a worker, and done here when the worker does not finish it.
///
/// It is a leaf: no later rule looks into what runs elsewhere.
#[derive(Debug)]
pub(super) struct SharedExec {
    share: Arc<dyn ExecutionPlan>,
    workers: Arc<Workers>,
    warnings: Arc<QueryWarnings>,
}

impl SharedExec {
    pub fn new(share: Arc<dyn ExecutionPlan>, workers: Arc<Workers>, warnings: Arc<QueryWarnings>) -> Self {
        Self { share, workers, warnings }
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = DisplayableExecutionPlan::new(self.share.as_ref()).indent(false).to_string();
        let steps = share.lines().map(str::trim).collect::<Vec<_>>().join(" <- ");
        write!(f, "SharedExec: partitions={}, share=[{steps}]", self.share.output_partitioning().partition_count())
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &str {
        "SharedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.share.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a share has no inputs here") }
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let running = Running {
            share: Arc::clone(&self.share),
            partition,
            schema: Arc::clone(&schema),
            workers: Arc::clone(&self.workers),
            warnings: Arc::clone(&self.warnings),
            memory: MemoryConsumer::new("groups of a worker").register(context.memory_pool()),
            context,
            at: Place::Nowhere,
            holds: has_groups(&self.share),
            ready: VecDeque::new(),
            seen: Seen::default(),
        };
        // Nothing is sent before the first row is wanted: a join has made its filter of this scan by then.
        let batches = stream::try_unfold(running, |mut running| async move { Ok(running.next().await?.map(|batch| (batch, running))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// Where the rows of a partition come from.
enum Place {
    Nowhere,
    Worker(Given, Arc<dyn ExecutionPlan>),
    Here(SendableRecordBatchStream),
    /// The worker has given all.
    End,
}

struct Running {
    /// Holds the files, so that history does not delete them while somebody reads them.
    share: Arc<dyn ExecutionPlan>,
    partition: usize,
    schema: SchemaRef,
    workers: Arc<Workers>,
    warnings: Arc<QueryWarnings>,
    context: Arc<TaskContext>,
    at: Place,
    /// Groups come when all rows have been read, in an order that a second run need not repeat. So they are held until the share is
    /// whole, as long as the query's memory permits.
    holds: bool,
    /// Rows of the worker that were not handed on yet, with the memory that is reserved for them.
    ready: VecDeque<(RecordBatch, usize)>,
    memory: MemoryReservation,
    seen: Seen,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if !self.holds
                && let Some((batch, reserved)) = self.ready.pop_front()
            {
                self.memory.shrink(reserved);
                self.seen.add(&batch)?;
                return Ok(Some(batch));
            }
            match &mut self.at {
                Place::Nowhere => self.begin()?,
                Place::Worker(given, plan) => match given.rows.next().await {
                    Some(Ok(batch)) => {
                        given.count(batch.num_rows());
                        let bytes = batch.get_array_memory_size();
                        self.holds = self.holds && self.memory.try_grow(bytes).is_ok();
                        self.ready.push_back((of_schema(batch, &self.schema)?, if self.holds { bytes } else { 0 }));
                    }
                    None => {
                        given.done();
                        (self.holds, self.at) = (false, Place::End);
                    }
                    Some(Err(error)) => {
                        given.failed(&error);
                        let plan = Arc::clone(plan);
                        self.begin_here(&plan)?;
                    }
                },
                Place::Here(rows) => match rows.next().await.transpose()? {
                    Some(batch) => {
                        let rest = self.seen.rest(batch)?;
                        if rest.num_rows() > 0 {
                            return Ok(Some(rest));
                        }
                    }
                    None => return self.seen.end().map(|()| None),
                },
                Place::End => return Ok(None),
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let plan = partition(&self.share, self.partition)?;
        match self.workers.give(self.partition, &plan, &self.context)? {
            Some(given) => self.at = Place::Worker(given, plan),
            None => self.begin_here(&plan)?,
        }
        Ok(())
    }

    /// What is still held is forgotten; what was handed on is left out of the second run.
    fn begin_here(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
        self.warnings.add(Warning::WorkerLost);
        self.ready.clear();
        self.memory.free();
        self.holds = false;
        self.at = Place::Here(plan.execute(0, Arc::clone(&self.context))?);
        Ok(())
    }
}

/// The batch with the schema that the plan says: on the way it may lose what is no type, such as metadata.
fn of_schema(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}
