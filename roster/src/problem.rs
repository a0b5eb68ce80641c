//! What is wrong with a roster, told so that an office can find it: file, physical line, column, and a sentence.
//!
//! A problem is an error (the import is refused as a whole) or a warning (the import goes on, something was left out
//! or read leniently). At most [`PROBLEMS_KEPT_MAX`] of each are kept; the rest are counted, so that a file of a
//! million bad rows costs neither memory nor a person's patience.

use std::fmt;

use serde::Serialize;

/// Most errors, and most warnings, that are kept with their text.
pub const PROBLEMS_KEPT_MAX: usize = 200;

/// Longest quotation of a file's own text in a message, in characters.
const QUOTE_CHARS_MAX: usize = 60;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Error,
    Warning,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal),* $(,)?) => {
        /// Stable names of what can be wrong; programs match on these, people read the message.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $name),* }

        impl Code {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

codes! {
    /// A file that the standard or the manifest demands is not there.
    MissingFile "missing_file",
    /// A file that is there, but is not announced by the manifest; it is not read.
    UnexpectedFile "unexpected_file",
    UnsupportedVersion "unsupported_version",
    /// The manifest says `delta`; only `bulk` is imported.
    DeltaMode "delta_mode",
    BadManifest "bad_manifest",
    MissingColumn "missing_column",
    DuplicateColumn "duplicate_column",
    UnknownColumn "unknown_column",
    MissingValue "missing_value",
    BadValue "bad_value",
    BadDate "bad_date",
    BadTime "bad_time",
    /// An enumeration's value that is right but for its case.
    WrongCase "wrong_case",
    /// The end is not after the start.
    EmptyInterval "empty_interval",
    DuplicateId "duplicate_id",
    DuplicateRow "duplicate_row",
    DuplicateName "duplicate_name",
    UnknownReference "unknown_reference",
    /// A reference to a row whose status is not active.
    InactiveReference "inactive_reference",
    NotASchool "not_a_school",
    /// A relationship to somebody who has no guardian's role.
    NotAGuardian "not_a_guardian",
    /// A user for whom roles.csv has no active row.
    NoRole "no_role",
    WrongFieldCount "wrong_field_count",
    BadQuoting "bad_quoting",
    InvalidUtf8 "invalid_utf8",
    RecordTooLong "record_too_long",
    EmptyFile "empty_file",
    TooManyRows "too_many_rows",
    /// Bells that overlap, or a period that cannot be.
    BadBells "bad_bells",
    /// A calendar day that names a schedule without bells.
    UnknownSchedule "unknown_schedule",
    /// A class meets in a period for which its school has no bell.
    UnknownPeriod "unknown_period",
    MissingZone "missing_zone",
    MissingTimetable "missing_timetable",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// Name of the file inside the package, such as `users.csv`.
    pub file: String,
    /// Physical line from 1, counting lines inside quoted fields; 0 when the problem is the file as a whole.
    pub line: u64,
    /// Name of the column in the header; empty when the problem is the whole line.
    pub column: String,
    pub code: Code,
    pub message: String,
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.column.is_empty() {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {} [{}]", self.message, self.code)
    }
}

/// Where in which file something is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub file: &'a str,
    pub line: u64,
    pub column: &'a str,
}

impl<'a> Place<'a> {
    pub const fn file(file: &'a str) -> Self {
        Self { file, line: 0, column: "" }
    }

    pub const fn line(file: &'a str, line: u64) -> Self {
        Self { file, line, column: "" }
    }
}

/// The bounded collection of one import's problems, in the order in which they were found.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Problems {
    kept: Vec<Problem>,
    errors: u64,
    warnings: u64,
}

impl Problems {
    pub fn error(&mut self, place: Place<'_>, code: Code, message: impl Into<String>) {
        self.errors += 1;
        if self.errors <= PROBLEMS_KEPT_MAX as u64 {
            self.keep(place, code, message.into(), Severity::Error);
        }
    }

    pub fn warn(&mut self, place: Place<'_>, code: Code, message: impl Into<String>) {
        self.warnings += 1;
        if self.warnings <= PROBLEMS_KEPT_MAX as u64 {
            self.keep(place, code, message.into(), Severity::Warning);
        }
    }

    fn keep(&mut self, place: Place<'_>, code: Code, message: String, severity: Severity) {
        self.kept.push(Problem { file: place.file.to_owned(), line: place.line, column: place.column.to_owned(), code, message, severity });
    }

    /// Those that were kept: at most [`PROBLEMS_KEPT_MAX`] errors and as many warnings.
    pub fn kept(&self) -> &[Problem] {
        &self.kept
    }

    /// How many errors there were, kept or not.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How many warnings there were, kept or not.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// How many problems are counted but not kept.
    pub fn not_kept(&self) -> u64 {
        self.errors + self.warnings - self.kept.len() as u64
    }
}

/// A file's own text as it may stand in a message: short and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > QUOTE_CHARS_MAX {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
