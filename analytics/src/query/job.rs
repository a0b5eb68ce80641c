//! One query on the engine's threads: planned for its caller, then run within its limits.

use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::caller::Caller;
use super::cancel::{self, Wanted};
use super::engine::Inner;
use super::error::{self, Bound, QueryError};
use super::limits::Limits;
use super::reads::{Read, Reading};
use super::session::{Session, Sources, Surroundings};
use super::statement::{Accepted, Explains};
use super::stream::{self, RowKey};
use super::{ids, privacy};
use crate::history::{QueryWarnings, Warning};

/// A text with what belongs to it.
#[derive(Clone, Copy, Default)]
pub struct Question<'a> {
    pub sql: &'a str,
    /// Of its parameters (`?` or `$1`), in order.
    pub values: &'a [ScalarValue],
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
    /// Some of it may be there when the question is asked again: history that does not answer at the moment, statuses that
    /// are still being loaded.
    pub for_now: bool,
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
    pub async fn run(
        self,
        accepted: Accepted,
        answer: oneshot::Sender<Result<Shape, QueryError>>,
        rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) {
        let deadline = tokio::time::Instant::from_std(self.wanted.deadline());
        let planned = match tokio::time::timeout_at(deadline, self.plan(accepted)).await {
            Ok(Ok(planned)) => planned,
            Ok(Err(error)) => return drop(answer.send(Err(error))),
            Err(_) => return drop(answer.send(Err(self.out_of_time()))),
        };
        let schema = Arc::clone(&planned.shape.schema);
        if answer.send(Ok(planned.shape)).is_err() {
            return;
        }
        let outcome = tokio::time::timeout_at(deadline, self.produce(planned.plan, &planned.state, &schema, &rows)).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            // A join that saw the time limit itself says so in its own words.
            Ok(Err(error)) if tokio::time::Instant::now() < deadline => error,
            _ => self.out_of_time(),
        };
        self.wanted.end();
        // Nobody may be there to hear it.
        let _ = rows.send(Err(error)).await;
    }

    fn out_of_time(&self) -> QueryError {
        let seconds = self.limits.time.as_secs_f32();
        QueryError::Limit { bound: Bound::Time, message: format!("the query did not end within {seconds} seconds; ask for less at a time") }
    }

    pub async fn describe(&self, accepted: Accepted) -> Result<Description, QueryError> {
        let count = accepted.parameters;
        let session = self.session()?;
        let logical = tokio::time::timeout(self.limits.time, self.logical(&session, accepted)).await.map_err(|_| self.out_of_time())??;
        let types = logical.get_parameter_types().map_err(|error| self.fault(&error, &session))?;
        let parameter = |number: usize| {
            let data_type = types.get(&format!("${number}")).cloned().flatten();
            Field::new(number.to_string(), data_type.unwrap_or(DataType::Utf8), true)
        };
        let parameters = Schema::new((1..=count).map(parameter).collect::<Vec<_>>());
        Ok(Description { columns: ids::shown_schema(logical.schema().as_arrow()), parameters: ids::shown_schema(&parameters) })
    }

    fn session(&self) -> Result<Session, QueryError> {
        self.inner.upgrade().ok_or(QueryError::Stopped)?.session(&self.caller, &self.limits, self.around.as_ref())
    }

    fn fault(&self, error: &DataFusionError, session: &Session) -> QueryError {
        error::of_planning(error, &self.sql, &session.names)
    }

    /// The plan that the text says, of the caller's views.
    async fn logical(&self, session: &Session, accepted: Accepted) -> Result<LogicalPlan, QueryError> {
        let plan = session.state.statement_to_plan(accepted.statement).await.map_err(|error| self.fault(&error, session))?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| QueryError::refused("only queries run here"))?;
        Ok(plan)
    }

    async fn plan(&self, accepted: Accepted) -> Result<Planned, QueryError> {
        let session = self.session()?;
        let (explains, mut reading) = (accepted.explains, Reading::begin(&session.sources));
        let plan = self.logical(&session, accepted).await?;
        let Session { state, names, sources, lacking } = &session;
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
            let guarded = privacy::guard(&self.caller, state, plan, sources).map_err(|fault| fault.say(&self.sql, names))?;
            warnings = guarded.warnings;
            guarded.plan
        };
        let reads = reading.reads(&plan).map_err(fault)?;
        let plan = state.query_planner().create_physical_plan(&plan, state).await.map_err(fault)?;
        let plan = cancel::endable(plan, &self.wanted).map_err(fault)?;
        warnings.extend(still_loading.iter().cloned().chain(lacking.all().iter().map(ToString::to_string)));
        let lacks = lacks(still_loading, &lacking.all());
        let (schema, lacking) = (ids::shown_schema(&plan.schema()), Arc::clone(lacking));
        let shape = Shape { schema, warnings, lacks, lacking, tables, reads, key, is_ordered };
        Ok(Planned { plan, state: session.state, shape })
    }

    async fn produce(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        state: &SessionState,
        schema: &SchemaRef,
        rows: &mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) -> Result<(), QueryError> {
        let failed = |error: DataFusionError| error::of_rows(&error, &self.caller);
        let mut stream = execute_stream(plan, state.task_ctx()).map_err(failed)?;
        let (mut rows_made, mut bytes_made) = (0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.and_then(|batch| ids::shown(&batch, schema)).map_err(failed)?;
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

fn lacks(still_loading: Vec<String>, found: &[Warning]) -> Lacks {
    let for_now = !still_loading.is_empty() || found.iter().any(|warning| matches!(warning, Warning::Away { .. }));
    // Neither of a foreign file nor of a worker's share is a row missing.
    let missing = found.iter().filter(|warning| !matches!(warning, Warning::Foreign { .. } | Warning::WorkerLost));
    let what = still_loading.into_iter().chain(missing.map(ToString::to_string)).collect();
    Lacks { what, for_now }
}
