//! What a caller sees of a table: a view that exists for one query, with the caller's scope in its plan.
//!
//! The names that a query can resolve are those of the views. The tables beneath have no name in the catalog of a query,
//! so nothing that the text says can reach one past its filter: not a subquery, a CTE of the same name, a qualified name
//! or another view. The filters are part of the logical plan from the first step, so that scans leave out what they can, and each
//! scan applies them by itself besides ([`Scoped`]), so that no condition of the text meets a row of others.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, Statistics};
use datafusion::datasource::{TableType, ViewTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::expr_rewriter::unnormalize_cols;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, lit};
use datafusion::physical_plan::ExecutionPlan;
use rollcall_store::account::Role;

use super::caller::Caller;
use super::ids::literal;
use super::source::{About, ScopeColumns, TableSource};
use crate::hot::scan;
use crate::sealed::Sealed;

/// Whether a caller has a table at all.
pub fn is_visible(caller: &Caller, scope: &ScopeColumns) -> bool {
    let of_own_sections = match scope.about {
        About::Students | About::Classes => scope.section.is_some() || scope.person.is_some(),
        About::Structure => scope.section.is_some() || scope.school.is_some(),
        About::Devices => false,
    };
    match caller.role {
        Role::Guardian => false,
        Role::It => scope.about == About::Devices,
        Role::Analyst => scope.about != About::Classes,
        // A caller of some schools cannot be given a part of a table that does not say which school a row belongs to.
        Role::Office => caller.schools.is_none() || scope.school.is_some(),
        Role::Teacher => of_own_sections && scope.school.is_some(),
    }
}

/// Whether a caller has a column of a table.
pub fn shows_column(caller: &Caller, scope: &ScopeColumns, column: &str) -> bool {
    caller.has_student_rights() || scope.about != About::Students || !scope.identifying.contains(&column)
}

/// The names that one query can resolve. A view is made when the text names it, so that tables cost a query nothing that it
/// does not ask.
pub struct Views {
    caller: Caller,
    sources: BTreeMap<String, Arc<dyn TableSource>>,
}

impl Views {
    /// `sources` are those that the caller has.
    pub fn new(caller: Caller, sources: BTreeMap<String, Arc<dyn TableSource>>) -> Self {
        Self { caller, sources }
    }
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.sources.keys()).finish()
    }
}

#[async_trait]
impl SchemaProvider for Views {
    fn table_names(&self) -> Vec<String> {
        self.sources.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.sources.get(name).map(|source| self.view(source.as_ref())).transpose()
    }

    fn table_exist(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }
}

impl Views {
    /// The caller's view of a table.
    fn view(&self, source: &dyn TableSource) -> Result<Arc<dyn TableProvider>> {
        let (caller, name, scope) = (&self.caller, source.name(), source.scope());
        let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(self.scoped(name, source.provider(), &scope)?), None)?;
        for filter in filters(caller, name, &scope) {
            plan = plan.filter(filter)?;
        }
        let schema = source.schema();
        let shown = schema.fields().iter().map(|field| field.name().as_str()).filter(|column| shows_column(caller, &scope, column));
        let columns: Vec<Expr> = shown.map(|column| column_of(name, column)).collect();
        Ok(Arc::new(ViewTable::new(plan.project(columns)?.build()?, None)))
    }

    /// The table with the caller's rows only; of a query with a name, the tables that it reads.
    fn scoped(&self, name: &str, table: Arc<dyn TableProvider>, scope: &ScopeColumns) -> Result<Arc<dyn TableProvider>> {
        let Some(plan) = table.get_logical_plan().map(Cow::into_owned) else {
            let scope = unnormalize_cols(filters(&self.caller, name, scope));
            return Ok(Arc::new(Scoped { inner: table, scope }));
        };
        let read = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
            let (name, below) = (scan.table_name.table(), source_as_provider(&scan.source)?);
            // A table without a name of its own has the columns that the query limits itself by, or some of them.
            let named = |column: Option<&'static str>| column.filter(|column| below.schema().index_of(column).is_ok());
            let own = self.sources.get(name).map(|source| source.scope()).unwrap_or(ScopeColumns {
                school: named(scope.school),
                section: named(scope.section),
                person: named(scope.person),
                ..*scope
            });
            let source = provider_as_source(self.scoped(name, below, &own)?);
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        })?;
        Ok(Arc::new(ViewTable::new(read.data, None)))
    }
}

/// A table of which a scan has the rows of one caller, and nothing that stands above it is ever evaluated for others.
///
/// The filters of the view alone do not promise that: the optimizer joins them with those of the text to one condition, of which both
/// sides are evaluated for most rows, and a cast that fails says the value that it was given.
#[derive(Debug)]
struct Scoped {
    inner: Arc<dyn TableProvider>,
    /// Without the table's name, as a scan gets its filters.
    scope: Vec<Expr>,
}

#[async_trait]
impl TableProvider for Scoped {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.inner.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let answers = self.inner.supports_filters_pushdown(&self.scope.iter().collect::<Vec<_>>())?;
        let is_left = |answer: &TableProviderFilterPushDown| *answer != TableProviderFilterPushDown::Exact;
        let left: Vec<Expr> = self.scope.iter().zip(&answers).filter(|(_, answer)| is_left(answer)).map(|(expr, _)| expr.clone()).collect();
        let mut all = self.scope.clone();
        all.extend(filters.iter().filter(|filter| !self.scope.contains(filter)).cloned());
        if left.is_empty() {
            return self.inner.scan(session, projection, &all, limit).await;
        }
        let schema = self.inner.schema();
        let read = scan::with_columns_of(&left, &schema, projection);
        let rows = self.inner.scan(session, Some(&read), &all, None).await?;
        let asked = projection.map_or(schema.fields().len(), Vec::len);
        let own = scan::tested(session, rows, left, asked)?;
        let known = Statistics::new_unknown(&own.schema());
        Ok(Arc::new(Sealed::new(own, "OwnRows".to_owned(), known)))
    }
}

fn column_of(table: &str, column: &str) -> Expr {
    Expr::Column(Column::new(Some(table), column))
}

/// The filters of a caller on a table: the district always, the rest by role.
fn filters(caller: &Caller, table: &str, scope: &ScopeColumns) -> Vec<Expr> {
    let mut filters = vec![one_of(table, scope.district, [caller.district.as_bytes()].into_iter())];
    if let (Some(column), Some(schools)) = (scope.school, &caller.schools) {
        filters.push(one_of(table, column, ids(schools, |id| id.as_bytes())));
    }
    match (scope.section, &caller.sections, scope.person, &caller.students) {
        (Some(column), Some(sections), _, _) => filters.push(one_of(table, column, ids(sections, |id| id.as_bytes()))),
        (_, _, Some(column), Some(students)) => filters.push(one_of(table, column, ids(students, |id| id.as_bytes()))),
        _ => {}
    }
    filters
}

fn ids<'a, T>(set: &'a BTreeSet<T>, bytes: impl Fn(&'a T) -> &'a [u8; 16] + 'a) -> impl Iterator<Item = &'a [u8; 16]> {
    set.iter().map(bytes)
}

/// The column is one of the ids; of none when there are none.
fn one_of<'a>(table: &str, column: &str, ids: impl Iterator<Item = &'a [u8; 16]>) -> Expr {
    let column = column_of(table, column);
    let mut ids: Vec<Expr> = ids.map(|id| lit(literal(id))).collect();
    match ids.len() {
        0 => lit(false),
        1 => column.eq(ids.remove(0)),
        _ => column.in_list(ids, false),
    }
}
