//! The task that keeps history going: when to write, merge, forget and delete.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::History;
use super::error::HistoryError;

/// How often history looks whether something is due.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often small files, old days, erasures and strangers are looked for.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Bounds of the pause after a failed step; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl History {
    /// Runs until shut down; a step that has begun is finished, because what it wrote would otherwise be written twice.
    /// While the object store does not answer, the log keeps the rows and the steps are tried again. An error is final.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), HistoryError> {
        tokio::try_join!(self.keep_going(&shutdown), self.0.keep_checking(&shutdown)).map(drop)
    }

    async fn keep_going(&self, shutdown: &CancellationToken) -> Result<(), HistoryError> {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut retry, mut upkeep_at) = (RETRY_MIN, Instant::now());
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let outcome = self.steps(shutdown, &mut upkeep_at).await;
            match outcome {
                Ok(()) => retry = RETRY_MIN,
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    self.0.metrics.errors.inc();
                    self.0.set_away(Some(error.describe()));
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return Ok(()),
                        () = tokio::time::sleep(retry) => retry = (retry * 2).min(RETRY_MAX),
                    }
                }
            }
        }
    }

    async fn steps(&self, shutdown: &CancellationToken, upkeep_at: &mut Instant) -> Result<(), HistoryError> {
        self.open().await?;
        while self.is_due() && !shutdown.is_cancelled() && self.flush().await? {}
        if Instant::now() >= *upkeep_at {
            self.upkeep(shutdown).await?;
            *upkeep_at = Instant::now() + UPKEEP_INTERVAL;
        }
        self.0.report();
        Ok(())
    }

    /// Reads the manifest and takes the right to write, unless this was done; the first step would do it too.
    pub async fn open(&self) -> Result<(), HistoryError> {
        let core = &self.0;
        let mut writing = core.writing.lock().await;
        let closed = writing.is_none();
        core.opened(&mut writing).await?;
        if closed {
            core.set_away(None);
        }
        Ok(())
    }

    async fn upkeep(&self, shutdown: &CancellationToken) -> Result<(), HistoryError> {
        self.look_for_strangers().await?;
        self.0.look_again_at_damaged().await?;
        self.finish_erasures().await?;
        self.retain().await?;
        while !shutdown.is_cancelled() && self.compact().await? {}
        self.sweep().await?;
        self.0.forget_verified();
        Ok(())
    }

    /// Whether rows have waited long enough, are enough for a file, or fill half of what the log may take, so that
    /// segments could go if history had them.
    pub(super) fn is_due(&self) -> bool {
        let core = &self.0;
        let Some(state) = self.state() else { return false };
        let waiting = core.log.durable().borrow().0.saturating_sub(state.next.0);
        if waiting == 0 {
            return false;
        }
        let interval_ms = i64::try_from(core.config.flush_interval.as_millis()).unwrap_or(i64::MAX);
        let log = core.log.status();
        waiting >= core.config.file_rows_max
            || core.now_ms() >= state.flushed.0.saturating_add(interval_ms)
            || (log.disk_bytes > log.budget_bytes / 2 && state.next < log.newest_segment)
    }
}
