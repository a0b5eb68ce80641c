//! What of its tables a query depends on, so that who keeps its result knows when to ask again.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::session::Sources;
use super::source::TableSource;

/// One table of a query.
#[derive(Clone, Debug)]
pub struct Read {
    pub table: String,
    /// Of each scan of the table: what is true of every row that it lets through.
    pub scans: Vec<Vec<Expr>>,
    /// Where the table stood; what had come by then is in the result. Empty: the table does not tell when it changes.
    pub upto: Vec<u64>,
}

/// What is known before the plan is optimized.
pub(super) struct Reading {
    positions: HashMap<String, Vec<u64>>,
    /// The same rows give the same result at any time.
    is_timeless: bool,
}

impl Reading {
    /// Where the tables stand now; asked before the text is planned, because some tables are read when their name is resolved.
    pub fn begin(sources: &Sources) -> Self {
        let position = |source: &Arc<dyn TableSource>| source.changed().iter().map(|changed| *changed.borrow()).collect();
        Self { positions: sources.iter().map(|(name, source)| (name.clone(), position(source))).collect(), is_timeless: true }
    }

    /// Looks at the plan as the text says it.
    pub fn look_at(&mut self, plan: &LogicalPlan) -> Result<()> {
        let mut is_timeless = true;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                is_timeless &= !expr.exists(|expr| Ok(depends_on_time(expr)))?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        self.is_timeless = is_timeless;
        Ok(())
    }

    /// The scans that are left in the optimized plan. What moves with the clock, such as `now()`, is a constant there: its
    /// filters say nothing about later results, so they are left out.
    pub fn reads(self, optimized: &LogicalPlan) -> Result<Vec<Read>> {
        let Self { positions, is_timeless } = self;
        let mut reads: HashMap<String, Read> = HashMap::new();
        optimized.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some(upto) = positions.get(scan.table_name.table())
            {
                let table = scan.table_name.table().to_owned();
                let read = reads.entry(table.clone()).or_insert(Read { table, scans: Vec::new(), upto: upto.clone() });
                read.scans.push(if is_timeless { scan.filters.clone() } else { Vec::new() });
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(reads.into_values().collect())
    }
}

fn depends_on_time(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable)
}
