//! What a query can name and use: the caller's views, and memory and disk of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use super::caller::Caller;
use super::engine::Inner;
use super::error::QueryError;
use super::limits::{EngineConfig, Limits};
use super::source::TableSource;
use super::{functions, ids, scope};
use crate::history::QueryWarnings;

const CATALOG: &str = "rollcall";
const SCHEMA: &str = "public";

/// Rows that an operator hands on at a time.
const BATCH_ROWS: usize = 8_192;

pub(super) type Sources = BTreeMap<String, Arc<dyn TableSource>>;

/// One query's own.
pub(super) struct Session {
    pub state: SessionState,
    /// Of the tables that the caller has.
    pub names: Vec<String>,
    pub sources: Sources,
    /// Hears what its tables cannot read.
    pub lacking: Arc<QueryWarnings>,
}

impl Inner {
    /// The state of one query: the caller's views and nothing else under names, memory and disk of its own.
    pub(super) fn session(&self, caller: &Caller, limits: &Limits) -> Result<Session, QueryError> {
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
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let lacking = Arc::new(QueryWarnings::default());
        let state = SessionStateBuilder::new_from_existing(self.base.clone())
            .with_config(self.base.config().clone().with_extension(Arc::clone(&lacking)))
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(self.runtime_env(limits).map_err(failed)?)
            .build();
        Ok(Session { state, names: sources.keys().cloned().collect(), sources, lacking })
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
    let mut state = SessionStateBuilder::new().with_config(session).with_default_features().build();
    for function in ids::functions() {
        // The state is new: there is nothing that could refuse a function.
        let _ = datafusion::execution::FunctionRegistry::register_udf(&mut state, Arc::new(function));
    }
    // The functions are there by default; without the bounds nothing may run.
    functions::bound(&mut state).expect("the bounded functions are among the default ones");
    state
}
