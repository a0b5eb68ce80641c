//! Regular expressions that stand in the text as constants: whether they can be used is known before any row.

use std::ops::ControlFlow;

use arrow::array::StringArray;
use arrow::compute::regexp_is_match_scalar;
use datafusion::common::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, visit_expressions};

use super::error::{self, Place, QueryError};

/// So many are looked at; each may take a while to be read. Others fail when the first row comes.
const LOOKED_AT_MAX: usize = 16;

const FUNCTIONS: [&str; 5] = ["regexp_like", "regexp_match", "regexp_count", "regexp_instr", "regexp_replace"];

/// Refuses a text with a constant regular expression that is none, at its place.
pub fn check(statement: &Statement) -> Result<(), QueryError> {
    let sql = match statement {
        Statement::Explain(explain) => return check(&explain.statement),
        Statement::Statement(sql) => sql,
        _ => return Ok(()),
    };
    let mut seen = 0;
    let checked = visit_expressions(sql.as_ref(), |expr| {
        let Some((pattern, place)) = pattern_of(expr) else { return ControlFlow::Continue(()) };
        seen += 1;
        if seen > LOOKED_AT_MAX {
            return ControlFlow::Continue(());
        }
        match regexp_is_match_scalar(&StringArray::from(vec![""]), pattern, None) {
            Ok(_) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(error::of_execution(&DataFusionError::from(fault)).of_text(place)),
        }
    });
    match checked {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(fault) => Err(fault),
    }
}

/// The constant that an expression matches with.
fn pattern_of(expr: &Expr) -> Option<(&str, Option<Place>)> {
    use BinaryOperator::{PGRegexIMatch, PGRegexMatch, PGRegexNotIMatch, PGRegexNotMatch};
    match expr {
        Expr::BinaryOp { op: PGRegexMatch | PGRegexIMatch | PGRegexNotMatch | PGRegexNotIMatch, right, .. } => text_of(right),
        Expr::Function(function) => {
            let FunctionArguments::List(list) = &function.args else { return None };
            let is_one = FUNCTIONS.contains(&function.name.to_string().to_lowercase().as_str());
            match list.args.get(1) {
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))) if is_one => text_of(pattern),
                _ => None,
            }
        }
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<(&str, Option<Place>)> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some((text, Place::of(value.span.start))),
            _ => None,
        },
        Expr::Nested(inner) => text_of(inner),
        _ => None,
    }
}
