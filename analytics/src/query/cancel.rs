//! Ends queries inside joins.
//!
//! A task is cancelled, and its time limit is seen, where it waits. A join of large inputs may compare pairs for minutes
//! without giving a row and so without waiting. Its condition, which it evaluates for some thousand pairs at a time, here
//! looks whether anybody still wants the result; and each join waits now and then for what it does give. So that it does not keep
//! other queries waiting meanwhile, it gives the turn of its thread away when it has had it for [`TURN_MAX`].

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a join may compare pairs before other queries get a thread.
const TURN_MAX: Duration = Duration::from_millis(50);

thread_local! {
    /// When a join last gave this thread's turn away.
    static GIVEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a step of a join. When it is time, what else waits for this thread is taken over by another one first.
fn in_turn<T>(step: impl FnOnce() -> T) -> T {
    let now = Instant::now();
    if GIVEN.get().is_some_and(|given| now - given < TURN_MAX) {
        return step();
    }
    GIVEN.set(Some(now));
    let has_others = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others { tokio::task::block_in_place(step) } else { step() }
}

/// Whether a query is still wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    ended: Arc<AtomicBool>,
    until: Instant,
}

impl Wanted {
    pub fn until(until: Instant) -> Self {
        Self { ended: Arc::default(), until }
    }

    pub fn deadline(&self) -> Instant {
        self.until
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<()> {
        if self.ended.load(Ordering::Relaxed) || Instant::now() > self.until {
            return Err(DataFusionError::Execution("the query has ended".to_owned()));
        }
        Ok(())
    }
}

/// The plan with joins that end with the query.
pub fn endable(plan: Arc<dyn ExecutionPlan>, wanted: &Wanted) -> Result<Arc<dyn ExecutionPlan>> {
    let ended = plan.transform_up(|plan| {
        let watched = |filter: &JoinFilter| {
            let condition = Arc::new(Condition { inner: Arc::clone(filter.expression()), wanted: wanted.clone() });
            Some(JoinFilter::new(condition, filter.column_indices().to_vec(), Arc::clone(filter.schema())))
        };
        let join: Arc<dyn ExecutionPlan> = if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            match join.filter() {
                Some(filter) => Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(watched(filter)).build()?),
                None => plan,
            }
        } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            match join.filter() {
                Some(filter) => join.builder().with_filter(watched(filter)).build_exec()?,
                None => plan,
            }
        } else if plan.is::<CrossJoinExec>() || plan.is::<SortMergeJoinExec>() {
            plan
        } else {
            return Ok(Transformed::no(plan));
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(ended.data)
}

/// A join's condition that fails when the query has ended.
#[derive(Debug)]
struct Condition {
    inner: Arc<dyn PhysicalExpr>,
    wanted: Wanted,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.wanted.check()?;
        in_turn(|| self.inner.evaluate(batch))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, wanted: self.wanted.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
