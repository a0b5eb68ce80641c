//! What roles without student-level rights get: figures about groups, never a row about a student.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;

use super::caller::Caller;
use super::error::{self, QueryError};
use super::source::{About, TableSource};

/// A plan that may run for the caller.
pub struct Guarded {
    pub plan: LogicalPlan,
    pub warnings: Vec<String>,
}

/// Why there is none.
pub enum Fault {
    Refused(String),
    Plan(DataFusionError),
}

impl From<DataFusionError> for Fault {
    fn from(error: DataFusionError) -> Self {
        Self::Plan(error)
    }
}

impl Fault {
    pub fn say(&self, sql: &str, tables: &[String]) -> QueryError {
        match self {
            Self::Refused(message) => QueryError::refused(message.clone()),
            Self::Plan(error) => error::of_planning(error, sql, tables),
        }
    }
}

/// Lets a plan pass that reads no table about students; refuses any other.
pub fn guard(
    _caller: &Caller,
    state: &SessionState,
    plan: LogicalPlan,
    sources: &BTreeMap<String, Arc<dyn TableSource>>,
) -> Result<Guarded, Fault> {
    let mut about_students = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && sources.get(scan.table_name.table()).is_some_and(|source| source.scope().about == About::Students)
        {
            about_students = Some(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match about_students {
        Some(table) => Err(Fault::Refused(format!("{table} is about single students, which this account may not see"))),
        None => Ok(Guarded { plan: state.optimize(&plan)?, warnings: Vec::new() }),
    }
}
