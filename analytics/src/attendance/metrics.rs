//! What operators see of live attendance: `rollcall_live_*`.

use prometheus::{IntCounter, IntGauge, Registry};
use rollcall_model::ids::Offset;
use rollcall_stream::{Log, lag};
use tokio::sync::watch;

#[derive(Clone)]
pub(super) struct Metrics {
    pub applied: IntGauge,
    pub transitions: IntCounter,
    pub transitions_waiting: IntGauge,
    pub days: IntGauge,
    pub topics: IntGauge,
    pub subscribers: IntGauge,
}

impl Metrics {
    /// Registers the metrics. A registry that has them already (a second engine in one process) is left as it is.
    pub fn new(registry: &Registry, log: &dyn Log, applied: watch::Receiver<Offset>) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the names of metrics are valid");
            let _already_there = registry.register(Box::new(gauge.clone()));
            gauge
        };
        let lag = "Durable rows of the log that the boards do not show yet";
        let _already_there = lag::register(registry, "rollcall_live_lag_rows", lag, log, move || *applied.borrow());
        let transitions = IntCounter::new("rollcall_live_transitions_total", "Conclusions that changed and were recorded")
            .expect("the names of metrics are valid");
        let _already_there = registry.register(Box::new(transitions.clone()));
        Self {
            applied: gauge("rollcall_live_applied_offset", "One past the last event that the boards show"),
            transitions,
            transitions_waiting: gauge("rollcall_live_transitions_waiting", "Transitions that wait for the database"),
            days: gauge("rollcall_live_days", "Days of schools in memory"),
            topics: gauge("rollcall_live_topics", "Live topics that are kept"),
            subscribers: gauge("rollcall_live_subscribers", "Subscriptions to live topics"),
        }
    }
}
