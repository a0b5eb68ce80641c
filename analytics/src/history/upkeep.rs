//! Forgetting: retention by days, and the deletion of files that no longer count.

use std::sync::Arc;

use chrono::Days;

use super::History;
use super::error::HistoryError;
use super::manifest::FileEntry;
use super::session::Change;

impl History {
    /// Gives up the files whose day is older than their kind is kept. Returns how many.
    pub async fn retain(&self) -> Result<usize, HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        let Some(today) = core.clock.now().to_chrono().map(|now| now.date_naive()) else { return Ok(0) };
        let expired = |file: &&Arc<FileEntry>| {
            let days = core.config.keep_days.get(&file.kind);
            days.and_then(|days| today.checked_sub_days(Days::new(u64::from(*days)))).is_some_and(|oldest| file.date < oldest)
        };
        let remove: Vec<String> = session.state.files.values().filter(expired).map(|file| file.path.clone()).collect();
        let count = remove.len();
        if count > 0 {
            if let Err(error) = core.commit(session, Change { remove, ..Change::default() }).await {
                *writing = None;
                return Err(error);
            }
            core.metrics.expired.inc_by(count as u64);
        }
        Ok(count)
    }

    /// Deletes files that no longer count, that no query of this program reads, and that have waited for the delay.
    /// Returns how many.
    pub async fn sweep(&self) -> Result<usize, HistoryError> {
        let core = &self.0;
        let _writing = core.writing.lock().await;
        let delay_ms = i64::try_from(core.config.delete_delay.as_millis()).unwrap_or(i64::MAX);
        let now = core.now_ms();
        let due: Vec<String> = {
            let published = core.published.lock();
            // Only the list itself holds a file that no query reads: the published state and every plan count too.
            let due = |(file, since): &&(Arc<FileEntry>, i64)| Arc::strong_count(file) == 1 && since.saturating_add(delay_ms) <= now;
            published.retired.iter().filter(due).map(|(file, _)| file.path.clone()).collect()
        };
        for path in &due {
            core.place.remove(path).await?;
            core.published.lock().retired.retain(|(file, _)| file.path != *path);
        }
        core.report();
        Ok(due.len())
    }

    /// Looks for files that are not history's own.
    pub async fn look_for_strangers(&self) -> Result<(), HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let session = core.opened(&mut writing).await?;
        core.look_for_strangers(session).await
    }
}
