//! The sink's numbers: `rollcall_sink_*`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use rollcall_model::event::Kind;
use rollcall_stream::{Log, lag};
use tokio::sync::watch;

use super::SinkStatus;
use super::gathered::Gathered;

pub(super) struct SinkMetrics {
    rows: IntCounterVec,
    transactions: IntCounter,
    pub errors: IntCounter,
    pub fence_lost: IntCounter,
    unstorable: IntCounter,
    pub compress_fell_back: IntGauge,
    seconds: Histogram,
}

impl SinkMetrics {
    pub fn register(registry: &Registry, log: &dyn Log, status: watch::Receiver<SinkStatus>) -> Result<Self, prometheus::Error> {
        let lag = "Durable rows of the log that are not yet in the database";
        lag::register(registry, "rollcall_sink_lag_rows", lag, log, move || status.borrow().next)?;
        let metrics = Self {
            rows: IntCounterVec::new(Opts::new("rollcall_sink_rows_total", "Rows written into the database"), &["kind"])?,
            transactions: IntCounter::new("rollcall_sink_transactions_total", "Transactions committed by the sink")?,
            errors: IntCounter::new("rollcall_sink_errors_total", "Attempts of the sink that failed and are tried again")?,
            fence_lost: IntCounter::new("rollcall_sink_fence_lost_total", "Transactions given up because the offset had moved")?,
            unstorable: IntCounter::new(
                "rollcall_sink_unstorable_rows_total",
                "Rows of the log put into the dead letters because they cannot be stored as what they are",
            )?,
            compress_fell_back: IntGauge::new(
                "rollcall_sink_direct_compress_fell_back",
                "1 when TimescaleDB wrote rows that were to be compressed at once, as last looked at",
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new("rollcall_sink_transaction_seconds", "Time of one transaction, fence to commit")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0]),
            )?,
        };
        registry.register(Box::new(metrics.rows.clone()))?;
        registry.register(Box::new(metrics.transactions.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.fence_lost.clone()))?;
        registry.register(Box::new(metrics.unstorable.clone()))?;
        registry.register(Box::new(metrics.compress_fell_back.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }

    pub fn committed(&self, gathered: &Gathered) {
        for kind in Kind::ALL {
            self.rows.with_label_values(&[kind.as_str()]).inc_by(gathered.rows(*kind));
        }
        self.unstorable.inc_by(gathered.tables.unstorable);
        self.transactions.inc();
    }

    /// A transaction took so long.
    pub fn took(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }
}
