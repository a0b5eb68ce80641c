//! Whether a file is still what was written.
//!
//! A question over years of files cannot wait until they have been read whole, and their rows must not be wrong. So what was
//! known once is known after a restart:
//! - **On a local folder** history leaves a mark on each file that it has written, or has read whole and found right: the time of
//!   its last change is `added` of the manifest. Whoever changes the file moves that time. Size and time are looked at before
//!   every query; a file without its mark is read whole before its rows count, a few at a time. A query waits [`CHECK_WAIT`] for
//!   that and is answered without the rest, which it says; [`super::checks`] goes on reading.
//! - **An object store** checks its bytes itself. The size of each object is known from the list that history makes when it opens
//!   and every minute, and is asked for where it is not.
//! - A file that made a query fail is read whole, wherever it is.
//!
//! What rots under its mark is found when it cannot be decoded, and by [`super::checks`], which read every file again, slowly.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::Core;
use super::error::{HistoryError, blocking};
use super::manifest::FileEntry;
use super::marks::{CHECKS_MAX, Glance, of_another_size};

/// How long a query waits for files to be read whole.
pub(super) const CHECK_WAIT: Duration = Duration::from_secs(1);

/// Sizes that are asked for at the same time; an object store answers each after a good while.
const ASKED_MAX: usize = 16;

/// Files by what is known of them.
#[derive(Default)]
pub(super) struct Looked {
    pub sound: Vec<Arc<FileEntry>>,
    /// With what is wrong.
    pub damaged: Vec<(Arc<FileEntry>, String)>,
    /// They have yet to be read whole.
    pub unchecked: Vec<Arc<FileEntry>>,
}

impl Looked {
    fn put(&mut self, file: Arc<FileEntry>, found: Glance) {
        match found {
            Glance::Sound => self.sound.push(file),
            Glance::Wrong(reason) => self.damaged.push((file, reason)),
            Glance::Unchecked => self.unchecked.push(file),
        }
    }
}

impl Core {
    /// What is known of files, after reading those of which too little is known, as far as there is time. Nothing that was read is
    /// lost when the caller goes away.
    pub(super) async fn look(&self, files: Vec<Arc<FileEntry>>) -> Result<Looked, HistoryError> {
        let deadline = Instant::now() + CHECK_WAIT;
        let mut looked = self.glance(files).await?;
        let unchecked = std::mem::take(&mut looked.unchecked);
        if unchecked.is_empty() {
            return Ok(looked);
        }
        let mut left: BTreeMap<String, Arc<FileEntry>> = unchecked.iter().map(|file| (file.path.clone(), Arc::clone(file))).collect();
        let check = |file: Arc<FileEntry>| async move { (self.check(&file).await, file) };
        let mut checks = stream::iter(unchecked).map(check).buffer_unordered(CHECKS_MAX);
        while let Ok(Some((found, file))) = timeout_at(deadline, checks.next()).await {
            left.remove(&file.path);
            looked.put(file, found?);
        }
        looked.unchecked = left.into_values().collect();
        if !looked.unchecked.is_empty() {
            self.verified.waiting.notify_one();
        }
        Ok(looked)
    }

    /// The first look, which reads no file: at size and time on a local folder, at the size in an object store.
    pub(super) async fn glance(&self, files: Vec<Arc<FileEntry>>) -> Result<Looked, HistoryError> {
        let mut looked = Looked::default();
        let Some(paths) = files.iter().map(|file| self.place.local(&file.path)).collect::<Option<Vec<PathBuf>>>() else {
            let ask = |file: Arc<FileEntry>| async move { (self.ask(&file).await, file) };
            let mut asked = stream::iter(files).map(ask).buffered(ASKED_MAX);
            while let Some((found, file)) = asked.next().await {
                looked.put(file, found?);
            }
            return Ok(looked);
        };
        let verified = Arc::clone(&self.verified);
        blocking(move || {
            for (file, path) in files.into_iter().zip(paths) {
                let found = verified.glance(&file, &path);
                looked.put(file, found);
            }
            Ok(looked)
        })
        .await
    }

    /// Asks an object store for the size of a file, unless it is known.
    async fn ask(&self, file: &FileEntry) -> Result<Glance, HistoryError> {
        if let Some(known) = self.verified.remote(&file.path) {
            return Ok(known);
        }
        match self.place.size(&file.path).await {
            Ok(bytes) if bytes == file.bytes => {
                self.verified.found_right(&file.path, (bytes, None), false);
                Ok(Glance::Sound)
            }
            Ok(bytes) => Ok(Glance::Wrong(of_another_size(file, bytes))),
            Err(HistoryError::Store(object_store::Error::NotFound { .. })) => Ok(Glance::Wrong("it is missing".into())),
            Err(error) => Err(error),
        }
    }

