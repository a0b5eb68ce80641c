//! Where in the text a fault of planning is, when the planner does not say.
//!
//! The text is planned again without one of its expressions after another, each with a constant in its place. Where it has a plan without an
//! expression, the fault is in that one; of several within each other the innermost is told. So a place that is told is never beside the
//! fault. Where two expressions that stand beside each other would both do, what they are part of is told, and without such a one nothing.
//!
//! Nothing runs and no row is read: what is planned depends on the text and on the columns of tables. The work is bounded by
//! [`TRIALS_MAX`] and [`TIME_MAX`].

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Spanned, Statement as Sql, Value, VisitMut, VisitorMut};

use super::error::{self, Place};
use super::unnamed;

mod form;

/// Most plans that are made to find one place.
const TRIALS_MAX: usize = 64;

/// After so long no further plan is begun.
const TIME_MAX: Duration = Duration::from_secs(2);

/// What was found.
pub enum Found {
    /// The text has a plan: what failed came later.
    HasPlan,
    At(Option<Place>),
}

/// Looks for the fault of a text that could not be planned.
pub async fn find(state: &SessionState, statement: Statement) -> Found {
    let Some(sql) = of_sql(statement) else { return Found::At(None) };
    let parts = Parts::of(&sql);
    let mut search = Search { state, sql, parts, trials: 0, until: Instant::now() + TIME_MAX };
    let fault = match search.without(&[]).await {
        Some(Err(fault)) => fault,
        Some(Ok(())) => return Found::HasPlan,
        None => return Found::At(None),
    };
    if let Some(place) = form::place(&search.sql, &fault) {
        return Found::At(Some(place));
    }
    let part = match search.suspects(&fault) {
        suspects if suspects.is_empty() => search.innermost(&fault).await,
        suspects => match search.first_wrong(&suspects, &fault).await {
            Some(part) => Some(part),
            None => search.innermost(&fault).await,
        },
    };
    Found::At(part.and_then(|part| search.parts[part].place))
}

fn of_sql(statement: Statement) -> Option<Sql> {
    match statement {
        Statement::Explain(explain) => of_sql(*explain.statement),
        Statement::Statement(sql) => Some(*sql),
        _ => None,
    }
}

/// One expression of a text.
struct Part {
    /// The one that it stands in.
    above: Option<usize>,
    /// Where those that stand in it end.
    end: usize,
    place: Option<Place>,
    said: Said,
}

enum Said {
    /// A constant text.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// The name of a function that is called.
    Call(String),
    Other,
}

/// The expressions of a text in the order in which they begin.
#[derive(Default)]
struct Parts {
    all: Vec<Part>,
    open: Vec<usize>,
}

impl Parts {
    fn of(sql: &Sql) -> Vec<Part> {
        let mut parts = Self::default();
        let _ = sql.clone().visit(&mut parts);
        parts.all
    }
}

impl VisitorMut for Parts {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let said = match expr {
            Expr::Value(value) => said(&value.value),
            Expr::TypedString(typed) => said(&typed.value.value),
            Expr::Function(function) => Said::Call(function.name.to_string().to_lowercase()),
            _ => Said::Other,
        };
        self.open.push(self.all.len());
        let above = self.open.iter().rev().nth(1).copied();
        self.all.push(Part { above, end: 0, place: Place::of(expr.span().start), said });
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        if let Some(done) = self.open.pop() {
            self.all[done].end = self.all.len();
        }
        ControlFlow::Continue(())
    }
}

fn said(value: &Value) -> Said {
    match value {
        Value::SingleQuotedString(text) => Said::Text(text.clone()),
        Value::Number(number, _) => Said::Number(number.clone()),
        _ => Said::Other,
    }
}

/// Puts a constant in the place of expressions.
struct Without<'a> {
    parts: &'a [Part],
    left_out: &'a [usize],
    instead: Value,
    next: usize,
}

