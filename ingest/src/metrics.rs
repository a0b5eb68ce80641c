//! Prometheus metrics of the intake, all named `rollcall_ingest_*`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use rollcall_model::event::Kind;

use crate::admission::Admitted;
use crate::decode::{Code, Finished, Outcome};

/// Registered once a process; tests give each gateway a registry of its own.
pub struct Metrics {
    pub connections: IntGaugeVec,
    pub connections_refused: IntCounterVec,
    pub publishes: IntCounterVec,
    events: Vec<(Kind, IntCounter)>,
    rejected: IntCounterVec,
    duplicates: IntCounter,
    dead_letters: IntCounter,
    unknown_fields: IntCounter,
    pub auth_failures: IntCounterVec,
    /// Seconds from a payload's arrival to its acknowledgement.
    pub ack_seconds: Histogram,
    pub stalled: IntGauge,
    pub messages_dropped: IntCounter,
    pub protocol_errors: IntCounter,
    pub takeovers: IntCounter,
}

impl Metrics {
    /// Creates and registers. Fails only when the names are taken in this registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = |short: &str| format!("rollcall_ingest_{short}");
        let counter = |short: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name(short), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |short: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name(short), help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let connections = IntGaugeVec::new(Opts::new(name("connections"), "Connections of devices now."), &["transport"])?;
        registry.register(Box::new(connections.clone()))?;
        let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 16)?;
        let ack = HistogramOpts::new(name("ack_seconds"), "From a payload's arrival to its acknowledgement.").buckets(buckets);
        let ack_seconds = Histogram::with_opts(ack)?;
        registry.register(Box::new(ack_seconds.clone()))?;
        let stalled = IntGauge::new(name("stalled_connections"), "Connections that wait for the log.")?;
        registry.register(Box::new(stalled.clone()))?;
        let by_kind = counters("events_total", "Events that entered the log.", "kind")?;
        let kinds = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Status];
        Ok(Self {
            connections,
            connections_refused: counters("connections_refused_total", "Connections that were not let in.", "reason")?,
            publishes: counters("payloads_total", "Payloads of events by the way they came in.", "transport")?,
            events: kinds.iter().map(|kind| (*kind, by_kind.with_label_values(&[kind.as_str()]))).collect(),
            rejected: counters("rejected_total", "Events that were refused, by code.", "code")?,
            duplicates: counter("duplicates_total", "Events that had been taken before.")?,
            dead_letters: counter("dead_letters_total", "Refused payloads that were kept.")?,
            unknown_fields: counter("unknown_fields_total", "Fields of events that nobody knows.")?,
            auth_failures: counters("auth_failures_total", "Failed sign-ins of devices.", "reason")?,
            ack_seconds,
            stalled,
            messages_dropped: counter("messages_dropped_total", "Messages to devices that their queues had no room for.")?,
            protocol_errors: counter("protocol_errors_total", "Connections ended for a violation of their protocol.")?,
            takeovers: counter("takeovers_total", "Connections ended because their client id connected again.")?,
        })
    }

    pub(crate) fn decoded(&self, outcome: &Outcome) {
        if outcome.unknown_fields > 0 {
            self.unknown_fields.inc_by(outcome.unknown_fields);
        }
        for refusal in &outcome.refusals {
            self.refused(refusal.code);
        }
    }

    pub(crate) fn refused(&self, code: Code) {
        self.rejected.with_label_values(&[code.as_str()]).inc();
    }

    /// `is_new` tells for each event of the intake whether it entered the log.
    pub(crate) fn admitted(&self, intake: &Finished, admitted: &Admitted, is_new: impl Fn(usize) -> bool) {
        let mut entered = [0u64; 4];
        let place = |kind: Kind| self.events.iter().position(|(known, _)| *known == kind);
        if let ([batch], 0, []) = (intake.batches.as_slice(), admitted.duplicates, admitted.uncertain.as_slice()) {
            // The usual read of a connection: one kind, all new.
            place(batch.kind).into_iter().for_each(|at| entered[at] = intake.events.len() as u64);
        } else {
            self.count(intake, is_new, &mut entered);
        }
        for ((_, counter), count) in self.events.iter().zip(entered).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
        if admitted.duplicates > 0 {
            self.duplicates.inc_by(admitted.duplicates as u64);
        }
        if admitted.buried > 0 {
            self.dead_letters.inc_by(admitted.buried as u64);
        }
        admitted.uncertain.iter().for_each(|refusal| self.refused(refusal.code));
    }

    fn count(&self, intake: &Finished, is_new: impl Fn(usize) -> bool, entered: &mut [u64; 4]) {
        for (_, event) in intake.events.iter().enumerate().filter(|(i, _)| is_new(*i)) {
            if let Some(at) = self.events.iter().position(|(kind, _)| *kind == event.kind) {
                entered[at] += 1;
            }
        }
    }
}
