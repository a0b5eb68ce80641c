//! From the log into files: one step takes what is durable from `next` on, up to the bounds of a step.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::UtcMillis;
use rollcall_stream::{KindSet, Log};

use super::error::{HistoryError, blocking};
use super::manifest::FileEntry;
use super::rows::{self, divide};
use super::session::{Change, Session};
use super::{Core, History, STEP_BYTES_MAX, file};
use crate::hot::Erased;
use crate::hot::table::{self, KINDS};

/// Bytes asked of the log at a time.
const READ_BYTES: usize = 8 * 1024 * 1024;

/// Files written at the same time; an object store answers each after a good while.
const PUTS_MAX: usize = 8;

impl History {
    /// Writes durable rows of the log into files, one step's worth; true if it wrote any or passed over others.
    /// When it returns, they are durable and queries read them from the files.
    pub async fn flush(&self) -> Result<bool, HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        let outcome = core.flush(session).await;
        if outcome.is_err() {
            *writing = None;
        }
        outcome
    }
}

impl Core {
    async fn flush(&self, session: &mut Session) -> Result<bool, HistoryError> {
        let from = session.state.next;
        let (log, rows_max, erased) = (Arc::clone(&self.log), self.config.file_rows_max, rows::erased(&session.state.tombstones));
        let now = self.clock.now();
        let (next, files) = blocking(move || {
            let (next, rows) = gather(log.as_ref(), from, rows_max, &erased)?;
            Ok((next, encode_all(rows, now)?))
        })
        .await?;
        if next == from {
            return Ok(false);
        }
        let rows: u64 = files.iter().map(|(entry, _)| entry.rows).sum();
        let add = self.write(session, files).await?;
        self.commit(session, Change { next: Some(next), add, ..Change::default() }).await?;
        self.metrics.rows.inc_by(rows);
        Ok(true)
    }

    /// Names the files, writes them and makes them durable.
    pub(super) async fn write(&self, session: &mut Session, files: Vec<(FileEntry, Bytes)>) -> Result<Vec<FileEntry>, HistoryError> {
        let mut entries = Vec::with_capacity(files.len());
        let mut puts = Vec::with_capacity(files.len());
        for (mut entry, bytes) in files {
            session.name(&mut entry);
            puts.push((entry.path.clone(), bytes));
            entries.push(entry);
        }
        let put = |(path, bytes): (String, Bytes)| async move { self.place.put(&path, bytes).await };
        futures_util::stream::iter(puts.into_iter().map(put)).buffer_unordered(PUTS_MAX).try_collect::<()>().await?;
        self.wrote(&entries).await?;
        self.place.settle(entries.iter().map(|entry| entry.path.clone()).collect()).await?;
        Ok(entries)
    }
}

type Rows = BTreeMap<Kind, Vec<RecordBatch>>;

/// Durable rows from an offset on, and where the next step begins. Blocking.
fn gather(log: &dyn Log, from: Offset, rows_max: u64, erased: &Erased) -> Result<(Offset, Rows), HistoryError> {
    let (mut next, mut rows, mut count, mut bytes) = (from, Rows::new(), 0, 0);
    while count < rows_max && bytes < STEP_BYTES_MAX && next < *log.durable().borrow() {
        let read = log.read_kinds(next, READ_BYTES, KindSet::of(&KINDS))?;
        for batch in &read.batches {
            count += batch.len() as u64;
            bytes += batch.bytes();
            let kept = erased.apply(batch.kind, table::present(batch.kind, batch.first, &batch.rows))?;
            if kept.num_rows() > 0 {
                rows.entry(batch.kind).or_default().push(kept);
            }
        }
        if read.next == next {
            break;
        }
        next = read.next;
    }
    Ok((next, rows))
}

fn encode_all(rows: Rows, now: UtcMillis) -> Result<Vec<(FileEntry, Bytes)>, HistoryError> {
    let mut files = Vec::new();
    for (kind, batches) in rows {
        for portion in divide(kind, batches)? {
            files.push(file::encode(kind, &portion, now)?);
        }
    }
    Ok(files)
}
