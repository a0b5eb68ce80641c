//! One function for each reader of foreign bytes. It must return for any input: a panic is a finding, and so is an answer
//! that contradicts itself.

use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, ready};
use rollcall_ingest::decode::{Code, Decoder, Format, Framing, Intake, Outcome, Source};
use rollcall_ingest::{AuthError, BadgeHolder, DeviceIdentity, Directory};
use rollcall_model::event::{DeviceKind, Kind};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;
use rollcall_roster::{LoadError, LoadOptions, Package};
use rollcall_stream::EventBatch;

/// When the decoders are told that it is; a moment that the seeds' event times are close to.
const NOW: UtcMillis = UtcMillis(1_795_150_000_000);

/// MQTT framing and everything behind it, as a stream of packets of either version.
pub fn mqtt(input: &[u8]) {
    rollcall_ingest::untrusted::mqtt(input);
}

/// The frames of the ingest WebSocket.
pub fn websocket(input: &[u8]) {
    rollcall_ingest::untrusted::websocket(input);
}

/// Kind, framing and payload of an input of [`event_json`]: its first byte chooses.
fn choose(input: &[u8]) -> Option<(Option<Kind>, Framing, &[u8])> {
    let (&choice, payload) = input.split_first()?;
    let framing = if choice & 0x10 == 0 { Framing::Document } else { Framing::Lines };
    let kind = match choice & 7 {
        0 => Some(Kind::Scan),
        1 => Some(Kind::Telemetry),
        2 => Some(Kind::Activity),
        3 => Some(Kind::Status),
        _ => None,
    };
    Some((kind, framing, payload))
}

/// Events as JSON.
pub fn event_json(input: &[u8]) {
    let Some((kind, framing, payload)) = choose(input) else { return };
    let (outcome, _) = decode(kind, Format::Json(framing), payload);
    if framing == Framing::Lines {
        return;
    }
    // Another parser must agree on what is JSON at all. It knows neither our bounds nor our rules for events.
    let syntax = outcome.refusals.first().filter(|_| outcome.whole).map(|refusal| refusal.code);
    match serde_json::from_slice::<serde::de::IgnoredAny>(payload) {
        Err(error) => assert!(outcome.whole, "taken, but no JSON: {error}"),
        Ok(_) if serde_json::from_slice::<serde_json::Value>(payload).is_ok() => {
            assert_ne!(syntax, Some(Code::JsonSyntax), "valid JSON, refused: {:?}", outcome.refusals);
        }
        Ok(_) => {}
    }
}

/// An Arrow IPC stream of events.
pub fn arrow_ipc(input: &[u8]) {
    decode(None, Format::ArrowStream, input);
}

/// What the log would get of an input of [`event_json`].
pub fn batches_of(input: &[u8]) -> Vec<EventBatch> {
    choose(input).map(|(kind, framing, payload)| decode(kind, Format::Json(framing), payload).1).unwrap_or_default()
}

/// The same of [`arrow_ipc`].
pub fn batches_of_arrow(input: &[u8]) -> Vec<EventBatch> {
    decode(None, Format::ArrowStream, input).1
}

/// Headers and bodies of the log's frames, with checksums that are right: those of a stranger's file can be.
pub fn log_frames(input: &[u8]) {
    rollcall_stream::embedded::untrusted::frames(input);
}

/// A OneRoster package with its timetable: one text, in which a line `=> name` begins each file.
pub fn oneroster_csv(input: &[u8]) {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match (line.strip_prefix(b"=> "), files.last_mut()) {
            (Some(name), _) => files.push((String::from_utf8_lossy(name).trim().to_owned(), Vec::new())),
            (None, Some((_, content))) => content.extend_from_slice(line),
            (None, None) => {}
        }
    }
    match rollcall_roster::load_package(Package::of_files(files), None, &LoadOptions::default()) {
        Ok(loaded) => assert_eq!(loaded.warnings.errors(), 0, "a roster with errors was given out"),
        Err(LoadError::Refused(problems)) => assert!(problems.errors() > 0, "refused without a reason"),
        Err(LoadError::Package(_)) => {}
    }
}

/// Decodes a payload as one gateway's, and holds the answer against the rows that came of it.
fn decode(kind: Option<Kind>, format: Format, payload: &[u8]) -> (Outcome, Vec<EventBatch>) {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    let decoder = DECODER.get_or_init(|| Decoder::new(Arc::new(Town)));
    let mut intake = Intake::default();
    let outcome = decoder.decode(&Town::gateway(), NOW, Source { topic: "v1/batch", kind, format }, payload, &mut intake);
    let events = intake.events();
    let finished = intake.finish();
    assert_eq!(events, outcome.accepted, "events taken and events reported differ");
    let of_events: u64 = finished.events.iter().map(|event| u64::from(event.rows)).sum();
    let of_batches: usize = finished.batches.iter().map(|batch| batch.len()).sum();
    assert_eq!(of_events, of_batches as u64, "rows and events differ");
    assert_eq!(finished.dead.as_ref().map_or(0, |dead| dead.len()), outcome.refusals.len(), "a refusal without its dead letter");
    assert!(!outcome.whole || (events == 0 && outcome.refusals.len() == 1), "a payload refused as a whole left events behind");
    let batches: Vec<EventBatch> = finished.batches.into_iter().chain(finished.dead).collect();
    for batch in &batches {
        assert_eq!(batch.rows.schema().fields(), rollcall_stream::schema::schema(batch.kind).fields(), "columns of the log");
    }
    (outcome, batches)
}

/// A directory of one gateway, one device behind it and one badge.
struct Town;

impl Town {
    fn identity(device: u8) -> DeviceIdentity {
        let (district, school) = (DistrictId::from_bytes([1; 16]), SchoolId::from_bytes([2; 16]));
        DeviceIdentity::new(DeviceId::from_bytes([device; 16]), district, school, DeviceKind::Gateway)
    }

    fn gateway() -> DeviceIdentity {
        Self::identity(3)
    }
}

impl Directory for Town {
    fn device(&self, device: DeviceId) -> Option<DeviceIdentity> {
        let behind = DeviceIdentity { gateway: Some(DeviceId::from_bytes([3; 16])), kind: DeviceKind::Wearable, ..Self::identity(4) };
        (device == behind.device).then_some(behind)
    }

    fn authenticate<'a>(&'a self, _: DeviceId, _: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>> {
        Box::pin(ready(Err(AuthError::BadCredentials)))
    }

    fn badge(&self, _: DistrictId, token: &str) -> Option<BadgeHolder> {
        (token == "b").then_some(BadgeHolder { badge: BadgeId::from_bytes([5; 16]), person: PersonId::from_bytes([6; 16]) })
    }

    fn version(&self) -> u64 {
        1
    }
}
