//! How far behind a reader is, counted when somebody asks.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use crate::log::Log;

/// A gauge of the durable rows that a reader has not taken yet. A number kept from the reader's last step would still
/// say zero while the rows that came since are under way.
struct Lag<F> {
    gauge: IntGauge,
    durable: watch::Receiver<Offset>,
    taken: F,
}

impl<F: Fn() -> Offset + Send + Sync> Collector for Lag<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // What is taken is read first: rows that become durable in between make the lag too large, never too small.
        let taken = (self.taken)();
        let lag = self.durable.borrow().0.saturating_sub(taken.0);
        self.gauge.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

/// Registers a gauge of the rows of the log from `taken` (asked at every look, one past the last row taken) to its durable end.
pub fn register(
    registry: &Registry,
    name: &str,
    help: &str,
    log: &dyn Log,
    taken: impl Fn() -> Offset + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    registry.register(Box::new(Lag { gauge: IntGauge::new(name, help)?, durable: log.durable(), taken }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus::Registry;
    use rollcall_model::ids::{DeviceId, DistrictId, Offset, SchoolId};
    use rollcall_model::time::UtcMillis;

    use crate::Log;
    use crate::heartbeat::{self, HeartbeatRow};
    use crate::memory::MemoryLog;

    #[test]
    fn rows_that_came_since_the_last_step_count() {
        let (log, taken, registry) = (MemoryLog::new(), Arc::new(AtomicU64::new(0)), Registry::new());
        let reader = Arc::clone(&taken);
        super::register(&registry, "lag_rows", "Rows behind", &log, move || Offset(reader.load(Ordering::Relaxed))).unwrap();
        let lag = || registry.gather()[0].get_metric()[0].get_gauge().get_value();
        let word = HeartbeatRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            seq: 0,
            ts: UtcMillis(0),
            received: UtcMillis(0),
            battery: None,
            fw: None,
            queued: None,
            uptime_s: None,
            connected: Some(true),
            offset: Offset(0),
        };
        assert_eq!(lag(), 0.0);
        let batch = || vec![heartbeat::encode(&[word.clone(), word.clone(), word.clone()])];
        log.append(batch()).unwrap();
        assert_eq!(lag(), 3.0);
        log.hold();
        log.append(batch()).unwrap();
        assert_eq!(lag(), 3.0, "what is not durable is nobody's yet");
        log.release();
        taken.store(5, Ordering::Relaxed);
        assert_eq!(lag(), 1.0);
    }
}
