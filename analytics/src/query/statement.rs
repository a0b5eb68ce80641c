//! Which statements are queries: everything else is refused before anything is planned.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Statement as Sql, Value, Visit, Visitor, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use uuid::Uuid;

use super::error::{self, Bound, QueryError};

/// Deepest nesting of a text; the parser recurses.
const NESTING_MAX: usize = 64;

/// Most tokens of a text that can make an expression deeper. A long list of constants has few of them.
const OPERATORS_MAX: usize = 2_000;

/// One statement that may run, and whether it is an EXPLAIN that runs the query too.
pub struct Accepted {
    pub statement: Statement,
    pub explains: Explains,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Explains {
    No,
    /// Shows the plan.
    Plan,
    /// Runs the query and shows what each step did.
    Run,
}

/// Reads the text as exactly one query.
pub fn accept(sql: &str, bytes_max: usize) -> Result<Accepted, QueryError> {
    if sql.len() > bytes_max {
        return Err(QueryError::Limit { bound: Bound::Text, message: format!("a query has at most {bytes_max} bytes") });
    }
    if operators(sql) > OPERATORS_MAX {
        let message = format!("a query has at most {OPERATORS_MAX} words and operators besides its constants");
        return Err(QueryError::Limit { bound: Bound::Text, message });
    }
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| error::of_planning(&error, sql, &[]))?;
    let only = statements.pop_front();
    let (Some(statement), true) = (only, statements.is_empty()) else {
        let message = if sql.trim().is_empty() { "there is no query" } else { "write one query at a time" };
        return Err(QueryError::Invalid { message: message.to_owned(), place: None, hint: None });
    };
    let mut accepted = check(statement)?;
    read_ids(&mut accepted.statement);
    Ok(accepted)
}

/// Tokens but for spaces, commas and constants: no expression is deeper than their number. A text that has no tokens is the
/// parser's to refuse.
fn operators(sql: &str) -> usize {
    let counts = |token: &Token| {
        !matches!(token, Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::EOF)
    };
    Tokenizer::new(&GenericDialect {}, sql).tokenize().map_or(0, |tokens| tokens.iter().filter(|token| counts(token)).count())
}

fn check(statement: Statement) -> Result<Accepted, QueryError> {
    let explains = match &statement {
        Statement::Explain(explain) => {
            check_query(&explain.statement)?;
            if explain.options.analyze { Explains::Run } else { Explains::Plan }
        }
        other => {
            check_query(other)?;
            Explains::No
        }
    };
    Ok(Accepted { statement, explains })
}

fn check_query(statement: &Statement) -> Result<(), QueryError> {
    let sql = match statement {
        Statement::Statement(sql) => sql,
        Statement::CopyTo(_) => return Err(QueryError::refused("COPY is refused: a query reads tables and writes nothing")),
        Statement::CreateExternalTable(_) => return Err(QueryError::refused("files and network addresses cannot be queried")),
        Statement::Explain(_) => return Err(QueryError::refused("EXPLAIN explains a query, not another EXPLAIN")),
        Statement::Reset(_) => return Err(QueryError::refused("settings cannot be changed")),
    };
    match sql.as_ref() {
        Sql::Query(query) => only_reads(query),
        Sql::ShowTables { .. } | Sql::ShowColumns { .. } => Ok(()),
        Sql::ShowVariable { .. } | Sql::Set(_) => Err(QueryError::refused("settings cannot be shown or changed")),
        other => {
            let text = other.to_string();
            let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            Err(QueryError::refused(format!("{word} is refused: only SELECT, WITH, EXPLAIN, SHOW TABLES and SHOW COLUMNS run here")))
        }
    }
}

/// A query whose body, at any depth, is nothing but a query.
fn only_reads(query: &Query) -> Result<(), QueryError> {
    struct Reads;
    impl Visitor for Reads {
        type Break = &'static str;
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<&'static str> {
            if !query.locks.is_empty() {
                return ControlFlow::Break("FOR UPDATE and FOR SHARE are refused: a query locks nothing");
            }
            body(&query.body)
        }
        fn pre_visit_statement(&mut self, statement: &Sql) -> ControlFlow<&'static str> {
            match statement {
                Sql::Query(_) => ControlFlow::Continue(()),
                _ => ControlFlow::Break("a statement that writes cannot stand in a query"),
            }
        }
    }
    fn body(expr: &SetExpr) -> ControlFlow<&'static str> {
        match expr {
            SetExpr::Select(select) if select.into.is_some() => ControlFlow::Break("SELECT INTO is refused: a query writes nothing"),
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => ControlFlow::Continue(()),
            SetExpr::SetOperation { left, right, .. } => {
                body(left)?;
                body(right)
            }
            _ => ControlFlow::Break("a statement that writes cannot stand in a query"),
        }
    }
    match query.visit(&mut Reads) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(QueryError::refused(message)),
    }
}

/// Text constants spelled like a UUID become ids, see [`super::ids`].
fn read_ids(statement: &mut Statement) {
    let sql = match statement {
        Statement::Explain(explain) => return read_ids(&mut explain.statement),
        Statement::Statement(sql) => sql,
        _ => return,
    };
    let _ = visit_expressions_mut(sql.as_mut(), |expr| {
        if let Expr::Value(value) = expr
            && let Value::SingleQuotedString(text) = &value.value
            && text.len() == uuid::fmt::Hyphenated::LENGTH
            && let Ok(id) = Uuid::parse_str(text)
            && let Ok(call) = DFParser::parse_sql_into_expr(&format!("id('{id}')"))
        {
            *expr = call.expr;
        }
        ControlFlow::<()>::Continue(())
    });
}
