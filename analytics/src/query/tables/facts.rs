//! The facts as tables and views of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::logical_expr::Expr;
use datafusion::prelude::SessionContext;
use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;
use tokio::sync::watch;

use super::saves::Saves;
use crate::facts::narrow::Narrow;
use crate::facts::{Facts, FactsTable, VIEWS, View};
use crate::query::source::{About, ScopeColumns, TableSource};

struct FactsSource {
    table: FactsTable,
    directory: Arc<DirectoryCache>,
    saves: Saves,
}

impl TableSource for FactsSource {
    fn name(&self) -> &str {
        self.table.facts().name()
    }

    fn schema(&self) -> SchemaRef {
        self.table.provider().schema()
    }

    fn documentation(&self) -> &str {
        self.table.facts().documentation()
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.table.facts().columns().iter().find(|(name, ..)| *name == column).map(|(.., documentation)| *documentation)
    }

    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: About::Students,
            district: "district",
            // A student's days in the district are those of several schools: nobody gets them who has only some.
            school: (self.table.facts() != Facts::AbsenceInDistrict).then_some("school"),
            section: matches!(self.table.facts(), Facts::Periods | Facts::AbsenceInSection).then_some("section"),
            person: Some("student"),
            identifying: &["mark"],
        }
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        self.table.provider()
    }

    /// By conclusions, also the last one of a day when its last bell has rung, by marks, which have reasons, and by the directory.
    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.saves.conclusions.count(), self.saves.marks.clone(), self.directory.changed()]
    }

    fn has_news(&self, since: &[u64], filters: &[Expr]) -> bool {
        let [conclusions, marks, directory] = since else { return true };
        if *self.saves.marks.borrow() != *marks || *self.directory.changed().borrow() != *directory {
            return true;
        }
        let narrow = Narrow::of(filters);
        // What a student's days at home add up to is a matter of all schools.
        let is_of_all = self.table.facts() == Facts::AbsenceInDistrict;
        let wants_district = |district: &DistrictId| Narrow::wants(&narrow.district, district.as_bytes());
        let wanted = |school: &(DistrictId, SchoolId)| if is_of_all { wants_district(&school.0) } else { narrow.wants_school(school) };
        self.saves.conclusions.since(*conclusions, wanted)
    }
}

/// `attendance_day`, `attendance_period`, `membership`, `absence_at_school`, `absence_in_district` and `absence_in_section`.
pub fn facts_tables(store: &Store, directory: &Arc<DirectoryCache>, clock: &Clock, saves: &Saves) -> Vec<Arc<dyn TableSource>> {
    let table = |facts| FactsTable::new(facts, store.clone(), Arc::clone(directory), clock.clone());
    let source = |facts| FactsSource { table: table(facts), directory: Arc::clone(directory), saves: saves.clone() };
    Facts::ALL.into_iter().map(|facts| Arc::new(source(facts)) as Arc<dyn TableSource>).collect()
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
