//! Merging small files: late events and quiet hours leave many, and each costs a query a request and a footer.
//!
//! The merged file and the end of the old ones are one edit, so a query sees either, never both or none.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use rollcall_model::event::Kind;
use rollcall_model::ids::DistrictId;

use super::error::{HistoryError, blocking};
use super::manifest::{FileEntry, State};
use super::rows::divide;
use super::session::{Change, Session};
use super::{Core, History, HistoryConfig, file};

impl History {
    /// Merges the small files of one kind, district and day, if any have come together; true if it did, so that the
    /// caller asks again.
    pub async fn compact(&self) -> Result<bool, HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        let outcome = core.compact(session).await;
        if outcome.is_err() {
            *writing = None;
        }
        outcome
    }
}

impl Core {
    async fn compact(&self, session: &mut Session) -> Result<bool, HistoryError> {
        let damaged = self.published.lock().damaged.clone();
        let candidates = candidates(&session.state, &self.config, self.now_ms(), |file| !damaged.contains_key(&file.path));
        let Some(small) = candidates else { return Ok(false) };
        let kind = small[0].kind;
        let mut batches = Vec::new();
        for file in &small {
            match self.read(file).await {
                Ok(rows) => batches.extend(rows),
                // Left out of queries and of merging from now on; the others are merged the next time.
                Err(HistoryError::Damaged { path, reason }) => {
                    self.found_damaged(&path, &reason);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        let now = self.clock.now();
        let merged = blocking(move || divide(kind, batches)?.iter().map(|portion| file::encode(kind, portion, now)).collect()).await?;
        let add = self.write(session, merged).await?;
        let remove: Vec<String> = small.iter().map(|file| file.path.clone()).collect();
        self.metrics.compacted.inc_by(remove.len() as u64);
        self.commit(session, Change { add, remove, ..Change::default() }).await?;
        Ok(true)
    }

    /// All rows of a file.
    async fn read(&self, entry: &Arc<FileEntry>) -> Result<Vec<RecordBatch>, HistoryError> {
        let (kind, bytes) = (entry.kind, self.bytes(entry).await?);
        blocking(move || file::decode(kind, bytes)).await
    }

    /// The bytes of a file, which are those that were written: else [`HistoryError::Damaged`].
    pub(super) async fn bytes(&self, entry: &Arc<FileEntry>) -> Result<Bytes, HistoryError> {
        let bytes = match self.place.get(&entry.path).await {
            Err(HistoryError::Store(object_store::Error::NotFound { .. })) => {
                return Err(HistoryError::Damaged { path: entry.path.clone(), reason: "it is missing".into() });
            }
            other => other?,
        };
        file::check(entry, &bytes)?;
        Ok(bytes)
    }
}

/// The first group of small files that is worth merging: many, or a few to which no more are added. At most as many rows as a file may have.
fn candidates(state: &State, config: &HistoryConfig, now_ms: i64, readable: impl Fn(&FileEntry) -> bool) -> Option<Vec<Arc<FileEntry>>> {
    let quiet_ms = i64::try_from(config.flush_interval.as_millis()).unwrap_or(i64::MAX);
    let mut groups: BTreeMap<(Kind, DistrictId, chrono::NaiveDate), Vec<&Arc<FileEntry>>> = BTreeMap::new();
    for file in state.files.values().filter(|file| file.rows <= config.file_rows_max / 2 && readable(file)) {
        groups.entry((file.kind, file.district, file.date)).or_default().push(file);
    }
    groups.into_values().find_map(|mut files| {
        let newest_ms = files.iter().map(|file| file.added.0).max()?;
        let enough = if now_ms.saturating_sub(newest_ms) >= quiet_ms { 2 } else { config.compact_files_min.max(2) };
        files.sort_by_key(|file| file.rows);
        let mut rows = 0;
        let fitting: Vec<Arc<FileEntry>> = files
            .into_iter()
            .take_while(|file| {
                rows += file.rows;
                rows <= config.file_rows_max
            })
            .cloned()
            .collect();
        (fitting.len() >= enough).then_some(fitting)
    })
}
