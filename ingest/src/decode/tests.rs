//! The decoder against a reference that builds trees, and Arrow against JSON.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Float64Builder, Int64Array, LargeStringArray, MapBuilder, StringArray,
    StringBuilder, StringViewArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use rollcall_model::event::{ActivityKind, DeviceKind, Direction, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PersonId, SchoolId};
use rollcall_stream::EventBatch;
use serde_json::{Value, json};

use super::*;
use crate::directory::{AuthError, BadgeHolder};

const NOW: i64 = 1_795_150_000_000;

struct OneBadge(BadgeHolder);

impl Directory for OneBadge {
    fn device(&self, _: DeviceId) -> Option<DeviceIdentity> {
        None
    }
    fn authenticate<'a>(&'a self, _: DeviceId, _: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>> {
        async { Err(AuthError::BadCredentials) }.boxed()
    }
    fn badge(&self, _: DistrictId, token: &str) -> Option<BadgeHolder> {
        (token == "b").then_some(self.0)
    }
    fn version(&self) -> u64 {
        1
    }
}

fn decoder() -> Decoder {
    Decoder::new(Arc::new(OneBadge(BadgeHolder { badge: BadgeId::from_bytes([1; 16]), person: PersonId::from_bytes([2; 16]) })))
}

fn gate() -> DeviceIdentity {
    let id = [3; 16];
    DeviceIdentity::new(DeviceId::from_bytes(id), DistrictId::from_bytes(id), SchoolId::from_bytes(id), DeviceKind::Gate)
}

fn run(payload: &[u8], kind: Option<Kind>, format: Format) -> (Outcome, Finished) {
    let mut intake = Intake::default();
    let source = Source { topic: "t", kind, format };
    let outcome = decoder().decode(&gate(), UtcMillis(NOW), source, payload, &mut intake);
    (outcome, intake.finish())
}

/// What the decoder must say of one event, worked out on a tree: the number of rows, or a code.
fn reference(event: &Value, kind: Kind) -> Result<u32, Code> {
    let Value::Object(fields) = event else { return Err(Code::WrongType) };
    let get = |name: &str| fields.get(name).filter(|v| !v.is_null());
    let mut wrong = Vec::new();
    let mut check = |name: &str, ok: &dyn Fn(&Value) -> Result<(), Code>| {
        if let Some(Err(code)) = get(name).map(ok) {
            wrong.push(code);
        }
    };
    let text = |v: &Value| v.is_string().then_some(()).ok_or(Code::WrongType);
    let natural = |v: &Value| match v {
        Value::Number(n) if n.is_u64() => Ok(()),
        Value::Number(n) if n.is_i64() => Err(Code::OutOfRange),
        _ => Err(Code::WrongType),
    };
    let whole = |v: &Value| match v {
        Value::Number(n) if n.is_i64() => Ok(()),
        Value::Number(n) if n.is_u64() => Err(Code::OutOfRange),
        _ => Err(Code::WrongType),
    };
    check("seq", &natural);
    check("ts", &|v| if let Value::String(s) = v { instant::parse(s).map(drop).ok_or(Code::WrongType) } else { whole(v) });
    check("offline", &|v| v.is_boolean().then_some(()).ok_or(Code::WrongType));
    if kind != Kind::Status {
        check("badge", &text);
    }
    match kind {
        Kind::Scan => ["dir", "method"].iter().for_each(|name| check(name, &text)),
        Kind::Telemetry => check("m", &|v| {
            let Value::Object(m) = v else { return Err(Code::WrongType) };
            m.values().all(Value::is_number).then_some(()).ok_or(Code::WrongType)
        }),
        Kind::Activity => {
            ["kind", "resource", "section"].iter().for_each(|name| check(name, &text));
            check("dur_ms", &whole);
        }
        _ => {
            check("battery", &|v| v.is_number().then_some(()).ok_or(Code::WrongType));
            check("fw", &text);
            ["queued", "uptime_s"].iter().for_each(|name| check(name, &whole));
        }
    }
    if !wrong.is_empty() {
        // Several faults: the decoder names the one that comes first in the text, and any is right here.
        return Err(wrong[0]);
    }
    let missing = |name: &str| get(name).ok_or(Code::MissingField);
    missing("seq")?;
    let ts = match missing("ts")? {
        Value::String(s) => instant::parse(s).unwrap(),
        n => n.as_i64().unwrap(),
    };
    if ts > NOW + limits::CLOCK_SKEW_MAX_MS {
        return Err(Code::TimeInFuture);
    }
    if ts < NOW - limits::LATE_MAX_MS {
        return Err(Code::TimeTooOld);
    }
    let badge = || match get("badge").map(|b| b.as_str().unwrap()) {
        Some("b") => Ok(true),
        Some("") => Err(Code::OutOfRange),
        Some(_) => Err(Code::UnknownBadge),
        None => Ok(false),
    };
    let word = |name: &str, known: &dyn Fn(&str) -> bool| {
        let word = missing(name)?.as_str().unwrap();
        if known(word) { Ok(()) } else { Err(Code::OutOfRange) }
    };
    let not_negative = |name: &str| if get(name).is_some_and(|v| v.as_i64().unwrap() < 0) { Err(Code::OutOfRange) } else { Ok(()) };
    match kind {
        Kind::Scan => {
            word("dir", &|w| Direction::from_text(w).is_some())?;
            word("method", &|w| Method::from_text(w).is_some())?;
            if badge()? { Ok(1) } else { Err(Code::MissingField) }
        }
        Kind::Telemetry => {
            let m = missing("m")?.as_object().unwrap();
            if m.is_empty() || m.len() > limits::METRICS_PER_EVENT_MAX || m.keys().any(String::is_empty) {
                return Err(Code::OutOfRange);
            }
            badge()?;
            Ok(m.len() as u32)
        }
        Kind::Activity => {
            word("kind", &|w| ActivityKind::from_text(w).is_some())?;
            word("resource", &|w| !w.is_empty())?;
            not_negative("dur_ms")?;
            if get("section").is_some_and(|s| s.as_str().unwrap().parse::<uuid::Uuid>().is_err()) {
                return Err(Code::WrongType);
            }
            if badge()? { Ok(1) } else { Err(Code::MissingField) }
        }
        _ => {
            if get("fw").is_some_and(|fw| fw == "") {
                return Err(Code::OutOfRange);
            }
            not_negative("queued")?;
            not_negative("uptime_s")?;
            Ok(1)
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::hash_map("[a-c\"\\\\\n]{0,3}", inner, 0..3).prop_map(|m| json!(m)),
        ]
    })
}

