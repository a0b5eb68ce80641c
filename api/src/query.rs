//! The bridge between the doors and the query engine: who asks, within which limits, and the row in the audit.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::http::StatusCode;
use datafusion::common::ScalarValue;
use futures_util::{Stream, StreamExt};
use rollcall_analytics::query::{
    Bound, Caller as QueryCaller, Description, GROUP_MIN, Lacks, PrivacyKey, QueryError, QueryStream, Question,
};
use rollcall_model::ids::{AccountId, DistrictId, SectionId};
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use rollcall_store::directory::{DistrictDirectory, SectionEntry};
use rollcall_store::{StoreError, audit};
use serde_json::json;

use crate::caller::{Caller, today_in};
use crate::problem::ApiError;
use crate::rights::Who;
use crate::state::ApiState;

/// The caller as the engine knows one: what the directory said when the request came, and the district's privacy key.
pub fn query_caller(state: &ApiState, caller: &Caller) -> QueryCaller {
    asks(state, &caller.who, &caller.directory, caller.now())
}

/// The same for whoever it is, by a directory at an instant.
pub fn asks(state: &ApiState, who: &Who, directory: &DistrictDirectory, now: UtcMillis) -> QueryCaller {
    let mut asks = QueryCaller {
        district: directory.id,
        account: who.account,
        role: who.role,
        schools: who.school.filter(|_| who.role == Role::Office).map(|school| BTreeSet::from([school])),
        sections: None,
        students: None,
        privacy: PrivacyKey(state.vault.derived_key(directory.id, "analytics")),
        group_min: GROUP_MIN,
    };
    if who.role == Role::Teacher {
        let today = |section: &SectionEntry| today_in(directory, section.school, now);
        let person = who.person.and_then(|person| directory.person(person));
        let entries = person.into_iter().flat_map(|person| &person.sections).filter_map(|id| directory.section(*id));
        let taught: Vec<_> = entries
            .filter(|section| directory.teachers_of(section.id, today(section)).any(|teacher| Some(teacher) == who.person))
            .collect();
        let students = taught.iter().flat_map(|section| directory.students_of(section.id, today(section)));
        asks.students = Some(students.collect());
        asks.schools = Some(taught.iter().map(|section| section.school).collect());
        asks.sections = Some(taught.iter().map(|section| section.id).collect::<BTreeSet<SectionId>>());
    }
    asks
}

/// A running query and its row in the audit, which is written when the stream has ended or is dropped.
pub struct Answer {
    pub schema: SchemaRef,
    pub warnings: Vec<String>,
    /// Those of them that say what the answer has not.
    pub lacks: Lacks,
    stream: QueryStream,
    record: Record,
    account: AccountId,
    outcome: &'static str,
}

/// Under this key the metadata of a schema has what is said with the answer, as a JSON array of texts: every reader of Arrow and of
/// Parquet shows it with the table, whoever hands the table on.
pub const WARNINGS_KEY: &str = "rollcall.warnings";

/// The schema with what is said with the answer; as it is when there is nothing to say.
pub fn told(schema: &SchemaRef, warnings: &[String]) -> SchemaRef {
    if warnings.is_empty() {
        return schema.clone();
    }
    let mut metadata = schema.metadata().clone();
    metadata.insert(WARNINGS_KEY.to_owned(), json!(warnings).to_string());
    Arc::new(schema.as_ref().clone().with_metadata(metadata))
}

impl Answer {
    /// What its reader should know and is not among its warnings; complete when the stream has ended.
    pub fn later_warnings(&self) -> Vec<String> {
        let mut later = self.stream.later_warnings();
        later.retain(|warning| !self.warnings.contains(warning));
        later
    }

    /// What the answer has not after all; complete when the stream has ended.
    pub fn later_lacks(&self) -> Lacks {
        self.stream.later_lacks()
    }

    /// Puts what was found so far among its warnings.
    pub fn take_warnings(&mut self) {
        self.warnings.extend(self.later_warnings());
    }
}

/// The row in the audit of a query that is being asked. It is written once: when the query ends, or when whoever asked goes away.
pub struct Record {
    entry: Option<Entry>,
    began: Instant,
}

/// What the audit keeps of a query.
struct Entry {
    state: ApiState,
    district: DistrictId,
    account: AccountId,
    door: &'static str,
    sql: String,
    /// The values of its parameters, as text.
    values: Vec<String>,
}

