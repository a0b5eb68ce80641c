//! Gives every call of a plan the bound of its query, also those that the planner writes without looking into the registry.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::Share;
use super::concat::Concat;
use super::functions::{bounded, is_bounded};
use crate::query::expressions::each_expression;

/// Of one query.
#[derive(Debug)]
pub struct Bounding {
    share: Share,
    concat: Arc<ScalarUDF>,
}

impl Bounding {
    pub fn new(share: &Share) -> Self {
        let concat = Arc::new(ScalarUDF::new_from_impl(Concat::default()));
        Self { share: share.clone(), concat: bounded(&concat, share) }
    }

    fn expression(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) if is_bounded(func.name()) => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: bounded(&func, &self.share), args })))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) if !left.get_type(schema)?.is_nested() => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(&self.concat), args: vec![*left, *right] })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl AnalyzerRule for Bounding {
    fn name(&self) -> &str {
        "bounding"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        each_expression(plan, |expr, schema| self.expression(expr, schema))
    }
}
