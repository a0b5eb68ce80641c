//! What the API counts about itself.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds; the upper ones catch writes that wait for the log.
const BUCKETS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The API's metrics, registered once.
pub struct Metrics {
    /// By method, route pattern and status code.
    pub requests: IntCounterVec,
    /// By route pattern.
    pub request_seconds: HistogramVec,
    /// By outcome: `ok`, `wrong`, `throttled`, `busy`.
    pub sign_ins: IntCounterVec,
    pub live_connections: IntGauge,
    pub live_subscriptions: IntGauge,
    /// Live connections that the server ended, by reason: `slow`, `session_ended`, `protocol`, `idle`, `shutdown`.
    pub live_closed: IntCounterVec,
    /// Messages and bytes sent on live connections, by kind `snapshot`, `delta`, `merged`.
    pub live_messages: IntCounterVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("rollcall_http_requests_total", "HTTP requests by method, route and status"),
                &["method", "route", "status"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new("rollcall_http_request_seconds", "Time to the response's head, by route").buckets(BUCKETS.to_vec()),
                &["route"],
            )?,
            sign_ins: IntCounterVec::new(Opts::new("rollcall_sign_ins_total", "Sign-in attempts by outcome"), &["outcome"])?,
            live_connections: IntGauge::new("rollcall_live_connections", "Open live connections")?,
            live_subscriptions: IntGauge::new("rollcall_live_subscriptions", "Topics followed on live connections")?,
            live_closed: IntCounterVec::new(
                Opts::new("rollcall_live_closed_total", "Live connections ended by the server, by reason"),
                &["reason"],
            )?,
            live_messages: IntCounterVec::new(
                Opts::new("rollcall_live_messages_total", "Messages sent on live connections by kind"),
                &["kind"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.request_seconds.clone()))?;
        registry.register(Box::new(metrics.sign_ins.clone()))?;
        registry.register(Box::new(metrics.live_connections.clone()))?;
        registry.register(Box::new(metrics.live_subscriptions.clone()))?;
        registry.register(Box::new(metrics.live_closed.clone()))?;
        registry.register(Box::new(metrics.live_messages.clone()))?;
        Ok(metrics)
    }
}
