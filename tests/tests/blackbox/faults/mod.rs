//! What the product survives. Each scenario drives the real binary, keeps a ledger of what every client was told, and holds
//! the log, the database and the boards against it. Here is the short form, with one seed and some seconds each;
//! `cargo xtask torture --minutes N` runs the long form with ever new seeds.

mod clients;
#[cfg(target_os = "linux")]
mod clock;
mod corpora;
mod damage;
mod database;
#[cfg(target_os = "linux")]
mod disk;
mod kills;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type, UInt8Type, UInt64Type};
use rollcall_model::event::{Direction, Kind};
use rollcall_model::ids::Offset;
use rollcall_stream::Log;
use rollcall_stream::embedded::{EmbeddedLog, LogConfig};
use rollcall_stream::schema::{DEVICE, SEQ, TS};
use rollcall_tests::Instance;
use rollcall_tests::district::Device;
use rollcall_tests::ledger::{Ledger, Row};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row as _};
use tokio::time::{Instant, sleep};

/// How long a store that follows the log may take to catch up on a loaded machine.
const CATCH_UP: Duration = Duration::from_secs(90);
/// How long the last acknowledgements may take once nothing is in the way any more.
const DRAIN: Duration = Duration::from_secs(60);
/// Pause between two looks at something that has to happen.
const LOOK: Duration = Duration::from_millis(20);

/// The owner's URL of an instance's private database.
fn private_url(instance: &Instance) -> Result<String> {
    let pid_file = std::fs::read_to_string(instance.data_dir().join("postgres/data/postmaster.pid"))?;
    let socket = pid_file.lines().nth(4).context("no socket in the pid file")?.trim().replace('/', "%2F");
    Ok(format!("postgres://rollcall@{socket}/postgres"))
}

/// All events of a device that the database holds, with repetitions.
async fn rows_in_database(url: &str, device: &str) -> Result<Vec<Row>> {
    const QUERY: &str = "select seq, (extract(epoch from ts) * 1000)::bigint, value::text from event.telemetry where device = $1::uuid
         union all select seq, (extract(epoch from ts) * 1000)::bigint, case dir when 1 then 'in' when 2 then 'out' else 'auto' end
         from event.scan where device = $1::uuid";
    let mut connection = PgConnection::connect(url).await?;
    let rows = sqlx::query(QUERY).bind(device).fetch_all(&mut connection).await?;
    let rows = rows.iter().map(|row| (row.get::<i64, _>(0).cast_unsigned(), row.get(1), row.get(2))).collect();
    connection.close().await?;
    Ok(rows)
}

/// Waits until the database has everything that was acknowledged, then holds it against the ledgers.
async fn check_database(url: &str, books: &[(Device, Ledger)]) -> Result<()> {
    let end = Instant::now() + CATCH_UP;
    for (device, ledger) in books {
        let rows = loop {
            // A database that was just restarted may refuse for a moment.
            let rows = rows_in_database(url, &device.id).await;
            match rows {
                Ok(rows) if ledger.is_held_by(&rows) || Instant::now() > end => break rows,
                Err(error) if Instant::now() > end => return Err(error),
                _ => sleep(LOOK).await,
            }
        };
        ledger.check("the database", &rows, 0)?;
    }
    Ok(())
}

/// Holds the log's files against the ledgers. No process may have the log open. Rows that the log has trimmed are left out:
/// then the first one that is left must be in the database.
fn check_log(data_dir: &Path, books: &[(Device, Ledger)]) -> Result<()> {
    let registry = prometheus::Registry::new();
    let log = EmbeddedLog::open(&data_dir.join("log"), LogConfig::default(), &registry)?;
    let trimmed = log.oldest() > Offset(0);
    let mut rows: std::collections::HashMap<String, Vec<Row>> = std::collections::HashMap::new();
    let mut next = log.oldest();
    while next < log.end() {
        let read = log.read(next, 8 << 20)?;
        ensure!(read.next > next, "the log stands still at {next}");
        next = read.next;
        for batch in &read.batches {
            for (device, row) in rows_of(batch) {
                rows.entry(device).or_default().push(row);
            }
        }
    }
    for (device, ledger) in books {
        let held = rows.remove(&device.id).unwrap_or_default();
        let since = if trimmed { held.iter().map(|row| row.0).min().unwrap_or(u64::MAX) } else { 0 };
        ledger.check("the log", &held, since)?;
    }
    log.close();
    Ok(())
}

fn rows_of(batch: &rollcall_stream::EventBatch) -> Vec<(String, Row)> {
    let column = |at: usize| batch.rows.column(at);
    let word = |row: usize| match batch.kind {
        Kind::Telemetry => Some(column(9).as_primitive::<Float64Type>().value(row).to_string()),
        Kind::Scan => Direction::from_code(column(9).as_primitive::<UInt8Type>().value(row)).map(|dir| dir.as_str().to_owned()),
        _ => None,
    };
    let row = |row: usize| {
        let device = uuid::Uuid::from_slice(column(DEVICE).as_fixed_size_binary().value(row)).ok()?;
        let (seq, ts) = (column(SEQ).as_primitive::<UInt64Type>().value(row), column(TS).as_primitive::<Int64Type>().value(row));
        Some((device.to_string(), (seq, ts, word(row)?)))
    };
    (0..batch.len()).filter_map(row).collect()
}

/// What `/health/ready` says.
async fn readiness(instance: &Instance) -> Result<(bool, Value)> {
    let response = reqwest::get(format!("{}/health/ready", instance.http)).await?;
    let ready = response.status().is_success();
    let body: Value = response.json().await?;
    ensure!(body["ready"] == ready, "the status says {ready} and the body {body}");
    Ok((ready, body))
}

/// Waits until one check of `/health/ready` says this.
async fn until_ready(instance: &Instance, check: &str, ready: bool) -> Result<Value> {
    let end = Instant::now() + CATCH_UP;
    loop {
        let (_, body) = readiness(instance).await?;
        let found = body["checks"].as_array().into_iter().flatten().find(|found| found["name"] == check);
        let found = found.with_context(|| format!("no check {check} in {body}"))?;
        if found["ready"] == ready {
            return Ok(found.clone());
        }
        if Instant::now() > end {
            bail!("{check} did not become {ready}: {body}");
        }
        sleep(LOOK).await;
    }
}
