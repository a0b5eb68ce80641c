//! From a text to a stream of rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures_util::StreamExt;
use parking_lot::{Mutex, RwLock};
use rollcall_model::ids::AccountId;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::caller::Caller;
use super::error::{self, Bound, QueryError};
use super::limits::{EngineConfig, Limits};
use super::source::TableSource;
use super::statement::{self, Accepted, Explains};
use super::stream::{QueryStream, Running, WAITING_BATCHES_MAX};
use super::{ids, privacy, scope};
use crate::history::QueryWarnings;

const CATALOG: &str = "rollcall";
const SCHEMA: &str = "public";

/// Stack of a thread of the queries: planning recurses into expressions, which [`statement`] bounds in depth. Only what is
/// used takes memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Rows that an operator hands on at a time.
const BATCH_ROWS: usize = 8_192;

/// See the module [`super`]. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct QueryEngine {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    config: EngineConfig,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    base: SessionState,
    sources: RwLock<BTreeMap<String, Arc<dyn TableSource>>>,
    turns: Arc<Semaphore>,
    by_account: Mutex<HashMap<AccountId, Weak<Semaphore>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Queries end at their next step; nobody waits for them here, because this may be an async task.
            runtime.shutdown_background();
        }
    }
}

/// A column as the catalog shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    pub name: String,
    /// The type of the shown result: ids and words are text.
    pub data_type: String,
    pub nullable: bool,
    pub documentation: Option<String>,
}

/// A table that a caller has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub name: String,
    pub documentation: String,
    pub columns: Vec<ColumnInfo>,
}

/// What planning made of a text.
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    state: SessionState,
    warnings: Vec<String>,
    tables: Vec<String>,
}

impl QueryEngine {
    /// Starts the threads of the queries. Fails when they cannot be started.
    pub fn new(config: EngineConfig) -> std::io::Result<Self> {
        let niceness = config.niceness;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.threads)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .enable_io()
            .on_thread_start(move || yield_to_others(niceness))
            .build()?;
        let turns = Arc::new(Semaphore::new(config.concurrent_max));
        let base = base_state(&config);
        let inner = Inner { config, runtime: Some(runtime), base, sources: RwLock::default(), turns, by_account: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Adds a table, in place of an earlier one of the same name. Queries that run keep the one they began with.
    pub fn register(&self, source: Arc<dyn TableSource>) {
        self.inner.sources.write().insert(source.name().to_owned(), source);
    }

    /// The table of this name, whoever may see it.
    pub fn source(&self, name: &str) -> Option<Arc<dyn TableSource>> {
        self.inner.sources.read().get(name).cloned()
    }

    /// The tables and columns that a caller has, by name.
    pub fn catalog(&self, caller: &Caller) -> Vec<TableInfo> {
        let sources = self.inner.sources.read();
        let visible = sources.values().filter(|source| scope::is_visible(caller, &source.scope()));
        visible.map(|source| table_info(caller, source.as_ref())).collect()
    }

    /// The tables that a caller has by name, each with the columns that it shows.
    pub fn tables(&self, caller: &Caller) -> Vec<(String, SchemaRef)> {
        let sources = self.inner.sources.read();
        let visible = sources.values().filter(|source| scope::is_visible(caller, &source.scope()));
        let shown = visible.map(|source| {
            let (schema, scope) = (ids::shown_schema(&source.schema()), source.scope());
            let fields = schema.fields().iter().filter(|field| scope::shows_column(caller, &scope, field.name()));
            (source.name().to_owned(), Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>())))
        });
        shown.collect()
    }

    /// Plans the text for the caller and begins to run it. Returns when the plan is made; the rows come by the stream.
    /// Dropping the future or the stream cancels the query.
    pub async fn run(&self, caller: &Caller, sql: &str, limits: &Limits) -> Result<QueryStream, QueryError> {
        if !caller.may_query() {
            return Err(QueryError::Forbidden);
        }
        let started = Instant::now();
        let accepted = statement::accept(sql, self.inner.config.sql_bytes_max)?;
        let turns = self.turns(caller.account).await?;
        let runtime = self.inner.runtime.as_ref().ok_or(QueryError::Stopped)?;
        let (rows, receiver) = mpsc::channel(WAITING_BATCHES_MAX);
        let (planned, planning) = oneshot::channel();
        let job = Job { inner: Arc::downgrade(&self.inner), caller: caller.clone(), sql: sql.to_owned(), limits: limits.clone() };
        let task = runtime.spawn(job.run(accepted, planned, rows));
        let _running = Running { task, _turns: turns, _engine: Arc::clone(&self.inner) };
        let (schema, warnings, tables) = planning.await.map_err(|_| QueryError::Stopped)??;
        Ok(QueryStream { schema, warnings, tables, rows: receiver, _running, started, rows_seen: 0 })
    }

    async fn turns(&self, account: AccountId) -> Result<[Option<OwnedSemaphorePermit>; 2], QueryError> {
        let own = {
            let mut accounts = self.inner.by_account.lock();
            accounts.retain(|_, turns| turns.strong_count() > 0);
            match accounts.get(&account).and_then(Weak::upgrade) {
                Some(turns) => turns,
                None => {
                    let turns = Arc::new(Semaphore::new(self.inner.config.concurrent_per_account_max));
                    accounts.insert(account, Arc::downgrade(&turns));
                    turns
                }
            }
        };
        let both = async { (own.acquire_owned().await, Arc::clone(&self.inner.turns).acquire_owned().await) };
        match tokio::time::timeout(self.inner.config.wait, both).await {
            Ok((own, all)) => Ok([own.ok(), all.ok()]),
            Err(_) => Err(QueryError::Busy),
        }
    }
}

