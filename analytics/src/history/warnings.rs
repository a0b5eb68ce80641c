//! What a query's result lacks, said with the result.

use std::fmt;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use parking_lot::Mutex;

use super::reads::Reads;

/// One reason why a result may be less than was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// The object store does not answer; rows before the offset are left out.
    Away { rows_before: u64, reason: String },
    /// A file is missing or changed; its rows are left out.
    Damaged { path: String, rows: u64, reason: String },
    /// Files were changed since they were last read whole, and wait for that; their rows are left out until then.
    Unchecked { files: usize, rows: u64 },
    /// A file that history did not write lies in its place; it is not read.
    Foreign { path: String },
    /// The log lost these rows before they reached history.
    Gap { from: u64, to: u64 },
    /// A worker did not finish its share, which was done here: nothing lacks, it only took longer.
    WorkerLost,
}

impl Warning {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Away { .. } => "history_away",
            Self::Damaged { .. } => "history_file_damaged",
            Self::Unchecked { .. } => "history_files_unchecked",
            Self::Foreign { .. } => "history_file_foreign",
            Self::Gap { .. } => "history_gap",
            Self::WorkerLost => "worker_lost",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { rows_before, reason } => {
                write!(f, "history cannot be read, so rows before offset {rows_before} are left out: {reason}")
            }
            Self::Damaged { path, rows, reason } => write!(f, "{path} is left out with its {rows} rows: {reason}"),
            Self::Unchecked { files, rows } => {
                write!(f, "{files} files of history are left out with their {rows} rows until they have been checked: ask again later")
            }
            Self::Foreign { path } => write!(f, "{path} was not written by history and is not read"),
            Self::Gap { from, to } => write!(f, "rows {from} to {to} were trimmed from the log before they reached history"),
            Self::WorkerLost => {
                write!(f, "a worker did not answer; its share of history was read by the server itself, so this took longer")
            }
        }
    }
}

/// Collects the warnings of one query. Whoever runs a query puts one into the session's extensions
/// (`SessionConfig::with_extension`) and reads it after planning; without one, warnings are only logged.
#[derive(Default, Debug)]
pub struct QueryWarnings {
    warnings: Mutex<Vec<Warning>>,
    /// What the scans of the query read.
    reads: Mutex<Vec<Arc<Reads>>>,
}

impl QueryWarnings {
    /// A table scanned twice warns once.
    pub fn add(&self, warning: Warning) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub fn all(&self) -> Vec<Warning> {
        self.warnings.lock().clone()
    }

    /// The warnings of a query that was planned in place of this one.
    pub fn hear(&self, other: &Self) {
        other.all().into_iter().for_each(|warning| self.add(warning));
    }

    pub(super) fn note(&self, reads: &Arc<Reads>) {
        self.reads.lock().push(Arc::clone(reads));
    }

    /// What of history made the query fail, if it was history: a file that was deleted or changed while it ran, or a store that was
    /// lost. When it is planned again, that is left out with a warning.
    pub async fn cause(&self, error: &DataFusionError) -> Option<String> {
        let (reads, mut causes) = (self.reads.lock().clone(), Vec::new());
        for reads in reads {
            causes.extend(reads.cause(error).await);
        }
        causes.dedup();
        (!causes.is_empty()).then(|| causes.join("; "))
    }
}
