//! What operators see of history (`rollcall_history_*`).

use prometheus::{IntCounter, IntGauge, Registry};
use rollcall_stream::{Log, lag};
use tokio::sync::watch;

use super::HistoryStatus;

pub(super) struct Metrics {
    pub next: IntGauge,
    pub files: IntGauge,
    pub bytes: IntGauge,
    pub retired: IntGauge,
    pub damaged: IntGauge,
    pub foreign: IntGauge,
    pub away: IntGauge,
    pub rows: IntCounter,
    pub commits: IntCounter,
    pub errors: IntCounter,
    pub compacted: IntCounter,
    pub expired: IntCounter,
    pub erased_rows: IntCounter,
    pub checked_bytes: IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry, log: &dyn Log, status: watch::Receiver<HistoryStatus>) -> Result<Self, prometheus::Error> {
        let lag = "Durable rows of the log that are not yet in files";
        lag::register(registry, "rollcall_history_lag_rows", lag, log, move || status.borrow().next)?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(format!("rollcall_history_{name}"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(format!("rollcall_history_{name}_total"), help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        Ok(Self {
            next: gauge("next_offset", "Every row of the log before this is in the files of history")?,
            files: gauge("files", "Files that queries read")?,
            bytes: gauge("bytes", "Bytes of the files that queries read")?,
            retired: gauge("retired_files", "Replaced files that wait to be deleted")?,
            damaged: gauge("damaged_files", "Files that queries leave out because they are missing or changed")?,
            foreign: gauge("foreign_files", "Files in the place of history that are not its own")?,
            away: gauge("away", "1 while the object store does not answer")?,
            rows: counter("rows", "Rows written to files")?,
            commits: counter("commits", "Edits of the manifest")?,
            errors: counter("errors", "Steps that failed and were tried again")?,
            compacted: counter("compacted_files", "Small files merged into larger ones")?,
            expired: counter("expired_files", "Files given up by retention")?,
            erased_rows: counter("erased_rows", "Rows deleted by request")?,
            checked_bytes: counter("checked_bytes", "Bytes of files that were read whole to see whether they are what was written")?,
        })
    }
}