/// A field's usual value most of the time, anything at others.
fn field(usual: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![12 => usual.prop_map(Some), 1 => any_json().prop_map(Some), 1 => Just(None)]
}

fn any_event() -> impl Strategy<Value = Value> {
    let one_of = |words: &'static [&'static str]| proptest::sample::select(words).prop_map(Value::from);
    let times = prop_oneof![
        (-40i64 * 86_400_000..20 * 60_000).prop_map(|d| Value::from(NOW + d)),
        Just(Value::from("2026-11-20T04:40:00.5+03:00")),
        Just(Value::from("2026-11-20T04:40:00")),
    ];
    let metrics = proptest::collection::hash_map("[a-z\"é]{0,3}", -1e6..1e6f64, 0..40).prop_map(|m| json!(m));
    let common = (field(any::<u64>().prop_map(Value::from)), field(times), field(any::<bool>().prop_map(Value::from)));
    let words = (
        field(one_of(&["b", "b", "b", "x", ""])),
        field(one_of(&["in", "out", "auto", "up"])),
        field(one_of(&["qr", "nfc", "ble", "manual", "eye"])),
        field(one_of(&["opened", "answered", "slept"])),
        field(one_of(&["quiz:1", "a/\"b\"", ""])),
        field(one_of(&["00000000-0000-4000-8000-000000000000", "x"])),
        field(one_of(&["1.0", ""])),
    );
    let numbers = (field(metrics), field((-5i64..100).prop_map(Value::from)), field((-1.0..1.0f64).prop_map(Value::from)));
    let unknown = proptest::option::of(("[x-z]{3}", any_json()));
    (common, words, numbers, unknown).prop_map(|(common, words, numbers, unknown)| {
        let fields = [
            ("seq", common.0),
            ("ts", common.1),
            ("offline", common.2),
            ("badge", words.0),
            ("dir", words.1),
            ("method", words.2),
            ("kind", words.3),
            ("resource", words.4),
            ("section", words.5),
            ("fw", words.6),
            ("m", numbers.0),
            ("dur_ms", numbers.1.clone()),
            ("queued", numbers.1),
            ("battery", numbers.2),
        ];
        let known = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(known.chain(unknown).collect())
    })
}

