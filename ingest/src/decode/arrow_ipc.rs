//! Arrow IPC streams: how a gate that was offline for a day, or a gateway with a thousand wearables, sends at full speed.
//!
//! Schema metadata `type` = scan | telemetry | activity. Columns by name, in any order; others are ignored and counted:
//! `seq` (UInt64 or Int64), `ts` (Int64 milliseconds, or Timestamp of any unit), `offline` (Boolean), `device`, `badge`,
//! `dir`, `method`, `kind`, `resource`, `section`, `metric` (Utf8, LargeUtf8, Utf8View or a dictionary of Utf8),
//! `dur_ms` (Int64), `value` (Float64), `m` (Map of Utf8 to Float64). Neighbouring rows of telemetry with the same `seq`
//! are one event. The reader validates buffers, and nothing is expanded: a value costs no more than its bytes in the payload.

mod bulk;

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeStringArray, MapArray, StringArray, StringViewArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;
use rollcall_model::limits;

use super::event::{RawEvent, Speaker};
use super::intake::Intake;
use super::refusal::{Code, Fault, Refusal};
use super::{Outcome, arrow_frames};

/// The continuation mark that every message of a stream begins with; no JSON text does.
pub fn looks_like(payload: &[u8]) -> bool {
    payload.starts_with(&[0xff; 4])
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::ArrowInvalid, message)
}

/// Decodes a stream. `Err` refuses the whole payload.
pub fn decode(payload: &[u8], topic: &str, speaker: &mut Speaker<'_>, intake: &mut Intake, outcome: &mut Outcome) -> Result<(), Fault> {
    // The reader validates what it reads, but a stream is foreign input: should one of its assertions fail, that is this
    // sender's fault and nobody else's.
    let batches = catch_unwind(AssertUnwindSafe(|| read(payload))).unwrap_or_else(|_| Err(invalid("unreadable stream")))?;
    let (kind, batches, ignored) = batches;
    outcome.unknown_fields += ignored;
    let mut index = 0;
    for batch in &batches {
        let columns = Columns::new(batch)?;
        if kind == Kind::Telemetry && bulk::telemetry(&columns, batch.num_rows(), speaker, intake) {
            outcome.accepted += batch.num_rows();
            index += batch.num_rows();
            continue;
        }
        let mut row = 0;
        while row < batch.num_rows() {
            let rows = if kind == Kind::Telemetry { columns.run_of(row, batch.num_rows()) } else { 1 };
            let raw = columns.event(row, rows)?;
            match raw.commit(kind, speaker, intake) {
                Ok(()) => outcome.accepted += 1,
                Err(fault) => {
                    let device = speaker.identity.device;
                    let message = format!("event {index}: {}", fault.message);
                    let refusal = Refusal { device, seq: raw.seq, code: fault.code, message };
                    let kept = raw.to_json(kind).to_string();
                    intake.bury(speaker.identity, speaker.now.0, topic, &refusal, kept.as_bytes());
                    outcome.refusals.push(refusal);
                }
            }
            row += rows;
            index += 1;
        }
    }
    Ok(())
}

const KNOWN: [&str; 15] =
    ["seq", "ts", "offline", "device", "badge", "dir", "method", "metric", "value", "m", "kind", "resource", "section", "dur_ms", "type"];

/// The kind, the batches with the columns we know, and how many columns were ignored.
type Stream = (Kind, Vec<RecordBatch>, u64);

fn read(payload: &[u8]) -> Result<Stream, Fault> {
    arrow_frames::check(payload, limits::EVENTS_PER_PAYLOAD_MAX * limits::METRICS_PER_EVENT_MAX)?;
    let text = |e: arrow::error::ArrowError| invalid(format!("no valid Arrow IPC stream: {e}"));
    let schema = StreamReader::try_new(Cursor::new(payload), None).map_err(text)?.schema();
    let kind = kind_of(&schema)?;
    let known: Vec<usize> = (0..schema.fields().len()).filter(|i| KNOWN.contains(&schema.field(*i).name().as_str())).collect();
    let ignored = (schema.fields().len() - known.len()) as u64;
    let reader = StreamReader::try_new(Cursor::new(payload), Some(known)).map_err(text)?;
    let mut batches = Vec::new();
    let mut rows = 0;
    for batch in reader {
        let batch = batch.map_err(text)?;
        rows += batch.num_rows();
        // Telemetry has a row a metric, so its rows are bounded by both limits.
        let rows_max = limits::EVENTS_PER_PAYLOAD_MAX * if kind == Kind::Telemetry { limits::METRICS_PER_EVENT_MAX } else { 1 };
        if rows > rows_max {
            return Err(Fault::new(Code::TooManyEvents, format!("more than {} events in one payload", limits::EVENTS_PER_PAYLOAD_MAX)));
        }
        batches.push(batch);
    }
    Ok((kind, batches, ignored))
}

