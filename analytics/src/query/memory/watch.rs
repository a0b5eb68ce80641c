//! Steps of a plan that look at what goes into others: a row that is to be repeated must not be wide, and what a window holds
//! back is counted in the memory of the query.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures_util::StreamExt;
use parking_lot::Mutex;

use super::size::{bytes, can_be_wide, leaves, widths};

/// A window has its rows, and makes them one batch before it gives them.
const WINDOW_COPIES: usize = 2;

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Look {
    /// That no row is wider.
    Rows { bytes: u64 },
    /// That the rows of a batch, repeated for each element of their lists, are not more.
    Lists { columns: Vec<usize>, bytes: u64 },
    /// What a window takes.
    Into(Arc<Held>),
    /// What a window gives.
    OutOf(Arc<Held>),
    /// Whether it runs for a second time, which few plans can: a copy of it does then.
    Again(Arc<AtomicBool>),
    /// Steps that may not write files.
    WithoutDisk(Arc<Disk>),
    /// Those below them that may.
    WithDisk(Arc<Disk>),
}

/// The context that steps have which may write files.
#[derive(Default)]
pub struct Disk(Mutex<Option<Arc<TaskContext>>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// What a window holds.
#[derive(Debug)]
pub struct Held {
    /// Rows behind the one that is looked at which it still needs.
    lookback: usize,
    /// Of each partition that runs.
    accounts: Mutex<HashMap<usize, Arc<Mutex<Account>>>>,
}

impl Held {
    pub fn new(lookback: usize) -> Self {
        Self { lookback, accounts: Mutex::default() }
    }
}

#[derive(Debug)]
struct Account {
    reservation: MemoryReservation,
    lookback: usize,
    taken_rows: usize,
    taken_bytes: usize,
    given_rows: usize,
}

impl Account {
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        self.taken_rows += batch.num_rows();
        self.taken_bytes += batch.columns().iter().map(|column| bytes(column.as_ref()) as usize).sum::<usize>();
        self.count()
    }

    fn give(&mut self, batch: &RecordBatch) -> Result<()> {
        self.given_rows += batch.num_rows();
        self.count()
    }

    /// Rows are counted as wide as they are on average.
    fn count(&mut self) -> Result<()> {
        let held = self.taken_rows.saturating_sub(self.given_rows.saturating_sub(self.lookback));
        let bytes = held as f64 * self.taken_bytes as f64 / self.taken_rows.max(1) as f64;
        self.reservation.try_resize(bytes as usize * WINDOW_COPIES)
    }
}

/// Gives what its input gives.
#[derive(Debug)]
pub struct Watch {
    input: Arc<dyn ExecutionPlan>,
    look: Look,
}

impl Watch {
    pub fn new(input: Arc<dyn ExecutionPlan>, look: Look) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, look })
    }

    /// Runs the input and looks at each batch.
    fn look_on(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let account = match &self.look {
            Look::OutOf(held) => {
                let reservation = MemoryConsumer::new("window").register(context.memory_pool());
                let account = Account { reservation, lookback: held.lookback, taken_rows: 0, taken_bytes: 0, given_rows: 0 };
                let account = Arc::new(Mutex::new(account));
                // The window below asks for it when it is executed, a few lines on.
                held.accounts.lock().insert(partition, Arc::clone(&account));
                Some(account)
            }
            Look::Into(held) => held.accounts.lock().remove(&partition),
            _ => None,
        };
        let input = self.input.execute(partition, context)?;
        let (schema, look) = (input.schema(), self.look.clone());
        let batches = input.map(move |batch| {
            let batch = batch?;
            match (&look, &account) {
                (Look::Rows { bytes }, _) => not_wide(&batch, *bytes)?,
                (Look::Lists { columns, bytes }, _) => not_many(&batch, columns, *bytes)?,
                (Look::Into(_), Some(account)) => account.lock().take(&batch)?,
                (Look::OutOf(_), Some(account)) => account.lock().give(&batch)?,
                _ => {}
            }
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

fn without_disk(context: &TaskContext) -> Result<TaskContext> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::from_runtime_env(&context.runtime_env()).with_disk_manager_builder(disk).build_arc()?;
    Ok(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        runtime,
    ))
}

fn not_wide(batch: &RecordBatch, most: u64) -> Result<()> {
    let wide: Vec<_> = batch.columns().iter().filter(|column| can_be_wide(column.data_type())).collect();
    // Of most batches all rows together are not as much.
    if wide.iter().map(|column| bytes(column.as_ref())).sum::<u64>() <= most {
        return Ok(());
    }
    let mut sums = vec![0; batch.num_rows()];
    for column in wide {
        for (sum, width) in sums.iter_mut().zip(widths(column.as_ref())) {
            *sum += width;
        }
    }
    if sums.iter().any(|sum| *sum > most) {
        return Err(DataFusionError::ResourcesExhausted(format!("a row has more than {most} bytes and would be repeated")));
    }
    Ok(())
}

fn not_many(batch: &RecordBatch, lists: &[usize], most: u64) -> Result<()> {
    let mut rows = vec![1; batch.num_rows()];
    for list in lists {
        for (row, leaves) in rows.iter_mut().zip(leaves(batch.column(*list))?) {
            *row = leaves.max(*row);
        }
    }
    let mut made = 0_u64;
    for (_, column) in batch.columns().iter().enumerate().filter(|(place, _)| !lists.contains(place)) {
        // What is not wide is counted as a view of a text is.
        let of_rows = if can_be_wide(column.data_type()) { widths(column.as_ref()) } else { vec![16; batch.num_rows()] };
        made = of_rows.iter().zip(&rows).fold(made, |made, (width, rows)| made.saturating_add(width.saturating_mul(*rows)));
    }
    if made > most {
        return Err(DataFusionError::ResourcesExhausted(format!("the rows beside lists would become more than {most} bytes")));
    }
    Ok(())
}

impl DisplayAs for Watch {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl ExecutionPlan for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Self::new(input, self.look.clone()))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        // What runs from here is a copy, and may run again as the first has.
        let look = if let Look::Again(_) = self.look { Look::Again(Arc::default()) } else { self.look.clone() };
        Ok(Self::new(Arc::clone(&self.input), look))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match &self.look {
            Look::Again(ran) if ran.swap(true, Ordering::AcqRel) => reset_plan_states(Arc::clone(&self.input))?.execute(partition, context),
            Look::Again(_) => self.input.execute(partition, context),
            Look::WithoutDisk(disk) => {
                *disk.0.lock() = Some(Arc::clone(&context));
                self.input.execute(partition, Arc::new(without_disk(&context)?))
            }
            Look::WithDisk(disk) => self.input.execute(partition, disk.0.lock().clone().unwrap_or(context)),
            Look::Rows { .. } | Look::Lists { .. } | Look::Into(_) | Look::OutOf(_) => self.look_on(partition, context),
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        None
    }
}
