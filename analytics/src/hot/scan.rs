//! Which rows of a hot table a query wants: the filters that the table answers itself.
//!
//! `id column = constant` and `id column IN (constants)` are answered exactly, by the small sets and postings of each
//! batch, so that the scope filters of every query cost nothing where a batch lies wholly inside them. Ranges of event
//! time, time of receipt and offset only leave batches out; the rows in what remains are filtered again above.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;

use super::batch::{HotBatch, Id, Left, id_at};
use super::table::OFFSET;

/// An exact test: the id in `column` is one of `wanted`, which is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTest {
    pub column: usize,
    pub wanted: Vec<Id>,
}

/// Bounds of one column, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    least: i64,
    greatest: i64,
}

const EVERYTHING: Range = Range { least: i64::MIN, greatest: i64::MAX };

/// What a scan leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    tests: Vec<IdTest>,
    ts: Range,
    received: Range,
    offset: Range,
}

/// How much of a filter the table answers.
pub fn support(schema: &SchemaRef, filter: &Expr) -> TableProviderFilterPushDown {
    if id_test(schema, filter).is_some() {
        TableProviderFilterPushDown::Exact
    } else if range_test(filter).is_some() {
        TableProviderFilterPushDown::Inexact
    } else {
        TableProviderFilterPushDown::Unsupported
    }
}

/// How many times more rows an id of this column has than one of a person, roughly.
fn rows_of_an_id(column: &str) -> usize {
    match column {
        "district" => 1_000_000,
        "school" => 1_000,
        "section" => 25,
        _ => 1,
    }
}

fn id_of(expr: &Expr) -> Option<Id> {
    match expr {
        Expr::Literal(ScalarValue::FixedSizeBinary(16, Some(bytes)), _) => bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

fn column_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

/// The filter as an exact test of ids.
pub fn id_test(schema: &SchemaRef, filter: &Expr) -> Option<IdTest> {
    let (name, mut wanted) = match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (column_of(left), id_of(right)) {
            (Some(name), Some(id)) => (name, vec![id]),
            _ => (column_of(right)?, vec![id_of(left)?]),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (one, other) = (id_test(schema, left)?, id_test(schema, right)?);
            if one.column != other.column {
                return None;
            }
            (schema.field(one.column).name().as_str(), [one.wanted, other.wanted].concat())
        }
        Expr::InList(InList { expr, list, negated: false }) => (column_of(expr)?, list.iter().map(id_of).collect::<Option<Vec<Id>>>()?),
        _ => return None,
    };
    wanted.sort_unstable();
    wanted.dedup();
    Some(IdTest { column: schema.index_of(name).ok()?, wanted })
}

/// The columns of a projection, and behind them those that the conditions look at besides.
pub fn with_columns_of(conditions: &[Expr], schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Vec<usize> {
    let mut read = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
    for column in conditions.iter().flat_map(Expr::column_refs) {
        if let Ok(at) = schema.index_of(column.name())
            && !read.contains(&at)
        {
            read.push(at);
        }
    }
    read
}

/// The rows of a scan of those columns for which all conditions are true, in the first `asked` columns.
pub fn tested(session: &dyn Session, scan: Arc<dyn ExecutionPlan>, conditions: Vec<Expr>, asked: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(test) = conjunction(conditions) else { return Ok(scan) };
    let test = session.create_physical_expr(test, &DFSchema::try_from(scan.schema())?)?;
    Ok(Arc::new(FilterExecBuilder::new(test, scan).apply_projection(Some((0..asked).collect()))?.build()?))
}

fn number_of(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::TimestampMillisecond(Some(value), _), _) => Some(*value),
        // Finer units are rounded down; the bound that this gives is off by less than a millisecond, see `range_test`.
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(value), _), _) => Some(value.div_euclid(1_000)),
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(value), _), _) => Some(value.div_euclid(1_000_000)),
        Expr::Literal(ScalarValue::UInt64(Some(value)), _) => i64::try_from(*value).ok(),
        Expr::Literal(ScalarValue::Int64(Some(value)), _) => Some(*value),
        _ => None,
    }
}