    /// Reads a file whole when its turn comes, unless somebody else has done so meanwhile.
    pub(super) async fn check(&self, file: &Arc<FileEntry>) -> Result<Glance, HistoryError> {
        if let Some(path) = self.place.local(&file.path) {
            return self.read_local(file, path, false).await;
        }
        let _turn = self.verified.turn().await?;
        if let Some(Glance::Sound) = self.verified.remote(&file.path) {
            return Ok(Glance::Sound);
        }
        self.read_remote(file).await
    }

    /// Reads a file whole when its turn comes, whatever is known of it.
    pub(super) async fn check_again(&self, file: &Arc<FileEntry>) -> Result<Glance, HistoryError> {
        match self.place.local(&file.path) {
            Some(path) => self.read_local(file, path, true).await,
            None => {
                let _turn = self.verified.turn().await?;
                self.read_remote(file).await
            }
        }
    }

    /// Whoever calls it has a turn.
    async fn read_remote(&self, file: &Arc<FileEntry>) -> Result<Glance, HistoryError> {
        let stamp = (file.bytes, None);
        match self.bytes(file).await {
            Ok(bytes) => {
                self.metrics.checked_bytes.inc_by(bytes.len() as u64);
                self.verified.found_right(&file.path, stamp, true);
                Ok(Glance::Sound)
            }
            Err(HistoryError::Damaged { reason, .. }) => {
                self.verified.found_wrong(&file.path, stamp, &reason);
                Ok(Glance::Wrong(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a local file; `again`: even if it is known. A thread that has begun goes on, and keeps its turn, when nobody waits for it
    /// any more, and what it finds is kept.
    pub(super) async fn read_local(&self, file: &Arc<FileEntry>, path: PathBuf, again: bool) -> Result<Glance, HistoryError> {
        let turn = self.verified.turn().await?;
        let (verified, file, count) = (Arc::clone(&self.verified), Arc::clone(file), self.metrics.checked_bytes.clone());
        blocking(move || {
            let _turn = turn;
            let known = if again { Glance::Unchecked } else { verified.glance(&file, &path) };
            Ok(match known {
                Glance::Unchecked => verified.read(&file, &path, &count),
                known => known,
            })
        })
        .await
    }

    /// Remembers what was just written, and marks it: before it is made durable, and the mark with it.
    pub(super) async fn wrote(&self, entries: &[FileEntry]) -> Result<(), HistoryError> {
        let written: Vec<_> = entries.iter().map(|entry| (entry.clone(), self.place.local(&entry.path))).collect();
        let verified = Arc::clone(&self.verified);
        blocking(move || {
            for (entry, path) in written {
                match path {
                    Some(path) => verified.wrote(&entry, &path),
                    None => verified.found_right(&entry.path, (entry.bytes, None), true),
                }
            }
            Ok(())
        })
        .await
    }

    /// Leaves a file out of queries from now on, and says so.
    pub(super) fn found_damaged(&self, path: &str, reason: &str) {
        let new = self.published.lock().damaged.insert(path.to_owned(), reason.to_owned()).is_none();
        if new {
            tracing::error!(path, reason, "a file of history is not what was written there; its rows are left out");
        }
        self.report();
    }

    /// Looks again at files that were left out: a folder may have been mounted again, or a file restored from a copy.
    pub(super) async fn look_again_at_damaged(&self) -> Result<(), HistoryError> {
        let files: Vec<Arc<FileEntry>> = {
            let published = self.published.lock();
            let Some(state) = &published.state else { return Ok(()) };
            published.damaged.keys().filter_map(|path| state.files.get(path)).cloned().collect()
        };
        if !files.is_empty() {
            let looked = self.look(files).await?;
            let mut published = self.published.lock();
            for file in looked.sound {
                tracing::info!(path = file.path, "a file of history is again what was written there");
                published.damaged.remove(&file.path);
            }
            drop(published);
            self.report();
        }
        Ok(())
    }

    /// Forgets what was remembered of files that are gone.
    pub(super) fn forget_verified(&self) {
        let Some(state) = self.published.lock().state.clone() else { return };
        self.verified.retain(|path| state.files.contains_key(path));
    }
}
