//! History: a reader of the log that keeps its rows as Parquet files, for as long as asked, on a local folder or an
//! object store; and the tables that show files, hot rows and the log as one.
//!
//! # Promises
//! - Every durable row of the log is in the files exactly once, or still in the log: the log is told that history has
//!   finished with rows only when their files and the manifest are durable.
//! - A query sees one state: the files of one version of the manifest for offsets below its `next`, and hot rows or the
//!   log from there on. A file that a query may still read is not deleted.
//! - What cannot be read is named with the result ([`Warning`]), never left out in silence.
//! - Bounded: one step holds at most [`HistoryConfig::file_rows_max`] rows in memory, or [`STEP_BYTES_MAX`] of them.
//!
//! # Files
//! `<table>/district=<id>/date=<yyyy-mm-dd>/<first>-<end>.<epoch>-<number>.parquet`: rows of one kind, district and UTC day of
//! event time, in the schema of the table (`hot/table.rs`: the log's columns and `offset`), sorted by school, device and time; `first` and `end` bound their
//! offsets. Where each person's rows stand follows the rows, if it is worth it (`runs.rs`). The same facts are in the file's own metadata (`rollcall.*`). `epoch` is the version at which the writing
//! program opened history and `number` counts from there, so that a name is used once and a running query can never find other rows under it.
//!
//! # Manifest
//! `manifest/<version, 20 digits>.json` are edits: a line `rollcall-history <format> <CRC32C of the next line>`, and a line of JSON with the files that
//! come and go, `next`, tombstones and gaps. An edit is created only if there is none of its version: on an object store
//! by a conditional put, on a local folder by a hard link to a written file, followed by fsync of the file and its folder.
//! A `full` edit repeats all files; the state is the newest full edit and those after it.
//!
//! # What a crash leaves behind
//! The order of a step is: data files, fsync, edit, fsync, then the log's commit and, later, deletion of replaced files.
//! - Before the edit: data files that no edit names. They are orphans: the next start sees that their names are history's
//!   and that the manifest does not have them, and deletes them. The rows are read again from the log, from `next`.
//! - During the edit, on a local folder after a loss of power: an edit whose checksum is wrong. The next edit is begun only when
//!   one is durable, so it can only be the newest, and its rows are still in the log: it is removed. If the log no
//!   longer has them it had been confirmed and was damaged later: opening fails.
//! - After the edit, its answer lost: history is opened again and finds it, and goes on from its `next`.
//! - After the edit, before deletion: replaced files are orphans too.
//! - An erasure begins with a tombstone and ends with one that is no longer `pending`; in between the next start finishes it.
//!
//! # One writer
//! Opening writes an edit of its own. Whoever opens later takes over: the next edit of the earlier program meets a version
//! that is taken, and it stops ([`HistoryError::Fenced`]).

mod alive;
mod blooms;
mod checks;
mod cold;
mod compact;
mod erase;
mod error;
mod file;
mod flush;
mod gap;
mod id_filter;
mod manifest;
mod marks;
mod metrics;
#[cfg(target_os = "linux")]
mod page_cache;
mod picked;
mod place;
mod reader;
mod reads;
mod rows;
mod runs;
mod session;
mod snapshot;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;
mod verify;
mod warnings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::cache::default_cache::DefaultCache;
use parking_lot::Mutex;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::Clock;
use rollcall_stream::Log;
use tokio::sync::watch;

use blooms::Blooms;
pub use erase::Erasure;
pub use error::HistoryError;
pub use manifest::{FileEntry, Gap, State, Tombstone};
pub use place::Place;
pub(crate) use reads::Panicked;
pub use runs::Extent;
pub use snapshot::Snapshot;
pub use table::HistoryTable;
pub use warnings::{QueryWarnings, Warning};

use marks::Verified;
use metrics::Metrics;
use runs::KeptRuns;
use session::Session;
use snapshot::Pins;

/// The name of this reader in the log.
pub const READER: &str = "history";

/// Bytes of columns that one step reads from the log at most, beyond the last batch.
pub const STEP_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Footers and indexes of files that are kept in memory over all queries; the least recently used goes first.
const FOOTERS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Warnings that the status repeats; a metric counts all.
const WARNINGS_SHOWN_MAX: usize = 20;

/// When history writes, merges and forgets.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The longest time that durable rows wait before they are written.
    pub flush_interval: Duration,
    /// Rows that make one step and the largest file; when as many wait they are written at once.
    pub file_rows_max: u64,
    /// Small files of one kind, district and day that are merged at once; two are enough when none came for `flush_interval`.
    pub compact_files_min: usize,
    /// How long a replaced file stays after the last query of this program has ended, for readers on other machines.
    pub delete_delay: Duration,
    /// Days of event time that are kept, by kind; kinds that are missing are kept for ever.
    pub keep_days: BTreeMap<Kind, u32>,
    /// How old the last sign of life of the object store may be before a query asks for another.
    pub probe_interval: Duration,
    /// How long the object store may take to give one.
    pub probe_timeout: Duration,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_secs(3600),
            file_rows_max: 1_000_000,
            compact_files_min: 8,
            delete_delay: Duration::from_secs(600),
            keep_days: BTreeMap::new(),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(3),
        }
    }
}

