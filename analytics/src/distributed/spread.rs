//! Which parts of a plan run on workers.
//!
//! A table is a union of its files, the log and the hot rows. Steps that work on each partition by itself (filters, columns,
//! partial aggregates, the first rows of an order) are moved below the union, and a branch that is then nothing but such steps over
//! files becomes a share of the workers. Everything else stays: the hot rows where they are, and joins, final aggregates and
//! suppression where rows of all parts come together.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use super::exec::SharedExec;
use super::share::{bytes_of, is_local, scan_below};
use super::workers::Workers;
use crate::history::{QueryWarnings, Warning};

/// The last rule of the optimizer: it changes where steps run and nothing of what they give.
#[derive(Debug)]
pub struct Spread {
    workers: Arc<Workers>,
    /// Hears of shares that a worker did not finish.
    warnings: Arc<QueryWarnings>,
}

impl Spread {
    pub fn new(workers: Arc<Workers>, warnings: Arc<QueryWarnings>) -> Self {
        Self { workers, warnings }
    }

    fn spread(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.is_share(&plan) {
            return Ok(Arc::new(SharedExec::new(plan, Arc::clone(&self.workers), Arc::clone(&self.warnings))));
        }
        let plan = match self.below_union(&plan)? {
            Some(union) => union,
            None => plan,
        };
        let inputs = plan.children().into_iter().map(|input| self.spread(Arc::clone(input))).collect::<Result<Vec<_>>>()?;
        if inputs.is_empty() || inputs.iter().zip(plan.children()).all(|(new, old)| Arc::ptr_eq(new, old)) {
            return Ok(plan);
        }
        plan.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    /// Small files are read faster than a worker is asked.
    fn is_share(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        let Some(bytes) = scan_below(plan).map(bytes_of) else { return false };
        let is_share = self.workers.parts(bytes).is_some();
        if !is_share && self.workers.wants(bytes) {
            self.warnings.add(Warning::WorkerLost);
        }
        is_share
    }

    /// Local steps over a union with a share in it, as a union of those steps over each branch.
    fn below_union(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut steps = Vec::new();
        let mut at = plan;
        while is_local(at.as_ref()) {
            let [input] = at.children()[..] else { return Ok(None) };
            steps.push(at);
            at = input;
        }
        if steps.is_empty() || !at.is::<UnionExec>() || !at.children().into_iter().any(|branch| self.is_share(branch)) {
            return Ok(None);
        }
        let branch = |branch: &Arc<dyn ExecutionPlan>| {
            let step = |input, step: &&Arc<dyn ExecutionPlan>| {
                Arc::clone(step).replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
            };
            steps.iter().rev().try_fold(Arc::clone(branch), step)
        };
        UnionExec::try_new(at.children().into_iter().map(branch).collect::<Result<_>>()?).map(Some)
    }
}

impl PhysicalOptimizerRule for Spread {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.spread(plan)
    }

    fn name(&self) -> &str {
        "spread_over_workers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
