//! Any SQL, over REST: the query, and the tables and columns that there are.
//!
//! The answer is streamed while it is made; a client that goes away cancels its query. JSON says at its end whether rows
//! were cut at a limit or an error came in between; in the other formats the body then ends before it is complete. What is found while
//! the rows come is told at the end: by JSON and Parquet themselves, and by a trailer (which a client asks for with `TE: trailers`).

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use arrow::array::RecordBatch;
use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use rollcall_analytics::query::QueryError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::Body;
use crate::problem::{ApiError, Problem};
use crate::query::{self, Answer};
use crate::state::ApiState;

pub(crate) mod encode;

use encode::{Encoder, Format};

const WARNINGS: HeaderName = HeaderName::from_static("rollcall-warnings");

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlQuery {
    /// One SELECT, WITH, EXPLAIN, SHOW TABLES or SHOW COLUMNS.
    pub sql: String,
}

/// One column of an answer.
#[derive(Serialize, ToSchema)]
pub struct SqlColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
}

/// An answer as JSON.
#[derive(Serialize, ToSchema)]
pub struct SqlAnswer {
    pub columns: Vec<SqlColumn>,
    /// One array a row, one value a column.
    #[schema(value_type = Vec<Vec<Object>>)]
    pub rows: Vec<Vec<serde_json::Value>>,
    pub warnings: Vec<String>,
    /// Whether rows were cut at a limit; a warning says at which.
    pub truncated: bool,
    /// Why the answer ended before it was whole.
    pub error: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct SqlTableColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
    pub documentation: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct SqlTable {
    pub name: String,
    pub documentation: String,
    pub columns: Vec<SqlTableColumn>,
}

/// The tables that the caller may query.
#[derive(Serialize, ToSchema)]
pub struct SqlCatalog {
    pub tables: Vec<SqlTable>,
}

/// Runs a query. `Accept` chooses JSON, CSV, an Arrow IPC stream or Parquet.
#[utoipa::path(post, path = "/api/v1/sql", tag = "sql", operation_id = "run_sql", request_body = SqlQuery, responses(
    (status = 200, description = "`rollcall-warnings`: a JSON array of what to know of the answer; Arrow and Parquet have it as `rollcall.warnings` in the metadata of their schema too. What is found before the first row is among them, but for JSON, which says it in `warnings`. A trailer of the same name has what was found while the rows came, such as a worker that was lost; JSON and Parquet say it themselves too", content(
        (SqlAnswer = "application/json"),
        (String = "text/csv"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
        (Vec<u8> = "application/vnd.apache.parquet"),
    )),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`sql_invalid`, `sql_refused`, `sql_limit`, `sql_data`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`sql_busy`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`sql_stopped`, `sql_changed` (history changed while it was read): the same query may be sent again", body = Problem, content_type = "application/problem+json"),
))]
pub async fn run(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Body(query): Body<SqlQuery>,
) -> Result<Response, ApiError> {
    let format = Format::accepted(&headers);
    let mut answer = query::ask(&state, &caller, "rest", &query.sql).await?;
    // A format without words for an error is not begun when there is one instead of rows; JSON says it with what it has.
    let first = if format == Format::Json { None } else { Some(answer.next().await) };
    let first = match first {
        Some(Some(Err(error))) => return Err(error.into()),
        first => first,
    };
    // What is known with the first row is said in the head: a page cannot read trailers.
    if first.is_some() {
        answer.take_warnings();
    }
    let warnings = ascii_json(&answer.warnings);
    let encoder = Encoder::new(format, &answer.schema, answer.warnings.clone()).map_err(ApiError::internal)?;
    let late = Arc::new(OnceLock::new());
    let chunks = HttpBody::from_stream(chunks(encoder, answer, first, Arc::clone(&late)));
    // Compression asks once more after the end, for trailers too.
    let body = chunks.with_trailers(poll_fn(move |_| Poll::Ready(trailers(&late))));
    let mut response = HttpBody::new(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::TRAILER, HeaderValue::from_name(WARNINGS));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if let Ok(value) = HeaderValue::from_str(&warnings) {
        headers.insert(WARNINGS, value);
    }
    Ok(response)
}

/// The encoded answer, piece by piece as the rows come; in the end, what was found meanwhile. `first` is what came already.
fn chunks(
    encoder: Encoder,
    answer: Answer,
    first: Option<Option<Result<RecordBatch, QueryError>>>,
    late: Arc<OnceLock<Vec<String>>>,
) -> impl futures_util::Stream<Item = Result<Bytes, encode::Broken>> {
    stream::unfold(Some((encoder, answer, first, late)), |running| async move {
        let (mut encoder, mut answer, first, late) = running?;
        let next = match first {
            Some(first) => first,
            None => answer.next().await,
        };
        let (chunk, goes_on) = match next {
            Some(Ok(rows)) => (encoder.rows(&rows), true),
            Some(Err(error)) => (encoder.end(Some(error)), false),
            None => {
                let later = late.get_or_init(|| answer.later_warnings());
                encoder.warn(later.clone());
                (encoder.end(None), false)
            }
        };
        let goes_on = goes_on && chunk.is_ok();
        Some((chunk, goes_on.then_some((encoder, answer, None, late))))
    })
    // Compression asks once more after the end.
    .fuse()
}

/// The trailer of an answer, when there is anything to say in it.
fn trailers(late: &OnceLock<Vec<String>>) -> Option<Result<HeaderMap, axum::Error>> {
    let later = late.get().filter(|later| !later.is_empty())?;
    let value = HeaderValue::from_str(&ascii_json(later)).ok()?;
    Some(Ok(HeaderMap::from_iter([(WARNINGS, value)])))
}

/// JSON in ASCII, for a header.
fn ascii_json(texts: &[String]) -> String {
    let json = serde_json::to_string(texts).unwrap_or_default();
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// The tables and columns that the caller may query, with what they mean.
#[utoipa::path(get, path = "/api/v1/sql/catalog", tag = "sql", operation_id = "get_sql_catalog", responses(
    (status = 200, body = SqlCatalog),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn catalog(State(state): State<ApiState>, caller: Caller) -> Result<Json<SqlCatalog>, ApiError> {
    let asks = query::query_caller(&state, &caller);
    crate::caller::require(asks.may_query(), "this account may not query")?;
    let tables = state.queries.catalog(&asks).into_iter().map(|table| SqlTable {
        name: table.name,
        documentation: table.documentation,
        columns: table
            .columns
            .into_iter()
            .map(|column| SqlTableColumn {
                name: column.name,
                data_type: column.data_type,
                nullable: column.nullable,
                documentation: column.documentation,
            })
            .collect(),
    });
    Ok(Json(SqlCatalog { tables: tables.collect() }))
}
