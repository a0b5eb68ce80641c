//! Column builders of each kind of event. They are plain vectors that become Arrow buffers without a copy, and unlike
//! Arrow's own builders they can be cut back when the rest of a payload turns out to be broken.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type, UInt8Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;
use rollcall_stream::schema;

use crate::directory::DeviceIdentity;

/// A usual name of a metric.
const SHORT_TEXT_BYTES: usize = 8;

/// An id as one machine word, bytes in the order they stand in the column.
pub fn word(bytes: &[u8; 16]) -> i128 {
    i128::from_ne_bytes(*bytes)
}

fn ids(values: Vec<i128>, valid: Option<Vec<bool>>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(values), valid.map(NullBuffer::from)))
}

fn numbers<T: ArrowPrimitiveType>(values: Vec<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None))
}

fn booleans(values: Vec<bool>) -> ArrayRef {
    Arc::new(BooleanArray::new(BooleanBuffer::from(values), None))
}

/// A nullable column.
#[derive(Default)]
struct Nullable<T> {
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Default> Nullable<T> {
    fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
        self.valid.reserve(rows);
    }

    fn push(&mut self, value: Option<T>) {
        self.valid.push(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.valid.truncate(rows);
    }
}

impl<N: arrow::datatypes::ArrowNativeType> Nullable<N> {
    fn finish<T: ArrowPrimitiveType<Native = N>>(self) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(self.values), Some(NullBuffer::from(self.valid))))
    }
}

/// Bytes or text of any length.
struct Bytes {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }
}

impl Bytes {
    /// Room for texts as short as names of metrics; longer ones make their own.
    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
        self.data.reserve(rows * SHORT_TEXT_BYTES);
    }

    fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.offsets.push(i32::try_from(self.data.len()).expect("a batch holds far less than 2 GiB of text"));
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.data.truncate(self.offsets[rows] as usize);
    }

    fn finish_text(self, valid: Option<Vec<bool>>) -> ArrayRef {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Arc::new(StringArray::new(offsets, Buffer::from_vec(self.data), valid.map(NullBuffer::from)))
    }

    fn finish_binary(self) -> ArrayRef {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Arc::new(BinaryArray::new(offsets, Buffer::from_vec(self.data), None))
    }
}

/// What every row begins with.
#[derive(Clone, Copy)]
pub struct Head {
    pub seq: u64,
    pub ts: i64,
    pub received: i64,
    pub offline: bool,
}

/// What many rows of one device begin with.
pub struct Rows<'a> {
    pub received: i64,
    pub seq: &'a [u64],
    pub ts: &'a [i64],
}

#[derive(Default)]
struct Common {
    /// Rows to make room for when the first one comes; then the columns double together.
    expected: usize,
    district: Vec<i128>,
    school: Vec<i128>,
    device: Vec<i128>,
    seq: Vec<u64>,
    ts: Vec<i64>,
    received: Vec<i64>,
    offline: Vec<bool>,
}

impl Common {
    #[inline]
    fn push(&mut self, who: &DeviceIdentity, head: Head) {
        self.district.push(word(who.district.as_bytes()));
        self.school.push(word(who.school.as_bytes()));
        self.device.push(word(who.device.as_bytes()));
        self.seq.push(head.seq);
        self.ts.push(head.ts);
        self.received.push(head.received);
        self.offline.push(head.offline);
    }

    fn extend(&mut self, who: &DeviceIdentity, rows: &Rows<'_>, offline: impl Iterator<Item = bool>) {
        let all = self.len() + rows.seq.len();
        self.district.resize(all, word(who.district.as_bytes()));
        self.school.resize(all, word(who.school.as_bytes()));
        self.device.resize(all, word(who.device.as_bytes()));
        self.seq.extend_from_slice(rows.seq);
        self.ts.extend_from_slice(rows.ts);
        self.received.resize(all, rows.received);
        self.offline.extend(offline);
    }

    fn len(&self) -> usize {
        self.seq.len()
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.seq.len() == self.seq.capacity()
    }

