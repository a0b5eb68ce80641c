//! Hot tables: the events of the last hours in memory, as Arrow batches that SQL reads without copying them.
//!
//! # Promises
//! - A row is in its table as soon as it is durable and the reader has got to it; [`HotTables::changed`] says how far, and
//!   [`HotTables::changed_of`] when rows of one kind have come or gone.
//! - Every row of a kind with `snapshot.first <= offset < snapshot.end` is in the snapshot, once, in the log's order.
//! - A snapshot never changes. Its columns share the buffers of the log's batches, or, where those were small, of the
//!   batch of about [`HotConfig::batch_rows`] rows into which they were put together once.
//! - Bounded by time and by bytes over all tables together; the oldest batch goes first. What has left is read from
//!   history.
//! - The reader is not registered with the log: a slow one never holds trimming or intake back. When the log has been
//!   trimmed past it, it drops what it has and goes on with the oldest row there is.

mod batch;
mod pick;
pub mod provider;
mod reader;
pub mod scan;
pub mod table;
#[cfg(test)]
mod tests;
mod visible;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use parking_lot::{Mutex, RwLock};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::UtcMillis;
use rollcall_stream::EventBatch;
use tokio::sync::watch;

pub use batch::HotBatch;
use batch::Left;
pub use provider::{HotScan, HotTable};
use scan::Selection;
use table::KINDS;
pub use visible::{Erased, Visible};

/// The bounds of the hot tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotConfig {
    /// Events received longer ago than this leave.
    pub keep: Duration,
    /// Most bytes of all tables together, columns and postings; beyond it the oldest batch leaves.
    pub bytes_max: usize,
    /// Rows of a coalesced batch. Smaller ones make selective queries several times slower, larger ones prune worse.
    pub batch_rows: usize,
}

