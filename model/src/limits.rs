//! The limits that devices and clients may rely on, and why each has its value.

/// Largest payload of one publish, frame or request from a device, in bytes. Ten thousand events of a scan's
/// size do not fit into it as JSON; Arrow IPC holds them.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Most events in one payload.
pub const EVENTS_PER_PAYLOAD_MAX: usize = 10_000;

/// Most metrics in one telemetry event.
pub const METRICS_PER_EVENT_MAX: usize = 32;

/// Longest metric name, activity resource, badge token, firmware version and section reference, in bytes.
pub const METRIC_BYTES_MAX: usize = 64;
pub const RESOURCE_BYTES_MAX: usize = 256;
pub const BADGE_BYTES_MAX: usize = 128;
pub const FIRMWARE_BYTES_MAX: usize = 64;

/// Most unacknowledged frames on one ingest WebSocket before the server stops reading.
pub const WS_UNACKNOWLEDGED_MAX: usize = 1_000;

/// Default of how far in the future an event time may lie, in milliseconds.
pub const CLOCK_SKEW_MAX_MS: i64 = 5 * 60 * 1000;

/// Default of how old an event may be when it arrives, in milliseconds.
pub const LATE_MAX_MS: i64 = 14 * 24 * 60 * 60 * 1000;
