//! What roles without student-level rights get: figures about groups, never a row about a student.
//!
//! The plan of a query is taken apart after the optimizer has turned subqueries into joins. Every scan of a table about
//! students begins a region of single rows; the region ends at an aggregate, and nothing else lets a row out of it.
//! Within the region the person may only be joined on and counted. The aggregate is replaced by one whose figures are
//! made of one contribution a student ([`figure`]), and by filters that leave out groups of fewer students than the
//! policy says ([`suppress`]), and further ones where those could be computed from totals ([`complement`]).
//!
//! The threat model and what is not stopped: docs/adr/0013-figures-about-groups.md.

mod complement;
mod contributions;
mod figure;
mod suppress;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DataFusionError, JoinType, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::logical_plan::{Join, Projection, Subquery, SubqueryAlias, TableScan, TableScanBuilder};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan};
use datafusion::optimizer::Optimizer;

use super::caller::{Caller, PrivacyKey};
use super::error::{self, QueryError};
use super::source::{About, TableSource};

/// Adds the figures for who gathers contributions and gives no figure: a worker. Neither the key nor the size of groups is known there.
pub(crate) fn add_figures(state: &mut SessionState) -> Result<()> {
    let gathers = figure::Figures::new(Vec::new(), PrivacyKey([0; 32]), u32::MAX);
    state.register_udaf(Arc::new(AggregateUDF::new_from_impl(gathers)))?;
    Ok(())
}

/// Turns `count(distinct person)` into a grouping by person, which the guard could not tell from one that a query wrote.
const RULE_LEFT_OUT: &str = "single_distinct_aggregation_to_group_by";

/// A plan that may run for the caller.
pub struct Guarded {
    pub plan: LogicalPlan,
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refused<T>(message: impl Into<String>) -> Result<T> {
    Err(DataFusionError::External(Box::new(Refusal(message.into()))))
}

/// Why there is no plan.
pub struct Fault(DataFusionError);

impl From<DataFusionError> for Fault {
    fn from(error: DataFusionError) -> Self {
        Self(error)
    }
}

impl Fault {
    pub fn say(&self, sql: &str, tables: &[String]) -> QueryError {
        match self.0.find_root() {
            DataFusionError::External(cause) if cause.is::<Refusal>() => QueryError::refused(cause.to_string()),
            _ => error::of_planning(&self.0, sql, tables),
        }
    }
}

/// Makes a plan that gives figures about groups of students only, or refuses.
pub fn guard(
    caller: &Caller,
    state: &SessionState,
    plan: LogicalPlan,
    sources: &BTreeMap<String, Arc<dyn TableSource>>,
) -> Result<Guarded, Fault> {
    if matches!(plan, LogicalPlan::Explain(_)) {
        // Nothing of it runs; the plan says what the query would read.
        return Ok(Guarded { plan: state.optimize(&plan)?, warnings: Vec::new() });
    }
    let rules = Optimizer::new().rules.into_iter().filter(|rule| rule.name() != RULE_LEFT_OUT).collect();
    let careful = SessionStateBuilder::new_from_existing(state.clone()).with_optimizer_rules(rules).build();
    let plan = careful.optimize(&plan)?;
    let mut guard = Guard { caller, sources, figures: 0 };
    let (plan, person) = guard.node(plan)?;
    if person.is_some() {
        refused("this account sees figures about groups, not rows about single students: use count, sum or avg with GROUP BY")?;
    }
    let warnings = if guard.figures == 0 {
        Vec::new()
    } else {
        vec![format!(
            "Figures about students are given with a small uncertainty that hides any single one, and groups of fewer than {} are left out.",
            caller.group_min
        )]
    };
    Ok(Guarded { plan: careful.optimize(&plan)?, warnings })
}

struct Guard<'a> {
    caller: &'a Caller,
    sources: &'a BTreeMap<String, Arc<dyn TableSource>>,
    /// Aggregates that were replaced.
    figures: usize,
}

/// A plan and, when its rows are about single students, the column that says about whom.
type Node = (LogicalPlan, Option<Column>);

fn mentions(expr: &Expr, person: &Column) -> bool {
    expr.column_refs().contains(person)
}

fn forbid<'a>(exprs: impl IntoIterator<Item = &'a Expr>, person: &Column) -> Result<()> {
    if exprs.into_iter().any(|expr| mentions(expr, person)) {
        return refused(format!("this account may join on {:?} and count it, and not pick, show or group by it", person.name));
    }
    Ok(())
}

