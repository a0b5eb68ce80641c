//! The bridge between the doors and the query engine: who asks, within which limits, and the row in the audit.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use axum::http::StatusCode;
use futures_util::{Stream, StreamExt};
use rollcall_analytics::query::{Bound, Caller as QueryCaller, GROUP_MIN, PrivacyKey, QueryError, QueryStream};
use rollcall_model::ids::{DistrictId, SectionId};
use rollcall_store::account::Role;
use rollcall_store::{StoreError, audit};
use serde_json::json;

use crate::caller::Caller;
use crate::problem::ApiError;
use crate::state::ApiState;

/// The caller as the engine knows one: what the directory says now, and the district's privacy key.
pub fn query_caller(state: &ApiState, caller: &Caller) -> QueryCaller {
    let directory = &caller.directory;
    let mut asks = QueryCaller {
        district: caller.district,
        account: caller.who.account,
        role: caller.who.role,
        schools: caller.who.school.filter(|_| caller.who.role == Role::Office).map(|school| BTreeSet::from([school])),
        sections: None,
        students: None,
        privacy: PrivacyKey(state.vault.derived_key(caller.district, "analytics")),
        group_min: GROUP_MIN,
    };
    if caller.who.role == Role::Teacher {
        let person = caller.who.person.and_then(|person| directory.person(person));
        let entries = person.into_iter().flat_map(|person| &person.sections).filter_map(|id| directory.section(*id));
        let taught: Vec<_> = entries
            .filter(|section| {
                let today = caller.today_in(section.school);
                directory.teachers_of(section.id, today).any(|teacher| Some(teacher) == caller.who.person)
            })
            .collect();
        let students = taught.iter().flat_map(|section| directory.students_of(section.id, caller.today_in(section.school)));
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
    stream: QueryStream,
    record: Option<Record>,
}

/// What the audit keeps of a query.
struct Record {
    state: ApiState,
    district: DistrictId,
    account: rollcall_model::ids::AccountId,
    door: &'static str,
    sql: String,
    outcome: &'static str,
}

impl Record {
    async fn write(self, rows: usize, time_ms: u128) {
        let detail = json!({"sql": self.sql, "door": self.door, "rows": rows, "time_ms": time_ms, "outcome": self.outcome});
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
    let asks = query_caller(state, caller);
    let mut record =
        Record { state: state.clone(), district: asks.district, account: asks.account, door, sql: sql.to_owned(), outcome: "cancelled" };
    match state.queries.run(&asks, sql, &state.config.sql_limits).await {
        Ok(stream) => Ok(Answer { schema: stream.schema.clone(), warnings: stream.warnings.clone(), stream, record: Some(record) }),
        Err(error) => {
            record.outcome = error.code();
            record.write(0, 0).await;
            Err(error.into())
        }
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(context);
        if let (Poll::Ready(item), Some(record)) = (&polled, &mut self.record) {
            match item {
                Some(Ok(_)) => {}
                Some(Err(error)) => record.outcome = error.code(),
                None if record.outcome == "cancelled" => record.outcome = "done",
                None => {}
            }
        }
        polled
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let (rows, time_ms) = (self.stream.rows(), self.stream.elapsed().as_millis());
        if let Some(record) = self.record.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(record.write(rows, time_ms));
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let status = match &error {
            QueryError::Forbidden => return Self::Forbidden("this account may not query"),
            QueryError::Busy => {
                return Self::TooMany { code: "sql_busy", message: error.to_string(), retry_after_s: 5 };
            }
            QueryError::Stopped => {
                return Self::Unavailable { code: "sql_stopped", message: error.to_string() };
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
