//! What live queries count about themselves.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds of one computation.
const BUCKETS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

pub struct Metrics {
    /// Different queries that are followed.
    pub queries: IntGauge,
    /// Computations by outcome: `done`, `cancelled` (boards were behind), `failed`.
    pub runs: IntCounterVec,
    pub run_seconds: Histogram,
    /// Computations that run now.
    pub running: IntGauge,
    /// Queries that ended because boards were behind.
    pub relieved: prometheus::IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            queries: IntGauge::new("rollcall_live_sql_queries", "Different live queries that are followed")?,
            runs: IntCounterVec::new(Opts::new("rollcall_live_sql_runs_total", "Computations of live queries by outcome"), &["outcome"])?,
            run_seconds: Histogram::with_opts(
                HistogramOpts::new("rollcall_live_sql_run_seconds", "Time of a computation of a live query").buckets(BUCKETS.to_vec()),
            )?,
            running: IntGauge::new("rollcall_live_sql_running", "Computations of live queries that run now")?,
            relieved: prometheus::IntCounter::new("rollcall_live_sql_relieved_total", "Live queries ended because boards were behind")?,
        };
        registry.register(Box::new(metrics.queries.clone()))?;
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.run_seconds.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.relieved.clone()))?;
        Ok(metrics)
    }
}

/// One computation; it runs until this is dropped.
pub struct Running(IntGauge);

impl Metrics {
    pub fn begin(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
