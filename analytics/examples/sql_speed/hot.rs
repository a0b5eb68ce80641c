//! Questions on hot rows.

use std::time::Duration;

use rollcall_analytics::hot::{HotConfig, HotTables};
use rollcall_analytics::query::tables::event_tables;
use rollcall_analytics::query::{EngineConfig, QueryEngine};
use rollcall_model::ids::Offset;
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use rollcall_stream::EventBatch;

use crate::ask::{ask, caller, median, processor_ms, resident_bytes};
use crate::measured::Measured;
use crate::{Result, TURNS, data, live};

/// Rows of a read of the log.
const READ_ROWS: u64 = 20_000;
/// Times the raw bytes of the columns that hot rows may take.
const MEMORY_MAX: f64 = 1.3;

pub async fn run(rows: u64) -> Result<()> {
    let tables = HotTables::new(HotConfig { keep: Duration::from_secs(7 * 24 * 3_600), bytes_max: usize::MAX, ..HotConfig::default() });
    let (before, mut raw) = (resident_bytes(), 0);
    for first in (0..rows).step_by(READ_ROWS as usize) {
        let batch = EventBatch { first: Offset(first), ..data::acts(first..(first + READ_ROWS).min(rows), rows) };
        raw += batch.bytes();
        let next = batch.next();
        tables.take(&[batch], next, UtcMillis(data::START_MS + data::DAY_MS));
    }
    let (_, bytes) = tables.size();
    let held = resident_bytes().saturating_sub(before);
    Measured::head();
    let memory = format!("{} raw bytes a row; counted {:.3} x, resident {:.3} x", raw as u64 / rows, ratio(bytes, raw), ratio(held, raw));
    let is_small = ratio(bytes.max(held), raw) <= MEMORY_MAX;
    Measured::new("memory", rows, 0.0, 0.0).bar(&format!("{MEMORY_MAX} x of the raw bytes"), is_small).note(memory).tell();

    let engine = QueryEngine::new(EngineConfig { threads: 2, ..EngineConfig::default() })?;
    event_tables(&tables, None).into_iter().for_each(|table| engine.register(table));
    let (section, school) = (data::section(1_234), data::school(41));
    let (office, mut teacher) = (caller(Role::Office), caller(Role::Teacher));
    teacher.schools = Some([school].into());
    teacher.sections = Some([data::section(1_234)].into());
    let questions = [
        ("a section's rows", &office, format!("select ts, person, kind, resource, dur_ms from activity where section = '{section}'")),
        ("a section's rows, asked by its teacher", &teacher, "select ts, person, kind, resource, dur_ms from activity".to_owned()),
        (
            "a section's students",
            &office,
            format!("select person, count(*), sum(dur_ms) from activity where section = '{section}' group by person"),
        ),
        (
            "a school's sections",
            &office,
            format!("select section, count(*), sum(dur_ms) from activity where school = '{school}' group by section"),
        ),
        (
            "a school's hours and kinds",
            &office,
            format!("select date_trunc('hour', ts), kind, count(*) from activity where school = '{school}' group by 1, 2"),
        ),
        ("all schools", &office, "select school, count(*), sum(dur_ms) from activity group by school".to_owned()),
        ("all kinds", &office, "select kind, count(*) from activity group by kind".to_owned()),
    ];
    for (name, caller, sql) in &questions {
        let (_, found) = ask(&engine, caller, sql).await?;
        let (mut ms, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let begun = processor_ms();
            ms.push(ask(&engine, caller, sql).await?.0);
            cpu.push(processor_ms() - begun);
        }
        let ms = median(ms);
        let measured = Measured::new(*name, rows, ms, median(cpu)).note(format!("{found} rows"));
        match bar_of(name) {
            Some(bar) => measured.bar(&format!("{bar} ms"), ms <= bar).tell(),
            None => measured.tell(),
        }
    }
    live::run(&tables, &engine, rows).await
}

/// Milliseconds in which a question is to be answered.
fn bar_of(question: &str) -> Option<f64> {
    match question {
        _ if question.starts_with("a section's") => Some(5.0),
        _ if question.starts_with("a school's") => Some(60.0),
        _ => None,
    }
}

fn ratio(bytes: usize, raw: usize) -> f64 {
    bytes as f64 / raw as f64
}
