//! Memory that no operator counts.
//!
//! What sorts, groups and joins hold is counted by DataFusion in the query's pool. Three things are not: what expressions make
//! of a batch ([`functions`]), what steps that repeat rows make of a wide one, and what windows hold back ([`place`]). Each is
//! bounded here by the same memory that the query may have, so that no text takes what there is.
//!
//! The bounds of expressions are found from the plan ([`Plan::look_at`]): the memory is divided by how many expressions of it make
//! texts or lists. They are bounds of what is made of one batch and not of what is there at any instant; a query stays within a small
//! multiple of its memory, whatever it says.

mod concat;
mod functions;
mod place;
mod rule;
mod size;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{InList, WindowFunctionDefinition};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

pub(super) use functions::bound;
pub(super) use place::watched;
pub(super) use rule::Bounding;

use super::error::QueryError;
use super::limits::Limits;
use super::session::BATCH_ROWS;

/// Least and most bytes that one call makes of the rows of a batch.
const CALL_BYTES: std::ops::RangeInclusive<u64> = 1024 * 1024..=64 * 1024 * 1024;

/// Longest constant that a call makes of constants, and most bytes of constants in one step of a plan: a step may repeat them for each row of
/// a batch.
const CONSTANT_BYTES_MAX: u64 = 32 * 1024;

/// Least bytes of texts and lists in a row that a join repeats.
const ROW_BYTES_MIN: usize = 1024;

/// Regular expressions whose pattern is one of the arguments; each is compiled to as much as ten megabytes.
const OF_PATTERNS: [&str; 5] = ["regexp_like", "regexp_match", "regexp_replace", "regexp_count", "regexp_instr"];

/// Aggregates whose value grows with its rows.
const GROWING: [&str; 2] = ["string_agg", "array_agg"];

/// Most bytes that each call of a query may make of a batch; clones are one.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<AtomicU64>);

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(*CALL_BYTES.end())))
    }
}

impl Share {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What of a plan takes memory that is not counted.
#[derive(Default)]
pub(super) struct Plan {
    /// Expressions that make texts or lists.
    makers: u64,
    /// Steps that repeat rows.
    repeats: usize,
}

impl Plan {
    /// Looks at an optimized plan, whose constants are folded.
    ///
    /// # Errors
    /// When it has more constants in a step than rows could be made with, patterns that are not constants, or lists that grow along a
    /// window.
    pub fn look_at(plan: &LogicalPlan) -> Result<Self, QueryError> {
        let mut found = Self::default();
        let mut refusal = None;
        let walked = plan.apply_with_subqueries(|node| {
            found.repeats += usize::from(matches!(node, LogicalPlan::Join(_) | LogicalPlan::Unnest(_)));
            let mut constants = 0;
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    constants += constant(expr);
                    found.makers += u64::from(makes(expr));
                    refusal = refusal.take().or_else(|| refused(expr));
                    Ok(if matches!(expr, Expr::InList(list) if is_of_constants(list)) {
                        TreeNodeRecursion::Jump
                    } else {
                        TreeNodeRecursion::Continue
                    })
                })
            })?;
            if constants > CONSTANT_BYTES_MAX {
                refusal = Some(format!("the constants of one step are longer than {CONSTANT_BYTES_MAX} bytes"));
            }
            Ok(if refusal.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        walked.map_err(|error| QueryError::Failed(Arc::new(error)))?;
        refusal.map_or(Ok(found), |message| Err(QueryError::refused(message)))
    }

    /// Divides the memory of a query among the calls of its plan.
    pub fn divide(&self, share: &Share, limits: &Limits, partitions: usize) {
        // Half: what a call has been given is there beside what it makes.
        let of_one = limits.memory_bytes as u64 / 2 / partitions.max(1) as u64 / self.makers.max(1);
        share.0.store(of_one.clamp(*CALL_BYTES.start(), *CALL_BYTES.end()), Ordering::Relaxed);
    }

    /// Most bytes of texts and lists in a row that is repeated.
    pub fn row_bytes(&self, limits: &Limits) -> usize {
        (limits.memory_bytes / BATCH_ROWS / (1 + self.repeats)).max(ROW_BYTES_MIN)
    }
}

fn constant(expr: &Expr) -> u64 {
    match expr {
        Expr::Literal(value, _) => width(value),
        _ => 0,
    }
}

/// Bytes of a constant that is a text or a list; of others few.
fn width(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => text.len() as u64,
        ScalarValue::Binary(Some(bytes)) | ScalarValue::LargeBinary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => {
            bytes.len() as u64
        }
        ScalarValue::Dictionary(_, value) => width(value),
        value if value.data_type().is_nested() => value.size() as u64,
        _ => 0,
    }
}

fn is_of_constants(list: &InList) -> bool {
    list.list.iter().all(|expr| matches!(expr, Expr::Literal(..)))
}

fn makes(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(function) => functions::is_bounded(function.func.name()),
        Expr::Case(_) => true,
        _ => false,
    }
}

fn refused(expr: &Expr) -> Option<String> {
    let pattern = match expr {
        Expr::ScalarFunction(function) if OF_PATTERNS.contains(&function.func.name()) => function.args.get(1),
        Expr::BinaryExpr(binary) if is_match(binary.op) => Some(binary.right.as_ref()),
        Expr::SimilarTo(like) => Some(like.pattern.as_ref()),
        Expr::WindowFunction(window) => {
            let WindowFunctionDefinition::AggregateUDF(aggregate) = &window.fun else { return None };
            let grows = GROWING.contains(&aggregate.name());
            return grows.then(|| format!("{} grows with every row of a window; group the rows and join the groups", aggregate.name()));
        }
        _ => None,
    };
    let is_constant = matches!(pattern?, Expr::Literal(..));
    (!is_constant).then(|| "the pattern of a regular expression is a constant".to_owned())
}

fn is_match(operator: Operator) -> bool {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    matches!(operator, RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch)
}