const KINDS: [Kind; 4] = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Status];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn same_as_on_a_tree(events in proptest::collection::vec(any_event(), 0..6), kind in 0usize..4, pretty: bool, mixed: bool) {
        let kind = KINDS[kind];
        let mut sent = events.clone();
        if mixed {
            sent.iter_mut().for_each(|event| { event["type"] = kind.as_str().into(); });
        }
        let text = if pretty { serde_json::to_string_pretty(&sent) } else { serde_json::to_string(&sent) }.unwrap();
        let (outcome, finished) = run(text.as_bytes(), Some(kind).filter(|_| !mixed), Format::Recognised);
        let expected: Vec<Result<u32, Code>> = events.iter().map(|event| reference(event, kind)).collect();
        prop_assert!(!outcome.whole);
        let rows: Vec<u32> = finished.events.iter().map(|event| event.rows).collect();
        prop_assert_eq!(rows, expected.iter().filter_map(|e| e.ok()).collect::<Vec<_>>());
        let refused: Vec<bool> = outcome.refusals.iter().map(|r| expected.iter().any(|e| *e == Err(r.code))).collect();
        prop_assert_eq!(refused.len(), expected.iter().filter(|e| e.is_err()).count());
        let seqs: Vec<u64> = events.iter().zip(&expected).filter(|(_, e)| e.is_ok()).map(|(v, _)| v["seq"].as_u64().unwrap()).collect();
        prop_assert_eq!(finished.events.iter().map(|e| e.seq).collect::<Vec<_>>(), seqs);
        prop_assert_eq!(finished.dead.as_ref().map_or(0, |d| d.len()), outcome.refusals.len());
    }

    /// Whether a text is JSON at all is judged as serde_json does.
    #[test]
    fn broken_text_is_refused_like_serde_does(event in any_event(), at in 0usize..400, byte in proptest::sample::select(b"\"\\{}[],:0.e-\x01 x".to_vec())) {
        let mut text = event.to_string().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        let (outcome, _) = run(text.as_bytes(), Some(Kind::Activity), Format::Recognised);
        // A number above the range of f64 is an error of the text to serde_json and of the content to us.
        let serde: Result<Value, _> = serde_json::from_str(&text);
        let out_of_range = serde.as_ref().is_err_and(|e| e.to_string().contains("out of range"));
        prop_assert!(out_of_range || outcome.whole == serde.is_err() || matches!(serde, Ok(Value::Array(_))), "{text} {outcome:?}");
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), arrow: bool) {
        run(&bytes, None, if arrow { Format::ArrowStream } else { Format::Recognised });
    }

    /// A stream with bytes replaced is refused or read, and never a panic that gets out.
    #[test]
    fn a_broken_stream_is_contained(edits in proptest::collection::vec((0usize..4_000, any::<u8>()), 1..6)) {
        let mut bytes = stream("scan", scans());
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        run(&bytes, None, Format::ArrowStream);
    }

    /// A column of devices that are all null changes nothing but the way: row by row instead of whole columns.
    #[test]
    fn whole_columns_are_the_rows(rows in proptest::collection::vec((0u64..6, -2i64..400, 0usize..12, 0usize..40), 1..8), badges: bool) {
        const METRICS: [&str; 3] = ["steps", "", "longer than any name of a metric may be: sixty-four bytes and then some"];
        let late = |days: i64| NOW - (days - 1).max(-1) / 20 * 24 * 3_600_000;
        let metric = |row: &usize| METRICS[row.saturating_sub(9)];
        let badge = |row: &usize| [Some("b"), None, Some("x")][row.saturating_sub(37)];
        let value = |row: &usize| if *row == 1 { f64::INFINITY } else { *row as f64 };
        let mut columns = vec![
            ("seq", Arc::new(rows.iter().enumerate().map(|(at, row)| row.0 / 5 + at as u64).collect::<UInt64Array>()) as ArrayRef),
            ("ts", Arc::new(rows.iter().map(|row| late(row.1)).collect::<Int64Array>())),
            ("metric", Arc::new(rows.iter().map(|row| Some(metric(&row.2))).collect::<StringArray>())),
            ("value", Arc::new(rows.iter().map(|row| Some(value(&row.3))).collect::<Float64Array>())),
            ("offline", Arc::new(rows.iter().map(|row| (row.0 > 2).then_some(row.0 > 3)).collect::<BooleanArray>())),
        ];
        if badges {
            columns.push(("badge", Arc::new(rows.iter().map(|row| badge(&row.3)).collect::<DictionaryArray<Int32Type>>())));
        }
        let (outcome, finished) = run(&stream("telemetry", columns.clone()), None, Format::ArrowStream);
        columns.push(("device", Arc::new(rows.iter().map(|_| None::<&str>).collect::<StringArray>())));
        let (expected, by_rows) = run(&stream("telemetry", columns), None, Format::ArrowStream);
        prop_assert_eq!(outcome, expected);
        prop_assert_eq!(finished.events, by_rows.events);
        let rows = |finished: &[EventBatch]| finished.iter().map(|batch| batch.rows.clone()).collect::<Vec<_>>();
        prop_assert_eq!(rows(&finished.batches), rows(&by_rows.batches));
    }
}