/// The column's name and the bounds that a comparison sets on it. The bounds include the constant itself and one more
/// on the open side, which can only keep a batch too many.
fn range_test(filter: &Expr) -> Option<(&'static str, Range)> {
    if let Expr::Between(between) = filter
        && !between.negated
    {
        let name = ranged(column_of(&between.expr)?)?;
        return Some((name, Range { least: number_of(&between.low)?, greatest: number_of(&between.high)?.saturating_add(1) }));
    }
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (name, value, op) = match (column_of(left), number_of(right)) {
        (Some(name), Some(value)) => (name, value, *op),
        _ => (column_of(right)?, number_of(left)?, op.swap()?),
    };
    let name = ranged(name)?;
    let above = Range { least: value, ..EVERYTHING };
    let below = Range { greatest: value.saturating_add(1), ..EVERYTHING };
    match op {
        Operator::Gt | Operator::GtEq => Some((name, above)),
        Operator::Lt | Operator::LtEq => Some((name, below)),
        Operator::Eq => Some((name, Range { least: value, greatest: value.saturating_add(1) })),
        _ => None,
    }
}

fn ranged(name: &str) -> Option<&'static str> {
    ["ts", "received", OFFSET].into_iter().find(|known| *known == name)
}

impl Range {
    fn and(self, other: Self) -> Self {
        Self { least: self.least.max(other.least), greatest: self.greatest.min(other.greatest) }
    }

    fn meets(self, (least, greatest): (i64, i64)) -> bool {
        self.least <= greatest && least <= self.greatest
    }
}

impl Selection {
    pub fn new(schema: &SchemaRef, filters: &[Expr]) -> Self {
        let mut selection = Self { tests: Vec::new(), ts: EVERYTHING, received: EVERYTHING, offset: EVERYTHING };
        for filter in filters {
            if let Some(test) = id_test(schema, filter) {
                selection.tests.push(test);
            } else if let Some((name, range)) = range_test(filter) {
                let bound = match name {
                    "ts" => &mut selection.ts,
                    "received" => &mut selection.received,
                    _ => &mut selection.offset,
                };
                *bound = bound.and(range);
            }
        }
        // The test that leaves the fewest rows first: the others look at no more than those.
        selection.tests.sort_by_key(|test| test.wanted.len().saturating_mul(rows_of_an_id(schema.field(test.column).name())));
        selection
    }

    /// The ids that a column must have one of; `None`: any.
    pub fn wanted(&self, column: usize) -> Option<&[Id]> {
        self.tests.iter().find(|test| test.column == column).map(|test| test.wanted.as_slice())
    }

    /// The rows that pass the exact tests, of a batch without statistics.
    pub fn apply(&self, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let passes = |row: usize| {
            self.tests.iter().all(|test| {
                let ids = rows.column(test.column).as_fixed_size_binary();
                ids.is_valid(row) && test.wanted.binary_search(&id_at(ids, row)).is_ok()
            })
        };
        if self.tests.is_empty() {
            return Ok(rows);
        }
        let kept: BooleanArray = (0..rows.num_rows()).map(|row| Some(passes(row))).collect();
        filter_record_batch(&rows, &kept)
    }

    /// Whether the selection leaves everything.
    pub fn is_everything(&self) -> bool {
        self.tests.is_empty() && [self.ts, self.received, self.offset].iter().all(|range| *range == EVERYTHING)
    }

    /// Whether the statistics alone let the batch have a row that is wanted.
    pub fn may_have(&self, batch: &HotBatch) -> bool {
        let offsets = (batch.first.0 as i64, batch.last.0 as i64);
        let in_range = self.ts.meets(batch.ts) && self.received.meets(batch.received) && self.offset.meets(offsets);
        let in_sets = || {
            self.tests.iter().all(|test| match batch.id_stats(test.column).and_then(|stats| stats.set.as_ref()) {
                Some(set) => set.iter().any(|id| test.wanted.binary_search(id).is_ok()),
                None => true,
            })
        };
        in_range && in_sets()
    }

    /// The rows of a batch that pass the exact tests.
    pub fn left_of(&self, batch: &HotBatch) -> Left {
        let mut left = Left::All;
        for test in &self.tests {
            left = match left {
                Left::All => batch.keep(test.column, &test.wanted),
                Left::Rows(rows) => batch.keep_of(test.column, &test.wanted, rows),
                Left::None => return Left::None,
            };
        }
        left
    }
}
