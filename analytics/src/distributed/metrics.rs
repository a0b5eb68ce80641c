//! What a server's operators see of its workers (`rollcall_query_worker_*`).

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

pub(super) struct Metrics {
    /// Shares by worker and outcome: `done`, or `failed` and then done by the server.
    pub shares: IntCounterVec,
    pub rows: IntCounterVec,
    /// Shares that a worker is at.
    pub running: IntGaugeVec,
    pub resting: IntGaugeVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(format!("rollcall_query_worker_{name}_total"), help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let metric = IntGaugeVec::new(Opts::new(format!("rollcall_query_worker_{name}"), help), &["worker"])?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        Ok(Self {
            shares: counter("shares", "Shares of queries given to a worker, by how they ended", &["worker", "outcome"])?,
            rows: counter("rows", "Rows that a worker has given", &["worker"])?,
            running: gauge("running", "Shares that a worker is at")?,
            resting: gauge("resting", "1 while a worker that did not answer gets no shares")?,
        })
    }
}
