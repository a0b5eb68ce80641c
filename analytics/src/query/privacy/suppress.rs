//! An aggregate over rows about students, replaced by one that gives figures about groups that are large enough.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, builder::LogicalPlanBuilder};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, cast, lit, when};

use super::figure::{Figure, Kind};
use super::{complement, forbid, mentions, refused};
use crate::query::caller::Caller;

/// The hidden column with the number of students of a group.
const PERSONS: &str = "__persons";

/// The hidden column that says whether a group is shown.
const SHOWN: &str = "__shown";

fn named(name: &str) -> Expr {
    Expr::Column(Column::from_name(name))
}

/// The figures of `aggregate` over `input`, whose rows are about `person`; its schema has the same names and types.
pub fn aggregate(caller: &Caller, aggregate: Aggregate, input: LogicalPlan, person: &Column) -> Result<LogicalPlan> {
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return refused("write one query for each grouping: ROLLUP, CUBE and GROUPING SETS are not given about students");
    }
    forbid(&aggregate.group_expr, person)?;
    let figure = |kind: Kind, value: Expr| {
        let function = Figure::new(kind, caller.privacy, caller.group_min);
        let args = vec![Expr::Column(person.clone()), cast(value, DataType::Float64)];
        Expr::AggregateFunction(AggregateFunction::new_udf(
            Arc::new(AggregateUDF::new_from_impl(function)),
            args,
            false,
            None,
            vec![],
            None,
        ))
    };
    let mut figures = vec![figure(Kind::Exact, lit(1.0)).alias(PERSONS)];
    for (place, expr) in aggregate.aggr_expr.iter().enumerate() {
        let (kind, value) = read(expr, person)?;
        figures.push(figure(kind, value).alias(format!("__figure_{place}")));
    }
    let groups = aggregate.group_expr.len();
    let schema = Arc::clone(&aggregate.schema);
    let keys: Vec<Expr> = (0..groups).map(|place| Expr::Column(Column::from(schema.qualified_field(place)))).collect();
    let made = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), aggregate.group_expr, figures)?);
    let mut shown = keys.clone();
    for place in 0..aggregate.aggr_expr.len() {
        let (relation, field) = schema.qualified_field(groups + place);
        let value = cast(named(&format!("__figure_{place}")), field.data_type().clone());
        shown.push(value.alias_qualified(relation.cloned(), field.name()));
    }
    large_enough(made, &keys, caller.group_min)?.project(shown)?.build()
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
fn read(expr: &Expr, person: &Column) -> Result<(Kind, Expr)> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else {
        return refused(format!("{expr} is not given about students"));
    };
    if !params.order_by.is_empty() {
        return refused("an order within an aggregate is not given about students");
    }
    if let Some(filter) = &params.filter {
        forbid([filter.as_ref()], person)?;
    }
    let is_person = |expr: &Expr| *expr == Expr::Column(person.clone());
    let (kind, value) = match (func.name(), params.distinct, params.args.as_slice()) {
        ("count", true, [arg]) if is_person(arg) => (Kind::Persons, lit(1.0)),
        ("count", true, _) => return refused("only students are counted distinctly about students; group by the column instead"),
        ("count", false, [arg]) if is_person(arg) || matches!(arg, Expr::Literal(..)) => (Kind::Rows, lit(1.0)),
        ("count", false, [arg]) if !mentions(arg, person) => (Kind::Rows, cast(arg.clone().is_not_null(), DataType::Int64)),
        ("sum", false, [arg]) if !mentions(arg, person) => (Kind::Sum, arg.clone()),
        ("avg", false, [arg]) if !mentions(arg, person) => (Kind::Average, arg.clone()),
        (name, ..) => {
            return refused(format!("{name} can be the figure of a single student and is not given; count, sum and avg are"));
        }
    };
    let value = match params.filter {
        Some(filter) => when(*filter, cast(value, DataType::Float64)).end()?,
        None => value,
    };
    Ok((kind, value))
}
