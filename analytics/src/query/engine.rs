//! From a text to a stream of rows.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionContext;
use parking_lot::{Mutex, RwLock};
use rollcall_model::ids::AccountId;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::caller::Caller;
use super::cancel::Wanted;
use super::error::QueryError;
use super::job::{Description, Job, Question, Shape};
use super::limits::{EngineConfig, Limits};
use super::privacy::{Given, GroupFigures};
use super::session::{self, Sources, Surroundings};
use super::source::TableSource;
use super::statement::{self, Accepted};
use super::stream::{QueryStream, Running, WAITING_BATCHES_MAX};
use super::{scope, shown};
use crate::distributed::Workers;

/// Stack of a thread of the queries: planning recurses into expressions, which [`statement`] bounds in depth. Only what is
/// used takes memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// See the module [`super`]. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct QueryEngine {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) config: EngineConfig,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
    pub(super) base: SessionState,
    /// Shared with the engines [`QueryEngine::beside`] this one.
    pub(super) sources: Arc<RwLock<Sources>>,
    /// What was told to whoever sees no single students; shared likewise.
    pub(super) given: Arc<Given>,
    pub(super) workers: OnceLock<Arc<Workers>>,
    turns: Arc<Semaphore>,
    by_account: Mutex<HashMap<AccountId, Weak<OfAccount>>>,
}

/// What one account may have at a time.
pub(super) struct OfAccount {
    running: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

/// The right to run on the engine's threads.
pub(super) struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
    _of: Arc<OfAccount>,
}

/// The right to have a result of which the last rows are not taken yet.
pub(super) struct Open {
    _permit: OwnedSemaphorePermit,
    _of: Arc<OfAccount>,
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

impl QueryEngine {
    /// Starts the threads of the queries. Fails when they cannot be started.
    pub fn new(config: EngineConfig) -> std::io::Result<Self> {
        Self::with_tables(config, Arc::default(), Arc::default())
    }

    /// An engine with the same tables, also those registered later, and threads, turns and bounds of its own.
    pub fn beside(&self, config: EngineConfig) -> std::io::Result<Self> {
        let beside = Self::with_tables(config, Arc::clone(&self.inner.sources), Arc::clone(&self.inner.given))?;
        if let Some(workers) = self.inner.workers.get() {
            beside.share_with(Arc::clone(workers));
        }
        Ok(beside)
    }

    /// Queries from now on give shares of what they read in history to these workers, and so do engines that are made
    /// [`QueryEngine::beside`] this one later. Once for an engine; further calls change nothing.
    pub fn share_with(&self, workers: Arc<Workers>) {
        let _ = self.inner.workers.set(workers);
    }

