//! Whether a file is still what was written: looked at before a query reads it, remembered until it changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Core;
use super::error::{HistoryError, blocking};
use super::file;
use super::manifest::FileEntry;

/// Size and time of the last change of local files whose checksum was right; the size of remote ones.
#[derive(Default)]
pub(super) struct Verified(Mutex<HashMap<String, Stamp>>);

type Stamp = (u64, Option<SystemTime>);

impl Core {
    /// Those of the files that are still what was written, and what is wrong with the others. On a local folder a file is read
    /// whole once and looked at (size, time of change) before every query; of an object store, which checks its bytes itself, only the size is asked, once.
    pub(super) async fn sound(
        &self,
        files: Vec<Arc<FileEntry>>,
    ) -> Result<(Vec<Arc<FileEntry>>, Vec<(Arc<FileEntry>, String)>), HistoryError> {
        let known = self.verified.0.lock().clone();
        let (mut sound, mut damaged) = (Vec::with_capacity(files.len()), Vec::new());
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        for file in files {
            match self.place.local(&file.path) {
                Some(path) => local.push((file, path)),
                None if known.contains_key(&file.path) => sound.push(file),
                None => remote.push(file),
            }
        }
        for file in remote {
            match self.place.size(&file.path).await {
                Ok(bytes) if bytes == file.bytes => {
                    self.verified.0.lock().insert(file.path.clone(), (bytes, None));
                    sound.push(file);
                }
                Ok(bytes) => damaged.push((Arc::clone(&file), format!("it has {bytes} bytes instead of {}", file.bytes))),
                Err(HistoryError::Store(object_store::Error::NotFound { .. })) => damaged.push((file, "it is missing".into())),
                Err(error) => return Err(error),
            }
        }
        if !local.is_empty() {
            let looked = blocking(move || {
                let look = |(file, path): (Arc<FileEntry>, PathBuf)| {
                    let found = look(&file, &path, known.get(&file.path));
                    (file, found)
                };
                Ok(local.into_iter().map(look).collect::<Vec<_>>())
            });
            for (file, found) in looked.await? {
                match found {
                    Ok(stamp) => {
                        self.verified.0.lock().insert(file.path.clone(), stamp);
                        sound.push(file);
                    }
                    Err(reason) => damaged.push((file, reason)),
                }
            }
        }
        Ok((sound, damaged))
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
            let (sound, _) = self.sound(files).await?;
            let mut published = self.published.lock();
            for file in sound {
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
        self.verified.0.lock().retain(|path, _| state.files.contains_key(path));
    }
}

fn look(entry: &FileEntry, path: &Path, known: Option<&Stamp>) -> Result<Stamp, String> {
    let wrong = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "it is missing".to_owned(),
        _ => error.to_string(),
    };
    let metadata = std::fs::metadata(path).map_err(wrong)?;
    let stamp = (metadata.len(), metadata.modified().ok());
    if known == Some(&stamp) {
        return Ok(stamp);
    }
    let bytes = std::fs::read(path).map_err(wrong)?;
    match file::check(entry, &bytes) {
        Ok(()) => Ok(stamp),
        Err(HistoryError::Damaged { reason, .. }) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}
