//! Which statements are queries: everything else is refused before anything is planned.
//!
//! Parameters (`?`, `$1`) get their values here, as constants in the text's place: what is planned, limited and rewritten for
//! privacy is then the same as when the author had written the values.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Query, SetExpr, Statement as Sql, TableFactor, Value, Visit, Visitor, visit_expressions,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Tokenizer};
use uuid::Uuid;

use super::error::{self, Bound, Place, QueryError};
use super::{parameters, size, unnamed};

/// Deepest nesting of a text; the parser recurses.
const NESTING_MAX: usize = 64;

/// Most tokens of a text that can make an expression deeper. A long list of constants has few of them.
const OPERATORS_MAX: usize = 2_000;

/// Most parameters of a text.
const PARAMETERS_MAX: usize = 1_000;

/// One statement that may run, and whether it is an EXPLAIN that runs the query too.
#[derive(Clone)]
pub struct Accepted {
    pub statement: Statement,
    pub explains: Explains,
    /// How many values it takes, by the highest number of a parameter.
    pub parameters: usize,
    /// The numbers of those that are lists of values.
    pub lists: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Explains {
    No,
    /// Shows the plan.
    Plan,
    /// Runs the query and shows what each step did.
    Run,
}

/// Whether a text may be parsed, here or by whoever reads it before it comes here.
pub fn admit(sql: &str, bytes_max: usize) -> Result<(), QueryError> {
    if sql.len() > bytes_max {
        return Err(QueryError::Limit { bound: Bound::Text, message: format!("a query has at most {bytes_max} bytes") });
    }
    if let Some(at) = sql.find('\0') {
        let place = Some(Place::of_byte(sql, at));
        return Err(QueryError::Invalid { message: "a query has no character U+0000".to_owned(), place, hint: None });
    }
    if operators(sql) > OPERATORS_MAX {
        let message = format!("a query has at most {OPERATORS_MAX} words and operators besides its constants");
        return Err(QueryError::Limit { bound: Bound::Text, message });
    }
    Ok(())
}

/// Reads the text as exactly one query.
pub fn accept(sql: &str, bytes_max: usize) -> Result<Accepted, QueryError> {
    admit(sql, bytes_max)?;
    let parsed = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| error::of_planning(&error, sql, &[]))?;
    let only = statements.pop_front();
    let (Some(statement), true) = (only, statements.is_empty()) else {
        let message = if sql.trim().is_empty() { "there is no query" } else { "write one query at a time" };
        return Err(QueryError::Invalid { message: message.to_owned(), place: error::second_statement(sql), hint: None });
    };
    let mut accepted = check(statement)?;
    accepted.parameters = numbered(&mut accepted.statement)?;
    read_ids(&mut accepted.statement);
    if let Some(sql) = of_sql(&mut accepted.statement) {
        accepted.lists = parameters::any_is_in(sql);
        unnamed::tell_apart(sql);
    }
    Ok(accepted)
}

impl Accepted {
    /// The text in one spelling: of two texts that differ in spaces, comments and the case of keywords it is the same.
    pub fn normalised(&self) -> String {
        self.statement.to_string()
    }

    /// The text with the types that a client has stated of its parameters.
    pub fn stating(mut self, types: &[Option<DataType>]) -> Self {
        if let Some(sql) = of_sql(&mut self.statement) {
            parameters::state(sql, types);
        }
        self
    }

    /// Puts the values in the places of the parameters; there must be as many.
    pub fn bind(mut self, values: &[ScalarValue]) -> Result<Self, QueryError> {
        if values.len() != self.parameters {
            let message = format!("the query has {} parameters and was given {} values", self.parameters, values.len());
            return Err(QueryError::Invalid { message, place: None, hint: None });
        }
        if self.parameters > 0 {
            let values = values.iter().map(parameters::constant).collect::<Result<Vec<_>, _>>()?;
            if let Some(sql) = of_sql(&mut self.statement) {
                let _ = visit_expressions_mut(sql, |expr| {
                    if let Expr::Value(placeholder) = expr
                        && let Value::Placeholder(name) = &placeholder.value
                        && let Some(value) = name[1..].parse().ok().and_then(|number: usize| values.get(number.checked_sub(1)?))
                    {
                        *expr = standing_at(value.clone(), placeholder.span);
                    }
                    ControlFlow::<()>::Continue(())
                });
                parameters::spread_lists(sql);
            }
            self.parameters = 0;
            read_ids(&mut self.statement);
        }
        Ok(self)
    }
}