impl Record {
    pub fn new(state: &ApiState, asks: &QueryCaller, door: &'static str, sql: &str, values: &[ScalarValue]) -> Self {
        let (state, district, account) = (state.clone(), asks.district, asks.account);
        let values = values.iter().map(ScalarValue::to_string).collect();
        let entry = Entry { state, district, account, door, sql: sql.to_owned(), values };
        Self { entry: Some(entry), began: Instant::now() }
    }

    /// Writes the row with the time since the query was asked, a moment after this returns; nothing the second time.
    pub fn end(&mut self, outcome: &'static str, rows: usize) {
        if let Some(entry) = self.entry.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(entry.write(outcome, rows, self.began.elapsed()));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end("cancelled", 0);
    }
}

impl Entry {
    async fn write(self, outcome: &'static str, rows: usize, time: Duration) {
        let mut detail = json!({"sql": self.sql, "door": self.door, "rows": rows, "time_ms": time.as_millis(), "outcome": outcome});
        if !self.values.is_empty() {
            detail["parameters"] = json!(self.values);
        }
        let written: Result<(), StoreError> = async {
            let mut tenant = self.state.store.tenant_as(self.district, self.account).await?;
            audit::record(&mut tenant, self.district, "sql.query", None, detail).await?;
            tenant.commit().await
        }
        .await;
        if let Err(error) = written {
            tracing::error!(%error, account = %self.account, "a query could not be written into the audit");
        }
    }
}

/// Runs a query with the limits of the doors. It is cancelled when the answer is dropped.
pub async fn ask(state: &ApiState, caller: &Caller, door: &'static str, sql: &str) -> Result<Answer, ApiError> {
    ask_with(state, caller, door, &Question { sql, ..Question::default() }).await
}

/// The same for a text with parameters or surroundings.
pub async fn ask_with(state: &ApiState, caller: &Caller, door: &'static str, question: &Question<'_>) -> Result<Answer, ApiError> {
    let asks = query_caller(state, caller);
    let mut record = Record::new(state, &asks, door, question.sql, question.values);
    match state.queries.ask(&asks, question, &state.config.sql_limits).await {
        Ok(stream) => {
            let (schema, warnings, lacks) = (stream.schema.clone(), stream.warnings.clone(), stream.lacks.clone());
            Ok(Answer { schema, warnings, lacks, stream, record, account: asks.account, outcome: "cancelled" })
        }
        Err(error) => {
            record.end(error.code(), 0);
            Err(error.into())
        }
    }
}

/// What a text would give. Only a refusal stands in the audit: nothing is read.
pub async fn describe(state: &ApiState, caller: &Caller, door: &'static str, question: &Question<'_>) -> Result<Description, ApiError> {
    let asks = query_caller(state, caller);
    match state.queries.describe(&asks, question, &state.config.sql_limits).await {
        Ok(description) => Ok(description),
        Err(error) => {
            Record::new(state, &asks, door, question.sql, &[]).end(error.code(), 0);
            Err(error.into())
        }
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(context);
        match &polled {
            Poll::Ready(Some(Err(error))) => {
                if let QueryError::Failed(cause) = error {
                    tracing::error!(%cause, account = %self.account, "a query failed");
                }
                self.outcome = error.code();
            }
            Poll::Ready(None) if self.outcome == "cancelled" => self.outcome = "done",
            _ => {}
        }
        polled
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.record.end(self.outcome, self.stream.rows());
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::Forbidden => return Self::Forbidden("this account may not query"),
            QueryError::Busy => {
                return Self::TooMany { code: "sql_busy", message: error.to_string(), retry_after_s: 5 };
            }
            QueryError::Stopped | QueryError::Pressed | QueryError::Changed { .. } => {
                return Self::Unavailable { code: error.code(), message: error.to_string() };
            }
            QueryError::Failed(cause) => return Self::internal(cause.clone()),
            QueryError::Limit { bound: Bound::Text, .. } => StatusCode::PAYLOAD_TOO_LARGE,
            QueryError::Invalid { .. } | QueryError::Refused { .. } | QueryError::Limit { .. } | QueryError::Data { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        };
        let place = error.place();
        Self::Query {
            status,
            code: error.code(),
            message: error.to_string(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            hint: error.hint().map(str::to_owned),
        }
    }
}
