//! Why a query has no answer, in words for the person who wrote it, with the place in the text.

use std::sync::Arc;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use super::caller::Caller;

/// A place in the SQL text, both from 1; columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// Which bound of [`super::Limits`] was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    Time,
    Memory,
    Spill,
    Rows,
    Bytes,
    Text,
}

/// One variant a decision that a door can take.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is wrong; the author can mend it.
    #[error("{message}")]
    Invalid { message: String, place: Option<Place>, hint: Option<String> },
    /// The text is right and not allowed, to anybody or to this role.
    #[error("{message}")]
    Refused { message: String, place: Option<Place> },
    /// This role may not ask at all.
    #[error("this account may not query")]
    Forbidden,
    #[error("{message}")]
    Limit { bound: Bound, message: String },
    /// Too many queries run; the same one may be sent again.
    #[error("too many queries are running; try again")]
    Busy,
    /// A live query that ended because boards were behind; it may be followed again later.
    #[error("this live query was ended because boards need the machine; follow it again later")]
    Pressed,
    /// The data made it fail: a division by zero, a number out of range.
    #[error("{message}")]
    Data { message: String },
    /// The engine stops.
    #[error("the engine is stopping")]
    Stopped,
    /// A fault of the engine; the cause is for the log.
    #[error("the query failed")]
    Failed(#[source] Arc<DataFusionError>),
}

impl QueryError {
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), place: None }
    }

    /// Stable: programs decide by it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "sql_invalid",
            Self::Refused { .. } => "sql_refused",
            Self::Forbidden => "forbidden",
            Self::Limit { .. } => "sql_limit",
            Self::Busy => "sql_busy",
            Self::Pressed => "sql_pressed",
            Self::Data { .. } => "sql_data",
            Self::Stopped => "sql_stopped",
            Self::Failed(_) => "internal",
        }
    }

    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Invalid { place, .. } | Self::Refused { place, .. } => *place,
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

/// An error of planning, said with its place. `tables` are the names that the caller has.
pub(super) fn of_planning(error: &DataFusionError, sql: &str, tables: &[String]) -> QueryError {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map(|span| Place { line: span.start.line, column: span.start.column });
    let helps = error.diagnostic().map(|diagnostic| diagnostic.helps.iter().map(|help| help.message.clone()).collect::<Vec<_>>());
    let help = helps.filter(|helps| !helps.is_empty()).map(|helps| helps.join("; "));
    match error.find_root() {
        DataFusionError::SQL(error, _) => of_parser(error),
        DataFusionError::SchemaError(error, _) => of_schema(error, place, sql, help),
        DataFusionError::ResourcesExhausted(_) | DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => of_execution(error),
        DataFusionError::Diagnostic(_, inner) => {
            let inner = of_planning(inner, sql, tables);
            match inner {
                QueryError::Invalid { message, place: own, hint } => {
                    QueryError::Invalid { message, place: place.or(own), hint: hint.or(help) }
                }
                other => other,
            }
        }
        root => {
            let message = plain(&root.strip_backtrace());
            let (place, hint) = match missing_table(&message) {
                Some(name) => (place.or_else(|| locate(sql, &name)), nearest(&name, tables.iter().map(String::as_str)).map(did_you_mean)),
                None => (place.or_else(|| quoted(&message).and_then(|name| locate(sql, name))), help),
            };
            let message = missing_table(&message).map_or(message, |name| format!("there is no table {name:?}"));
            QueryError::Invalid { message, place, hint }
        }
    }
}

fn of_parser(error: &ParserError) -> QueryError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, rest)) => {
            let numbers = rest.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
            (message.to_owned(), numbers.map(|(line, column)| Place { line, column }))
        }
        None => (text, None),
    };
    QueryError::Invalid { message, place, hint: None }
}