impl Default for HotConfig {
    fn default() -> Self {
        Self { keep: Duration::from_secs(12 * 3600), bytes_max: 512 * 1024 * 1024, batch_rows: 32_768 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// The log cannot be read any more; the process restarts.
    #[error("the log cannot be read: {0}")]
    Log(#[from] rollcall_stream::LogError),
}

/// One table at one moment.
#[derive(Debug, Default)]
pub struct HotSnapshot {
    /// In the order of the log.
    pub batches: Arc<[Arc<HotBatch>]>,
    /// Every row of the kind from this offset on is here.
    pub first: Offset,
    /// Up to this offset the log has been read.
    pub end: Offset,
    /// Up to where it had been read when rows last left for being too old or too many.
    pub shrunk: Offset,
}

impl HotSnapshot {
    /// Whether a row at `since` or later may be wanted: what the statistics and exact tests of the newest batches leave.
    pub fn has_since(&self, since: Offset, selection: &Selection) -> bool {
        let newest = self.batches.iter().rev().take_while(|batch| batch.last >= since);
        newest.filter(|batch| selection.may_have(batch)).any(|batch| match selection.left_of(batch) {
            Left::None => false,
            Left::All => true,
            // The rows are in the order of the log.
            Left::Rows(rows) => rows.last().is_some_and(|row| batch.offset_of(*row as usize) >= since),
        })
    }

    pub fn rows(&self) -> usize {
        self.batches.iter().map(|batch| batch.rows.num_rows()).sum()
    }

    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes).sum()
    }
}

/// How many open batches of about one size are put together.
const FAN_IN: usize = 16;

/// Rows are put together when they were received within this part of [`HotConfig::keep`]: a batch leaves with its newest row, and those of a
/// small school would otherwise keep rows of weeks.
const KEEP_PARTS: u32 = 4;

/// What one table grows from.
#[derive(Default)]
struct Growing {
    closed: Vec<Arc<HotBatch>>,
    /// Small batches since the last closed one, queryable as they are.
    open: Vec<Arc<HotBatch>>,
    open_rows: usize,
    first: Offset,
    shrunk: Offset,
    /// Rows have come or gone since it was last published.
    is_changed: bool,
}

/// The tables. Shared by the reader, which grows them, and everybody who asks.
pub struct HotTables {
    config: HotConfig,
    growing: Mutex<[Growing; KINDS.len()]>,
    current: RwLock<[Arc<HotSnapshot>; KINDS.len()]>,
    changed: watch::Sender<Offset>,
    /// By kind; each moves with the rows of its kind only.
    changed_of: [watch::Sender<u64>; KINDS.len()],
}

impl HotTables {
    /// Empty tables; [`HotTables::run`] fills them.
    pub fn new(config: HotConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            growing: Mutex::default(),
            current: RwLock::default(),
            changed: watch::Sender::default(),
            changed_of: Default::default(),
        })
    }

    /// The newest state of a kind's table.
    ///
    /// # Panics
    /// When the kind is not a table.
    pub fn snapshot(&self, kind: Kind) -> Arc<HotSnapshot> {
        let index = table::index(kind).expect("only the kinds that are tables have a snapshot");
        Arc::clone(&self.current.read()[index])
    }

    /// Up to which offset the tables have the log. Marked as changed with every read.
    pub fn changed(&self) -> watch::Receiver<Offset> {
        self.changed.subscribe()
    }

    /// Up to which offset the log had been read when rows of the kind last came or went. Others do not move it.
    ///
    /// # Panics
    /// When the kind is not a table.
    pub fn changed_of(&self, kind: Kind) -> watch::Receiver<u64> {
        let index = table::index(kind).expect("only the kinds that are tables change");
        self.changed_of[index].subscribe()
    }

    /// Rows and bytes of all tables together.
    pub fn size(&self) -> (usize, usize) {
        let current = self.current.read();
        current.iter().fold((0, 0), |(rows, bytes), table| (rows + table.rows(), bytes + table.bytes()))
    }

    /// Forgets everything and begins again at `first`: for the start, and when the log was trimmed past the reader.
    pub fn begin_at(&self, first: Offset) {
        let mut growing = self.growing.lock();
        for table in growing.iter_mut() {
            *table = Growing { first, shrunk: first, is_changed: true, ..Growing::default() };
        }
        self.publish(&mut growing, first);
    }

    /// Takes what was read from the log, up to `next`, and lets the oldest go beyond the bounds. Batches of kinds that
    /// are not tables are passed over. The reader calls it; a test or a benchmark may in its place.
    pub fn take(&self, batches: &[EventBatch], next: Offset, now: UtcMillis) {
        let mut growing = self.growing.lock();
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let Some(index) = table::index(batch.kind) else { continue };
            growing[index].push(HotBatch::new(table::present(batch.kind, batch.first, &batch.rows)), &self.config);
        }
        self.evict(&mut growing, now, next);
        self.publish(&mut growing, next);
    }

    /// Lets the oldest batches of each table go, as the bounds would.
    #[cfg(test)]
    pub(crate) fn forget(&self, batches: usize) {
        let mut growing = self.growing.lock();
        let end = *self.changed.borrow();
        for table in growing.iter_mut() {
            table.close_open();
            (0..batches.min(table.closed.len())).for_each(|_| table.drop_oldest(end));
        }
        self.publish(&mut growing, end);
    }

    fn evict(&self, growing: &mut [Growing; KINDS.len()], now: UtcMillis, end: Offset) {
        let oldest = now.0.saturating_sub(self.config.keep.as_millis() as i64);
        for table in growing.iter_mut() {
            while table.oldest().is_some_and(|batch| batch.received.1 < oldest) {
                table.drop_oldest(end);
            }
        }
        let mut bytes: usize = growing.iter().map(Growing::bytes).sum();
        while bytes > self.config.bytes_max {
            let tables = growing.iter_mut().filter_map(|table| Some((table.oldest().map(|batch| (batch.first, batch.bytes))?, table)));
            let Some(((_, freed), table)) = tables.min_by_key(|((first, _), _)| *first) else { break };
            bytes -= freed;
            table.drop_oldest(end);
        }
    }

    /// Shows the new state, then tells of it: whoever is told finds it.
    fn publish(&self, growing: &mut [Growing; KINDS.len()], end: Offset) {
        let changed: Vec<bool> = growing.iter_mut().map(|table| std::mem::take(&mut table.is_changed)).collect();
        let mut current = self.current.write();
        for ((shown, table), is_changed) in current.iter_mut().zip(growing.iter()).zip(&changed) {
            let batches = if *is_changed { table.batches() } else { Arc::clone(&shown.batches) };
            *shown = Arc::new(HotSnapshot { batches, first: table.first, end, shrunk: table.shrunk });
        }
        drop(current);
        for (kind, _) in self.changed_of.iter().zip(changed).filter(|(_, is_changed)| *is_changed) {
            kind.send_replace(end.0);
        }
        self.changed.send_replace(end);
    }
}

