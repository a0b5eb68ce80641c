//! The Arrow schema of each kind of batch. It is the on-disk format of the log's frames and the column order of
//! everything downstream: a column is only ever added at the end, with a new [`SCHEMA_VERSION`].
//!
//! Ids are `FixedSizeBinary(16)` (big-endian UUID bytes), instants `Int64` milliseconds since the epoch, codes
//! `UInt8` as numbered in `rollcall_model::event`.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rollcall_model::event::Kind;

pub const SCHEMA_VERSION: u16 = 1;

const ID: DataType = DataType::FixedSizeBinary(16);

/// Columns 0 to 6 of every kind, in this order.
pub const DISTRICT: usize = 0;
pub const SCHOOL: usize = 1;
/// The device that spoke; for a mark the account of its author.
pub const DEVICE: usize = 2;
/// Sequence number of the device; for a mark 0.
pub const SEQ: usize = 3;
/// Event time; for a mark the time it was recorded.
pub const TS: usize = 4;
/// When the server accepted it.
pub const RECEIVED: usize = 5;
/// Whether the event waited in the device's queue.
pub const OFFLINE: usize = 6;
/// Number of the common columns.
pub const COMMON: usize = 7;

fn common() -> Vec<Field> {
    vec![
        Field::new("district", ID, false),
        Field::new("school", ID, false),
        Field::new("device", ID, false),
        Field::new("seq", DataType::UInt64, false),
        Field::new("ts", DataType::Int64, false),
        Field::new("received", DataType::Int64, false),
        Field::new("offline", DataType::Boolean, false),
    ]
}

fn with(extra: Vec<Field>) -> SchemaRef {
    let mut fields = common();
    fields.extend(extra);
    Arc::new(Schema::new(fields))
}

static SCAN: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![
        Field::new("person", ID, false),
        Field::new("badge", ID, false),
        Field::new("dir", DataType::UInt8, false),
        Field::new("method", DataType::UInt8, false),
    ])
});

/// One row a metric: an event with four metrics is four rows with one `seq`.
static TELEMETRY: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![Field::new("person", ID, true), Field::new("metric", DataType::Utf8, false), Field::new("value", DataType::Float64, false)])
});

static ACTIVITY: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![
        Field::new("person", ID, false),
        Field::new("kind", DataType::UInt8, false),
        Field::new("resource", DataType::Utf8, false),
        Field::new("section", ID, true),
        Field::new("dur_ms", DataType::Int64, true),
    ])
});

static STATUS: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![
        Field::new("battery", DataType::Float64, true),
        Field::new("fw", DataType::Utf8, true),
        Field::new("queued", DataType::Int64, true),
        Field::new("uptime_s", DataType::Int64, true),
        // Written by the gateway itself: true at CONNECT, false at disconnect, null in a device's own heartbeat.
        Field::new("connected", DataType::Boolean, true),
    ])
});

static MARK: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![
        Field::new("mark", ID, false),
        Field::new("student", ID, false),
        Field::new("section", ID, true),
        Field::new("period", ID, true),
        // The school's local date, days since 1970-01-01.
        Field::new("date", DataType::Int32, false),
        Field::new("status", DataType::UInt8, false),
        Field::new("authority", DataType::UInt8, false),
        Field::new("reason", DataType::Utf8, true),
        Field::new("supersedes", ID, true),
        Field::new("at", DataType::Int64, true),
    ])
});

/// `seq` is what the payload claimed, 0 when it had none that could be read; `ts` is the time it was received.
static DEAD_LETTER: LazyLock<SchemaRef> = LazyLock::new(|| {
    with(vec![
        Field::new("topic", DataType::Utf8, false),
        Field::new("code", DataType::Utf8, false),
        Field::new("message", DataType::Utf8, false),
        Field::new("payload", DataType::Binary, false),
    ])
});

/// The schema of a kind.
pub fn schema(kind: Kind) -> &'static SchemaRef {
    match kind {
        Kind::Scan => &SCAN,
        Kind::Telemetry => &TELEMETRY,
        Kind::Activity => &ACTIVITY,
        Kind::Status => &STATUS,
        Kind::Mark => &MARK,
        Kind::DeadLetter => &DEAD_LETTER,
    }
}
