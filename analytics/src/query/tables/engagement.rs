//! Engagement as tables of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;

use crate::engagement::table::{EngagementTable, Grain};
use crate::facts::columns::Column;
use crate::query::source::{About, ScopeColumns, TableSource};

struct EngagementSource {
    table: EngagementTable,
    columns: Vec<Column>,
}

impl TableSource for EngagementSource {
    fn name(&self) -> &str {
        self.table.grain().name()
    }

    fn schema(&self) -> SchemaRef {
        self.table.provider().schema()
    }

    fn documentation(&self) -> &str {
        self.table.grain().documentation()
    }

    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|(name, ..)| *name == column).map(|(.., documentation)| *documentation)
    }

    /// A window of a section is about a class of any size and names nobody: who may not see single students has the students' table,
    /// whose figures are those of groups.
    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: if self.table.grain() == Grain::Students { About::Students } else { About::Classes },
            district: "district",
            school: Some("school"),
            section: Some("section"),
            person: (self.table.grain() == Grain::Students).then_some("student"),
            identifying: &[],
        }
    }

    fn provider(&self) -> Arc<dyn TableProvider> {
        self.table.provider()
    }
}

/// `engagement` and `engagement_student`.
pub fn engagement_tables(store: &Store, directory: &Arc<DirectoryCache>, clock: &Clock) -> Vec<Arc<dyn TableSource>> {
    let table = |grain| EngagementTable::new(grain, store.clone(), Arc::clone(directory), clock.clone());
    let source = |grain: Grain| EngagementSource { table: table(grain), columns: grain.columns() };
    Grain::ALL.into_iter().map(|grain| Arc::new(source(grain)) as Arc<dyn TableSource>).collect()
}