fn of_sql(statement: &mut Statement) -> Option<&mut Sql> {
    match statement {
        Statement::Explain(explain) => of_sql(&mut explain.statement),
        Statement::Statement(sql) => Some(sql),
        _ => None,
    }
}

/// Gives every parameter its number, `?` by its place in the text, and returns the highest.
fn numbered(statement: &mut Statement) -> Result<usize, QueryError> {
    let Some(sql) = of_sql(statement) else { return Ok(0) };
    let mut unnamed: Vec<Location> = Vec::new();
    let mut highest = 0;
    let wrong = |place: Location, message: String| ControlFlow::Break(QueryError::Invalid { message, place: Place::of(place), hint: None });
    let seen = visit_expressions(&*sql, |expr| {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        if name == "?" {
            unnamed.push(value.span.start);
        } else {
            match name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
                Some(number @ 1..=PARAMETERS_MAX) => highest = highest.max(number),
                _ => return wrong(value.span.start, format!("a parameter is written ? or $1 to ${PARAMETERS_MAX}, not {name}")),
            }
        }
        match unnamed.first() {
            Some(first) if highest > 0 => wrong(*first, "write all parameters as ? or all with numbers, not both".to_owned()),
            _ if unnamed.len() > PARAMETERS_MAX => wrong(value.span.start, format!("a query has at most {PARAMETERS_MAX} parameters")),
            _ => ControlFlow::Continue(()),
        }
    });
    if let ControlFlow::Break(error) = seen {
        return Err(error);
    }
    unnamed.sort_unstable();
    if unnamed.is_empty() {
        return Ok(highest);
    }
    let _ = visit_expressions_mut(sql, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && let Ok(before) = unnamed.binary_search(&value.span.start)
        {
            *name = format!("${}", before + 1);
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(unnamed.len())
}

/// An expression that was read from a text of its own, at the place of what it stands for.
fn standing_at(mut expr: Expr, span: Span) -> Expr {
    let _ = visit_expressions_mut(&mut expr, |expr| {
        match expr {
            Expr::Value(value) => value.span = span,
            Expr::Function(function) => function.name = ObjectName(function.name.0.drain(..).map(|part| at(part, span)).collect()),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    expr
}

fn at(part: ObjectNamePart, span: Span) -> ObjectNamePart {
    match part {
        ObjectNamePart::Identifier(name) => ObjectNamePart::Identifier(Ident { span, ..name }),
        other => other,
    }
}

/// Tokens but for spaces, commas and constants: no expression is deeper than their number. A text that has no tokens is the
/// parser's to refuse. The doors read some texts in PostgreSQL's dialect, which has tokens where the other has none.
fn operators(sql: &str) -> usize {
    let counts = |token: &Token| {
        !matches!(token, Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::EOF)
    };
    let in_dialect = |dialect: &dyn Dialect| {
        Tokenizer::new(dialect, sql).tokenize().map_or(0, |tokens| tokens.iter().filter(|token| counts(token)).count())
    };
    in_dialect(&GenericDialect {}).max(in_dialect(&PostgreSqlDialect {}))
}

fn check(statement: Statement) -> Result<Accepted, QueryError> {
    let explains = match &statement {
        Statement::Explain(explain) => {
            check_query(&explain.statement)?;
            if explain.options.verbose {
                return Err(QueryError::refused("EXPLAIN VERBOSE shows what there is below a caller's rows; use EXPLAIN"));
            }
            if explain.options.analyze { Explains::Run } else { Explains::Plan }
        }
        other => {
            check_query(other)?;
            Explains::No
        }
    };
    Ok(Accepted { statement, explains, parameters: 0, lists: Vec::new() })
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
        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<&'static str> {
            match table {
                TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                    ControlFlow::Break("TABLESAMPLE is not there: a query reads all rows")
                }
                _ => ControlFlow::Continue(()),
            }
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
        ControlFlow::Continue(()) => size::check(query),
        ControlFlow::Break(message) => Err(QueryError::refused(message)),
    }
}

/// Text constants spelled like a UUID become ids, see [`super::ids`].
fn read_ids(statement: &mut Statement) {
    let Some(sql) = of_sql(statement) else { return };
    let _ = visit_expressions_mut(sql, |expr| {
        if let Expr::Value(value) = expr
            && let Value::SingleQuotedString(text) = &value.value
            && text.len() == uuid::fmt::Hyphenated::LENGTH
            && let Ok(id) = Uuid::parse_str(text)
            && let Ok(call) = DFParser::parse_sql_into_expr(&format!("id('{id}')"))
        {
            *expr = standing_at(call.expr, value.span);
        }
        ControlFlow::<()>::Continue(())
    });
}
