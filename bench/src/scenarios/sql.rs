//! `sql`: ten questions of an analyst over ten million readings in memory, asked over REST, beside DuckDB in a process of its
//! own over the very Arrow batches that the server gave out. Both must count and calculate the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rollcall_tests::District;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Settings;
use crate::fresh::Fresh;
use crate::readings;
use crate::table::{Latency, Row};

const SCENARIO: &str = "sql";
const ROWS: u64 = 10_000_000;
const DEVICES: usize = 400;
const HOURS: f64 = 3.0;

/// Each query is asked so often; the median counts.
const ROUNDS: usize = 5;
const SLOWER_MAX: f64 = 1.3;

/// Rows fetched at once, which is what one answer may have.
const FETCH_ROWS: u64 = 2_000_000;

/// All readings in memory. The default holds four million.
const CONFIG: &str = "[hot]\nbytes = 4294967296\n";

const OFFICE: &str = "office@bench.example";

/// What both understand, with every sort order settled.
const QUERIES: [(&str, &str); 10] = [
    ("count and mean", "select count(*), avg(value) from telemetry"),
    ("by metric", "select metric, count(*), avg(value), min(value), max(value) from telemetry group by metric order by metric"),
    (
        "twenty devices with the most steps",
        "select device, sum(value) as steps from telemetry where metric = 'steps' group by device order by steps desc, device limit 20",
    ),
    (
        "mean by minute",
        "select date_trunc('minute', ts) as minute, avg(value) from telemetry where metric = 'temperature' group by 1 order by 1",
    ),
    ("low batteries", "select count(*) from telemetry where metric = 'battery' and value < 0.1"),
    ("a narrow piece of the log", "select count(*), sum(value) from telemetry where \"offset\" between 5000000 and 5050000"),
    ("who has data", "select count(distinct person), count(distinct device) from telemetry"),
    ("spread by metric", "select metric, stddev(value), corr(value, seq) from telemetry group by metric order by metric"),
    (
        "worn share by student",
        "select person, avg(case when value > 0.5 then 1.0 else 0.0 end) as share from telemetry where metric = 'worn' group by person \
         having count(*) > 100 order by share, person limit 50",
    ),
    (
        "minutes above the mean",
        "with minutes as (select date_trunc('minute', ts) as minute, avg(value) as warm from telemetry where metric = 'temperature' group by 1) \
         select count(*) from minutes where warm > (select avg(warm) from minutes)",
    ),
];

/// What the DuckDB process prints.
#[derive(Deserialize)]
struct Duck {
    version: String,
    rows: u64,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    ms: Vec<f64>,
    rows: Vec<Vec<Value>>,
}

pub async fn run(settings: Settings) -> Result<Vec<Row>> {
    let server = Fresh::start(CONFIG)?;
    let district = server.district(DEVICES as u32)?;
    district.account(&server.instance, OFFICE, "office", None)?;
    let devices = server.devices(&district, "wearable", "Band", DEVICES)?;
    district.until_known(&server.instance).await?;
    readings::send(&server.instance.mqtt, &devices, &district.students, ROWS, HOURS)?;
    server.caught_up(std::time::Duration::from_secs(120)).await?;
    let asking = Asking::new(&server).await?;
    let meter = server.meter()?;
    let mut ours = Vec::new();
    for (_, query) in QUERIES {
        ours.push(asking.answer(query).await?);
    }
    let cost = meter.end(QUERIES.len() as u64 * ROUNDS as u64)?;
    let duck = match settings.peers {
        true => Some(duck(&server, &asking.streams(server.dir()).await?)?),
        false => None,
    };
    // What is compared is in memory on both sides; the probe of the set-up is one reading more.
    let held = ours[0].rows[0][0].as_u64().unwrap_or(0);
    ensure!(held >= ROWS, "{held} of {ROWS} rows are in memory");

    let (mut rows, mut logs) = (Vec::new(), 0.0);
    for (index, ((name, query), answer)) in QUERIES.into_iter().zip(&ours).enumerate() {
        let ms = median(&answer.ms);
        let mut row = Row::new(SCENARIO, name, ROWS, ms / 1000.0).latency(latency(&answer.ms));
        if let Some(duck) = &duck {
            let other = &duck.answers[index];
            ensure_same(query, &answer.rows, &other.rows)?;
            let ratio = median(&other.ms) / ms;
            logs += ratio.ln() / QUERIES.len() as f64;
            row = row
                .against(format!("DuckDB {} ({:.1} ms)", duck.version, median(&other.ms)), ratio)
                .bar(format!("within {SLOWER_MAX} x of DuckDB"), ratio * SLOWER_MAX >= 1.0);
        }
        rows.push(row);
    }
    let sum: f64 = ours.iter().map(|answer| median(&answer.ms)).sum();
    let mut all = Row::new(SCENARIO, "all ten", ROWS * QUERIES.len() as u64, sum / 1000.0).cost(cost);
    if let Some(duck) = &duck {
        ensure!(duck.rows == held, "DuckDB has {} rows, the server {held}", duck.rows);
        let ratio = logs.exp();
        all = all.against("DuckDB, the geometric mean", ratio).bar(format!("within {SLOWER_MAX} x of DuckDB"), ratio * SLOWER_MAX >= 1.0);
    }
    rows.push(all);
    Ok(rows)
}

