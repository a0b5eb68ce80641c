//! What operators see of history (`rollcall_history_*`).

use prometheus::{IntCounter, IntGauge, Registry};

pub(super) struct Metrics {
    pub next: IntGauge,
    pub lag_rows: IntGauge,
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
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
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
            lag_rows: gauge("lag_rows", "Durable rows of the log that are not yet in files")?,
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
        })
    }
}
