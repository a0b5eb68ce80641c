//! What is known of rows about single students while a plan is looked at.

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::least;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, TryCast, cast, lit};

/// Of which columns of a plan which student and which day can be read. Rows about nobody have none.
#[derive(Clone, Default, Debug)]
pub struct Rows {
    /// The first is never null; the others are equal to it or null.
    pub persons: Vec<Column>,
    /// Instants and dates of the first table about students, and what is made of nothing else. What they say of a row is said of it once,
    /// whatever it is joined with.
    pub instants: Vec<Column>,
    /// Days that conditions say, counted from 1970.
    pub days: Vec<i32>,
}

impl Rows {
    /// Of a table with a column of the student.
    pub fn of_table(person: Column, schema: &DFSchema) -> Self {
        let instants = schema.iter().filter(|(_, field)| says_when(field.data_type())).map(Column::from).collect();
        Self { persons: vec![person], instants, days: Vec::new() }
    }

    pub fn are_about_nobody(&self) -> bool {
        self.persons.is_empty()
    }

    /// Notes the days that conditions say which hold for every row.
    pub fn meet<'a>(&mut self, conditions: impl IntoIterator<Item = &'a Expr>) {
        for condition in conditions.into_iter().flat_map(split_conjunction) {
            let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { continue };
            let ((Expr::Column(column), Expr::Literal(ScalarValue::Date32(Some(day)), _))
            | (Expr::Literal(ScalarValue::Date32(Some(day)), _), Expr::Column(column))) = (left.as_ref(), right.as_ref())
            else {
                continue;
            };
            if self.instants.contains(column) {
                self.days.push(*day);
            }
        }
    }

    /// Whether an expression is an instant or a date of the rows themselves.
    pub fn says_when(&self, expr: &Expr, schema: &DFSchema) -> Result<bool> {
        Ok(self.is_own_day(expr) && says_when(&expr.get_type(schema)?))
    }

    /// A column, its date, or the begin of its day, week or month: nothing that a query could write in ever new ways.
    fn is_own_day(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Column(column) => self.instants.contains(column),
            Expr::Alias(alias) => self.is_own_day(&alias.expr),
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => says_when(field.data_type()) && self.is_own_day(expr),
            Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
                ("date_trunc", [Expr::Literal(part, _), of]) => {
                    let part = part.try_as_str().flatten().map(str::to_ascii_lowercase);
                    part.is_some_and(|part| ["day", "week", "month"].contains(&part.as_str())) && self.is_own_day(of)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// A `Date32` that is the day of a group, or null: the first of those that conditions and the grouping say.
    pub fn day(&self, grouping: &[Expr], schema: &DFSchema) -> Result<Expr> {
        let mut days: Vec<Expr> = self.days.iter().min().map(|day| lit(ScalarValue::Date32(Some(*day)))).into_iter().collect();
        for expr in grouping {
            if self.says_when(expr, schema)? {
                days.push(cast(expr.clone().unalias(), DataType::Date32));
            }
        }
        Ok(match days.len() {
            0 => lit(ScalarValue::Date32(None)),
            1 => days.remove(0),
            _ => least(days),
        })
    }
}

fn says_when(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Timestamp(..))
}