impl VisitorMut for Without<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.left_out.contains(&self.next) {
            *expr = Expr::Value(self.instead.clone().into());
            // What stood in it is not come by any more.
            self.next = self.parts.get(self.next).map_or(self.next, |part| part.end);
        } else {
            self.next += 1;
        }
        ControlFlow::Continue(())
    }
}

struct Search<'a> {
    state: &'a SessionState,
    sql: Sql,
    parts: Vec<Part>,
    trials: usize,
    until: Instant,
}

impl Search<'_> {
    /// Plans the text with NULL in the place of these parts and says why that fails; `None`: nothing more is tried.
    async fn without(&mut self, left_out: &[usize]) -> Option<Result<(), String>> {
        self.with(Value::Null, left_out).await
    }

    async fn with(&mut self, instead: Value, left_out: &[usize]) -> Option<Result<(), String>> {
        if self.trials >= TRIALS_MAX || Instant::now() >= self.until {
            return None;
        }
        self.trials += 1;
        let mut sql = self.sql.clone();
        let _ = sql.visit(&mut Without { parts: &self.parts, left_out, instead, next: 0 });
        unnamed::tell_apart(&mut sql);
        let planned = self.state.statement_to_plan(Statement::Statement(Box::new(sql))).await;
        let optimized = planned.and_then(|plan| self.state.optimize(&plan));
        Some(optimized.map(drop).map_err(|error| message(&error)))
    }

    /// The constants that a message quotes, or the calls of the function that it names, as they stand in the text; inner ones first.
    fn suspects(&self, fault: &str) -> Vec<usize> {
        // A message that shows a syntax tree quotes all that stands in it.
        if fault.contains("Span(") {
            return Vec::new();
        }
        // A regular expression that cannot be read is quoted in a line of its own.
        let is_line = |text: &str| fault.contains("regex parse error") && fault.lines().any(|line| line.trim() == text);
        let quotes = |text: &str| fault.contains(&format!("'{text}'")) || fault.contains(&format!("\"{text}\"")) || is_line(text);
        let position = fault.split_once("position ").map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let called = error::called(fault);
        let is_one = |said: &Said| match (said, &called) {
            (Said::Call(name), Some(called)) => name == called,
            (Said::Text(text), None) => !text.is_empty() && quotes(text),
            (Said::Number(number), None) => position.as_ref() == Some(number),
            _ => false,
        };
        let mut suspects: Vec<usize> = (0..self.parts.len()).filter(|part| is_one(&self.parts[*part].said)).collect();
        suspects.sort_by_key(|part| self.parts[*part].end);
        suspects
    }

    /// The one without which, and without those before it, the fault is no more: those before it were not all of it.
    async fn first_wrong(&mut self, suspects: &[usize], fault: &str) -> Option<usize> {
        for upto in 1..=suspects.len() {
            match self.without(&suspects[..upto]).await? {
                Err(again) if again == fault => {}
                _ => return Some(suspects[upto - 1]),
            }
        }
        None
    }

    /// Whether there is a plan without a part. Functions that take no NULL may take a number.
    async fn mends(&mut self, part: usize, fault: &str) -> Option<bool> {
        match self.without(&[part]).await? {
            Ok(()) => Some(true),
            Err(again) if again == fault => Some(false),
            Err(_) => Some(self.with(Value::Number("1".to_owned(), false), &[part]).await?.is_ok()),
        }
    }

    /// The innermost part without which there is a plan.
    async fn innermost(&mut self, fault: &str) -> Option<usize> {
        let mut found = None;
        loop {
            let within: Vec<usize> = (0..self.parts.len()).filter(|part| self.parts[*part].above == found).collect();
            let mut mending = None;
            for part in within {
                match self.mends(part, fault).await {
                    Some(true) if mending.is_some() => return found,
                    Some(true) => mending = Some(part),
                    Some(false) => {}
                    None => return found,
                }
            }
            match mending {
                Some(part) => found = Some(part),
                None => return found,
            }
        }
    }
}

fn message(error: &DataFusionError) -> String {
    error.find_root().strip_backtrace()
}
