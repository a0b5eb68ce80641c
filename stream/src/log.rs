//! The contract of the log. Everything above it works with this trait and does not know which log runs.

use std::sync::Arc;

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use crate::batch::EventBatch;

/// Why an append was not taken. Nothing of the batch is in the log when one is returned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The disk budget is used up; stop reading from devices and try again once readers have committed.
    #[error("the log's disk budget is used up")]
    Full,
    /// Too many bytes wait for the writer; stop reading from devices and try again when the durable offset moves.
    #[error("the log's queue of unwritten batches is full")]
    Busy,
    /// A write or fsync failed, or the log is closed. Nothing is acknowledged any more; the process restarts.
    #[error("the log has stopped: {0}")]
    Stopped(Arc<str>),
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// A frame that is not the torn tail of the last segment is damaged. Starting would silently lose events.
    #[error("{path} is corrupt at byte {position}: {reason}")]
    Corrupt { path: String, position: u64, reason: String },
    #[error("{path} was written by format version {found}; this program reads up to {supported}")]
    Version { path: String, found: u16, supported: u16 },
    /// The reader asked for rows that have been trimmed; the oldest row still kept is given.
    #[error("offset {asked} has been trimmed; the log begins at {oldest}")]
    Trimmed { asked: Offset, oldest: Offset },
    /// Another process writes to this directory; two writers would destroy it.
    #[error("{path} is in use by another process; stop it first or choose another data directory")]
    Locked { path: String },
    #[error("the log has stopped: {0}")]
    Stopped(Arc<str>),
}

/// A set of kinds, for readers that do not need all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KindSet(u32);

impl KindSet {
    pub const ALL: Self = Self(u32::MAX);

    pub const fn of(kinds: &[Kind]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < kinds.len() {
            bits |= 1 << kinds[i].code();
            i += 1;
        }
        Self(bits)
    }

    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind.code()) != 0
    }
}

/// The state of a log, for readiness and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStatus {
    pub oldest: Offset,
    /// The first row of the segment that is being written. Only segments before it are deleted when no reader needs them.
    pub newest_segment: Offset,
    /// One past the last durable row.
    pub durable: Offset,
    /// One past the last assigned row.
    pub end: Offset,
    /// Bytes of rows that wait for the disk.
    pub queued_bytes: u64,
    pub disk_bytes: u64,
    /// What `disk_bytes` may grow to: as configured, or less where the disk is too full for that.
    pub budget_bytes: u64,
    /// Appends are refused with [`AppendError::Full`]: the budget is used up, or the disk itself is.
    pub full: bool,
    /// Why the log has stopped for ever, if it has.
    pub stopped: Option<Arc<str>>,
    /// Each registered reader and what it has committed.
    pub readers: Vec<(String, Offset)>,
}

/// What one read returned: batches in offset order, all of them durable; without a gap unless kinds were left out.
#[derive(Debug, Default)]
pub struct ReadBatch {
    pub batches: Vec<EventBatch>,
    /// Where the next read continues.
    pub next: Offset,
}

/// An append-only sequence of rows. `append` decides the one order; `durable` says how much of it is on stable storage.
///
/// Implementations are shared (`Arc<dyn Log>`) and all methods may be called from any thread.
pub trait Log: Send + Sync + 'static {
    /// Puts the batches at the end, one after another and atomically with respect to other callers, and returns one
    /// past the offset of the last row. Returns at once: the rows are durable when [`Log::durable`] has reached that offset.
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError>;

    /// One past the last assigned offset, durable or not.
    fn end(&self) -> Offset;

    /// One past the last durable row. Closed (the sender dropped) when the log has stopped.
    fn durable(&self) -> watch::Receiver<Offset>;

    /// Durable rows from `from` on, at least one batch if any is durable there, at most about `bytes_max` bytes of
    /// columns beyond the first batch. The first batch is sliced so that it begins exactly at `from`. Blocking:
    /// the tail is served from memory, older rows from files; call it from a blocking task for the latter.
    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError>;

    /// As [`Log::read`], but rows of other kinds are passed over without being decoded. There may be no batch at all
    /// while `next` has moved: that many rows were looked at, and a reader may commit up to there.
    fn read_kinds(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        let mut read = self.read(from, bytes_max)?;
        read.batches.retain(|batch| kinds.contains(batch.kind));
        Ok(read)
    }

    /// As [`Log::read_kinds`], but only from memory and so without blocking; `None` when the rows must be fetched from
    /// files, which is done by `read_kinds` on a thread that may block.
    fn read_cached(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Option<Result<ReadBatch, LogError>> {
        let _ = (from, bytes_max, kinds);
        None
    }

    /// The state for readiness and metrics, as of now.
    fn status(&self) -> LogStatus;

    /// The oldest row that can still be read.
    fn oldest(&self) -> Offset;

    /// Says that this reader has finished with every row before `offset` (kept in memory; readers own their durable
    /// offsets). Segments wholly below the least offset of all registered readers may be deleted.
    fn commit(&self, reader: &str, offset: Offset);

    /// Names a reader before its first commit, so that trimming waits for it.
    fn register(&self, reader: &str, offset: Offset);
}
