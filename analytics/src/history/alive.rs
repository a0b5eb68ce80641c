//! Whether the place of history answers, and waiting for it only as long as it does.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::error::HistoryError;
use super::{Core, manifest};

/// A request that takes longer is a reason to look whether the store lives. Reading much over a slow line takes longer too, so it is
/// no reason to end it.
const SLOW: Duration = Duration::from_secs(1);

impl Core {
    /// Why the object store cannot be used, from a sign of life that is not older than this.
    pub(super) async fn away(&self, age_max: Duration) -> Option<String> {
        let version = {
            let published = self.published.lock();
            let fresh = published.probed.is_some_and(|at| at.elapsed() < age_max);
            match &published.state {
                Some(state) if !fresh => state.version,
                _ => return published.away.clone(),
            }
        };
        let path = manifest::path_of(version);
        let probe = timeout(self.config.probe_timeout, self.place.size(&path)).await;
        let reason = match probe {
            Ok(Ok(_)) => None,
            // A newer full edit may have made this one superfluous in the meantime.
            Ok(Err(_)) if self.published.lock().state.as_ref().is_some_and(|state| state.version != version) => None,
            Ok(Err(error)) => Some(error.describe()),
            Err(_) => Some(format!("no answer within {:?}", self.config.probe_timeout)),
        };
        self.set_away(reason.clone());
        reason
    }

    pub(super) fn set_away(&self, reason: Option<String>) {
        let mut published = self.published.lock();
        published.probed = Some(Instant::now());
        if published.away != reason {
            match &reason {
                Some(reason) => {
                    tracing::warn!(place = self.place.shown(), reason, "history cannot be read or written; the log keeps the rows")
                }
                None => tracing::info!(place = self.place.shown(), "history can be read and written again"),
            }
            published.away = reason;
        }
        drop(published);
        self.report();
    }

    /// What the work gives, unless the store is found to be lost meanwhile: a client tries requests again for minutes, and its
    /// query has one.
    pub(super) async fn while_alive<T>(&self, work: impl Future<Output = T>) -> Result<T, HistoryError> {
        let mut work = std::pin::pin!(work);
        loop {
            let looked = async {
                sleep(SLOW).await;
                self.away(SLOW).await
            };
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                away = looked => if let Some(reason) = away {
                    return Err(HistoryError::Away(reason));
                },
            }
        }
    }
}
