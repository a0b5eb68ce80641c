//! The facts as tables and views of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::prelude::SessionContext;
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;

use crate::facts::{Facts, FactsTable, VIEWS, View};
use crate::query::source::{About, ScopeColumns, TableSource};

struct FactsSource(FactsTable);

impl TableSource for FactsSource {
    fn name(&self) -> &str {
        self.0.facts().name()
    }

    fn schema(&self) -> SchemaRef {
        self.0.provider().schema()
    }

    fn documentation(&self) -> &str {
        self.0.facts().documentation()
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.0.facts().columns().iter().find(|(name, ..)| *name == column).map(|(.., documentation)| *documentation)
    }

    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: About::Students,
            district: "district",
            // A student's days in the district are those of several schools: nobody gets them who has only some.
            school: (self.0.facts() != Facts::AbsenceInDistrict).then_some("school"),
            section: matches!(self.0.facts(), Facts::Periods | Facts::AbsenceInSection).then_some("section"),
            person: Some("student"),
            identifying: &["mark"],
        }
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        self.0.provider()
    }
}

/// `attendance_day`, `attendance_period`, `membership`, `absence_at_school`, `absence_in_district` and `absence_in_section`.
pub fn facts_tables(store: &Store, directory: &Arc<DirectoryCache>, clock: &Clock) -> Vec<Arc<dyn TableSource>> {
    let table = |facts| FactsTable::new(facts, store.clone(), Arc::clone(directory), clock.clone());
    Facts::ALL.into_iter().map(|facts| Arc::new(FactsSource(table(facts))) as Arc<dyn TableSource>).collect()
}

/// Columns of views that are the figure of one student: roles that get figures of groups only do not have them.
const OF_SINGLE_STUDENTS: [&str; 1] = ["median_min"];

struct ViewSource {
    view: &'static View,
    table: Arc<ViewTable>,
}

impl TableSource for ViewSource {
    fn name(&self) -> &str {
        self.view.name
    }

    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn documentation(&self) -> &str {
        self.view.documentation
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.view.columns.iter().find(|(name, _)| *name == column).map(|(_, documentation)| *documentation)
    }

    /// Every view groups by district and, unless it is about all schools together, by school, so the scope above it says the same as
    /// one beneath. What it is made of stays in the plan by its own name: roles that get figures of groups only get them here too, or
    /// a refusal.
    fn scope(&self) -> ScopeColumns {
        let school = self.view.columns.iter().map(|(name, _)| *name).find(|name| *name == "school");
        ScopeColumns { about: About::Students, district: "district", school, section: None, person: None, identifying: &OF_SINGLE_STUDENTS }
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.table) as Arc<dyn TableProvider>
    }
}

/// The views of [`VIEWS`] over the tables of the facts.
pub async fn facts_views(store: &Store, directory: &Arc<DirectoryCache>, clock: &Clock) -> Result<Vec<Arc<dyn TableSource>>> {
    let context = SessionContext::new();
    for facts in Facts::ALL {
        let table = FactsTable::new(facts, store.clone(), Arc::clone(directory), clock.clone());
        context.register_table(facts.name(), table.provider())?;
    }
    views_of(&context).await
}

/// The views of [`VIEWS`] over what a context has under the names of their tables.
pub(crate) async fn views_of(context: &SessionContext) -> Result<Vec<Arc<dyn TableSource>>> {
    let mut views: Vec<Arc<dyn TableSource>> = Vec::with_capacity(VIEWS.len());
    for view in &VIEWS {
        let plan = context.state().create_logical_plan(view.sql).await?;
        views.push(Arc::new(ViewSource { view, table: Arc::new(ViewTable::new(plan, None)) }));
    }
    Ok(views)
}