impl Guard<'_> {
    fn node(&mut self, plan: LogicalPlan) -> Result<Node> {
        let plan = self.subqueries(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let (input, person) = self.node(Arc::unwrap_or_clone(projection.input))?;
                project(projection.expr, input, person)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (input, person) = self.node(Arc::unwrap_or_clone(alias.input))?;
                let person = person.map(|person| Column::new(Some(alias.alias.clone()), person.name));
                Ok((LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias)?), person))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => {
                let (input, person) = self.node(Arc::unwrap_or_clone(Arc::clone(&aggregate.input)))?;
                let Some(person) = person else {
                    let plan = LogicalPlan::Aggregate(aggregate);
                    let exprs = plan.expressions();
                    return Ok((plan.with_new_exprs(exprs, vec![input])?, None));
                };
                self.figures += 1;
                Ok((suppress::aggregate(self.caller, aggregate, input, &person)?, None))
            }
            other => self.passing(other),
        }
    }

    /// Subqueries that are still expressions give figures or nothing.
    fn subqueries(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let guarded = plan.map_subqueries(|plan| {
            let LogicalPlan::Subquery(subquery) = plan else { return Ok(Transformed::no(plan)) };
            let (inner, person) = self.node(Arc::unwrap_or_clone(subquery.subquery))?;
            if person.is_some() {
                return refused("this subquery gives rows about single students, which this account may not see");
            }
            Ok(Transformed::yes(LogicalPlan::Subquery(Subquery { subquery: Arc::new(inner), ..subquery })))
        })?;
        Ok(guarded.data)
    }

    fn scan(&self, scan: TableScan) -> Result<Node> {
        let source = self.sources.get(scan.table_name.table()).map(|source| source.scope());
        let Some(scope) = source.filter(|scope| scope.about == About::Students) else { return Ok((LogicalPlan::TableScan(scan), None)) };
        let Some(name) = scope.person else {
            return refused(format!("{} says of no row whom it is about; this account may not query it", scan.table_name));
        };
        let person = Column::new(Some(scan.table_name.clone()), name);
        forbid(&scan.filters, &person)?;
        let place = scan.source.schema().index_of(name)?;
        let mut projection = scan.projection;
        if let Some(columns) = &mut projection
            && !columns.contains(&place)
        {
            columns.push(place);
        }
        let builder = TableScanBuilder::new(scan.table_name, scan.source).with_projection(projection);
        let scan = builder.with_filters(scan.filters).with_fetch(scan.fetch).build()?;
        Ok((LogicalPlan::TableScan(scan), Some(person)))
    }

    fn join(&mut self, join: Join) -> Result<Node> {
        let (left, of_left) = self.node(Arc::unwrap_or_clone(Arc::clone(&join.left)))?;
        let (right, of_right) = self.node(Arc::unwrap_or_clone(Arc::clone(&join.right)))?;
        for person in of_left.iter().chain(&of_right) {
            forbid(&join.filter, person)?;
        }
        if let (Some(one), Some(other)) = (&of_left, &of_right) {
            let is_same = |(l, r): &(Expr, Expr)| *l == Expr::Column(one.clone()) && *r == Expr::Column(other.clone());
            if !join.on.iter().any(is_same) {
                return refused("tables about students are joined on the student, with an equality of the two columns");
            }
            let others = || join.on.iter().filter(|pair| !is_same(pair)).flat_map(|(l, r)| [l, r]);
            forbid(others(), one)?;
            forbid(others(), other)?;
        } else if let Some(person) = of_left.as_ref().or(of_right.as_ref()) {
            forbid(join.on.iter().flat_map(|(l, r)| [l, r]), person)?;
        }
        use JoinType::{Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
        let person = match (join.join_type, of_left, of_right) {
            (_, None, None) => None,
            (Inner | Left | LeftSemi | LeftAnti, Some(person), _) | (Inner | Right | RightSemi | RightAnti, _, Some(person)) => {
                Some(person)
            }
            _ => return refused("this kind of join would show whether a single student has rows; join from the students' side"),
        };
        let plan = LogicalPlan::Join(join);
        let exprs = plan.expressions();
        Ok((plan.with_new_exprs(exprs, vec![left, right])?, person))
    }

    /// Any other step: rows about single students pass a filter or an order, and nothing else.
    fn passing(&mut self, plan: LogicalPlan) -> Result<Node> {
        let passes = match &plan {
            LogicalPlan::Filter(_) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            _ => false,
        };
        let mut person = None;
        let mut inputs = Vec::new();
        for input in plan.inputs() {
            let (input, of_input) = self.node(input.clone())?;
            inputs.push(input);
            person = person.or(of_input);
        }
        let exprs = plan.expressions();
        if let Some(person) = &person {
            if !passes {
                let step = plan.display().to_string();
                let step = step.split([':', ' ']).next().unwrap_or_default().to_owned();
                return refused(format!("rows about single students may be joined, filtered and grouped by this account, not: {step}"));
            }
            forbid(&exprs, person)?;
        }
        if inputs.is_empty() {
            return Ok((plan, None));
        }
        Ok((plan.with_new_exprs(exprs, inputs)?, person))
    }
}

/// A projection that keeps the person.
fn project(mut exprs: Vec<Expr>, input: LogicalPlan, person: Option<Column>) -> Result<Node> {
    let mut kept = None;
    if let Some(person) = &person {
        for expr in &exprs {
            match expr {
                Expr::Column(column) if column == person => kept = Some(person.clone()),
                Expr::Alias(alias) if *alias.expr == Expr::Column(person.clone()) => {
                    kept = Some(Column::new(alias.relation.clone(), alias.name.clone()));
                }
                other => forbid([other], person)?,
            }
        }
        if kept.is_none() {
            exprs.push(Expr::Column(person.clone()));
            kept = Some(person.clone());
        }
    }
    Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), kept))
}
