//! The tables that the SQL of the definition reads, as Arrow columns. Windows (`w`), meetings (`m`), students (`s`) and
//! quizzes are numbered anew for each calculation.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt8Array, UInt32Array};
use arrow::datatypes::{Field, Schema};
use rollcall_model::schedule::Span;
use rollcall_model::time::UtcMillis;

use super::definition::Parameters;

/// A metric of wearables as it stands in `reading`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wearable {
    Worn = 1,
    Steps = 2,
}

impl Wearable {
    pub fn from_text(metric: &str) -> Option<Self> {
        match metric {
            "worn" => Some(Self::Worn),
            "steps" => Some(Self::Steps),
            _ => None,
        }
    }
}

/// A window to be calculated.
#[derive(Clone, Copy, Debug)]
pub struct WindowRow {
    pub meeting: u32,
    /// Clipped to the meeting.
    pub span: Span,
    pub parameters: Parameters,
    /// The teacher has said which resources are allowed.
    pub is_restricted: bool,
}

/// A stretch of a meeting in which a student is present, as far as attendance knows; several for whoever came back, which do
/// not touch.
#[derive(Clone, Copy, Debug)]
pub struct PresenceRow {
    pub meeting: u32,
    pub student: u32,
    pub span: Span,
    /// When the student's stretch before this one ended.
    pub previous: Option<UtcMillis>,
}

/// From an event of a student to the next one.
#[derive(Clone, Copy, Debug)]
pub struct StepRow {
    pub window: u32,
    pub student: u32,
    pub previous: Option<i64>,
    pub ts: i64,
    pub received: i64,
    /// Of the event at `ts`.
    pub kind: u8,
    /// The resource of the event at `previous` is allowed and was not closed by it.
    pub is_allowed: bool,
}

/// What the steps of a student in a window add up to. `active_ms` and `allowed_ms` are milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    pub events: i64,
    pub late_events: i64,
    pub meaningful: i64,
    pub active_ms: i64,
    pub allowed_ms: i64,
}

/// An event of a quiz; a teacher's has no student.
#[derive(Clone, Copy, Debug)]
pub struct QuizRow {
    pub meeting: u32,
    pub student: Option<u32>,
    pub resource: u32,
    pub kind: u8,
    pub ts: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadingRow {
    pub window: u32,
    pub student: u32,
    pub metric: Wearable,
    pub ts: i64,
    pub value: f64,
}

/// All that one calculation looks at. The number of a window is its place in `windows`.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub windows: Vec<WindowRow>,
    pub presence: Vec<PresenceRow>,
    pub steps: Vec<StepRow>,
    /// Window, student, and the sum over steps that an earlier calculation had and that are not among `steps`.
    pub carried: Vec<(u32, u32, Sums)>,
    pub quizzes: Vec<QuizRow>,
    pub readings: Vec<ReadingRow>,
}

impl Input {
    /// The tables by name.
    pub(super) fn tables(&self) -> [(&'static str, RecordBatch); 6] {
        [
            ("win", self.win()),
            ("presence", self.presence()),
            ("step", self.step()),
            ("carried", self.carried()),
            ("quiz", self.quiz()),
            ("reading", self.reading()),
        ]
    }

    fn win(&self) -> RecordBatch {
        let rows = &self.windows;
        table(vec![
            ("w", number(0..rows.len() as u32)),
            ("m", number(rows.iter().map(|row| row.meeting))),
            ("starts", instant(rows.iter().map(|row| row.span.starts.0))),
            ("ends", instant(rows.iter().map(|row| row.span.ends.0))),
            ("theta_ms", instant(rows.iter().map(|row| row.parameters.theta_ms))),
            ("settle_ms", instant(rows.iter().map(|row| row.parameters.settle_ms))),
            ("coverage_min_pct", instant(rows.iter().map(|row| row.parameters.coverage_min_pct))),
            ("is_restricted", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_restricted))))),
        ])
    }

    fn presence(&self) -> RecordBatch {
        let rows = &self.presence;
        table(vec![
            ("m", number(rows.iter().map(|row| row.meeting))),
            ("s", number(rows.iter().map(|row| row.student))),
            ("since", instant(rows.iter().map(|row| row.span.starts.0))),
            ("until", instant(rows.iter().map(|row| row.span.ends.0))),
            ("previous", instant(rows.iter().map(|row| row.previous.map_or(i64::MIN, |previous| previous.0)))),
        ])
    }

    fn step(&self) -> RecordBatch {
        let rows = &self.steps;
        table(vec![
            ("w", number(rows.iter().map(|row| row.window))),
            ("s", number(rows.iter().map(|row| row.student))),
            ("previous", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.previous)))),
            ("ts", instant(rows.iter().map(|row| row.ts))),
            ("received", instant(rows.iter().map(|row| row.received))),
            ("kind", Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.kind)))),
            ("allowed", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.is_allowed))))),
        ])
    }

    fn carried(&self) -> RecordBatch {
        let rows = &self.carried;
        let sum = |of: fn(&Sums) -> i64| instant(rows.iter().map(|(_, _, sums)| of(sums)));
        table(vec![
            ("w", number(rows.iter().map(|(window, _, _)| *window))),
            ("s", number(rows.iter().map(|(_, student, _)| *student))),
            ("events", sum(|sums| sums.events)),
            ("late_events", sum(|sums| sums.late_events)),
            ("meaningful", sum(|sums| sums.meaningful)),
            ("active_ms", sum(|sums| sums.active_ms)),
            ("allowed_ms", sum(|sums| sums.allowed_ms)),
        ])
    }

    fn quiz(&self) -> RecordBatch {
        let rows = &self.quizzes;
        table(vec![
            ("m", number(rows.iter().map(|row| row.meeting))),
            ("s", Arc::new(UInt32Array::from_iter(rows.iter().map(|row| row.student)))),
            ("resource", number(rows.iter().map(|row| row.resource))),
            ("kind", Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.kind)))),
            ("ts", instant(rows.iter().map(|row| row.ts))),
        ])
    }

    fn reading(&self) -> RecordBatch {
        let rows = &self.readings;
        table(vec![
            ("w", number(rows.iter().map(|row| row.window))),
            ("s", number(rows.iter().map(|row| row.student))),
            ("metric", Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.metric as u8)))),
            ("ts", instant(rows.iter().map(|row| row.ts))),
            ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value)))),
        ])
    }
}

fn number(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

fn instant(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn table(columns: Vec<(&'static str, ArrayRef)>) -> RecordBatch {
    // What a column may lack is known here, so that the plan need not look for nulls in the others.
    let may_lack = |name: &str, column: &ArrayRef| name == "previous" || (name == "s" && column.null_count() > 0);
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), may_lack(name, column));
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<Field>>());
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(schema), columns).expect("all columns of a table have its rows")
}