    /// How many rows more there should be room for, when there is none.
    fn growth(&self) -> usize {
        self.expected.max(self.seq.len()).max(1)
    }

    fn reserve(&mut self, rows: usize) {
        self.district.reserve_exact(rows);
        self.school.reserve_exact(rows);
        self.device.reserve_exact(rows);
        self.seq.reserve_exact(rows);
        self.ts.reserve_exact(rows);
        self.received.reserve_exact(rows);
        self.offline.reserve_exact(rows);
    }

    fn truncate(&mut self, rows: usize) {
        self.district.truncate(rows);
        self.school.truncate(rows);
        self.device.truncate(rows);
        self.seq.truncate(rows);
        self.ts.truncate(rows);
        self.received.truncate(rows);
        self.offline.truncate(rows);
    }

    fn finish(self, kind: Kind, extra: Vec<ArrayRef>) -> RecordBatch {
        let mut columns = vec![
            ids(self.district, None),
            ids(self.school, None),
            ids(self.device, None),
            numbers::<UInt64Type>(self.seq),
            numbers::<Int64Type>(self.ts),
            numbers::<Int64Type>(self.received),
            booleans(self.offline),
        ];
        columns.extend(extra);
        RecordBatch::try_new(schema::schema(kind).clone(), columns).expect("builders follow the schema of their kind")
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $kind:ident { $($field:ident: $type:ty),+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub struct $name { common: Common, $($field: $type),+ }

        impl $name {
            pub fn len(&self) -> usize { self.common.len() }
            #[cold]
            #[inline(never)]
            fn grow(&mut self) {
                let rows = self.common.growth();
                self.common.reserve(rows);
                $(self.$field.reserve(rows);)+
            }
            pub fn truncate(&mut self, rows: usize) {
                self.common.truncate(rows);
                $(self.$field.truncate(rows);)+
            }
        }
    };
}

table!(/** Rows of scans. */ Scans, Scan { person: Vec<i128>, badge: Vec<i128>, dir: Vec<u8>, method: Vec<u8> });
table!(/** Rows of telemetry, one a metric. */ Readings, Telemetry { person: Nullable<i128>, metric: Bytes, value: Vec<f64> });
table!(/** Rows of activity. */ Activities, Activity {
    person: Vec<i128>, kind: Vec<u8>, resource: Bytes, section: Nullable<i128>, dur_ms: Nullable<i64>
});
table!(/** Rows of heartbeats and of the gateway's own connect and disconnect. */ Statuses, Status {
    battery: Nullable<f64>, fw: Bytes, fw_valid: Vec<bool>, queued: Nullable<i64>, uptime_s: Nullable<i64>, connected: Nullable<bool>
});
table!(/** Rows of refused payloads. */ DeadLetters, DeadLetter { topic: Bytes, code: Bytes, message: Bytes, payload: Bytes });

impl Scans {
    /// Says how many rows are likely to come; it costs nothing if none does.
    pub fn expect(&mut self, rows: usize) {
        self.common.expected = rows;
    }

    #[inline]
    pub fn push(&mut self, who: &DeviceIdentity, head: Head, person: i128, badge: i128, dir: u8, method: u8) {
        if self.common.is_full() {
            self.grow();
        }
        self.common.push(who, head);
        self.person.push(person);
        self.badge.push(badge);
        self.dir.push(dir);
        self.method.push(method);
    }

    pub fn finish(self) -> RecordBatch {
        let extra = vec![ids(self.person, None), ids(self.badge, None), numbers::<UInt8Type>(self.dir), numbers::<UInt8Type>(self.method)];
        self.common.finish(Kind::Scan, extra)
    }
}

impl Readings {
    /// Says how many rows are likely to come; it costs nothing if none does.
    pub fn expect(&mut self, rows: usize) {
        self.common.expected = rows;
    }

    #[inline]
    pub fn push(&mut self, who: &DeviceIdentity, head: Head, person: Option<i128>, metric: &str, value: f64) {
        if self.common.is_full() {
            self.grow();
        }
        self.common.push(who, head);
        self.person.push(person);
        self.metric.push(metric.as_bytes());
        self.value.push(value);
    }