fn of_schema(error: &SchemaError, place: Option<Place>, sql: &str, help: Option<String>) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            let hint = nearest(&field.name, known.iter().copied()).map(did_you_mean);
            let place = place.or_else(|| locate(sql, &field.name));
            QueryError::Invalid { message: format!("there is no column {:?} here", field.name), place, hint: hint.or(help) }
        }
        SchemaError::AmbiguousReference { field } => QueryError::Invalid {
            message: format!("the column {:?} stands in more than one table; write the table before it", field.name),
            place: place.or_else(|| locate(sql, &field.name)),
            hint: help,
        },
        other => QueryError::Invalid { message: other.to_string(), place, hint: help },
    }
}

/// An error while rows were being made for a caller. Its words may quote a value, which only those may read who may see single rows.
pub(super) fn of_rows(error: &DataFusionError, caller: &Caller) -> QueryError {
    match of_execution(error) {
        QueryError::Data { .. } | QueryError::Invalid { .. } if !caller.has_student_rights() => QueryError::Data {
            message: "a value made the query fail, such as a division by zero or a cast; TRY_CAST and NULLIF keep it from failing".to_owned(),
        },
        other => other,
    }
}

/// An error while rows were being made.
pub(super) fn of_execution(error: &DataFusionError) -> QueryError {
    let root = error.find_root();
    let text = plain(&root.strip_backtrace());
    match root {
        _ if text.contains("used disk space during the spilling") => QueryError::Limit {
            bound: Bound::Spill,
            message: "the query needs more space on disk than one query may have; ask for less at a time".to_owned(),
        },
        DataFusionError::ResourcesExhausted(_) => QueryError::Limit {
            bound: Bound::Memory,
            message: "the query needs more memory than one query may have; filter, group or limit it".to_owned(),
        },
        DataFusionError::ArrowError(_, _) | DataFusionError::Execution(_) => QueryError::Data { message: text },
        DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) => QueryError::Invalid { message: text, place: None, hint: None },
        _ => QueryError::Failed(Arc::new(DataFusionError::Internal(error.to_string()))),
    }
}

/// The message without the prefixes that name the library's layers.
fn plain(text: &str) -> String {
    let prefixes = [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "Resources exhausted: ",
        "Optimizer rule 'simplify_expressions' failed",
    ];
    let mut text = text;
    while let Some(rest) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    text.lines().next().unwrap_or(text).to_owned()
}

/// The table's own name in "table 'a.b.c' not found".
fn missing_table(message: &str) -> Option<String> {
    let name = message.strip_prefix("table '")?.split_once("' not found")?.0;
    // The catalog and schema are the engine's; a name that the author qualified otherwise is said whole.
    Some(name.strip_prefix("rollcall.public.").unwrap_or(name).to_owned())
}

fn quoted(message: &str) -> Option<&str> {
    message.split('\'').nth(1)
}

/// Where a name first stands in the text as a word of its own.
fn locate(sql: &str, name: &str) -> Option<Place> {
    let name = name.rsplit('.').next().filter(|name| !name.is_empty())?;
    let is_word = |character: Option<char>| character.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let (text, wanted) = (sql.to_ascii_lowercase(), name.to_ascii_lowercase());
    let found = text
        .match_indices(&wanted)
        .find(|(at, found)| !is_word(text[..*at].chars().next_back()) && !is_word(text[at + found.len()..].chars().next()));
    let before = &sql[..found?.0];
    let line = before.matches('\n').count() as u64 + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() as u64 + 1;
    Some(Place { line, column })
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean {name:?}?")
}

/// The known name that is fewest edits away, when that is not more than a third of it.
fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.rsplit('.').next().unwrap_or(wanted).to_ascii_lowercase();
    let scored = known.map(|name| (edits(&wanted, &name.to_ascii_lowercase()), name));
    scored.min().filter(|(edits, name)| *edits <= (name.len() / 3).max(1)).map(|(_, name)| name)
}

/// Insertions, deletions and replacements that make one text of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let cost = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
