//! Tables whose rows are made when a query asks, and what its filters leave to be made.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{Days, NaiveDate};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_model::time::UtcMillis;

/// Rows that are made when a query asks.
pub(crate) trait OnDemand: Debug + Send + Sync + 'static {
    fn schema(&self) -> &SchemaRef;

    /// At least the rows that the filters leave, in the schema; nothing is read before the stream is.
    fn rows(&self, narrow: Narrow) -> Arc<dyn PartitionStream>;
}

/// They as a table. Filters narrow what is made; whoever plans keeps them for the rows.
#[derive(Debug)]
pub(crate) struct OnDemandTable<T>(pub T);

#[async_trait]
impl<T: OnDemand> TableProvider for OnDemandTable<T> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.0.schema().column_with_name(AS_OF).is_some() {
            filters.iter().try_for_each(one_instant)?;
        }
        let rows = self.0.rows(Narrow::of(filters));
        Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![rows], projection, None, false, limit)?))
    }
}

/// The column of tables that are as they were known at an instant.
const AS_OF: &str = "as_of";

/// All rows of a scan are as of one instant, so another condition on it than to be that leaves them all or none.
fn one_instant(filter: &Expr) -> Result<()> {
    let is_literal = |expr: &Expr| instant_of(expr).is_some();
    for condition in split_conjunction(filter) {
        let is_asked = match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                (is_as_of(left) && is_literal(right)) || (is_literal(left) && is_as_of(right))
            }
            _ => false,
        };
        if !is_asked && condition.exists(|expr| Ok(compares_as_of(expr)))? {
            return plan_err!(
                "a condition on as_of names one instant: as_of = timestamp '2026-03-14T08:00:00Z', to the millisecond, asks for what was \
                 known then, and without it the facts are as of now"
            );
        }
    }
    Ok(())
}

fn is_as_of(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == AS_OF)
}

fn instant_of(expr: &Expr) -> Option<UtcMillis> {
    if let Expr::Literal(value, _) = expr { instant(value) } else { None }
}

/// Whether an expression compares the instant, or what is made of it, with constants only. A comparison with another column is one of rows.
fn compares_as_of(expr: &Expr) -> bool {
    let is_comparison = match expr {
        Expr::BinaryExpr(binary) => binary.op.supports_propagation(),
        Expr::Between(_) | Expr::InList(_) => true,
        _ => false,
    };
    let columns = expr.column_refs();
    is_comparison && !columns.is_empty() && columns.iter().all(|column| column.name == AS_OF)
}

/// What the filters of a query leave to be read. A filter that is not understood narrows nothing.
#[derive(Clone, Default, Debug)]
pub(crate) struct Narrow {
    pub district: Option<HashSet<[u8; 16]>>,
    pub school: Option<HashSet<[u8; 16]>>,
    pub section: Option<HashSet<[u8; 16]>>,
    pub student: Option<HashSet<[u8; 16]>>,
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
    pub as_of: Option<UtcMillis>,
    /// A whole range that is asked for by its ends.
    pub first: Option<NaiveDate>,
    pub last: Option<NaiveDate>,
}

impl Narrow {
    pub fn of(filters: &[Expr]) -> Self {
        let mut narrow = Self::default();
        filters.iter().for_each(|filter| narrow.take(filter));
        narrow
    }

    fn take(&mut self, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.take(left);
                self.take(right);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => self.compare(&column.name, *op, std::slice::from_ref(value)),
                (Expr::Literal(value, _), Expr::Column(column)) => {
                    let swapped = op.swap();
                    swapped.into_iter().for_each(|op| self.compare(&column.name, op, std::slice::from_ref(value)));
                }
                _ => {}
            },
            Expr::InList(list) if !list.negated => {
                let Expr::Column(column) = list.expr.as_ref() else { return };
                let literal = |expr: &Expr| if let Expr::Literal(value, _) = expr { Some(value.clone()) } else { None };
                let Some(values) = list.list.iter().map(literal).collect::<Option<Vec<ScalarValue>>>() else { return };
                self.compare(&column.name, Operator::Eq, &values);
            }
            Expr::Between(between) if !between.negated => {
                if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref())
                {
                    self.compare(&column.name, Operator::GtEq, std::slice::from_ref(low));
                    self.compare(&column.name, Operator::LtEq, std::slice::from_ref(high));
                }
            }
            _ => {}
        }
    }

    /// The column is in this relation to one of the values.
    fn compare(&mut self, column: &str, op: Operator, values: &[ScalarValue]) {
        let place = match column {
            "district" => &mut self.district,
            "school" => &mut self.school,
            "section" => &mut self.section,
            "student" => &mut self.student,
            "first_date" => return equal_date(&mut self.first, op, values),
            "last_date" => return equal_date(&mut self.last, op, values),
            "date" | "week" => return self.compare_date(column, op, values),
            AS_OF => {
                if let (Operator::Eq, [value]) = (op, values) {
                    self.as_of = self.as_of.or_else(|| instant(value));
                }
                return;
            }
            _ => return,
        };
        if let (Operator::Eq, Some(ids)) = (op, values.iter().map(id).collect::<Option<HashSet<_>>>()) {
            *place = Some(match place.take() {
                Some(before) => before.intersection(&ids).copied().collect(),
                None => ids,
            });
        }
    }

    fn compare_date(&mut self, column: &str, op: Operator, values: &[ScalarValue]) {
        let Some(dates) = values.iter().map(date).collect::<Option<Vec<NaiveDate>>>() else { return };
        let (Some(first), Some(last)) = (dates.iter().min().copied(), dates.iter().max().copied()) else { return };
        // A week is named by its Monday and has six more days.
        let last = if column == "week" { last.checked_add_days(Days::new(6)).unwrap_or(last) } else { last };
        if matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq) {
            self.from = Some(self.from.map_or(first, |from| from.max(first)));
        }
        if matches!(op, Operator::Eq | Operator::Lt | Operator::LtEq) {
            self.to = Some(self.to.map_or(last, |to| to.min(last)));
        }
    }

    pub fn wants_school(&self, (district, school): &(DistrictId, SchoolId)) -> bool {
        Self::wants(&self.district, district.as_bytes()) && Self::wants(&self.school, school.as_bytes())
    }

    pub fn wants(ids: &Option<HashSet<[u8; 16]>>, id: &[u8; 16]) -> bool {
        ids.as_ref().is_none_or(|ids| ids.contains(id))
    }
}

/// Of several dates that a column is said to be equal to, the first counts; the filter above finds no row for the others.
fn equal_date(place: &mut Option<NaiveDate>, op: Operator, values: &[ScalarValue]) {
    if let (Operator::Eq, [value]) = (op, values) {
        *place = place.or_else(|| date(value));
    }
}

fn id(value: &ScalarValue) -> Option<[u8; 16]> {
    match value {
        ScalarValue::FixedSizeBinary(16, Some(bytes)) | ScalarValue::Binary(Some(bytes)) => bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

fn date(value: &ScalarValue) -> Option<NaiveDate> {
    let ScalarValue::Date32(Some(days)) = value else { return None };
    NaiveDate::default().checked_add_signed(chrono::Duration::days((*days).into()))
}

fn instant(value: &ScalarValue) -> Option<UtcMillis> {
    match value {
        ScalarValue::TimestampMillisecond(Some(ms), _) => Some(UtcMillis(*ms)),
        _ => None,
    }
}