/// One query, on the engine's threads.
struct Job {
    /// Weak: the engine must not be dropped by one of its own threads.
    inner: Weak<Inner>,
    caller: Caller,
    sql: String,
    limits: Limits,
}

type PlannedAnswer = Result<(arrow::datatypes::SchemaRef, Vec<String>, Vec<String>), QueryError>;

impl Job {
    async fn run(self, accepted: Accepted, answer: oneshot::Sender<PlannedAnswer>, rows: mpsc::Sender<Result<RecordBatch, QueryError>>) {
        let deadline = tokio::time::Instant::now() + self.limits.time;
        let planned = match tokio::time::timeout_at(deadline, self.plan(accepted)).await {
            Ok(Ok(planned)) => planned,
            Ok(Err(error)) => return drop(answer.send(Err(error))),
            Err(_) => return drop(answer.send(Err(self.out_of_time()))),
        };
        let schema = ids::shown_schema(&planned.plan.schema());
        if answer.send(Ok((Arc::clone(&schema), planned.warnings, planned.tables))).is_err() {
            return;
        }
        let outcome = tokio::time::timeout_at(deadline, self.produce(planned.plan, &planned.state, &schema, &rows)).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => self.out_of_time(),
        };
        // Nobody may be there to hear it.
        let _ = rows.send(Err(error)).await;
    }

    fn out_of_time(&self) -> QueryError {
        let seconds = self.limits.time.as_secs_f32();
        QueryError::Limit { bound: Bound::Time, message: format!("the query did not end within {seconds} seconds; ask for less at a time") }
    }

    async fn plan(&self, accepted: Accepted) -> Result<Planned, QueryError> {
        let inner = self.inner.upgrade().ok_or(QueryError::Stopped)?;
        let lacking = Arc::new(QueryWarnings::default());
        let (state, names, sources) = inner.session(&self.caller, &self.limits, &lacking)?;
        drop(inner);
        let fault = |error: DataFusionError| error::of_planning(&error, &self.sql, &names);
        let plan = state.statement_to_plan(accepted.statement).await.map_err(fault)?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| QueryError::refused("only queries run here"))?;
        let tables = tables_of(&plan, &sources).map_err(fault)?;
        let mut warnings: Vec<String> = tables.iter().filter_map(|name| sources.get(name)).flat_map(|source| source.warnings()).collect();
        let plan = if self.caller.has_student_rights() {
            state.optimize(&plan).map_err(fault)?
        } else {
            if accepted.explains == Explains::Run {
                return Err(QueryError::refused("EXPLAIN ANALYZE counts rows of single students; use EXPLAIN"));
            }
            let guarded = privacy::guard(&self.caller, &state, plan, &sources).map_err(|fault| fault.say(&self.sql, &names))?;
            warnings.extend(guarded.warnings);
            guarded.plan
        };
        let plan = state.query_planner().create_physical_plan(&plan, &state).await.map_err(fault)?;
        warnings.extend(lacking.all().iter().map(ToString::to_string));
        Ok(Planned { plan, state, warnings, tables })
    }

    async fn produce(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: &SessionState,
        schema: &arrow::datatypes::SchemaRef,
        rows: &mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) -> Result<(), QueryError> {
        let mut stream = execute_stream(plan, state.task_ctx()).map_err(|error| error::of_execution(&error))?;
        let (mut rows_made, mut bytes_made) = (0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.and_then(|batch| ids::shown(&batch, schema)).map_err(|error| error::of_execution(&error))?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows_made += batch.num_rows();
            bytes_made += batch.get_array_memory_size();
            if rows_made > self.limits.rows {
                let message = format!("the result has more than {} rows; filter or group it, or add a LIMIT", self.limits.rows);
                return Err(QueryError::Limit { bound: Bound::Rows, message });
            }
            if bytes_made > self.limits.result_bytes {
                let message = format!("the result has more than {} bytes; choose fewer columns or rows", self.limits.result_bytes);
                return Err(QueryError::Limit { bound: Bound::Bytes, message });
            }
            if rows.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

type Sources = BTreeMap<String, Arc<dyn TableSource>>;

impl Inner {
    /// The state of one query: the caller's views and nothing else under names, memory and disk of its own.
    /// `lacking` hears what its tables cannot read.
    fn session(
        &self,
        caller: &Caller,
        limits: &Limits,
        lacking: &Arc<QueryWarnings>,
    ) -> Result<(SessionState, Vec<String>, Sources), QueryError> {
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
        let state = SessionStateBuilder::new_from_existing(self.base.clone())
            .with_config(self.base.config().clone().with_extension(Arc::clone(lacking)))
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(self.runtime_env(limits).map_err(failed)?)
            .build();
        Ok((state, sources.keys().cloned().collect(), sources))
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

fn base_state(config: &EngineConfig) -> SessionState {
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
    state
}

/// Names of the tables that a plan reads, at any depth.
fn tables_of(plan: &LogicalPlan, sources: &Sources) -> Result<Vec<String>, DataFusionError> {
    use datafusion::common::tree_node::TreeNodeRecursion;
    let mut tables = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let name = scan.table_name.table();
            if sources.contains_key(name) && !tables.iter().any(|known| known == name) {
                tables.push(name.to_owned());
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

fn table_info(caller: &Caller, source: &dyn TableSource) -> TableInfo {
    let (schema, scope) = (source.schema(), source.scope());
    let shown = ids::shown_schema(&schema);
    let fields = shown.fields().iter().filter(|field| scope::shows_column(caller, &scope, field.name()));
    let columns = fields.map(|field| ColumnInfo {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        documentation: source.column_documentation(field.name()).map(str::to_owned),
    });
    TableInfo { name: source.name().to_owned(), documentation: source.documentation().to_owned(), columns: columns.collect() }
}

/// Makes the calling thread yield to the threads of boards and intake.
#[cfg(target_os = "linux")]
fn yield_to_others(niceness: i32) {
    // SAFETY: both calls take and return plain numbers; 0 names the calling thread, whose niceness Linux keeps apart
    // from the process's. A refusal changes nothing, and the queries then run at the common priority.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, niceness);
    }
}

#[cfg(not(target_os = "linux"))]
fn yield_to_others(_: i32) {}
