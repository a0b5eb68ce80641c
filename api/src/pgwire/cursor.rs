//! Cursors of SQL: questions whose rows a client takes some at a time, as ODBC drivers do when they are set to read large results so.
//!
//! - A cursor is a running query with the scope, limits and audit of every other, its time included. It goes forward only.
//! - It ends when it is closed, with its connection, and, unless it is `WITH HOLD`, when the next transaction begins.
//! - A connection has at most [`CURSORS_MAX`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse, Response};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::answer::wrong;
use super::late::Late;
use super::{answer, rows};
use crate::query::Answer;

/// Cursors that a connection has at a time; each holds one of the account's turns until its last row was made.
const CURSORS_MAX: usize = 4;

/// A statement about a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Declare {
        name: String,
        holds: bool,
        sql: String,
    },
    Fetch {
        name: String,
        rows: usize,
    },
    /// `None`: all.
    Close(Option<String>),
}

/// Reads a statement; `None`: it is not about a cursor, or about one that goes elsewhere than forward.
pub fn read(sql: &str) -> Option<Order> {
    let text = sql.trim().trim_end_matches(';').trim_end();
    let words: Vec<&str> = text.split_whitespace().collect();
    let lower: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower.as_slice() {
        ["declare", _, rest @ ..] => {
            let cursor = rest.iter().position(|word| *word == "cursor")?;
            let options = rest[cursor + 1..].iter().position(|word| *word == "for")?;
            let holds = rest[cursor + 1..][..options].starts_with(&["with", "hold"]);
            // The question as it was written, from the end of the word before it on.
            let before = words[cursor + 2 + options + 1];
            let begins = before.as_ptr() as usize - text.as_ptr() as usize + before.len();
            Some(Order::Declare { name: name(words[1]), holds, sql: text[begins..].trim_start().to_owned() })
        }
        ["fetch", how @ .., _] => {
            let how: Vec<&str> = how.iter().copied().filter(|word| !matches!(*word, "in" | "from" | "forward")).collect();
            let rows = match how.as_slice() {
                [] | ["next"] => 1,
                ["all"] => usize::MAX,
                [count] => count.parse().ok()?,
                _ => return None,
            };
            Some(Order::Fetch { name: name(words[words.len() - 1]), rows })
        }
        ["close", "all"] => Some(Order::Close(None)),
        ["close", _] => Some(Order::Close(Some(name(words[1])))),
        _ => None,
    }
}

/// The name that a word of a text means.
pub fn name(word: &str) -> String {
    match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_ascii_lowercase(),
    }
}

struct Cursor {
    /// `None` after the last row.
    answer: Option<Answer>,
    /// Of the batch that was taken last, what was not asked for yet.
    rest: Option<RecordBatch>,
}

struct Opened {
    schema: SchemaRef,
    holds: bool,
    /// Rows are taken by one `FETCH` after the other; a portal of one may take its rows after the `CLOSE`.
    cursor: Arc<Turn<Cursor>>,
}

/// Those of a connection, by name.
#[derive(Clone, Default)]
pub struct Cursors(Arc<Mutex<HashMap<String, Opened>>>);

/// The rows that one `FETCH` takes.
struct Taking {
    cursor: OwnedMutexGuard<Cursor>,
    left: usize,
}

fn unknown(name: &str) -> PgWireError {
    wrong("34000", format!("cursor {name:?} does not exist"))
}

impl Cursors {
    /// Whether there is room for one of this name.
    pub fn admit(&self, name: &str) -> PgWireResult<()> {
        let cursors = self.0.lock();
        match cursors.len() {
            _ if cursors.contains_key(name) => Err(wrong("42P03", format!("cursor {name:?} already exists"))),
            CURSORS_MAX.. => Err(wrong("53400", format!("a connection has at most {CURSORS_MAX} cursors; close one first"))),
            _ => Ok(()),
        }
    }

    pub fn open(&self, name: String, holds: bool, answer: Answer) {
        let schema = answer.schema.clone();
        let cursor = Arc::new(Turn::new(Cursor { answer: Some(answer), rest: None }));
        self.0.lock().insert(name, Opened { schema, holds, cursor });
    }

    pub fn close(&self, name: Option<&str>) -> PgWireResult<()> {
        let mut cursors = self.0.lock();
        match name {
            Some(name) => cursors.remove(name).map(drop).ok_or_else(|| unknown(name)),
            None => {
                cursors.clear();
                Ok(())
            }
        }
    }