fn kind_of(schema: &SchemaRef) -> Result<Kind, Fault> {
    match schema.metadata().get("type").map(String::as_str) {
        Some("scan") => Ok(Kind::Scan),
        Some("telemetry") => Ok(Kind::Telemetry),
        Some("activity") => Ok(Kind::Activity),
        _ => Err(Fault::new(Code::UnknownType, "the schema's metadata `type` must be scan, telemetry or activity")),
    }
}

/// A column of text in any of Arrow's layouts, read where it stands.
enum Text<'b> {
    Utf8(&'b StringArray),
    Large(&'b LargeStringArray),
    View(&'b StringViewArray),
    Dictionary { array: &'b ArrayRef, keys: Vec<usize>, values: Box<Text<'b>> },
}

impl<'b> Text<'b> {
    fn new(name: &str, array: &'b ArrayRef) -> Result<Self, Fault> {
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Utf8(array.as_string()),
            DataType::LargeUtf8 => Self::Large(array.as_string()),
            DataType::Utf8View => Self::View(array.as_string_view()),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                if matches!(dictionary.values().data_type(), DataType::Dictionary(_, _)) {
                    return Err(Fault::new(Code::WrongType, format!("{name}: a dictionary of dictionaries")));
                }
                let values = Box::new(Self::new(name, dictionary.values())?);
                // An empty dictionary has no key to clamp null rows to.
                let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
                Self::Dictionary { array, keys, values }
            }
            other => return Err(Fault::new(Code::WrongType, format!("{name}: must be text and is {other}"))),
        })
    }

    #[inline]
    fn get(&self, row: usize) -> Option<&'b str> {
        match self {
            Self::Utf8(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Large(a) => a.is_valid(row).then(|| a.value(row)),
            Self::View(a) => a.is_valid(row).then(|| a.value(row)),
            Self::Dictionary { array, keys, values } if array.is_valid(row) => values.get(*keys.get(row)?),
            Self::Dictionary { .. } => None,
        }
    }
}

