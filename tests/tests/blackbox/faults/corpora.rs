//! The fuzz targets' corpora, replayed: every input that a fuzzer found interesting, and every one that once broke something.
//!
//! `ROLLCALL_REWRITE=1` writes the seeds that an encoder has to make again.

#[path = "../../../../fuzz/src/checks.rs"]
mod checks;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, StringDictionaryBuilder, UInt64Array};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use rollcall_stream::Log;
use rollcall_stream::embedded::{EmbeddedLog, LogConfig};

/// When the checks say that it is.
const NOW: i64 = 1_795_150_000_000;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Runs one target's check on every file of its corpus.
fn replay(target: &str, check: fn(&[u8])) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(corpus(target)).with_context(|| format!("no corpus of {target}"))? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        let result = std::panic::catch_unwind(|| check(&input));
        ensure!(result.is_ok(), "{target} breaks on {}", path.display());
        count += 1;
    }
    ensure!(count > 0, "the corpus of {target} is empty");
    println!("{target}: {count} inputs");
    Ok(())
}

#[test]
fn mqtt() -> Result<()> {
    replay("mqtt", checks::mqtt)
}

#[test]
fn websocket() -> Result<()> {
    replay("websocket", checks::websocket)
}

#[test]
fn event_json() -> Result<()> {
    replay("event_json", checks::event_json)
}

#[test]
fn oneroster_csv() -> Result<()> {
    replay("oneroster_csv", checks::oneroster_csv)
}

#[test]
fn arrow_ipc() -> Result<()> {
    for (name, stream) in arrow_seeds()? {
        seed("arrow_ipc", name, &stream)?;
    }
    replay("arrow_ipc", checks::arrow_ipc)
}

#[test]
fn log_frames() -> Result<()> {
    for (name, frame) in (0..).zip(frame_seeds()?) {
        seed("log_frames", &format!("frame_{name}"), &frame)?;
    }
    replay("log_frames", checks::log_frames)
}

/// Writes a seed when asked to; else it is checked as it was just made, which an old file would hide.
fn seed(target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    if std::env::var_os("ROLLCALL_REWRITE").is_some() {
        fs::create_dir_all(corpus(target))?;
        fs::write(corpus(target).join(name), bytes)?;
    }
    match target {
        "arrow_ipc" => checks::arrow_ipc(bytes),
        _ => checks::log_frames(bytes),
    }
    Ok(())
}

fn stream(kind: &str, columns: Vec<(&str, ArrayRef)>) -> Result<Vec<u8>> {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields).with_metadata([("type".to_owned(), kind.to_owned())].into()));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn arrow_seeds() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let seqs = || Arc::new(UInt64Array::from(vec![1, 2, 3])) as ArrayRef;
    let times = || Arc::new(Int64Array::from(vec![NOW, NOW + 1, NOW - 1])) as ArrayRef;
    let text = |words: [&str; 3]| Arc::new(StringArray::from(words.to_vec())) as ArrayRef;
    let mut badges = StringDictionaryBuilder::<Int32Type>::new();
    for badge in [Some("b"), None, Some("nobody")] {
        badges.append_option(badge);
    }
    let badges: ArrayRef = Arc::new(badges.finish());
    let scan = vec![
        ("seq", seqs()),
        ("ts", times()),
        ("badge", badges),
        ("dir", text(["in", "out", "up"])),
        ("method", text(["qr", "nfc", "ble"])),
        ("offline", Arc::new(BooleanArray::from(vec![true, false, true]))),
    ];
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, -0.5]));
    let telemetry = vec![
        ("seq", Arc::new(Int64Array::from(vec![1, 1, 2])) as ArrayRef),
        ("ts", times()),
        ("metric", text(["a", "b", "c"])),
        ("value", values),
        ("more", seqs()),
    ];
    let activity = vec![
        ("seq", seqs()),
        ("ts", times()),
        ("badge", text(["b", "b", "b"])),
        ("kind", text(["opened", "answered", "closed"])),
        ("resource", text(["quiz:1", "", "x"])),
        ("dur_ms", Arc::new(Int64Array::from(vec![Some(5), None, Some(-1)])) as ArrayRef),
    ];
    Ok(vec![("scan", stream("scan", scan)?), ("telemetry", stream("telemetry", telemetry)?), ("activity", stream("activity", activity)?)])
}

/// Frames as a log writes them: of what the other seeds decode to.
fn frame_seeds() -> Result<Vec<Vec<u8>>> {
    let dir = tempfile::tempdir()?;
    let log =
        EmbeddedLog::open(dir.path(), LogConfig { segment_bytes_max: 1 << 20, ..LogConfig::default() }, &prometheus::Registry::new())?;
    for entry in fs::read_dir(corpus("event_json"))? {
        log.append(checks::batches_of(&fs::read(entry?.path())?))?;
    }
    for (_, stream) in arrow_seeds()? {
        log.append(checks::batches_of_arrow(&stream))?;
    }
    log.close();
    drop(log);
    let path =
        fs::read_dir(dir.path())?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.extension().is_some_and(|e| e == "seg"));
    let bytes = fs::read(path.context("the log has no segment")?)?;
    let (mut at, mut frames) = (64, vec![bytes[..64].to_vec()]);
    while bytes.get(at..at + 64).is_some_and(|header| header.starts_with(b"RCFR")) {
        let body = u32::from_le_bytes([bytes[at + 48], bytes[at + 49], bytes[at + 50], bytes[at + 51]]) as usize;
        frames.push(bytes[at..at + 64 + body].to_vec());
        at += 64 + body;
    }
    ensure!(frames.len() > 4, "{} frames", frames.len());
    Ok(frames)
}
