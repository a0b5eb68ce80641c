//! Engagement as tables of the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;
use tokio::sync::watch;

use super::saves::Saves;
use crate::engagement::table::{EngagementTable, Grain};
use crate::facts::columns::Column;
use crate::facts::narrow::Narrow;
use crate::query::source::{About, ScopeColumns, TableSource};

struct EngagementSource {
    table: EngagementTable,
    columns: Vec<Column>,
    directory: Arc<DirectoryCache>,
    saves: Saves,
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

    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.saves.windows.count(), self.directory.changed()]
    }

    fn has_news(&self, since: &[u64], filters: &[Expr]) -> bool {
        let [windows, directory] = since else { return true };
        let narrow = Narrow::of(filters);
        *self.directory.changed().borrow() != *directory || self.saves.windows.since(*windows, |school| narrow.wants_school(school))
    }
}

/// `engagement` and `engagement_student`.
pub fn engagement_tables(store: &Store, directory: &Arc<DirectoryCache>, clock: &Clock, saves: &Saves) -> Vec<Arc<dyn TableSource>> {
    let table = |grain| EngagementTable::new(grain, store.clone(), Arc::clone(directory), clock.clone());
    let source = |grain: Grain| EngagementSource {
        table: table(grain),
        columns: grain.columns(),
        directory: Arc::clone(directory),
        saves: saves.clone(),
    };
    Grain::ALL.into_iter().map(|grain| Arc::new(source(grain)) as Arc<dyn TableSource>).collect()
}
