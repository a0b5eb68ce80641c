//! Answers and errors in the words of the protocol.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::late::Late;
use super::rows::{self, columns};
use crate::carried;
use crate::problem::ApiError;
use crate::query::Answer;

/// The rows of an answer as they come, until `ended`, with the columns that were `told` before its values were known. What is found
/// meanwhile is `late` when they have come.
pub fn rows(
    answer: Answer,
    told: Option<&SchemaRef>,
    format: &Format,
    sql: &str,
    ended: CancellationToken,
    late: &Late,
) -> PgWireResult<Response> {
    if told.is_some_and(|told| !carried::become_of(told, &answer.schema)) {
        return Err(refused("cached plan must not change result type".to_owned()));
    }
    let schema = Arc::clone(told.unwrap_or(&answer.schema));
    let fields = Arc::new(columns(&schema, format)?);
    let (of_rows, sql, late) = (fields.clone(), sql.to_owned(), late.clone());
    let batches = stream::unfold(Some((answer, ended)), move |running| {
        let (fields, schema, sql, late) = (of_rows.clone(), schema.clone(), sql.clone(), late.clone());
        async move {
            let (mut answer, ended) = running?;
            let next = tokio::select! {
                biased;
                () = ended.cancelled() => return Some((vec![Err(PgWireError::QueryCanceled)], None)),
                next = answer.next() => next,
            };
            let Some(next) = next else {
                late.lock().extend(answer.later_warnings());
                return None;
            };
            match next {
                Ok(batch) => Some((rows::rows(fields, &schema, &batch), Some((answer, ended)))),
                Err(error) => Some((vec![Err(said(&error.into(), &sql))], None)),
            }
        }
    });
    Ok(Response::Query(QueryResponse::new(fields, batches.flat_map(stream::iter))))
}

/// One text under a name.
pub fn text(name: &str, value: &str) -> PgWireResult<Response> {
    let fields = Arc::new(vec![FieldInfo::new(name.to_owned(), None, None, Type::VARCHAR, FieldFormat::Text)]);
    let mut row = DataRowEncoder::new(fields.clone());
    row.encode_field(&Some(value))?;
    Ok(Response::Query(QueryResponse::new(fields, stream::iter([Ok(row.take_row())]))))
}

/// What is said with a result, such as that a file of history could not be read.
pub fn warning(message: &str) -> ErrorInfo {
    ErrorInfo::new("WARNING".to_owned(), "01000".to_owned(), message.to_owned())
}

pub fn refused(message: String) -> PgWireError {
    wrong("0A000", message)
}

/// An error with a code of PostgreSQL.
pub fn wrong(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message)))
}

/// An error of the API: its sentence, the code of PostgreSQL that is nearest, and the place in the text.
pub fn said(error: &ApiError, sql: &str) -> PgWireError {
    let code = match error.code() {
        "sql_invalid" => "42601",
        "sql_refused" | "forbidden" => "42501",
        "sql_limit" => "54000",
        "sql_busy" => "53300",
        "sql_data" => "22000",
        "sql_changed" => "40001",
        "sql_stopped" => "57P01",
        "unauthenticated" => "28000",
        _ => "XX000",
    };
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), error.to_string());
    if let ApiError::Query { line: Some(line), column: Some(column), hint, .. } = error {
        info.position = position(sql, *line, *column).map(|position| position.to_string());
        info.hint = hint.clone();
    }
    PgWireError::UserError(Box::new(info))
}

/// Which character of the text it is, from 1.
fn position(sql: &str, line: u64, column: u64) -> Option<u64> {
    let before = sql.split('\n').take(usize::try_from(line.checked_sub(1)?).ok()?);
    let before: u64 = before.map(|line| line.chars().count() as u64 + 1).sum();
    Some(before + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_character_of_the_text() {
        assert_eq!(position("selct 1", 1, 1), Some(1));
        assert_eq!(position("select ü,\n  x from y", 2, 3), Some(13));
    }
}
