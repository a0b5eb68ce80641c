//! Reading files whole in the background: at once those that queries have to leave out until then, and all others once in a
//! while, slowly, for what rots under its mark ([`super::verify`]).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::error::HistoryError;
use super::manifest::FileEntry;
use super::marks::{CHECKS_MAX, Glance};

/// How often files without a mark are looked for when no query asks.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of files with their mark that are read again after each look: 500 GB take nine hours, at 17 MB a second.
const AGAIN_BYTES_MAX: u64 = 1024 * 1024 * 1024;

impl Core {
    /// Goes on until shut down. A file that cannot be read for now is tried at the next look.
    pub(super) async fn keep_checking(&self, shutdown: &CancellationToken) -> Result<(), HistoryError> {
        loop {
            let round = async {
                if let Err(error) = self.check_round().await {
                    tracing::debug!(error = error.describe(), "files of history could not be checked");
                }
                let _ = tokio::time::timeout(LOOK_INTERVAL, self.verified.waiting.notified()).await;
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = round => {}
            }
        }
    }

    /// Reads the files that wait for it, and a few of the others.
    pub(super) async fn check_round(&self) -> Result<(), HistoryError> {
        let mut files: Vec<Arc<FileEntry>> = {
            let published = self.published.lock();
            let Some(state) = &published.state else { return Ok(()) };
            state.files.values().filter(|file| !published.damaged.contains_key(&file.path)).cloned().collect()
        };
        // Most questions are about the newest days.
        files.sort_by_key(|file| std::cmp::Reverse(file.date));
        let looked = self.glance(files).await?;
        looked.damaged.iter().for_each(|(file, reason)| self.found_damaged(&file.path, reason));
        if !looked.unchecked.is_empty() {
            tracing::info!(files = looked.unchecked.len(), "files of history have changed since they were checked; they are read whole");
        }
        let check = |file: Arc<FileEntry>| async move { (self.check(&file).await, file) };
        let mut checks = stream::iter(looked.unchecked).map(check).buffer_unordered(CHECKS_MAX);
        while let Some((found, file)) = checks.next().await {
            if let Glance::Wrong(reason) = found? {
                self.found_damaged(&file.path, &reason);
            }
        }
        self.check_some_again(looked.sound).await
    }

    /// Reads some of the files again that this process has not read yet, one at a time. An object store looks after its own.
    async fn check_some_again(&self, files: Vec<Arc<FileEntry>>) -> Result<(), HistoryError> {
        let mut bytes = 0;
        for file in files.into_iter().filter(|file| self.verified.is_unread(&file.path)) {
            let Some(path) = self.place.local(&file.path) else { continue };
            if bytes >= AGAIN_BYTES_MAX {
                break;
            }
            bytes += file.bytes;
            if let Glance::Wrong(reason) = self.read_local(&file, path, true).await? {
                self.found_damaged(&file.path, &reason);
            }
        }
        Ok(())
    }
}