    /// As many rows as there are numbers; every column must have as many.
    pub fn extend<'a>(
        &mut self,
        who: &DeviceIdentity,
        rows: Rows<'_>,
        offline: impl Iterator<Item = bool>,
        people: &[Option<i128>],
        metrics: impl Iterator<Item = &'a str>,
        values: &[f64],
    ) {
        self.common.extend(who, &rows, offline);
        people.iter().for_each(|person| self.person.push(*person));
        metrics.for_each(|metric| self.metric.push(metric.as_bytes()));
        self.value.extend_from_slice(values);
    }

    pub fn finish(self) -> RecordBatch {
        let extra =
            vec![ids(self.person.values, Some(self.person.valid)), self.metric.finish_text(None), numbers::<Float64Type>(self.value)];
        self.common.finish(Kind::Telemetry, extra)
    }
}

impl Activities {
    /// Says how many rows are likely to come; it costs nothing if none does.
    pub fn expect(&mut self, rows: usize) {
        self.common.expected = rows;
    }

    #[inline]
    pub fn push(
        &mut self,
        who: &DeviceIdentity,
        head: Head,
        person: i128,
        (kind, resource): (u8, &str),
        section: Option<i128>,
        dur_ms: Option<i64>,
    ) {
        if self.common.is_full() {
            self.grow();
        }
        self.common.push(who, head);
        self.person.push(person);
        self.kind.push(kind);
        self.resource.push(resource.as_bytes());
        self.section.push(section);
        self.dur_ms.push(dur_ms);
    }

    pub fn finish(self) -> RecordBatch {
        let extra = vec![
            ids(self.person, None),
            numbers::<UInt8Type>(self.kind),
            self.resource.finish_text(None),
            ids(self.section.values, Some(self.section.valid)),
            self.dur_ms.finish::<Int64Type>(),
        ];
        self.common.finish(Kind::Activity, extra)
    }
}

/// What a heartbeat says of a device; `connected` is the gateway's own word and never a device's.
#[derive(Clone, Copy, Default)]
pub struct Heartbeat<'a> {
    pub battery: Option<f64>,
    pub fw: Option<&'a str>,
    pub queued: Option<i64>,
    pub uptime_s: Option<i64>,
    pub connected: Option<bool>,
}

impl Statuses {
    pub fn push(&mut self, who: &DeviceIdentity, head: Head, beat: Heartbeat<'_>) {
        if self.common.is_full() {
            self.grow();
        }
        self.common.push(who, head);
        self.battery.push(beat.battery);
        self.fw.push(beat.fw.unwrap_or_default().as_bytes());
        self.fw_valid.push(beat.fw.is_some());
        self.queued.push(beat.queued);
        self.uptime_s.push(beat.uptime_s);
        self.connected.push(beat.connected);
    }

    pub fn finish(self) -> RecordBatch {
        let connected = BooleanArray::new(self.connected.values.into(), Some(NullBuffer::from(self.connected.valid)));
        let extra = vec![
            self.battery.finish::<Float64Type>(),
            self.fw.finish_text(Some(self.fw_valid)),
            self.queued.finish::<Int64Type>(),
            self.uptime_s.finish::<Int64Type>(),
            Arc::new(connected),
        ];
        self.common.finish(Kind::Status, extra)
    }
}

impl DeadLetters {
    pub fn push(&mut self, who: &DeviceIdentity, head: Head, topic: &str, code: &str, message: &str, payload: &[u8]) {
        if self.common.is_full() {
            self.grow();
        }
        self.common.push(who, head);
        self.topic.push(topic.as_bytes());
        self.code.push(code.as_bytes());
        self.message.push(message.as_bytes());
        self.payload.push(payload);
    }

    pub fn finish(self) -> RecordBatch {
        let extra =
            vec![self.topic.finish_text(None), self.code.finish_text(None), self.message.finish_text(None), self.payload.finish_binary()];
        self.common.finish(Kind::DeadLetter, extra)
    }
}
