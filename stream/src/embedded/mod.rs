//! The log on local files: one directory, one writer, any number of readers.
//!
//! # Promises
//! - Rows below [`Log::durable`] were written and fsynced; nothing else is ever shown to a reader or acknowledged.
//! - One writer thread gathers what waits, writes it with one write and one fdatasync (group commit). After a failed
//!   write or fsync the log stops for ever; an fsync is never tried again on a file that failed one. A disk without
//!   space is the exception: what did not fit is cut off again, appends are refused as full, the rows stay queued,
//!   and the write is repeated when space is there.
//! - Bounds: see [`LogConfig`].
//!
//! # Files
//! `lock` is held for as long as the log is open. `<first offset, 20 digits>.seg` are the segments; each begins where
//! the one before it ends. Integers are little-endian. A segment is preallocated: behind its last frame are zeros.
//!
//! Segment header, 64 bytes: magic `RCLOGSEG`, version u16, 6 bytes zero, first offset u64, salt u64, 28 bytes zero,
//! CRC32C of the 60 bytes before it. The salt is random: it goes into every frame header's CRC, so that bytes inside a
//! payload that a stranger sent cannot be taken for a frame.
//!
//! Frame, begins at a multiple of 64 bytes:
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 4 | magic `RCFR` |
//! | 4 | 2 | version of the frame format, [`frame::VERSION`] |
//! | 6 | 1 | kind, as numbered in `rollcall_model::event::Kind`; 0 is a seal, which has no rows |
//! | 7 | 1 | packing of the body: 0 none, 1 LZ4; version 1 of the format has none |
//! | 8 | 2 | schema version, [`crate::schema::SCHEMA_VERSION`] |
//! | 10 | 2 | zero |
//! | 12 | 4 | rows |
//! | 16 | 8 | offset of the first row |
//! | 24 | 8 | group: position in this file where the write began that this frame was part of |
//! | 32 | 16 | least and greatest event time, i64 milliseconds |
//! | 48 | 4 | body bytes, a multiple of 64 |
//! | 52 | 4 | CRC32C of the body |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC32C of the salt and the 60 bytes before it |
//! | 64 | | body: an Arrow IPC record-batch message without its schema, buffers aligned to 64 bytes |
//!
//! A packed body is the length of that message, the packed length (u32 each), and the message as one LZ4 block; zeros follow up to
//! a multiple of 64. A message that packing does not make smaller stands as it is.
//!
//! An older program refuses a higher version of either header ([`LogError::Version`]); a newer one reads all lower.
//!
//! # Torn tail or damage
//! A group is written only when the one before it is on stable storage. So a frame proves that everything before its
//! `group` was durable, and maybe acknowledged. At open, the first place of the last segment where no valid frame
//! stands is where the rows end; then the rest of the file is searched for frames. If one proves that this place was
//! durable, acknowledged data is damaged: [`LogError::Corrupt`]. Else it is a write that was never confirmed, in
//! whichever order the disk took its pages: it is cut off, and the number of bytes is reported. After a second without rows and at close, a seal proves the last group. Only damage to the last group
//! before a crash within that second looks like a torn write. In an earlier segment every bad frame is corruption:
//! headers and their chain are checked at open, bodies when they are read.

mod cache;
mod codec;
mod config;
mod disk;
pub mod frame;
mod lz4;
mod metrics;
mod queue;
mod readers;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
/// For the fuzz targets only.
#[doc(hidden)]
pub mod untrusted;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use prometheus::Registry;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

pub use config::LogConfig;

use crate::batch::EventBatch;
use crate::log::{AppendError, KindSet, Log, LogError, LogStatus, ReadBatch};
use cache::Cache;
use disk::{Disk, RealDisk, io_error};
use metrics::Metrics;
use queue::Queue;
use readers::Readers;
use segment::Segments;
use writer::Writer;

/// The name of the file whose lock says that the directory is in use.
const LOCK_FILE: &str = "lock";

/// What the writer's thread and everybody else share.
struct Shared {
    config: LogConfig,
    queue: Queue,
    segments: Segments,
    cache: Cache,
    readers: Readers,
    metrics: Metrics,
}

/// See the module.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    durable: watch::Receiver<Offset>,
    /// The writer's thread and the lock on the directory, until the log is closed.
    running: Mutex<Option<(JoinHandle<()>, File)>>,
    torn_bytes: u64,
}

impl EmbeddedLog {
    /// Opens or creates the log in `dir`. Blocking: reads the last segment whole and the frame headers of the others.
    /// Metrics are registered as `rollcall_log_*`; those of a log that was opened with this registry before are replaced.
    pub fn open(dir: &Path, config: LogConfig, metrics: &Registry) -> Result<Arc<Self>, LogError> {
        Self::open_on(Arc::new(RealDisk), dir, config, metrics)
    }