fn stream(kind: &str, columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields).with_metadata([("type".to_owned(), kind.to_owned())].into()));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn scans() -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("seq", Arc::new(UInt64Array::from(vec![1, 2, 3, 4]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![NOW * 1_000; 4]))),
        ("offline", Arc::new(BooleanArray::from(vec![true, false, true, true]))),
        ("badge", Arc::new(["b", "b", "x", "b"].into_iter().collect::<DictionaryArray<Int32Type>>())),
        ("dir", Arc::new(StringViewArray::from(vec!["in", "out", "in", "up"]))),
        ("method", Arc::new(LargeStringArray::from(vec!["qr"; 4]))),
        ("shoe_size", Arc::new(Int64Array::from(vec![43; 4]))),
    ]
}

#[test]
fn arrow_scans_are_the_json_scans() {
    let (outcome, finished) = run(&stream("scan", scans()), None, Format::Recognised);
    assert_eq!((outcome.accepted, outcome.unknown_fields), (2, 1));
    let codes: Vec<Code> = outcome.refusals.iter().map(|r| r.code).collect();
    assert_eq!(codes, [Code::UnknownBadge, Code::OutOfRange]);
    let event = |seq, dir, offline| json!({"seq": seq, "ts": NOW, "badge": "b", "dir": dir, "method": "qr", "offline": offline});
    let text = json!([event(1, "in", true), event(2, "out", false)]).to_string();
    let (_, same) = run(text.as_bytes(), Some(Kind::Scan), Format::Recognised);
    assert_eq!(finished.batches[0].rows, same.batches[0].rows);
    assert_eq!(finished.events, same.events);
}

#[test]
fn arrow_telemetry_in_rows_and_in_maps() {
    let times: ArrayRef = Arc::new(Int64Array::from(vec![NOW; 3]));
    let rows = vec![
        ("seq", Arc::new(Int64Array::from(vec![1, 1, 2])) as ArrayRef),
        ("ts", times),
        ("metric", Arc::new(StringArray::from(vec!["steps", "worn", "steps"]))),
        ("value", Arc::new(Float64Array::from(vec![3.0, 1.0, 4.0]))),
    ];
    let (outcome, by_rows) = run(&stream("telemetry", rows), None, Format::Recognised);
    assert_eq!((outcome.accepted, by_rows.batches[0].len()), (2, 3));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for entries in [&[("steps", 3.0), ("worn", 1.0)][..], &[("steps", 4.0)]] {
        for (name, value) in entries {
            map.keys().append_value(name);
            map.values().append_value(*value);
        }
        map.append(true).unwrap();
    }
    let maps = vec![
        ("seq", Arc::new(UInt64Array::from(vec![1, 2])) as ArrayRef),
        ("ts", Arc::new(Int64Array::from(vec![NOW; 2]))),
        ("m", Arc::new(map.finish())),
    ];
    let (_, by_maps) = run(&stream("telemetry", maps), None, Format::Recognised);
    assert_eq!(by_rows.batches[0].rows, by_maps.batches[0].rows);
}

#[test]
fn escapes_and_unknown_fields() {
    let text = format!(
        r#" {{"x":[{{}},"\ud83d\ude00"],"kind":"\u006fpened","seq":1,"ts":{NOW},"badge":"b","resource":"a\/\u00e9\n","type":"x"}} "#
    );
    let (outcome, finished) = run(text.as_bytes(), Some(Kind::Activity), Format::Recognised);
    assert_eq!((outcome.accepted, outcome.unknown_fields), (1, 1));
    use arrow::array::AsArray;
    assert_eq!(finished.batches[0].rows.column(9).as_string::<i32>().value(0), "a/é\n");
}

#[test]
fn a_payload_that_breaks_off_takes_nothing_with_it() {
    let event = json!({"seq": 1, "ts": NOW, "m": {"a": 1}}).to_string();
    let (outcome, finished) = run(format!("[{event},{{").as_bytes(), Some(Kind::Telemetry), Format::Recognised);
    assert!(outcome.whole && finished.batches.is_empty() && finished.events.is_empty());
    assert_eq!(finished.dead.unwrap().len(), 1);
}
