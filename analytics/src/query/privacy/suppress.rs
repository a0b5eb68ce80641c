//! An aggregate over rows about students, replaced by one that gives figures about groups that are large enough.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Result};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Aggregate, builder::LogicalPlanBuilder};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, LogicalPlan, cast, lit, try_cast, when};

use super::figure::{Figures, Kind, STUDENTS, Told, field_name};
use super::rows::Rows;
use super::{complement, forbid, mentioned, refused, total, values};

/// The hidden column with the number of students of a group.
const PERSONS: &str = "__persons";

/// The hidden column with the figures of a group.
const FIGURES: &str = "__figures";

/// The hidden column that says whether a group is shown.
const SHOWN: &str = "__shown";

fn named(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// The figures of `aggregate` over `input`, whose rows are about students; its schema has the same names and types.
pub fn aggregate(group_min: u32, told: Told, aggregate: Aggregate, input: LogicalPlan, rows: &Rows) -> Result<LogicalPlan> {
    let persons = rows.persons.as_slice();
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return refused("write one query for each grouping: ROLLUP, CUBE and GROUPING SETS are not given about students");
    }
    forbid(&aggregate.group_expr, persons)?;
    let day = total::total(rows.day(&aggregate.group_expr, input.schema())?, input.schema())?;
    let (mut kinds, mut args) = (Vec::new(), vec![Expr::Column(persons[0].clone()), day]);
    for expr in &aggregate.aggr_expr {
        let (kind, value) = read(expr, persons)?;
        kinds.push(kind);
        args.push(match kind {
            Kind::Values => counted(total::total(value, input.schema())?, &input)?,
            _ => total::total(cast(value, DataType::Float64), input.schema())?,
        });
    }
    let names = NamePreserver::new_for_projection();
    let named_group = |expr: Expr| Ok(names.save(&expr).restore(total::total(expr, input.schema())?));
    let group_expr = aggregate.group_expr.into_iter().map(named_group).collect::<Result<Vec<_>>>()?;
    let function = Arc::new(AggregateUDF::new_from_impl(Figures::new(kinds, told)));
    let figures = Expr::AggregateFunction(AggregateFunction::new_udf(function, args, false, None, vec![], None)).alias(FIGURES);
    let figure = |name: String| get_field(named(FIGURES), name);
    let groups = group_expr.len();
    let schema = Arc::clone(&aggregate.schema);
    let keys: Vec<Expr> = (0..groups).map(|place| Expr::Column(Column::from(schema.qualified_field(place)))).collect();
    let made = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group_expr, vec![figures])?);
    let counted = keys.iter().cloned().chain([figure(STUDENTS.to_owned()).alias(PERSONS), named(FIGURES)]);
    let made = LogicalPlanBuilder::from(made).project(counted)?.build()?;
    let mut shown = keys.clone();
    for place in 0..aggregate.aggr_expr.len() {
        let (relation, field) = schema.qualified_field(groups + place);
        let value = cast(figure(field_name(place)), field.data_type().clone());
        shown.push(value.alias_qualified(relation.cloned(), field.name()));
    }
    large_enough(made, &keys, group_min)?.project(shown)?.build()
}

/// The values of a column as they are told apart. Floating-point numbers are those of the other figures, so they go as texts.
fn counted(value: Expr, input: &LogicalPlan) -> Result<Expr> {
    let data_type = value.get_type(input.schema())?;
    if matches!(data_type, DataType::Float64 | DataType::Null) {
        return Ok(try_cast(value, DataType::Utf8));
    }
    if !values::can_be_counted(&data_type) {
        return refused(format!("values of the type {data_type} are not counted about students"));
    }
    Ok(value)
}

/// Only the groups of at least `group_min` students, and none that another could be computed from ([`complement`]).
fn large_enough(plan: LogicalPlan, keys: &[Expr], group_min: u32) -> Result<LogicalPlanBuilder> {
    let plan = LogicalPlanBuilder::from(plan);
    if keys.is_empty() {
        return plan.filter(named(PERSONS).gt_eq(lit(f64::from(group_min))));
    }
    plan.window([complement::shown(named(PERSONS), keys, group_min).alias(SHOWN)])?.filter(named(SHOWN))
}

/// Which figure an aggregate asks for, and of what.
fn read(expr: &Expr, persons: &[Column]) -> Result<(Kind, Expr)> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else {
        return refused(format!("{expr} is not given about students"));
    };
    if !params.order_by.is_empty() {
        return refused("an order within an aggregate is not given about students");
    }
    if let Some(filter) = &params.filter {
        forbid([filter.as_ref()], persons)?;
    }
    let is_person = |expr: &Expr| matches!(expr, Expr::Column(column) if persons.contains(column));
    let there = |arg: &Expr| when(arg.clone().is_not_null(), lit(1.0)).end();
    let (kind, value) = match (func.name(), params.distinct, params.args.as_slice()) {
        ("count", true, [arg]) if is_person(arg) => (Kind::Persons, there(arg)?),
        ("count", true, [arg]) => match only_where(arg, persons)? {
            Some(condition) => (Kind::Persons, when(condition, lit(1.0)).end()?),
            None => {
                forbid([arg], persons)?;
                (Kind::Values, arg.clone())
            }
        },
        ("count", true, _) => return refused("one column at a time is counted distinctly about students"),
        ("count", false, [Expr::Literal(..)]) => (Kind::Rows, lit(1.0)),
        ("count", false, [arg]) if is_person(arg) || mentioned(arg, persons).is_none() => (Kind::Rows, there(arg)?),
        ("sum", false, [arg]) if mentioned(arg, persons).is_none() => (Kind::Sum, arg.clone()),
        ("avg", false, [arg]) if mentioned(arg, persons).is_none() => (Kind::Average, arg.clone()),
        (name, ..) => {
            return refused(format!("{name} can be the figure of a single student and is not given; count, sum and avg are"));
        }
    };
    let value = match params.filter {
        Some(filter) if kind == Kind::Values => when(*filter, value).end()?,
        Some(filter) => when(*filter, cast(value, DataType::Float64)).end()?,
        None => value,
    };
    Ok((kind, value))
}

/// Of `case when <condition> then <person> end`, when a row is about somebody who is counted.
fn only_where(expr: &Expr, persons: &[Column]) -> Result<Option<Expr>> {
    let Expr::Case(case) = expr else { return Ok(None) };
    let ([(condition, then)], None) = (case.when_then_expr.as_slice(), &case.expr) else { return Ok(None) };
    let is_nobody = case.else_expr.as_ref().is_none_or(|other| matches!(other.as_ref(), Expr::Literal(value, _) if value.is_null()));
    let is_person = matches!(then.as_ref(), Expr::Column(column) if persons.contains(column));
    if !is_nobody || !is_person {
        return Ok(None);
    }
    forbid([condition.as_ref()], persons)?;
    Ok(Some(condition.as_ref().clone().and(then.as_ref().clone().is_not_null())))
}
