//! Deletion of one person's rows: a right of families.
//!
//! First a tombstone becomes durable, so that rows that are still in the log are neither shown nor written. Then every file
//! of the district that may hold the person's rows is written again without them. The old files are deleted as after a
//! merge: when no query reads them any more, and a delay later.

use std::sync::Arc;

use arrow::array::RecordBatch;
use rollcall_model::ids::{DistrictId, PersonId};

use super::error::{HistoryError, blocking};
use super::manifest::{FileEntry, Tombstone};
use super::rows::{divide, erased};
use super::session::{Change, Session};
use super::{Core, History, file};

/// What an erasure did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Erasure {
    /// Rows that were taken out of files.
    pub rows: u64,
    pub files: u64,
    /// Files that cannot be read, in which the person's rows may stand. The erasure stays pending until they are
    /// gone: by retention, or restored and erased.
    pub unreadable: Vec<String>,
}

impl History {
    /// Deletes every row of a person in a district that is in the log now. When it returns, no query that begins shows them, and a
    /// crash does not bring them back. Rows that come later are kept.
    pub async fn erase(&self, district: DistrictId, person: PersonId) -> Result<Erasure, HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        let outcome = core.erase(session, district, person).await;
        if outcome.is_err() {
            *writing = None;
        }
        outcome
    }

    /// Goes on with erasures that a crash or an unreadable file has interrupted.
    pub async fn finish_erasures(&self) -> Result<(), HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        let pending: Vec<Tombstone> = session.state.tombstones.iter().filter(|stone| stone.pending).cloned().collect();
        for stone in pending {
            if let Err(error) = core.rewrite(session, &stone).await {
                *writing = None;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Core {
    async fn erase(&self, session: &mut Session, district: DistrictId, person: PersonId) -> Result<Erasure, HistoryError> {
        let stone = Tombstone { district, person, before: self.log.end(), pending: true };
        let mut tombstones = session.state.tombstones.clone();
        tombstones.push(stone.clone());
        self.commit(session, Change { tombstones: Some(tombstones), ..Change::default() }).await?;
        self.rewrite(session, &stone).await
    }

    /// Writes the files again that hold rows of an erased person, then says that this is done.
    async fn rewrite(&self, session: &mut Session, stone: &Tombstone) -> Result<Erasure, HistoryError> {
        let mut erasure = Erasure::default();
        let concerned = |file: &&Arc<FileEntry>| file.district == stone.district && file.first < stone.before;
        let files: Vec<Arc<FileEntry>> = session.state.files.values().filter(concerned).cloned().collect();
        for file in files {
            match self.without(&file, stone).await {
                Ok(None) => {}
                Ok(Some(kept)) => {
                    let removed = file.rows - kept.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
                    self.replace(session, &file, kept).await?;
                    self.metrics.erased_rows.inc_by(removed);
                    erasure.rows += removed;
                    erasure.files += 1;
                }
                Err(HistoryError::Damaged { path, reason }) => {
                    self.found_damaged(&path, &reason);
                    erasure.unreadable.push(path);
                }
                Err(error) => return Err(error),
            }
        }
        if erasure.unreadable.is_empty() {
            let mut tombstones = session.state.tombstones.clone();
            tombstones.iter_mut().filter(|other| *other == stone).for_each(|stone| stone.pending = false);
            self.commit(session, Change { tombstones: Some(tombstones), ..Change::default() }).await?;
        }
        Ok(erasure)
    }

    /// The rows of a file without the person's; `None` if it has none of them.
    async fn without(&self, file: &Arc<FileEntry>, stone: &Tombstone) -> Result<Option<Vec<RecordBatch>>, HistoryError> {
        let bytes = self.bytes(file).await?;
        let (kind, before, stone) = (file.kind, file.rows, stone.clone());
        blocking(move || {
            if !file::may_hold(kind, bytes.clone(), stone.person)? {
                return Ok(None);
            }
            let erased = erased(&[stone]);
            let kept = file::decode(kind, bytes)?.into_iter().map(|rows| erased.apply(kind, rows)).collect::<Result<Vec<_>, _>>()?;
            let count: u64 = kept.iter().map(|rows| rows.num_rows() as u64).sum();
            Ok((count < before).then_some(kept))
        })
        .await
    }

    async fn replace(&self, session: &mut Session, file: &FileEntry, kept: Vec<RecordBatch>) -> Result<(), HistoryError> {
        let (kind, now) = (file.kind, self.clock.now());
        let files = blocking(move || {
            let kept: Vec<RecordBatch> = kept.into_iter().filter(|rows| rows.num_rows() > 0).collect();
            divide(kind, kept)?.iter().map(|portion| file::encode(kind, portion, now)).collect()
        })
        .await?;
        let add = self.write(session, files).await?;
        self.commit(session, Change { add, remove: vec![file.path.clone()], ..Change::default() }).await
    }
}
