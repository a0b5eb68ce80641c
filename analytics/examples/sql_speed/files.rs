//! Questions on Parquet files of history, with DuckDB beside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rollcall_analytics::history::{History, HistoryConfig, Place};
use rollcall_analytics::hot::{HotConfig, HotTables};
use rollcall_analytics::query::tables::event_tables;
use rollcall_analytics::query::{Caller, EngineConfig, QueryEngine};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_store::account::Role;
use rollcall_stream::Log;

use crate::ask::{ask, caller, median, processor_ms};
use crate::duckdb::DuckDb;
use crate::feed::Feed;
use crate::measured::Measured;
use crate::{Result, TURNS, data};

pub const THREADS: usize = 2;
const FILE_ROWS: u64 = 1_000_000;
const HOT_ROWS: u64 = 100_000;
/// Times the time of DuckDB that a question may take.
const SLOWER_MAX: f64 = 1.2;

/// A question as the engine reads it; DuckDB reads the same, but for how an id and the truncation of an instant are written.
pub struct Question {
    pub name: &'static str,
    pub caller: Caller,
    pub sql: String,
}

pub fn questions() -> Vec<Question> {
    let (school, person, device) = (data::school(41), data::person(12_345), data::device(23_456));
    let week = "ts >= timestamp '2026-03-16T00:00:00Z' and ts < timestamp '2026-03-23T00:00:00Z'";
    let texts = [
        ("count of a school", format!("select count(*), max(ts) from telemetry where school = '{school}'")),
        (
            "a school's days",
            format!("select date_trunc('day', ts), count(*), sum(value) from telemetry where school = '{school}' group by 1"),
        ),
        (
            "a school's metrics in a week",
            format!("select metric, count(*), avg(value) from telemetry where school = '{school}' and {week} group by 1"),
        ),
        ("a student's readings", format!("select ts, metric, value from telemetry where person = '{person}'")),
        ("a device in a week", format!("select ts, metric, value from telemetry where device = '{device}' and {week}")),
        ("schools in a week", format!("select school, count(*), sum(value) from telemetry where {week} group by 1")),
        ("all days", "select date_trunc('day', ts), count(*), sum(value) from telemetry group by 1".to_owned()),
        ("all schools", "select school, count(*), sum(value) from telemetry group by 1".to_owned()),
        ("all metrics", "select metric, count(*), avg(value), max(value) from telemetry group by 1".to_owned()),
        ("students with steps", "select count(distinct person) from telemetry where metric = 'steps' and value > 900".to_owned()),
    ];
    let mut questions: Vec<Question> = texts.into_iter().map(|(name, sql)| Question { name, caller: caller(Role::Office), sql }).collect();
    let sql = "select school, count(*), sum(value) from telemetry group by 1".to_owned();
    questions.push(Question { name: "all schools, as figures for an analyst", caller: caller(Role::Analyst), sql });
    questions
}

/// The text for DuckDB, where an id is sixteen bytes of a blob.
fn for_duckdb(sql: &str) -> String {
    let constant = |text: &str| match text.parse::<uuid::Uuid>() {
        Ok(id) => format!("'{}'::blob", id.as_bytes().iter().map(|byte| format!("\\x{byte:02X}")).collect::<String>()),
        Err(_) => format!("'{text}'"),
    };
    // Every second piece stands between quotes.
    let pieces = sql.split('\'').enumerate().map(|(at, piece)| if at % 2 == 1 { constant(piece) } else { piece.to_owned() });
    pieces.collect::<String>().replace("timestamp '", "timestamptz '")
}

/// History in the folder, which is filled when it is empty, and a hundred thousand hot rows behind it.
pub async fn prepare(folder: &str, rows: u64) -> Result<(Arc<HotTables>, History)> {
    let log = Arc::new(Feed::new());
    let config = HistoryConfig { file_rows_max: FILE_ROWS, ..HistoryConfig::default() };
    let place = Place::folder(Path::new(folder))?;
    let is_full = Path::new(folder).join("telemetry").is_dir();
    if is_full {
        // The files are those of an earlier run; only where they end in the log must be the same.
        log.skip_to(Offset(rows));
    }
    let history = History::new(place, log.clone(), Clock::System, config, &prometheus::Registry::new())?;
    for first in (0..if is_full { 0 } else { rows }).step_by(FILE_ROWS as usize) {
        log.append(vec![data::readings(first..(first + FILE_ROWS).min(rows), FILE_ROWS)])?;
        history.flush().await?;
    }
    history.open().await?;
    let tables = HotTables::new(HotConfig { keep: Duration::from_secs(365 * 24 * 3_600), bytes_max: usize::MAX, ..HotConfig::default() });
    tables.begin_at(Offset(rows));
    log.append(vec![data::readings(rows..rows + HOT_ROWS, FILE_ROWS)])?;
    let read = log.read(Offset(rows), usize::MAX)?;
    tables.take(&read.batches, read.next, UtcMillis(data::START_MS));
    let state = history.state().unwrap_or_default();
    let of_kind = state.files.values().filter(|file| file.kind == Kind::Telemetry);
    let (count, bytes) = of_kind.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes));
    eprintln!("{rows} rows in {count} files, {} bytes a row, and {HOT_ROWS} hot ones; {THREADS} threads", bytes / rows);
    Ok((tables, history))
}

pub async fn run(folder: &str, rows: u64, python: Option<&str>, only: &str) -> Result<()> {
    let (tables, history) = prepare(folder, rows).await?;
    let engine = QueryEngine::new(EngineConfig { threads: THREADS, ..EngineConfig::default() })?;
    event_tables(&tables, Some(&history)).into_iter().for_each(|table| engine.register(table));
    let mut duckdb = python.map(|python| DuckDb::start(python, &format!("{folder}/telemetry/**/*.parquet"), THREADS)).transpose()?;
    let version = duckdb.as_ref().map_or(String::new(), |duckdb| duckdb.version.clone());
    Measured::head();
    for Question { name, caller, sql } in questions().into_iter().filter(|question| question.name.contains(only)) {
        let (mut ours, mut cpu, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let other = for_duckdb(&sql);
        for turn in 0..=TURNS {
            let begun = processor_ms();
            let (ms, _) = ask(&engine, &caller, &sql).await?;
            let used = processor_ms() - begun;
            let their_ms = duckdb.as_mut().map(|duckdb| duckdb.ask(&other)).transpose()?.map_or(f64::NAN, |(ms, _)| ms);
            // The first turn reads footers and fills caches of the system.
            if turn > 0 {
                ours.push(ms);
                cpu.push(used);
                theirs.push(their_ms);
            }
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let mut measured = Measured::new(name, rows, ours, median(cpu));
        if duckdb.is_some() {
            measured.against = Some((format!("DuckDB {version} ({theirs:.1} ms)"), theirs / ours));
            measured = measured.bar(&format!("within {SLOWER_MAX} x of DuckDB"), ours <= SLOWER_MAX * theirs);
        }
        measured.tell();
    }
    Ok(())
}
