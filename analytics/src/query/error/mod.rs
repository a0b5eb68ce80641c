//! Why a query has no answer, in words for the person who wrote it, with the place in the text.

use std::sync::Arc;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use super::caller::Caller;

mod place;
mod types;
mod words;

pub use place::Place;
pub(super) use place::second_statement;
pub(super) use words::called;
use words::{did_you_mean, missing_table, named, nearest, plain, plain_help, reworded};

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
    /// History lost a file after the first rows were given; the same question may be asked again.
    #[error("{message}")]
    Changed { message: String },
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

    /// Whether it is of the text and says no place of it.
    pub(super) fn has_no_place(&self) -> bool {
        matches!(self, Self::Invalid { place: None, .. } | Self::Data { .. })
    }

    /// The same as a fault of the text at a place, if that is known.
    pub(super) fn of_text(self, at: Option<Place>) -> Self {
        match self {
            Self::Data { message } => Self::Invalid { message, place: at, hint: None },
            Self::Invalid { message, place, hint } => Self::Invalid { message, place: place.or(at), hint },
            other => other,
        }
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
            Self::Changed { .. } => "sql_changed",
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
    // Of nested aggregates it is that of what stands in the inner one, and the help says what the message does.
    let diagnostic = error.diagnostic().filter(|_| !error.strip_backtrace().contains("cannot be nested"));
    let span = diagnostic.and_then(|diagnostic| diagnostic.span);
    let place = span.map(|span| Place { line: span.start.line, column: span.start.column });
    let helps = diagnostic.map(|diagnostic| diagnostic.helps.iter().map(|help| plain_help(&help.message)).collect::<Vec<_>>());
    let help = helps.filter(|helps| !helps.is_empty()).map(|helps| helps.join("; "));
    match error.find_root() {
        DataFusionError::SQL(error, _) => of_parser(error, sql),
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
            let text = root.strip_backtrace();
            let (message, hint) = reworded(&text).unwrap_or_else(|| (plain(&text), None));
            let (hint, place) = (hint.or(help), place.or_else(|| place::only(sql, &named(&text)?)));
            match missing_table(&message) {
                Some(name) => {
                    let hint = nearest(&name, tables.iter().map(String::as_str)).map(did_you_mean);
                    let place = place.or_else(|| place::of_table(sql, &name));
                    QueryError::Invalid { message: format!("there is no table {name:?}"), place, hint }
                }
                None => QueryError::Invalid { message, place, hint },
            }
        }
    }
}

/// The name of the table that is not there, if that is the fault.
pub(super) fn missing(error: &DataFusionError) -> Option<String> {
    missing_table(&plain(&error.find_root().strip_backtrace()))
}

fn of_parser(error: &ParserError, sql: &str) -> QueryError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, rest)) => {
            let numbers = rest.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
            (message.to_owned(), numbers.map(|(line, column)| Place { line, column }))
        }
        // What is missing is missing at the end.
        None if text.ends_with("found: EOF") => {
            (text.replace("EOF", "the end of the text"), Some(Place::of_byte(sql, sql.trim_end().len())))
        }
        None => (text, None),
    };
    QueryError::Invalid { message, place, hint: None }
}

fn of_schema(error: &SchemaError, place: Option<Place>, sql: &str, help: Option<String>) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            // Another table of the query has it.
            let elsewhere = valid_fields.iter().find(|column| column.name == field.name);
            let elsewhere = elsewhere.and_then(|column| Some(format!("{}.{}", column.relation.as_ref()?.table(), column.name)));
            let hint = elsewhere.as_deref().or_else(|| nearest(&field.name, known.iter().copied())).map(did_you_mean);
            let place = place.or_else(|| place::only(sql, &field.name));
            let name = field.relation.as_ref().filter(|_| known.contains(&field.name.as_str()));
            let name = name.map_or_else(|| field.name.clone(), |table| format!("{}.{}", table.table(), field.name));
            QueryError::Invalid { message: format!("there is no column {name:?} here"), place, hint: hint.or(help) }
        }
        SchemaError::AmbiguousReference { field } => QueryError::Invalid {
            message: format!("the column {:?} stands in more than one table; write the table before it", field.name),
            place: place.or_else(|| place::only(sql, &field.name)),
            hint: help,
        },
        other => {
            let text = other.to_string();
            let message = reworded(&text).map_or_else(|| plain(&text), |(message, _)| message);
            QueryError::Invalid { message, place, hint: help }
        }
    }
}

/// An error while rows were being made for a caller. Its words may quote a value, which only those may read who may see single rows.
pub(super) fn of_rows(error: &DataFusionError, caller: &Caller) -> QueryError {
    match of_execution(error) {
        QueryError::Data { .. } | QueryError::Invalid { .. } if !caller.has_student_rights() => QueryError::Data {
            message: "a value made the query fail, such as a division by zero or a cast; TRY_CAST and NULLIF keep it from failing"
                .to_owned(),
        },
        other => other,
    }
}

/// An error while rows were being made.
pub(super) fn of_execution(error: &DataFusionError) -> QueryError {
    let root = error.find_root();
    let text = root.strip_backtrace();
    let is_pattern = text.contains("Regular expression did not compile");
    let text = reworded(&text).map_or_else(|| plain(&text), |(message, _)| message);
    match root {
        _ if is_pattern => QueryError::Data { message: text },
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
