//! What roles without student-level rights get: figures about groups, never a row about a student.
//!
//! The plan of a query is taken apart after the optimizer has turned subqueries into joins. Every scan of a table about
//! students begins a region of single rows; the region ends at an aggregate, and nothing else lets a row out of it.
//! Within the region the person may only be joined on and counted. The aggregate is replaced by one whose figures are
//! made of one contribution a student ([`figure`]) or of the students of each value ([`values`]), and by filters that
//! leave out groups of fewer students than the policy says ([`suppress`]), and further ones where those could be
//! computed from totals ([`complement`]). Figures that differ by few students are the same one ([`given`]).
//!
//! The threat model and what is not stopped: docs/adr/0013-figures-about-groups.md.

mod complement;
mod contributions;
mod figure;
mod gathered;
mod given;
mod groups;
mod noise;
mod rows;
mod suppress;
mod total;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Join, Projection, Subquery, SubqueryAlias, TableScan, TableScanBuilder};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan};
use datafusion::optimizer::Optimizer;

use self::figure::{Figures, Told};
pub use self::given::Given;
pub use self::groups::GroupFigures;
use self::rows::Rows;
use super::caller::{Caller, PrivacyKey};
use super::error::{self, QueryError};
use super::source::{About, TableSource};

/// Adds the figures for who gathers contributions and gives no figure: a worker. Neither the key nor the size of groups is known there.
pub(crate) fn add_figures(state: &mut SessionState) -> Result<()> {
    let gathers = Figures::new(Vec::new(), Told::new(PrivacyKey([0; 32]), u32::MAX, Arc::default()));
    state.register_udaf(Arc::new(AggregateUDF::new_from_impl(gathers)))?;
    Ok(())
}

/// Turns `count(distinct person)` into a grouping by person, which the guard could not tell from one that a query wrote.
const RULE_LEFT_OUT: &str = "single_distinct_aggregation_to_group_by";

/// Most figures of one query: many of nearly the same would average the noise away.
const FIGURES_MAX: usize = 32;

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
    given: &Arc<Given>,
    state: &SessionState,
    plan: LogicalPlan,
    sources: &BTreeMap<String, Arc<dyn TableSource>>,
) -> Result<Guarded, Fault> {
    let rules = Optimizer::new().rules.into_iter().filter(|rule| rule.name() != RULE_LEFT_OUT).collect();
    let careful = SessionStateBuilder::new_from_existing(state.clone()).with_optimizer_rules(rules).build();
    let mut guard = Guard { caller, given, sources, figures: 0 };
    if let LogicalPlan::Explain(explain) = &plan {
        // Nothing of it runs; the plan says what the query would read: of a table about students in how many rows and files somebody is.
        let (_, rows) = guard.node(careful.optimize(&explain.plan)?)?;
        if guard.figures > 0 || !rows.are_about_nobody() {
            refused("EXPLAIN says how much there is of single students, which this account may not see; it explains queries about nobody")?;
        }
        return Ok(Guarded { plan: state.optimize(&plan)?, warnings: Vec::new() });
    }
    let (plan, rows) = guard.node(careful.optimize(&plan)?)?;
    if !rows.are_about_nobody() {
        refused("this account sees figures about groups, not rows about single students: use count, sum or avg with GROUP BY")?;
    }
    let warnings = if guard.figures == 0 {
        Vec::new()
    } else {
        vec![format!(
            "Figures about students are given with a small uncertainty that hides any single one, and groups of fewer than {least} are left \
             out. A figure is empty where fewer than {least} contribute anything but zero to it.",
            least = caller.group_min
        )]
    };
    Ok(Guarded { plan: careful.optimize(&plan)?, warnings })
}

struct Guard<'a> {
    caller: &'a Caller,
    given: &'a Arc<Given>,
    sources: &'a BTreeMap<String, Arc<dyn TableSource>>,
    /// Aggregates that were replaced.
    figures: usize,
}

/// A plan, and what is known of its rows.
type Node = (LogicalPlan, Rows);

/// The one of the persons' columns that an expression has in it.
fn mentioned<'a>(expr: &Expr, persons: &'a [Column]) -> Option<&'a Column> {
    let columns = expr.column_refs();
    persons.iter().find(|person| columns.contains(person))
}

