//! One query on the engine's threads: planned for its caller, then run within its limits.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::blame::{self, Found};
use super::caller::Caller;
use super::cancel::{self, Wanted};
use super::engine::{Inner, Turn};
use super::error::{self, Bound, QueryError};
use super::limits::Limits;
use super::reads::{Read, Reading};
use super::session::{Session, Sources, Surroundings};
use super::source::{About, ScopeColumns};
use super::statement::{Accepted, Explains};
use super::stream::{self, RowKey};
use super::{memory, patterns, privacy, scope, shown};
use crate::history::{Panicked, QueryWarnings, Warning};

/// A text with what belongs to it.
#[derive(Clone, Copy, Default)]
pub struct Question<'a> {
    pub sql: &'a str,
    /// Of its parameters (`?` or `$1`), in order.
    pub values: &'a [ScalarValue],
    /// Of its parameters, in order, as far as the client states them: what a text would give is described by them.
    pub types: &'a [Option<DataType>],
    pub around: Option<&'a Surroundings>,
}

/// What a text would give.
#[derive(Clone, Debug)]
pub struct Description {
    /// The columns of its result as they are shown.
    pub columns: SchemaRef,
    /// Its parameters in order, named by number; a parameter that could be anything is text.
    pub parameters: SchemaRef,
}

/// What is known of a result before its rows.
pub(super) struct Shape {
    pub schema: SchemaRef,
    pub warnings: Vec<String>,
    pub lacks: Lacks,
    /// Goes on to hear what is found while the query runs.
    pub lacking: Arc<QueryWarnings>,
    pub tables: Vec<String>,
    pub reads: Vec<Read>,
    pub key: RowKey,
    pub is_ordered: bool,
}

/// What a result has not, as far as it is known before its rows.
#[derive(Clone, Default, Debug)]
pub struct Lacks {
    /// The rows that are missing, in words; the warnings have them too.
    pub what: Vec<String>,
    /// Some of it may be there when the question is asked again: history that does not answer at the moment or is being checked, statuses
    /// that are still being loaded.
    pub for_now: bool,
}

impl Lacks {
    fn of(still_loading: Vec<String>) -> Self {
        Self { for_now: !still_loading.is_empty(), what: still_loading }
    }

    /// The same with what was found since.
    pub(super) fn with(mut self, found: &[Warning]) -> Self {
        for warning in found {
            self.for_now |= matches!(warning, Warning::Away { .. } | Warning::Unchecked { .. });
            let words = warning.to_string();
            // Neither of a foreign file nor of a worker's share is a row missing.
            if !matches!(warning, Warning::Foreign { .. } | Warning::WorkerLost) && !self.what.contains(&words) {
                self.what.push(words);
            }
        }
        self
    }
}

/// What planning made of a text.
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    state: SessionState,
    shape: Shape,
}

/// One query, on the engine's threads.
pub(super) struct Job {
    /// Weak: the engine must not be dropped by one of its own threads.
    pub inner: Weak<Inner>,
    pub caller: Caller,
    pub sql: String,
    pub around: Option<Surroundings>,
    pub limits: Limits,
    /// From the begin of planning.
    pub wanted: Wanted,
}

impl Job {
    /// The turn is given back when the last row is made, not when it is taken: whoever reads slowly keeps nobody waiting.
    pub async fn run(
        self,
        turn: Turn,
        accepted: Accepted,
        answer: oneshot::Sender<Result<Shape, QueryError>>,
        rows: mpsc::Sender<Result<Option<RecordBatch>, QueryError>>,
    ) {
        let (wanted, last) = (self.wanted.clone(), rows.clone());
        // Nobody hears a step that panics; its rows must not look whole.
        let Err(panic) = AssertUnwindSafe(self.work(turn, accepted, answer, rows)).catch_unwind().await else { return };
        wanted.end();
        let _ = last.send(Err(QueryError::Failed(Arc::new(panicked(panic.as_ref()))))).await;
    }

    async fn work(
        self,
        turn: Turn,
        accepted: Accepted,
        answer: oneshot::Sender<Result<Shape, QueryError>>,
        rows: mpsc::Sender<Result<Option<RecordBatch>, QueryError>>,
    ) {
        let deadline = tokio::time::Instant::from_std(self.wanted.deadline());
        let text = accepted.clone();
        let planned = match tokio::time::timeout_at(deadline, self.plan(accepted)).await {
            Ok(Ok(planned)) => planned,
            Ok(Err(error)) => return drop(answer.send(Err(error))),
            Err(_) => return drop(answer.send(Err(self.out_of_time()))),
        };
        let Planned { plan, state, shape } = planned;
        let (schema, lacking) = (Arc::clone(&shape.schema), Arc::clone(&shape.lacking));
        if answer.send(Ok(shape)).is_err() {
            return;
        }
        let outcome = tokio::time::timeout_at(deadline, self.produce(plan, state, text, &schema, &lacking, &rows)).await;
        let last = match outcome {
            Ok(Ok(())) => Ok(None),
            // A join that saw the time limit itself says so in its own words.
            Ok(Err(error)) if tokio::time::Instant::now() < deadline => Err(error),
            _ => Err(self.out_of_time()),
        };
        self.wanted.end();
        drop(turn);
        // Nobody may be there to hear it.
        let _ = rows.send(last).await;
    }