enum Seq<'b> {
    Unsigned(&'b UInt64Array),
    Signed(&'b Int64Array),
}

struct Columns<'b> {
    seq: Seq<'b>,
    ts: Int64Array,
    /// Multiplier and divisor that turn `ts` into milliseconds.
    scale: (i64, i64),
    offline: Option<&'b BooleanArray>,
    device: Option<Text<'b>>,
    badge: Option<Text<'b>>,
    dir: Option<Text<'b>>,
    method: Option<Text<'b>>,
    metric: Option<Text<'b>>,
    value: Option<&'b Float64Array>,
    map: Option<(&'b MapArray, Text<'b>, &'b Float64Array)>,
    kind: Option<Text<'b>>,
    resource: Option<Text<'b>>,
    section: Option<Text<'b>>,
    dur_ms: Option<&'b Int64Array>,
}

fn wrong(name: &str, expected: &str, found: &DataType) -> Fault {
    Fault::new(Code::WrongType, format!("{name}: must be {expected} and is {found}"))
}

impl<'b> Columns<'b> {
    fn new(batch: &'b RecordBatch) -> Result<Self, Fault> {
        let column = |name: &str| batch.column_by_name(name);
        let text = |name: &str| column(name).map(|array| Text::new(name, array)).transpose();
        let need = |name: &str| column(name).ok_or_else(|| Fault::new(Code::MissingField, format!("{name}: no such column")));
        let seq = need("seq")?;
        let seq = match seq.data_type() {
            DataType::UInt64 => Seq::Unsigned(seq.as_primitive()),
            DataType::Int64 => Seq::Signed(seq.as_primitive()),
            other => return Err(wrong("seq", "UInt64", other)),
        };
        let (ts, scale) = times(need("ts")?)?;
        let typed = |name: &str, expected: DataType| match column(name) {
            Some(array) if *array.data_type() != expected => Err(wrong(name, &expected.to_string(), array.data_type())),
            found => Ok(found),
        };
        Ok(Self {
            seq,
            ts,
            scale,
            offline: typed("offline", DataType::Boolean)?.map(|a| a.as_boolean()),
            device: text("device")?,
            badge: text("badge")?,
            dir: text("dir")?,
            method: text("method")?,
            metric: text("metric")?,
            value: typed("value", DataType::Float64)?.map(|a| a.as_primitive()),
            map: column("m").map(map_of).transpose()?,
            kind: text("kind")?,
            resource: text("resource")?,
            section: text("section")?,
            dur_ms: typed("dur_ms", DataType::Int64)?.map(|a| a.as_primitive()),
        })
    }

    fn seq(&self, row: usize) -> Option<u64> {
        match self.seq {
            Seq::Unsigned(a) => a.is_valid(row).then(|| a.value(row)),
            Seq::Signed(a) => a.is_valid(row).then(|| u64::try_from(a.value(row)).ok()).flatten(),
        }
    }

    /// How many rows from here belong to one telemetry event.
    fn run_of(&self, row: usize, end: usize) -> usize {
        let Some(seq) = self.seq(row) else { return 1 };
        let device = |row| self.device.as_ref().and_then(|d| d.get(row));
        let same = |other: &usize| self.seq(*other) == Some(seq) && device(*other) == device(row);
        1 + (row + 1..end).take_while(same).count()
    }

    fn event(&self, row: usize, rows: usize) -> Result<RawEvent<'b>, Fault> {
        fn at<'b>(column: &Option<Text<'b>>, row: usize) -> Option<Cow<'b, str>> {
            column.as_ref().and_then(|c| c.get(row)).map(Cow::Borrowed)
        }
        let ts = self.ts.is_valid(row).then(|| self.ts.value(row).saturating_mul(self.scale.0).div_euclid(self.scale.1));
        let mut raw = RawEvent {
            seq: self.seq(row),
            ts,
            offline: self.offline.is_some_and(|a| a.is_valid(row) && a.value(row)),
            device: at(&self.device, row),
            badge: at(&self.badge, row),
            dir: at(&self.dir, row),
            method: at(&self.method, row),
            kind: at(&self.kind, row),
            resource: at(&self.resource, row),
            section: at(&self.section, row),
            dur_ms: self.dur_ms.and_then(|a| a.is_valid(row).then(|| a.value(row))),
            ..RawEvent::default()
        };
        // One more than the limit is enough for the event to be refused for it.
        for row in row..row + rows.min(limits::METRICS_PER_EVENT_MAX + 1) {
            self.metrics(row, &mut raw);
        }
        Ok(raw)
    }

    fn metrics(&self, row: usize, raw: &mut RawEvent<'b>) {
        if let (Some(metric), Some(value)) = (&self.metric, self.value) {
            raw.has_metrics = true;
            if let Some(name) = metric.get(row).filter(|_| value.is_valid(row)) {
                raw.metrics.push((Cow::Borrowed(name), value.value(row)));
            }
        }
        if let Some((map, keys, values)) = self.map.as_ref().filter(|(map, ..)| map.is_valid(row)) {
            raw.has_metrics = true;
            let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            for entry in (from..to).take(limits::METRICS_PER_EVENT_MAX + 1) {
                if let Some(name) = keys.get(entry).filter(|_| values.is_valid(entry)) {
                    raw.metrics.push((Cow::Borrowed(name), values.value(entry)));
                }
            }
        }
    }
}

fn times(array: &ArrayRef) -> Result<(Int64Array, (i64, i64)), Fault> {
    let scale = match array.data_type() {
        DataType::Int64 | DataType::Timestamp(TimeUnit::Millisecond, _) => (1, 1),
        DataType::Timestamp(TimeUnit::Second, _) => (1_000, 1),
        DataType::Timestamp(TimeUnit::Microsecond, _) => (1, 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => (1, 1_000_000),
        other => return Err(wrong("ts", "Int64 milliseconds or Timestamp", other)),
    };
    let data = array.to_data().into_builder().data_type(DataType::Int64);
    let data = data.build().map_err(|e| invalid(format!("ts: {e}")))?;
    Ok((arrow::array::PrimitiveArray::<Int64Type>::from(data), scale))
}

fn map_of(array: &ArrayRef) -> Result<(&MapArray, Text<'_>, &Float64Array), Fault> {
    let expected = "a map of text to Float64";
    let map = array.as_map_opt().ok_or_else(|| wrong("m", expected, array.data_type()))?;
    if *map.values().data_type() != DataType::Float64 {
        return Err(wrong("m", expected, array.data_type()));
    }
    Ok((map, Text::new("m", map.keys())?, map.values().as_primitive()))
}