fn forbid<'a>(exprs: impl IntoIterator<Item = &'a Expr>, persons: &[Column]) -> Result<()> {
    match exprs.into_iter().find_map(|expr| mentioned(expr, persons)) {
        Some(person) => refused(format!("this account may join on {:?} and count it, and not pick, show or group by it", person.name)),
        None => Ok(()),
    }
}

impl Guard<'_> {
    fn node(&mut self, plan: LogicalPlan) -> Result<Node> {
        let plan = self.subqueries(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let (input, rows) = self.node(Arc::unwrap_or_clone(projection.input))?;
                project(projection.expr, input, rows)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let (input, mut rows) = self.node(Arc::unwrap_or_clone(alias.input))?;
                rows.persons.iter_mut().chain(&mut rows.instants).for_each(|column| column.relation = Some(alias.alias.clone()));
                Ok((LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias)?), rows))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => {
                let (input, rows) = self.node(Arc::unwrap_or_clone(Arc::clone(&aggregate.input)))?;
                if rows.are_about_nobody() {
                    let plan = LogicalPlan::Aggregate(aggregate);
                    let exprs = plan.expressions();
                    return Ok((plan.with_new_exprs(exprs, vec![input])?, rows));
                }
                self.figures += aggregate.aggr_expr.len().max(1);
                if self.figures > FIGURES_MAX {
                    return refused(format!("a query gives {FIGURES_MAX} figures about students at most; ask for fewer at a time"));
                }
                let told = Told::new(self.caller.privacy, self.caller.group_min, Arc::clone(self.given));
                Ok((suppress::aggregate(self.caller.group_min, told, aggregate, input, &rows)?, Rows::default()))
            }
            other => self.passing(other),
        }
    }

    /// Subqueries that are still expressions give figures or nothing.
    fn subqueries(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let guarded = plan.map_subqueries(|plan| {
            let LogicalPlan::Subquery(subquery) = plan else { return Ok(Transformed::no(plan)) };
            let (inner, rows) = self.node(Arc::unwrap_or_clone(subquery.subquery))?;
            if !rows.are_about_nobody() {
                return refused("this subquery gives rows about single students, which this account may not see");
            }
            Ok(Transformed::yes(LogicalPlan::Subquery(Subquery { subquery: Arc::new(inner), ..subquery })))
        })?;
        Ok(guarded.data)
    }

    fn scan(&self, scan: TableScan) -> Result<Node> {
        let source = self.sources.get(scan.table_name.table()).map(|source| source.scope());
        let Some(scope) = source.filter(|scope| matches!(scope.about, About::Students | About::Classes)) else {
            return Ok((LogicalPlan::TableScan(scan), Rows::default()));
        };
        let Some(name) = scope.person else {
            return refused(format!("{} says of no row whom it is about; this account may not query it", scan.table_name));
        };
        let person = Column::new(Some(scan.table_name.clone()), name);
        forbid(&scan.filters, std::slice::from_ref(&person))?;
        let columns = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        let mut rows = Rows::of_table(person, &columns);
        rows.meet(&scan.filters);
        let filters = total::all(scan.filters, &columns)?;
        let place = scan.source.schema().index_of(name)?;
        let mut projection = scan.projection;
        if let Some(columns) = &mut projection
            && !columns.contains(&place)
        {
            columns.push(place);
        }
        let builder = TableScanBuilder::new(scan.table_name, scan.source).with_projection(projection);
        let scan = builder.with_filters(filters).with_fetch(scan.fetch).build()?;
        Ok((LogicalPlan::TableScan(scan), rows))
    }

    fn join(&mut self, mut join: Join) -> Result<Node> {
        let (left, mut of_left) = self.node(Arc::unwrap_or_clone(Arc::clone(&join.left)))?;
        let (right, mut of_right) = self.node(Arc::unwrap_or_clone(Arc::clone(&join.right)))?;
        let both = [of_left.persons.as_slice(), of_right.persons.as_slice()].concat();
        forbid(&join.filter, &both)?;
        let is_one = |expr: &Expr, rows: &Rows| matches!(expr, Expr::Column(column) if rows.persons.contains(column));
        let is_same = |(l, r): &(Expr, Expr)| is_one(l, &of_left) && is_one(r, &of_right);
        if !of_left.are_about_nobody() && !of_right.are_about_nobody() && !join.on.iter().any(is_same) {
            return refused("tables about students are joined on the student, with an equality of the two columns");
        }
        forbid(join.on.iter().filter(|pair| !is_same(pair)).flat_map(|(l, r)| [l, r]), &both)?;
        if !both.is_empty() {
            let columns = left.schema().join(right.schema())?;
            join.filter = join.filter.map(|filter| total::total(filter, &columns)).transpose()?;
            let on = join.on.into_iter().map(|(l, r)| Ok((total::total(l, left.schema())?, total::total(r, right.schema())?)));
            join.on = on.collect::<Result<_>>()?;
        }
        use JoinType::{Inner, Left, LeftAnti, LeftSemi, Right, RightAnti, RightSemi};
        let rows = match join.join_type {
            _ if both.is_empty() => Rows::default(),
            LeftSemi | LeftAnti if !of_left.are_about_nobody() => of_left,
            RightSemi | RightAnti if !of_right.are_about_nobody() => of_right,
            Inner | Left if !of_left.are_about_nobody() => {
                of_left.persons.append(&mut of_right.persons);
                of_left
            }
            Inner | Right if !of_right.are_about_nobody() => {
                of_right.persons.append(&mut of_left.persons);
                of_right
            }
            _ => return refused("this kind of join would show whether a single student has rows; join from the students' side"),
        };
        let plan = LogicalPlan::Join(join);
        let exprs = plan.expressions();
        Ok((plan.with_new_exprs(exprs, vec![left, right])?, rows))
    }

    /// Any other step: rows about single students pass a filter or an order, and nothing else.
    fn passing(&mut self, plan: LogicalPlan) -> Result<Node> {
        let passes = match &plan {
            LogicalPlan::Filter(_) => true,
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            _ => false,
        };
        let (mut rows, mut inputs) = (Rows::default(), Vec::new());
        for input in plan.inputs() {
            let (input, of_input) = self.node(input.clone())?;
            inputs.push(input);
            if !of_input.are_about_nobody() {
                rows = of_input;
            }
        }
        let mut exprs = plan.expressions();
        if !rows.are_about_nobody() {
            if !passes {
                let step = plan.display().to_string();
                let step = step.split([':', ' ']).next().unwrap_or_default().to_owned();
                return refused(format!("rows about single students may be joined, filtered and grouped by this account, not: {step}"));
            }
            forbid(&exprs, &rows.persons)?;
            if let LogicalPlan::Filter(filter) = &plan {
                rows.meet([&filter.predicate]);
            }
            if let [input] = inputs.as_slice() {
                exprs = total::all(exprs, input.schema())?;
            }
        }
        if inputs.is_empty() {
            return Ok((plan, rows));
        }
        Ok((plan.with_new_exprs(exprs, inputs)?, rows))
    }
}

