//! What the log says of itself to Prometheus.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets};
use rollcall_model::ids::Offset;

use crate::batch::EventBatch;
use crate::log::AppendError;

pub(super) struct Metrics {
    appended_rows: IntCounterVec,
    refused: IntCounterVec,
    pub written_bytes: IntCounter,
    pub fsync_seconds: Histogram,
    pub group_rows: Histogram,
    pub disk_bytes: IntGauge,
    pub queue_bytes: IntGauge,
    reader_lag_rows: IntGaugeVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("rollcall_log_{name}"), help);
        let histogram = |name: &str, help: &str, start: f64, factor: f64, count: usize| {
            let options = HistogramOpts::from(opts(name, help)).buckets(exponential_buckets(start, factor, count)?);
            Histogram::with_opts(options)
        };
        let metrics = Self {
            appended_rows: IntCounterVec::new(opts("appended_rows_total", "Rows made durable"), &["kind"])?,
            refused: IntCounterVec::new(opts("refused_total", "Appends that were not taken"), &["reason"])?,
            written_bytes: IntCounter::with_opts(opts("written_bytes_total", "Bytes of frames made durable"))?,
            fsync_seconds: histogram("fsync_seconds", "Duration of one fsync of a group", 0.000_05, 2.0, 16)?,
            group_rows: histogram("group_rows", "Rows that shared one fsync", 1.0, 4.0, 10)?,
            disk_bytes: IntGauge::with_opts(opts("disk_bytes", "Bytes of all segments that are in use"))?,
            queue_bytes: IntGauge::with_opts(opts("queue_bytes", "Bytes of rows that wait for the disk"))?,
            reader_lag_rows: IntGaugeVec::new(opts("reader_lag_rows", "Durable rows not yet committed"), &["reader"])?,
        };
        replace(registry, &metrics.appended_rows)?;
        replace(registry, &metrics.refused)?;
        replace(registry, &metrics.written_bytes)?;
        replace(registry, &metrics.fsync_seconds)?;
        replace(registry, &metrics.group_rows)?;
        replace(registry, &metrics.disk_bytes)?;
        replace(registry, &metrics.queue_bytes)?;
        replace(registry, &metrics.reader_lag_rows)?;
        Ok(metrics)
    }

    pub fn appended(&self, frames: &[EventBatch]) {
        let mut rows = 0;
        for frame in frames {
            rows += frame.len();
            self.appended_rows.with_label_values(&[frame.kind.as_str()]).inc_by(frame.len() as u64);
        }
        self.group_rows.observe(rows as f64);
    }

    pub fn refused(&self, error: &AppendError) {
        let reason = match error {
            AppendError::Full => "full",
            AppendError::Busy => "busy",
            AppendError::Stopped(_) => "stopped",
        };
        self.refused.with_label_values(&[reason]).inc();
    }

    pub fn reader_moved(&self, reader: &str, committed: Offset, durable: Offset) {
        let lag = durable.0.saturating_sub(committed.0);
        self.reader_lag_rows.with_label_values(&[reader]).set(lag as i64);
    }
}

/// Registers a collector in place of the one that an earlier log of the same process left in the registry.
fn replace<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) -> Result<(), prometheus::Error> {
    match registry.register(Box::new(collector.clone())) {
        Err(prometheus::Error::AlreadyReg) => {
            registry.unregister(Box::new(collector.clone()))?;
            registry.register(Box::new(collector.clone()))
        }
        done => done,
    }
}
