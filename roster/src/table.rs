//! One CSV file as a table: its header checked against the columns it should have, every value against its kind.
//!
//! Header names match exactly, as OneRoster demands; a name that differs in case only is told as such. Values are
//! trimmed. A row with an error is still shown to the visitor (with [`Row::sound`] false), so that its id is known
//! and rows that refer to it are not reported a second time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read};

use chrono::{NaiveDate, NaiveTime};

use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::records::{Fault, Record, Records, Step};

/// Most rows of one file; far above the enrolments of the largest district, low enough to bound memory.
pub const ROWS_MAX: u64 = 20_000_000;

/// What a value must look like. An empty value is judged by [`Column::need`] only.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    /// YYYY-MM-DD.
    Date,
    /// HH:MM, seconds allowed.
    Time,
    /// true or false, in any case.
    Bool,
    Enum(&'static [&'static str]),
    /// An enumeration that may be extended by values starting with `ext:`, as OneRoster 1.2 allows.
    OpenEnum(&'static [&'static str]),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Need {
    /// The column must be there and every row must fill it.
    Filled,
    /// The column must be there, its values may be empty.
    Column,
    Optional,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub name: &'static str,
    pub need: Need,
    pub kind: Kind,
}

pub(crate) const fn filled(name: &'static str, kind: Kind) -> Column {
    Column { name, need: Need::Filled, kind }
}

pub(crate) const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, need: Need::Optional, kind }
}

/// One row; columns are named by their position in the table's definition.
pub(crate) struct Row<'a> {
    pub file: &'a str,
    pub line: u64,
    /// Whether every value was right.
    pub sound: bool,
    columns: &'a [Column],
    positions: &'a [Option<usize>],
    values: &'a [Cow<'a, str>],
    lines: &'a [u64],
}

impl Row<'_> {
    /// The trimmed value; empty when the column is absent.
    pub fn text(&self, column: usize) -> &str {
        self.positions[column].map_or("", |at| self.values[at].trim())
    }

    pub fn some(&self, column: usize) -> Option<&str> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    pub fn owned(&self, column: usize) -> Option<String> {
        self.some(column).map(str::to_owned)
    }

    /// The comma-separated parts of a list, without empty ones.
    pub fn list(&self, column: usize) -> impl Iterator<Item = &str> {
        self.text(column).split(',').map(str::trim).filter(|part| !part.is_empty())
    }

    pub fn date(&self, column: usize) -> Option<NaiveDate> {
        parse_date(self.text(column))
    }

    pub fn time(&self, column: usize) -> Option<NaiveTime> {
        parse_time(self.text(column))
    }

    pub fn is_true(&self, column: usize) -> Option<bool> {
        self.some(column).map(|text| text.eq_ignore_ascii_case("true"))
    }

    /// The enumeration's value in its right case; the text itself for extensions and nonsense.
    pub fn choice(&self, column: usize) -> &str {
        let text = self.text(column);
        match self.columns[column].kind {
            Kind::Enum(values) | Kind::OpenEnum(values) => values.iter().find(|v| v.eq_ignore_ascii_case(text)).copied().unwrap_or(text),
            _ => text,
        }
    }

    pub fn place(&self, column: usize) -> Place<'_> {
        let line = self.positions[column].and_then(|at| self.lines.get(at)).copied().unwrap_or(self.line);
        Place { file: self.file, line, column: self.columns[column].name }
    }
}