/// A projection that keeps the persons' first column.
fn project(exprs: Vec<Expr>, input: LogicalPlan, rows: Rows) -> Result<Node> {
    let Some(first) = rows.persons.first() else {
        return Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?), rows));
    };
    let (mut kept, mut others, mut made, mut instants) = (None, Vec::new(), Vec::new(), Vec::new());
    let names = NamePreserver::new_for_projection();
    for expr in exprs {
        let shown = match &expr {
            Expr::Column(column) if rows.persons.contains(column) => Some((column, column.clone())),
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::Column(column) if rows.persons.contains(column) => {
                    Some((column, Column::new(alias.relation.clone(), alias.name.clone())))
                }
                _ => None,
            },
            _ => None,
        };
        match shown {
            Some((column, shown)) if column == first && kept.is_none() => kept = Some(shown),
            Some((_, shown)) => others.push(shown),
            None => {
                forbid([&expr], &rows.persons)?;
                if rows.says_when(&expr, input.schema())? {
                    let (relation, name) = expr.qualified_name();
                    instants.push(Column::new(relation, name));
                }
                let name = names.save(&expr);
                made.push(name.restore(total::total(expr, input.schema())?));
                continue;
            }
        }
        made.push(expr);
    }
    let kept = kept.unwrap_or_else(|| {
        made.push(Expr::Column(first.clone()));
        first.clone()
    });
    others.insert(0, kept);
    let plan = LogicalPlan::Projection(Projection::try_new(made, Arc::new(input))?);
    Ok((plan, Rows { persons: others, instants, ..rows }))
}