    fn out_of_time(&self) -> QueryError {
        let seconds = self.limits.time.as_secs_f32();
        QueryError::Limit { bound: Bound::Time, message: format!("the query did not end within {seconds} seconds; ask for less at a time") }
    }

    pub async fn describe(&self, accepted: Accepted) -> Result<Description, QueryError> {
        let (count, lists) = (accepted.parameters, accepted.lists.clone());
        let session = self.session()?;
        let text = accepted.statement.clone();
        let planning = async {
            match self.logical(&session, accepted).await {
                Err(fault) if fault.has_no_place() => Err(self.placed(fault, text).await),
                planned => planned,
            }
        };
        let logical = tokio::time::timeout(self.limits.time, planning).await.map_err(|_| self.out_of_time())??;
        let types = logical.get_parameter_types().map_err(|error| self.fault(&error, &session))?;
        let parameter = |number: usize| {
            let data_type = types.get(&format!("${number}")).cloned().flatten().unwrap_or(DataType::Utf8);
            let is_list = lists.contains(&number);
            let data_type = if is_list { DataType::List(Arc::new(Field::new_list_field(data_type, true))) } else { data_type };
            Field::new(number.to_string(), data_type, true)
        };
        let parameters = Schema::new((1..=count).map(parameter).collect::<Vec<_>>());
        Ok(Description { columns: shown::schema(logical.schema().as_arrow()), parameters: shown::schema(&parameters) })
    }

    fn session(&self) -> Result<Session, QueryError> {
        self.inner.upgrade().ok_or(QueryError::Stopped)?.session(&self.caller, &self.limits, self.around.as_ref())
    }

    fn fault(&self, error: &DataFusionError, session: &Session) -> QueryError {
        let fault = error::of_planning(error, &self.sql, &session.names);
        match error::missing(error).filter(|name| self.is_of_classes(name)) {
            Some(name) => {
                let students = session.names.iter().find(|other| other.strip_prefix(name.as_str()) == Some("_student"));
                let instead = students.map_or_else(String::new, |students| format!("; {students} has figures of groups"));
                let message = format!("{name} is about classes of any size, which this account may not see{instead}");
                QueryError::Refused { message, place: fault.place() }
            }
            None => fault,
        }
    }

    /// Whether the table of this name is left out only because the caller may not see single students.
    fn is_of_classes(&self, name: &str) -> bool {
        let source = self.inner.upgrade().and_then(|inner| inner.sources.read().get(name).cloned());
        source.map(|source| source.scope()).is_some_and(|scope| {
            let of_students = ScopeColumns { about: About::Students, ..scope };
            scope.about == About::Classes && !scope::is_visible(&self.caller, &scope) && scope::is_visible(&self.caller, &of_students)
        })
    }