    fn open_on(disk: Arc<dyn Disk>, dir: &Path, config: LogConfig, registry: &Registry) -> Result<Arc<Self>, LogError> {
        std::fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        // A file system that does not say how large it is may be as large as it likes.
        let config = config.checked(disk.space(dir).map_or(u64::MAX, |space| space.total));
        let lock = lock(&dir.join(LOCK_FILE))?;
        let metrics = Metrics::register(registry).map_err(|error| LogError::Stopped(error.to_string().into()))?;
        let recovered = recovery::recover(disk.as_ref(), dir, &config)?;
        let (end, torn_bytes) = (recovered.end, recovered.torn_bytes);
        if torn_bytes > 0 {
            tracing::warn!(torn_bytes, %end, "the log ended in a write that was never confirmed; it was cut off");
        }
        let shared = Arc::new(Shared {
            queue: Queue::new(end),
            segments: Segments::new(recovered.segments),
            cache: Cache::new(config.cache_bytes_max),
            readers: Readers::new(&config.readers),
            metrics,
            config,
        });
        shared.metrics.disk_bytes.set(shared.segments.disk_bytes() as i64);
        let (sender, durable) = watch::channel(end);
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&disk), dir.to_owned(), sender, recovered.sealed);
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| io_error(dir, source))?;
        let running = Mutex::new(Some((thread, lock)));
        Ok(Arc::new(Self { shared, disk, dir: dir.to_owned(), durable, running, torn_bytes }))
    }

    /// Makes everything appended durable, then stops and lets the directory go. Blocking; may be called more than once.
    pub fn close(&self) {
        let mut running = self.running.lock();
        if let Some((thread, lock)) = running.take() {
            self.shared.queue.close();
            if thread.join().is_err() {
                tracing::error!("the log's writer panicked");
            }
            drop(lock);
        }
    }

    /// Bytes of an unconfirmed write that were cut off when the log was opened.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// What the log may take: the budget, or what it has and what the file system still gives, if that is less.
    fn budget_bytes(&self, disk_bytes: u64) -> u64 {
        let configured = self.shared.config.budget_bytes;
        // A file system that does not say how full it is refuses the write that does not fit.
        self.disk.space(&self.dir).map_or(configured, |space| configured.min(disk_bytes.saturating_add(space.free)))
    }

    fn durable_now(&self) -> Offset {
        *self.durable.borrow()
    }

    /// `Some` for what can be answered without looking at any row.
    fn outside(&self, from: Offset) -> Option<Result<ReadBatch, LogError>> {
        let oldest = self.shared.segments.oldest();
        if from < oldest {
            return Some(Err(LogError::Trimmed { asked: from, oldest }));
        }
        (from >= self.durable_now()).then(|| Ok(ReadBatch { batches: Vec::new(), next: from }))
    }

    fn moved(&self, reader: &str, trim_before: Option<Offset>) {
        let shared = &self.shared;
        if let Some(before) = trim_before
            && shared.segments.trim(before)
        {
            shared.metrics.disk_bytes.set(shared.segments.disk_bytes() as i64);
            shared.queue.space_was_made();
        }
        shared.metrics.reader_moved(reader, shared.readers.committed(reader), self.durable_now());
    }
}

/// Locks the directory for this process; the lock ends with the file handle, and so also when the process is killed.
fn lock(path: &Path) -> Result<File, LogError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|source| io_error(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked { path: path.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(io_error(path, source)),
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Log for EmbeddedLog {
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError> {
        let shared = &self.shared;
        let taken = shared.queue.append(batches, &shared.config, shared.segments.disk_bytes());
        if let Err(error) = &taken {
            shared.metrics.refused(error);
        }
        taken
    }

    fn end(&self) -> Offset {
        self.shared.queue.end()
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        self.durable.clone()
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError> {
        self.read_kinds(from, bytes_max, KindSet::ALL)
    }

    fn read_kinds(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        match self.read_cached(from, bytes_max, kinds) {
            Some(read) => read,
            None => self.shared.segments.read(from, bytes_max, kinds),
        }
    }

    fn read_cached(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Option<Result<ReadBatch, LogError>> {
        self.outside(from).or_else(|| self.shared.cache.read(from, bytes_max, kinds).map(Ok))
    }

    fn status(&self) -> LogStatus {
        let shared = &self.shared;
        let disk_bytes = shared.segments.disk_bytes();
        let queue = shared.queue.status();
        LogStatus {
            oldest: shared.segments.oldest(),
            newest_segment: shared.segments.last().first,
            durable: self.durable_now(),
            end: queue.end,
            queued_bytes: queue.bytes as u64,
            disk_bytes,
            budget_bytes: self.budget_bytes(disk_bytes),
            full: queue.full || disk_bytes + queue.bytes as u64 >= shared.config.budget_bytes,
            stopped: queue.stopped,
            readers: shared.readers.all(),
        }
    }

    fn oldest(&self) -> Offset {
        self.shared.segments.oldest()
    }

    fn commit(&self, reader: &str, offset: Offset) {
        let before = self.shared.readers.commit(reader, offset);
        self.moved(reader, before);
    }

    fn register(&self, reader: &str, offset: Offset) {
        if offset > self.end() {
            tracing::error!(reader, %offset, end = %self.end(), "a reader is ahead of the log: durable rows are missing");
        }
        let before = self.shared.readers.register(reader, offset);
        self.moved(reader, before);
    }
}