    fn with_tables(config: EngineConfig, sources: Arc<RwLock<Sources>>, given: Arc<Given>) -> std::io::Result<Self> {
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
        let base = session::base_state(&config);
        let (workers, by_account) = (OnceLock::new(), Mutex::default());
        let inner = Inner { config, runtime: Some(runtime), base, sources, given, workers, turns, by_account };
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
            let (schema, scope) = (shown::schema(&source.schema()), source.scope());
            let fields = schema.fields().iter().filter(|field| scope::shows_column(caller, &scope, field.name()));
            (source.name().to_owned(), Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>())))
        });
        shown.collect()
    }

    /// Figures about groups for a caller without student-level rights, of contributions that no SQL sums up. What was told by a query
    /// is known to them, and the other way round.
    pub fn group_figures(&self, caller: &Caller) -> GroupFigures {
        GroupFigures::new(caller, &self.inner.given)
    }

    /// Plans the text for the caller and begins to run it. Returns when the plan is made; the rows come by the stream.
    /// Dropping the future or the stream cancels the query.
    pub async fn run(&self, caller: &Caller, sql: &str, limits: &Limits) -> Result<QueryStream, QueryError> {
        self.ask(caller, &Question { sql, ..Question::default() }, limits).await
    }

    /// The same for a text with parameters and their values, or with surroundings.
    pub async fn ask(&self, caller: &Caller, question: &Question<'_>, limits: &Limits) -> Result<QueryStream, QueryError> {
        let started = Instant::now();
        let accepted = self.accept(caller, question.sql)?.bind(question.values)?;
        let of = self.of_account(caller.account);
        let permit = Arc::clone(&of.open).try_acquire_owned().map_err(|_| QueryError::Busy)?;
        let open = Open { _permit: permit, _of: Arc::clone(&of) };
        let turn = self.turn(of).await?;
        let (rows, receiver) = mpsc::channel(WAITING_BATCHES_MAX);
        let (planned, planning) = oneshot::channel();
        let job = self.job(caller, question, limits);
        let wanted = job.wanted.clone();
        let task = self.runtime()?.spawn(job.run(turn, accepted, planned, rows));
        let _running = Running { task, wanted, _open: Some(open), _engine: Arc::clone(&self.inner) };
        let Shape { schema, warnings, lacks, lacking, tables, reads, key, is_ordered } =
            planning.await.map_err(|_| QueryError::Stopped)??;
        Ok(QueryStream {
            schema,
            warnings,
            lacks,
            lacking,
            tables,
            reads,
            key,
            is_ordered,
            rows: receiver,
            has_ended: false,
            _running,
            started,
            rows_seen: 0,
        })
    }

    /// Plans the text and runs nothing of it: what drivers ask before they bind values and read rows. What is refused only
    /// when it runs, such as rows about single students, is not refused here.
    pub async fn describe(&self, caller: &Caller, question: &Question<'_>, limits: &Limits) -> Result<Description, QueryError> {
        let accepted = self.accept(caller, question.sql)?.stating(question.types);
        let turn = self.turn(self.of_account(caller.account)).await?;
        let (described, answer) = oneshot::channel();
        let job = self.job(caller, question, limits);
        let wanted = job.wanted.clone();
        let task = self.runtime()?.spawn(async move {
            let description = job.describe(accepted).await;
            drop(turn);
            drop(described.send(description));
        });
        let _running = Running { task, wanted, _open: None, _engine: Arc::clone(&self.inner) };
        answer.await.map_err(|_| QueryError::Stopped)?
    }

    /// The text in one spelling, or why it is no query. Nothing is planned.
    pub fn normalised(&self, caller: &Caller, sql: &str) -> Result<String, QueryError> {
        Ok(self.accept(caller, sql)?.bind(&[])?.normalised())
    }

    /// Whether a text is short enough to be parsed, for those who read it before they ask: a parser's recursion has no bound of its own.
    pub fn admit(&self, sql: &str) -> Result<(), QueryError> {
        statement::admit(sql, self.inner.config.sql_bytes_max)
    }

    /// Runs something that belongs to the queries on their threads.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), QueryError> {
        self.runtime()?.spawn(task);
        Ok(())
    }

    fn accept(&self, caller: &Caller, sql: &str) -> Result<Accepted, QueryError> {
        if !caller.may_query() {
            return Err(QueryError::Forbidden);
        }
        statement::accept(sql, self.inner.config.sql_bytes_max)
    }

    fn runtime(&self) -> Result<&Runtime, QueryError> {
        self.inner.runtime.as_ref().ok_or(QueryError::Stopped)
    }

    /// Surroundings for the questions of a caller: `add` puts schemas and functions beside tables that have the names and
    /// columns of the caller's own, and no rows.
    pub fn surroundings(
        &self,
        caller: &Caller,
        add: impl FnOnce(&SessionContext) -> Result<(), DataFusionError>,
    ) -> Result<Surroundings, QueryError> {
        self.inner.surroundings(self.tables(caller), add).map_err(|error| QueryError::Failed(Arc::new(error)))
    }

    fn job(&self, caller: &Caller, question: &Question<'_>, limits: &Limits) -> Job {
        Job {
            inner: Arc::downgrade(&self.inner),
            caller: caller.clone(),
            sql: question.sql.to_owned(),
            around: question.around.cloned(),
            limits: limits.clone(),
            wanted: Wanted::until(Instant::now() + limits.time),
        }
    }

    fn of_account(&self, account: AccountId) -> Arc<OfAccount> {
        let mut accounts = self.inner.by_account.lock();
        accounts.retain(|_, of| of.strong_count() > 0);
        if let Some(of) = accounts.get(&account).and_then(Weak::upgrade) {
            return of;
        }
        let EngineConfig { concurrent_per_account_max, open_per_account_max, .. } = self.inner.config;
        let of = OfAccount {
            running: Arc::new(Semaphore::new(concurrent_per_account_max)),
            open: Arc::new(Semaphore::new(open_per_account_max)),
        };
        let of = Arc::new(of);
        accounts.insert(account, Arc::downgrade(&of));
        of
    }

    async fn turn(&self, of: Arc<OfAccount>) -> Result<Turn, QueryError> {
        let (own, all) = (Arc::clone(&of.running), Arc::clone(&self.inner.turns));
        let both = async { [own.acquire_owned().await.ok(), all.acquire_owned().await.ok()] };
        let permits = tokio::time::timeout(self.inner.config.wait, both).await.map_err(|_| QueryError::Busy)?;
        Ok(Turn { _permits: permits, _of: of })
    }
}

fn table_info(caller: &Caller, source: &dyn TableSource) -> TableInfo {
    let (schema, scope) = (source.schema(), source.scope());
    let shown = shown::schema(&schema);
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