    /// The plan that the text says, of the caller's views.
    async fn logical(&self, session: &Session, accepted: Accepted) -> Result<LogicalPlan, QueryError> {
        let plan = session.state.statement_to_plan(accepted.statement).await.map_err(|error| self.fault(&error, session))?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| QueryError::refused("only queries run here"))?;
        Ok(plan)
    }

    async fn plan(&self, accepted: Accepted) -> Result<Planned, QueryError> {
        let text = accepted.statement.clone();
        patterns::check(&text)?;
        match self.planned(accepted).await {
            Err(fault) if fault.has_no_place() => Err(self.placed(fault, text).await),
            planned => planned,
        }
    }

    /// A fault of planning with its place, if there is one in the text.
    async fn placed(&self, fault: QueryError, text: Statement) -> QueryError {
        let Ok(session) = self.session() else { return fault };
        match blame::find(&session.state, text).await {
            Found::At(place) => fault.of_text(place),
            Found::HasPlan => fault,
        }
    }

    async fn planned(&self, accepted: Accepted) -> Result<Planned, QueryError> {
        let session = self.session()?;
        let (explains, mut reading) = (accepted.explains, Reading::begin(&session.sources));
        let plan = self.logical(&session, accepted).await?;
        let Session { state, names, sources, lacking, share, given } = &session;
        let fault = |error: DataFusionError| self.fault(&error, &session);
        let tables = tables_of(&plan, sources).map_err(fault)?;
        let (key, is_ordered) = (RowKey::of(&plan), stream::is_ordered(&plan));
        reading.look_at(&plan).map_err(fault)?;
        let mut warnings = Vec::new();
        let still_loading: Vec<String> = tables.iter().filter_map(|name| sources.get(name)).flat_map(|source| source.warnings()).collect();
        let plan = if self.caller.has_student_rights() {
            state.optimize(&plan).map_err(fault)?
        } else {
            if explains == Explains::Run {
                return Err(QueryError::refused("EXPLAIN ANALYZE counts rows of single students; use EXPLAIN"));
            }
            let guarded = privacy::guard(&self.caller, given, state, plan, sources).map_err(|fault| fault.say(&self.sql, names))?;
            warnings = guarded.warnings;
            guarded.plan
        };
        let uncounted = memory::Plan::look_at(&plan)?;
        uncounted.divide(share, &self.limits, state.config().target_partitions());
        let reads = reading.reads(&plan).map_err(fault)?;
        let plan = state.query_planner().create_physical_plan(&plan, state).await.map_err(fault)?;
        let plan = memory::watched(plan, uncounted.row_bytes(&self.limits), self.limits.memory_bytes / 4).map_err(fault)?;
        let plan = cancel::endable(plan, &self.wanted).map_err(fault)?;
        warnings.extend(still_loading.iter().cloned().chain(lacking.all().iter().map(ToString::to_string)));
        let lacks = Lacks::of(still_loading).with(&lacking.all());
        let (schema, lacking) = (shown::schema(&plan.schema()), Arc::clone(lacking));
        let shape = Shape { schema, warnings, lacks, lacking, tables, reads, key, is_ordered };
        Ok(Planned { plan, state: session.state, shape })
    }

    /// Makes the rows. When a file of history turns out to be gone or changed, or the store to be lost, before the first row was sent, they
    /// are made once more from what is left, with a warning. Later the result ends with an error that names it.
    async fn produce(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: SessionState,
        text: Accepted,
        schema: &SchemaRef,
        lacking: &QueryWarnings,
        rows: &mpsc::Sender<Result<Option<RecordBatch>, QueryError>>,
    ) -> Result<(), QueryError> {
        let failed = |error: &DataFusionError| error::of_rows(error, &self.caller);
        let (error, is_begun) = match self.attempt(plan, state, schema, rows).await {
            Ok(()) => return Ok(()),
            Err(Cut::Limit(error)) => return Err(error),
            Err(Cut::Failed { error, is_begun }) => (error, is_begun),
        };
        let Some(cause) = lacking.cause(&error).await else { return Err(failed(&error)) };
        if is_begun {
            return Err(unreadable(&cause));
        }
        tracing::warn!(cause, "a query is run again without what of history could not be read");
        let Planned { plan, state, shape } = self.planned(text).await?;
        if shape.schema != *schema {
            return Err(failed(&error));
        }
        let outcome = self.attempt(plan, state, schema, rows).await;
        lacking.hear(&shape.lacking);
        match outcome {
            Ok(()) => Ok(()),
            Err(Cut::Limit(error)) => Err(error),
            Err(Cut::Failed { error, .. }) => {
                Err(shape.lacking.cause(&error).await.map_or_else(|| failed(&error), |cause| unreadable(&cause)))
            }
        }
    }

    async fn attempt(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: SessionState,
        schema: &SchemaRef,
        rows: &mpsc::Sender<Result<Option<RecordBatch>, QueryError>>,
    ) -> Result<(), Cut> {
        let (mut rows_made, mut bytes_made) = (0, 0);
        let mut stream = execute_stream(plan, state.task_ctx()).map_err(|error| Cut::Failed { error, is_begun: false })?;
        loop {
            let failed = |error| Cut::Failed { error, is_begun: rows_made > 0 };
            let next = AssertUnwindSafe(stream.next()).catch_unwind().await;
            let Some(batch) = next.unwrap_or_else(|panic| Some(Err(panicked(panic.as_ref())))) else { return Ok(()) };
            let batch = batch.and_then(|batch| shown::rows(&batch, schema)).map_err(failed)?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows_made += batch.num_rows();
            bytes_made += batch.get_array_memory_size();
            if rows_made > self.limits.rows {
                let message = format!("the result has more than {} rows; filter or group it, or add a LIMIT", self.limits.rows);
                return Err(Cut::Limit(QueryError::Limit { bound: Bound::Rows, message }));
            }
            if bytes_made > self.limits.result_bytes {
                let message = format!("the result has more than {} bytes; choose fewer columns or rows", self.limits.result_bytes);
                return Err(Cut::Limit(QueryError::Limit { bound: Bound::Bytes, message }));
            }
            if rows.send(Ok(Some(batch))).await.is_err() {
                return Ok(());
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> DataFusionError {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
    DataFusionError::External(Box::new(Panicked(text.unwrap_or_default())))
}

/// Why rows ended before all were there.
enum Cut {
    Limit(QueryError),
    /// `is_begun`: there were rows before.
    Failed {
        error: DataFusionError,
        is_begun: bool,
    },
}

fn unreadable(cause: &str) -> QueryError {
    QueryError::Changed { message: format!("history changed while it was read; ask again, and what is missing is left out ({cause})") }
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