struct Asking {
    client: reqwest::Client,
    url: String,
    cookie: String,
}

impl Asking {
    async fn new(server: &Fresh) -> Result<Self> {
        let cookie = District::sign_in(&server.instance, OFFICE).await?.cookie;
        Ok(Self { client: reqwest::Client::new(), url: format!("{}/api/v1/sql", server.instance.http), cookie })
    }

    async fn ask(&self, query: &str, accept: &str) -> Result<Vec<u8>> {
        let request = self.client.post(&self.url).json(&json!({"sql": query})).header("cookie", &self.cookie);
        let response = request.header("accept", accept).header("sec-fetch-site", "same-origin").send().await?;
        let (status, body) = (response.status(), response.bytes().await?);
        ensure!(status.is_success(), "{query}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body.to_vec())
    }

    async fn answer(&self, query: &str) -> Result<Answer> {
        let (mut ms, mut rows) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let body = self.ask(query, "application/json").await?;
            ms.push(began.elapsed().as_secs_f64() * 1000.0);
            let answer: Value = serde_json::from_slice(&body)?;
            ensure!(answer["error"].is_null() && answer["truncated"] == false, "{query}: {}", answer["error"]);
            rows = serde_json::from_value(answer["rows"].clone())?;
        }
        Ok(Answer { ms, rows })
    }

    /// All readings as Arrow streams in files.
    async fn streams(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let end = self.answer("select max(\"offset\") from telemetry").await?.rows[0][0].as_u64().context("no greatest offset")?;
        let mut paths = Vec::new();
        for begin in (0..=end).step_by(FETCH_ROWS as usize) {
            let query = format!("select * from telemetry where \"offset\" >= {begin} and \"offset\" < {}", begin + FETCH_ROWS);
            let path = dir.join(format!("readings-{begin}.arrow"));
            std::fs::write(&path, self.ask(&query, "application/vnd.apache.arrow.stream").await?)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

fn duck(server: &Fresh, streams: &[PathBuf]) -> Result<Duck> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let queries = server.dir().join("queries.json");
    std::fs::write(&queries, serde_json::to_vec(&QUERIES.map(|(_, query)| query))?)?;
    let python = folder.join(".venv/bin/python");
    let output = Command::new(&python)
        .arg(folder.join("duck.py"))
        .arg(queries)
        .arg(ROUNDS.to_string())
        .args(streams)
        .output()
        .with_context(|| format!("{} is not there; cargo xtask bench installs it, --no-peers goes without it", python.display()))?;
    ensure!(output.status.success(), "DuckDB: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn median(ms: &[f64]) -> f64 {
    let mut sorted = ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn latency(ms: &[f64]) -> Latency {
    let max_ms = ms.iter().copied().fold(0.0, f64::max);
    Latency { count: ms.len() as u64, p50_ms: median(ms), p99_ms: max_ms, p999_ms: max_ms, max_ms }
}

/// Numbers must agree to a millionth; instants and ids are written differently and are compared by their place only.
fn ensure_same(query: &str, ours: &[Vec<Value>], theirs: &[Vec<Value>]) -> Result<()> {
    ensure!(ours.len() == theirs.len(), "{query}: {} rows, DuckDB has {}", ours.len(), theirs.len());
    for (row, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for (one, other) in ours.iter().zip(theirs) {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { continue };
            let allowed = 1e-6 * one.abs().max(other.abs()).max(1.0);
            ensure!((one - other).abs() <= allowed, "{query}, row {row}: {one}, DuckDB says {other}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_differ_are_a_difference() {
        let row = |value: Value| vec![vec![json!("a"), value]];
        assert!(ensure_same("q", &row(json!(1.0)), &row(json!(1.000_000_1))).is_ok());
        assert!(ensure_same("q", &row(json!(1.0)), &row(json!(1.1))).is_err());
        assert!(ensure_same("q", &row(json!(1)), &[]).is_err());
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