/// How history is doing, for readiness and for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HistoryStatus {
    /// Whether the manifest has been read.
    pub opened: bool,
    pub next: Offset,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Why the object store cannot be used; `None` while it works.
    pub away: Option<String>,
    /// What a query over everything would be warned of; the first twenty.
    pub warnings: Vec<String>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct History(Arc<Core>);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("History").field(&self.0.place).finish()
    }
}

struct Core {
    place: Place,
    log: Arc<dyn Log>,
    clock: Clock,
    config: HistoryConfig,
    metrics: Metrics,
    /// Held through each step that changes history. `None` when history must be opened first: at the start, and after a step whose outcome is unknown.
    writing: tokio::sync::Mutex<Option<Session>>,
    published: Mutex<Published>,
    pins: Pins,
    footers: Arc<FileMetadataCache>,
    blooms: Blooms,
    runs: KeptRuns,
    verified: Arc<Verified>,
    status: watch::Sender<HistoryStatus>,
}

/// What queries see.
#[derive(Default)]
struct Published {
    /// `None` until history was opened.
    state: Option<Arc<State>>,
    /// Files that no longer count, with the instant (ms) since when; deleted by [`History::sweep`].
    retired: Vec<(Arc<FileEntry>, i64)>,
    damaged: BTreeMap<String, String>,
    foreign: Vec<String>,
    away: Option<String>,
    probed: Option<std::time::Instant>,
}

impl History {
    /// History at a place; nothing is read or written before [`History::run`] or the first step.
    pub fn new(
        place: Place,
        log: Arc<dyn Log>,
        clock: Clock,
        config: HistoryConfig,
        registry: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        let status = watch::Sender::new(HistoryStatus::default());
        let metrics = Metrics::register(registry, &*log, status.subscribe())?;
        let core = Core {
            place,
            pins: Pins::new(log.clone()),
            footers: Arc::new(DefaultCache::new(FOOTERS_BYTES_MAX).with_name("footers of history")),
            blooms: Blooms::new(),
            runs: KeptRuns::new(),
            log,
            clock,
            config,
            metrics,
            writing: tokio::sync::Mutex::new(None),
            published: Mutex::default(),
            verified: Arc::new(Verified::new()),
            status,
        };
        Ok(Self(Arc::new(core)))
    }

    pub fn status(&self) -> watch::Receiver<HistoryStatus> {
        self.0.status.subscribe()
    }

    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// What queries see of the manifest, `None` before history was opened.
    pub fn state(&self) -> Option<Arc<State>> {
        self.0.published.lock().state.clone()
    }
}

impl Core {
    /// Says in the status and the metrics what has changed.
    fn report(&self) {
        let published = self.published.lock();
        let mut now = HistoryStatus { away: published.away.clone(), ..HistoryStatus::default() };
        if let Some(state) = &published.state {
            now.opened = true;
            now.next = state.next;
            now.files = state.files.len() as u64;
            now.rows = state.files.values().map(|file| file.rows).sum();
            now.bytes = state.files.values().map(|file| file.bytes).sum();
            now.warnings = published.standing_warnings(state).iter().take(WARNINGS_SHOWN_MAX).map(ToString::to_string).collect();
        }
        let metrics = &self.metrics;
        for (gauge, value) in [
            (&metrics.next, now.next.0),
            (&metrics.files, now.files),
            (&metrics.bytes, now.bytes),
            (&metrics.retired, published.retired.len() as u64),
            (&metrics.damaged, published.damaged.len() as u64),
            (&metrics.foreign, published.foreign.len() as u64),
            (&metrics.away, u64::from(now.away.is_some())),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        drop(published);
        self.status.send_if_modified(|status| {
            let differs = *status != now;
            *status = now;
            differs
        });
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().0
    }
}

impl Published {
    /// The warnings that do not depend on what a query asks for.
    fn standing_warnings(&self, state: &State) -> Vec<Warning> {
        let damaged = self.damaged.iter().filter_map(|(path, reason)| {
            let rows = state.files.get(path)?.rows;
            Some(Warning::Damaged { path: path.clone(), rows, reason: reason.clone() })
        });
        damaged.chain(self.foreign_warnings()).chain(gap_warnings(state)).collect()
    }

    fn foreign_warnings(&self) -> impl Iterator<Item = Warning> {
        self.foreign.iter().map(|path| Warning::Foreign { path: path.clone() })
    }

    /// What a query over one kind must carry besides what is wrong with the files that it asks for.
    fn strangers_and_gaps(&self, state: &State, kind: Kind) -> Vec<Warning> {
        let concerns = |warning: &Warning| matches!(warning, Warning::Foreign { path } if path.split('/').next() == Some(crate::hot::table::name(kind)));
        self.foreign_warnings().filter(concerns).chain(gap_warnings(state)).collect()
    }
}

fn gap_warnings(state: &State) -> impl Iterator<Item = Warning> {
    state.gaps.iter().map(|gap| Warning::Gap { from: gap.from.0, to: gap.to.0 })
}
