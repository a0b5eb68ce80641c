//! Ids where a text is wanted: they are sixteen bytes to the engine and texts to everybody else, tools that write casts among them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, ScalarUDF, cast};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::expressions::each_expression;
use super::ids::{self, ID};

/// Functions of texts that would take the bytes of an id beside words of codes.
const OF_TEXTS: [&str; 2] = ["concat", "concat_ws"];

/// Gives functions of texts an id as its text, before types are chosen.
#[derive(Debug)]
pub struct Arguments(Arc<ScalarUDF>);

/// Turns a cast of an id to a text into its text, whoever wrote the cast.
#[derive(Debug)]
pub struct Casts(Arc<ScalarUDF>);

impl Arguments {
    pub fn new() -> Self {
        Self(id_text())
    }
}

impl Casts {
    pub fn new() -> Self {
        Self(id_text())
    }
}

fn id_text() -> Arc<ScalarUDF> {
    let [_, text] = ids::functions();
    Arc::new(text)
}

fn of_id(text: &Arc<ScalarUDF>, id: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction { func: Arc::clone(text), args: vec![id] })
}

/// Reads `||` beside an id, which has no type otherwise.
impl ExprPlanner for Arguments {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op == BinaryOperator::StringConcat {
            let text = |side: Expr| match side.get_type(schema) {
                Ok(data_type) if data_type == ID => of_id(&self.0, side),
                _ => side,
            };
            (expr.left, expr.right) = (text(expr.left), text(expr.right));
        }
        Ok(PlannerResult::Original(expr))
    }
}

impl FunctionRewrite for Arguments {
    fn name(&self) -> &str {
        "ids_as_arguments"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let is_id = |arg: &Expr| arg.get_type(schema).is_ok_and(|data_type| data_type == ID);
        let text = |args: Vec<Expr>| args.into_iter().map(|arg| if is_id(&arg) { of_id(&self.0, arg) } else { arg }).collect();
        match expr {
            Expr::ScalarFunction(ScalarFunction { func, args }) if OF_TEXTS.contains(&func.name()) && args.iter().any(is_id) => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: text(args) })))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "ids_as_text"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        each_expression(plan, |expr, schema| match expr {
            Expr::Cast(Cast { expr: inner, ref field }) | Expr::TryCast(TryCast { expr: inner, ref field })
                if field.data_type().is_string() && inner.get_type(schema)? == ID =>
            {
                let text = of_id(&self.0, *inner);
                let is_same = *field.data_type() == DataType::Utf8;
                Ok(Transformed::yes(if is_same { text } else { cast(text, field.data_type().clone()) }))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}