pub(crate) fn parse_date(text: &str) -> Option<NaiveDate> {
    // chrono also takes "2026-8-1", which the standard does not allow and other readers refuse.
    if text.len() != 10 {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

pub(crate) fn parse_time(text: &str) -> Option<NaiveTime> {
    let padded = if text.len() == 4 || text.len() == 7 { Cow::Owned(format!("0{text}")) } else { Cow::Borrowed(text) };
    NaiveTime::parse_from_str(&padded, "%H:%M").or_else(|_| NaiveTime::parse_from_str(&padded, "%H:%M:%S")).ok()
}

/// Reads `file` of the package and shows every row to `visit`. Returns false when the file is not there.
pub(crate) fn scan(
    package: &mut Package,
    file: &str,
    columns: &[Column],
    problems: &mut Problems,
    mut visit: impl FnMut(&Row<'_>, &mut Problems),
) -> Result<bool, PackageError> {
    let read = package.read(file, |input| scan_reader(input, file, columns, problems, &mut visit))?;
    Ok(read.is_some())
}

fn scan_reader(
    input: &mut dyn Read,
    file: &str,
    columns: &[Column],
    problems: &mut Problems,
    visit: &mut dyn FnMut(&Row<'_>, &mut Problems),
) -> io::Result<()> {
    let mut records = Records::new(input);
    let mut record = Record::default();
    let header = match records.next(&mut record)? {
        Step::Record => Header::check(&record, file, columns, problems),
        Step::Fault(fault) => {
            report_fault(fault, file, &[], problems);
            return Ok(());
        }
        Step::End => {
            problems.error(Place::file(file), Code::EmptyFile, "the file is empty; even without rows it needs its header line");
            return Ok(());
        }
    };
    let Some(header) = header else { return Ok(()) };
    let mut rows = 0;
    loop {
        match records.next(&mut record)? {
            Step::End => return Ok(()),
            Step::Fault(fault) => report_fault(fault, file, &header.names, problems),
            Step::Record => {
                rows += 1;
                if rows > ROWS_MAX {
                    problems.error(
                        Place::line(file, record.line()),
                        Code::TooManyRows,
                        format!("more than {ROWS_MAX} rows; nothing after this line was read"),
                    );
                    return Ok(());
                }
                visit_record(&record, &header, file, columns, problems, visit);
            }
        }
    }
}

fn report_fault(fault: Fault, file: &str, names: &[String], problems: &mut Problems) {
    let column = |field: usize| names.get(field).map_or("", String::as_str);
    match fault {
        Fault::QuoteInUnquoted { line, field } => problems.error(
            Place { file, line, column: column(field) },
            Code::BadQuoting,
            "a double quote stands inside a field that does not begin with one; enclose the whole field in quotes and double the inner ones",
        ),
        Fault::TextAfterQuote { line, field } => problems.error(
            Place { file, line, column: column(field) },
            Code::BadQuoting,
            "text follows a closing double quote; a quote inside a quoted field must be doubled",
        ),
        Fault::Unclosed { line, field } => problems.error(
            Place { file, line, column: column(field) },
            Code::BadQuoting,
            "the double quote that opens here is never closed; nothing after it could be read",
        ),
        Fault::TooLong { line } => problems.error(Place::line(file, line), Code::RecordTooLong, "the record is too long to be a row of a roster; is a quote missing?"),
        Fault::Utf16 => problems.error(Place::line(file, 1), Code::InvalidUtf8, "the file is UTF-16; save it as \"CSV UTF-8\""),
    }
}

struct Header {
    names: Vec<String>,
    /// Where each defined column stands in the file.
    positions: Vec<Option<usize>>,
}

impl Header {
    /// `None` when a column that is needed is missing: then rows would only repeat that.
    fn check(record: &Record, file: &str, columns: &[Column], problems: &mut Problems) -> Option<Self> {
        let mut names: Vec<String> = (0..record.len()).map(|i| String::from_utf8_lossy(record.field(i)).trim().to_owned()).collect();
        // Trailing commas of the header name no column, and rows need not have them.
        names.truncate(names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1));
        let line = record.line();
        let mut seen = HashMap::new();
        for (at, name) in names.iter().enumerate() {
            if let (false, Some(_)) = (name.is_empty(), seen.insert(name.as_str(), at)) {
                problems.error(
                    Place { file, line, column: name },
                    Code::DuplicateColumn,
                    format!("column {} stands twice in the header", quoted(name)),
                );
            }
            let known = columns.iter().any(|c| c.name == name) || name.starts_with("metadata.") || name.is_empty();
            if !known {
                problems.warn(
                    Place { file, line, column: name },
                    Code::UnknownColumn,
                    format!("column {} is not one of this file's; it is not read", quoted(name)),
                );
            }
        }
        let positions: Vec<Option<usize>> = columns.iter().map(|c| seen.get(c.name).copied()).collect();
        let mut complete = true;
        for (column, position) in columns.iter().zip(&positions) {
            if column.need == Need::Optional || position.is_some() {
                continue;
            }
            complete = false;
            let message = match names.iter().find(|name| name.eq_ignore_ascii_case(column.name)) {
                Some(other) => format!("column {} is missing; {} differs in case, which matters", column.name, quoted(other)),
                None => format!("column {} is missing", column.name),
            };
            problems.error(Place { file, line, column: column.name }, Code::MissingColumn, message);
        }
        complete.then_some(Self { names, positions })
    }
}

fn visit_record(
    record: &Record,
    header: &Header,
    file: &str,
    columns: &[Column],
    problems: &mut Problems,
    visit: &mut dyn FnMut(&Row<'_>, &mut Problems),
) {
    let width = header.names.len();
    // Spreadsheets write trailing commas; only text beyond the header means that columns are shifted.
    let extra = (width..record.len()).any(|i| !record.field(i).is_empty());
    if record.len() < width || extra {
        problems.error(
            Place::line(file, record.line()),
            Code::WrongFieldCount,
            format!("{} fields, but the header has {width}", record.len()),
        );
        return;
    }
    let mut sound = true;
    let mut values = Vec::with_capacity(width);
    let mut lines = Vec::with_capacity(width);
    for (at, name) in header.names.iter().enumerate() {
        lines.push(record.line_of(at));
        let value = String::from_utf8_lossy(record.field(at));
        if let Cow::Owned(_) = value {
            sound = false;
            let place = Place { file, line: record.line_of(at), column: name };
            problems.error(place, Code::InvalidUtf8, format!("{} is not UTF-8; export the file as UTF-8", quoted(&value)));
        }
        values.push(value);
    }
    let mut row = Row { file, line: record.line(), sound, columns, positions: &header.positions, values: &values, lines: &lines };
    for at in 0..columns.len() {
        if !check_value(&row, at, problems) {
            sound = false;
        }
    }
    row.sound = sound;
    visit(&row, problems);
}

fn check_value(row: &Row<'_>, at: usize, problems: &mut Problems) -> bool {
    let column = &row.columns[at];
    let text = row.text(at);
    if text.is_empty() {
        let missing = column.need == Need::Filled;
        if missing {
            problems.error(row.place(at), Code::MissingValue, format!("{} must not be empty", column.name));
        }
        return !missing;
    }
    let (code, message) = match column.kind {
        Kind::Date if parse_date(text).is_none() => (Code::BadDate, format!("{} is not a date; write it as 2026-08-31", quoted(text))),
        Kind::Time if parse_time(text).is_none() => (Code::BadTime, format!("{} is not a time of day; write it as 08:05", quoted(text))),
        Kind::Bool if !text.eq_ignore_ascii_case("true") && !text.eq_ignore_ascii_case("false") => {
            (Code::BadValue, format!("{} is neither true nor false", quoted(text)))
        }
        Kind::OpenEnum(_) if text.starts_with("ext:") => return true,
        Kind::Enum(values) | Kind::OpenEnum(values) if !values.contains(&text) => {
            if let Some(right) = values.iter().find(|v| v.eq_ignore_ascii_case(text)) {
                problems.warn(row.place(at), Code::WrongCase, format!("{} should be written {right}; it was read as that", quoted(text)));
                return true;
            }
            (Code::BadValue, format!("{} is not one of: {}", quoted(text), values.join(", ")))
        }
        _ => return true,
    };
    problems.error(row.place(at), code, message);
    false
}
