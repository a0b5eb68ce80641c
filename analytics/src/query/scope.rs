//! What a caller sees of a table: a view that exists for one query, with the caller's scope in its plan.
//!
//! The names that a query can resolve are those of the views. The tables beneath have no name in the catalog of a query,
//! so nothing that the text says can reach one past its filter: not a subquery, a CTE of the same name, a qualified name
//! or another view. The filters are part of the logical plan from the first step and only the optimizer moves them, which
//! may push a filter towards the scan and never drops one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use rollcall_store::account::Role;

use super::caller::Caller;
use super::ids::literal;
use super::source::{About, ScopeColumns, TableSource};

/// Whether a caller has a table at all.
pub fn is_visible(caller: &Caller, scope: &ScopeColumns) -> bool {
    let of_own_sections = match scope.about {
        About::Students => scope.section.is_some() || scope.person.is_some(),
        About::Structure => scope.section.is_some() || scope.school.is_some(),
        About::Devices => false,
    };
    match caller.role {
        Role::Guardian => false,
        Role::It => scope.about == About::Devices,
        Role::Analyst => true,
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
        self.sources.get(name).map(|source| view(&self.caller, source.as_ref())).transpose()
    }

    fn table_exist(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }
}

/// The caller's view of a table.
fn view(caller: &Caller, source: &dyn TableSource) -> Result<Arc<dyn TableProvider>> {
    let (name, scope) = (source.name(), source.scope());
    let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(source.provider()), None)?;
    for filter in filters(caller, name, &scope) {
        plan = plan.filter(filter)?;
    }
    let schema = source.schema();
    let shown = schema.fields().iter().map(|field| field.name().as_str()).filter(|column| shows_column(caller, &scope, column));
    let columns: Vec<Expr> = shown.map(|column| column_of(name, column)).collect();
    Ok(Arc::new(ViewTable::new(plan.project(columns)?.build()?, None)))
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
