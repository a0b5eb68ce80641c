//! What a query can name and use: the caller's views, and memory and disk of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::DataFusionError;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::caller::Caller;
use super::engine::Inner;
use super::error::QueryError;
use super::limits::{EngineConfig, Limits};
use super::memory::{self, Bounding, Share};
use super::privacy::Given;
use super::source::TableSource;
use super::{as_text, distinct, ids, scope};
use crate::distributed::Spread;
use crate::history::QueryWarnings;

const CATALOG: &str = "rollcall";
const SCHEMA: &str = "public";

/// Rows that an operator hands on at a time.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// What a door adds to the tables because its clients' tools ask for it: functions, and schemas that say what there is. Made for
/// one caller; it holds the names and columns of the caller's tables and no row of them.
#[derive(Clone)]
pub struct Surroundings {
    state: SessionState,
    schemas: Vec<(String, Arc<dyn SchemaProvider>)>,
    _catalog: Arc<Described>,
}

/// The catalog that a door's schemas describe. They stand in it and hold it, so that without an end it would stay in memory for
/// ever: it is emptied when the last copy of the surroundings goes.
struct Described(Arc<MemoryCatalogProvider>);

impl Drop for Described {
    fn drop(&mut self) {
        for name in self.0.schema_names() {
            // Nothing else is registered here than what can be taken out again.
            let _ = self.0.deregister_schema(&name, true);
        }
    }
}

pub(super) type Sources = BTreeMap<String, Arc<dyn TableSource>>;

/// One query's own.
pub(super) struct Session {
    pub state: SessionState,
    /// Of the tables that the caller has.
    pub names: Vec<String>,
    pub sources: Sources,
    /// Hears what its tables cannot read.
    pub lacking: Arc<QueryWarnings>,
    /// What each call of a function may make.
    pub share: Share,
    pub given: Arc<Given>,
}

impl Inner {
    /// The state of one query: the caller's views and nothing else under names, memory and disk of its own.
    pub(super) fn session(&self, caller: &Caller, limits: &Limits, around: Option<&Surroundings>) -> Result<Session, QueryError> {
        let failed = |error: DataFusionError| QueryError::Failed(Arc::new(error));
        let sources: Sources = {
            let all = self.sources.read();
            all.iter()
                .filter(|(_, source)| scope::is_visible(caller, &source.scope()))
                .map(|(name, source)| (name.clone(), source.clone()))
                .collect()
        };
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(scope::Views::new(caller.clone(), sources.clone()))).map_err(failed)?;
        for (name, schema) in around.into_iter().flat_map(|around| &around.schemas) {
            catalog.register_schema(name, Arc::clone(schema)).map_err(failed)?;
        }
        let base = around.map_or(&self.base, |around| &around.state);
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let lacking = Arc::new(QueryWarnings::default());
        let mut config = base.config().clone().with_extension(Arc::clone(&lacking));
        let share = Share::default();
        let mut builder = SessionStateBuilder::new_from_existing(base.clone())
            .with_catalog_list(Arc::new(catalogs))
            .with_analyzer_rule(Arc::new(Bounding::new(&share)))
            .with_runtime_env(self.runtime_env(limits).map_err(failed)?);
        if let Some(workers) = self.workers.get() {
            config.set_extension(Arc::clone(workers));
            builder = builder.with_physical_optimizer_rule(Arc::new(Spread::new(Arc::clone(workers), Arc::clone(&lacking))));
        }
        let mut state = builder.with_config(config).build();
        // The instant that now() and its like mean throughout the query; without it they fail.
        state.mark_start_execution();
        let (names, given) = (sources.keys().cloned().collect(), Arc::clone(&self.given));
        Ok(Session { state, names, sources, lacking, share, given })
    }

    /// Has `add` put its own into a context that knows `tables` by their columns.
    pub(super) fn surroundings(
        &self,
        tables: Vec<(String, SchemaRef)>,
        add: impl FnOnce(&SessionContext) -> Result<(), DataFusionError>,
    ) -> Result<Surroundings, DataFusionError> {
        let known = MemorySchemaProvider::new();
        for (name, columns) in tables {
            known.register_table(name, Arc::new(EmptyTable::new(columns)))?;
        }
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema(SCHEMA, Arc::new(known))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
        let state = SessionStateBuilder::new_from_existing(self.base.clone()).with_catalog_list(Arc::new(catalogs)).build();
        let context = SessionContext::new_with_state(state);
        add(&context)?;
        let names = catalog.schema_names().into_iter().filter(|name| name != SCHEMA);
        let schemas = names.filter_map(|name| Some((name.clone(), catalog.schema(&name)?))).collect();
        Ok(Surroundings { state: context.state(), schemas, _catalog: Arc::new(Described(catalog)) })
    }

    fn runtime_env(&self, limits: &Limits) -> Result<Arc<RuntimeEnv>, DataFusionError> {
        let mode = match &self.config.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(limits.spill_bytes);
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc()
    }
}

pub(super) fn base_state(config: &EngineConfig) -> SessionState {
    let mut session = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(config.threads);
    session.options_mut().sql_parser.collect_spans = true;
    let mut state =
        SessionStateBuilder::new().with_config(session).with_default_features().with_analyzer_rule(Arc::new(as_text::Casts::new())).build();
    // A session has a place for both; other registries may not.
    state.register_function_rewrite(Arc::new(as_text::Arguments::new())).expect("a session takes rules for functions");
    state.register_expr_planner(Arc::new(as_text::Arguments::new())).expect("a session takes planners of operators");
    // The functions are there by default; without the bounds nothing may run.
    add_functions(&mut state).expect("the bounded functions are among the default ones");
    state
}

/// The engine's own functions beside the default ones, and bounds around some of those.
pub(crate) fn add_functions(state: &mut SessionState) -> Result<(), DataFusionError> {
    for function in ids::functions() {
        state.register_udf(Arc::new(function))?;
    }
    memory::bound(state)?;
    distinct::register(state)
}