    /// A transaction begins: those of the one before, which are not held, are over.
    pub fn begin(&self) {
        self.0.lock().retain(|_, opened| opened.holds);
    }

    pub fn columns(&self, name: &str, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
        let schema = self.0.lock().get(name).map(|opened| opened.schema.clone()).ok_or_else(|| unknown(name))?;
        rows::columns(&schema, format)
    }

    /// The next rows, at most so many. A cursor with an error among its rows is closed.
    pub fn fetch(&self, name: &str, rows: usize, format: &Format, ended: CancellationToken, late: &Late) -> PgWireResult<Response> {
        let fields = Arc::new(self.columns(name, format)?);
        let cursor = self.0.lock().get(name).map(|opened| Arc::clone(&opened.cursor)).ok_or_else(|| unknown(name))?;
        let (cursors, name, late, of_rows) = (self.clone(), name.to_owned(), late.clone(), Arc::clone(&fields));
        let taken = async move {
            let taking = Taking { cursor: cursor.lock_owned().await, left: rows };
            stream::unfold(Some(taking), move |taking| {
                let (cursors, name, fields, late, ended) = (cursors.clone(), name.clone(), of_rows.clone(), late.clone(), ended.clone());
                async move {
                    let mut taking = taking?;
                    match taking.cursor.next(taking.left, &ended, &late).await {
                        Ok(batch) => {
                            let batch = batch?;
                            taking.left -= batch.num_rows();
                            Some((rows::rows(fields, &batch.schema(), &batch), Some(taking)))
                        }
                        Err(error) => {
                            cursors.0.lock().remove(&name);
                            Some((vec![Err(error)], None))
                        }
                    }
                }
            })
        };
        let mut response = QueryResponse::new(fields, stream::once(taken).flatten().flat_map(stream::iter));
        response.set_command_tag("FETCH");
        Ok(Response::Query(response))
    }
}

impl Cursor {
    /// The next batch of at most so many rows; `None` when no more are wanted, or there are.
    async fn next(&mut self, rows: usize, ended: &CancellationToken, late: &Late) -> PgWireResult<Option<RecordBatch>> {
        if rows == 0 {
            return Ok(None);
        }
        let batch = match (self.rest.take(), &mut self.answer) {
            (Some(rest), _) => rest,
            (None, None) => return Ok(None),
            (None, Some(answer)) => {
                let next = tokio::select! {
                    biased;
                    () = ended.cancelled() => return Err(PgWireError::QueryCanceled),
                    next = answer.next() => next,
                };
                match next {
                    Some(batch) => batch.map_err(|error| answer::said(&error.into(), ""))?,
                    None => {
                        late.lock().extend(answer.later_warnings());
                        self.answer = None;
                        return Ok(None);
                    }
                }
            }
        };
        if batch.num_rows() <= rows {
            return Ok(Some(batch));
        }
        self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        Ok(Some(batch.slice(0, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_cursors_are_read() {
        let declared = |name: &str, holds, sql: &str| Some(Order::Declare { name: name.to_owned(), holds, sql: sql.to_owned() });
        let fetched = |name: &str, rows| Some(Order::Fetch { name: name.to_owned(), rows });
        for (sql, order) in [
            ("declare \"SQL_CUR0x1\" cursor with hold for select 'x  for' from t", declared("SQL_CUR0x1", true, "select 'x  for' from t")),
            ("DECLARE C NO SCROLL CURSOR FOR\nSELECT 1;", declared("c", false, "SELECT 1")),
            ("DECLARE c BINARY INSENSITIVE CURSOR WITHOUT HOLD FOR SELECT 1", declared("c", false, "SELECT 1")),
            ("fetch 100 in \"SQL_CUR0x1\"", fetched("SQL_CUR0x1", 100)),
            ("FETCH FORWARD 50 FROM c;", fetched("c", 50)),
            ("FETCH ALL FROM c", fetched("c", usize::MAX)),
            ("FETCH c", fetched("c", 1)),
            ("FETCH BACKWARD 1 FROM c", None),
            ("FETCH -1 FROM c", None),
            ("CLOSE \"a \"", None),
            ("close \"SQL_CUR0x1\"", Some(Order::Close(Some("SQL_CUR0x1".to_owned())))),
            ("CLOSE ALL", Some(Order::Close(None))),
            ("declare x int", None),
            ("select 1", None),
        ] {
            assert_eq!(read(sql), order, "{sql}");
        }
    }
}