impl Growing {
    /// Adds a batch behind the others. One that is large enough stays as it is; small ones are put together when they
    /// are enough.
    fn push(&mut self, batch: HotBatch, config: &HotConfig) {
        let (batch_rows, span_ms) = (config.batch_rows, (config.keep / KEEP_PARTS).as_millis() as i64);
        self.is_changed = true;
        let rows = batch.rows.num_rows();
        if rows >= batch_rows / 2 {
            self.close_open();
            self.closed.extend(split(batch, batch_rows).into_iter().map(Arc::new));
            return;
        }
        self.open.push(Arc::new(batch));
        self.open_rows += rows;
        if self.open_rows >= batch_rows {
            self.close_open();
        } else {
            self.merge_small(span_ms);
        }
    }

    /// Puts together the newest open batches while [`FAN_IN`] of them are of about one size, so that of rows that came one by one there
    /// are few batches at any moment, and each row is copied once a size.
    fn merge_small(&mut self, span_ms: i64) {
        let size = |batch: &Arc<HotBatch>| batch.rows.num_rows().ilog(FAN_IN);
        while let Some(newest) = self.open.last().map(size) {
            let alike = self.open.iter().rev().take_while(|batch| size(batch) <= newest).count();
            let run = self.open.len() - alike.min(FAN_IN);
            if alike < FAN_IN || self.open[self.open.len() - 1].received.1.saturating_sub(self.open[run].received.0) > span_ms {
                return;
            }
            let run = self.open.split_off(run);
            self.open.push(together(&run));
        }
    }

    fn close_open(&mut self) {
        self.open_rows = 0;
        let open = std::mem::take(&mut self.open);
        if open.len() <= 1 {
            self.closed.extend(open);
        } else {
            self.closed.push(together(&open));
        }
    }

    fn oldest(&self) -> Option<&Arc<HotBatch>> {
        self.closed.first().or(self.open.first())
    }

    /// There must be one. `end`: up to where the log has been read.
    fn drop_oldest(&mut self, end: Offset) {
        let batch = if self.closed.is_empty() { self.open.remove(0) } else { self.closed.remove(0) };
        self.open_rows = self.open.iter().map(|batch| batch.rows.num_rows()).sum();
        self.first = Offset(batch.last.0 + 1);
        (self.shrunk, self.is_changed) = (end, true);
    }

    fn batches(&self) -> Arc<[Arc<HotBatch>]> {
        self.closed.iter().chain(&self.open).cloned().collect()
    }

    fn bytes(&self) -> usize {
        self.closed.iter().chain(&self.open).map(|batch| batch.bytes).sum()
    }
}

/// One batch of the rows of several, in their order.
fn together(batches: &[Arc<HotBatch>]) -> Arc<HotBatch> {
    let rows: Vec<&RecordBatch> = batches.iter().map(|batch| &batch.rows).collect();
    let rows = concat_batches(rows[0].schema_ref(), rows).expect("batches of one table have one schema");
    Arc::new(HotBatch::new(rows))
}

/// A batch larger than two coalesced ones is cut, sharing its buffers, so that statistics stay narrow and row numbers
/// fit the postings.
fn split(batch: HotBatch, batch_rows: usize) -> Vec<HotBatch> {
    let rows = batch.rows.num_rows();
    if rows < 2 * batch_rows {
        return vec![batch];
    }
    let starts = (0..rows).step_by(batch_rows);
    starts.map(|start| HotBatch::new(batch.rows.slice(start, batch_rows.min(rows - start)))).collect()
}
