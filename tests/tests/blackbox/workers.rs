//! A server and two worker processes on the same history: the answers of a server alone, also when workers are killed in
//! the middle of a query.

mod doors;
mod process;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_tests::Instance;
use rollcall_tests::district::{self, Device, District, now_ms, scan};
use rollcall_tests::session::Session;
use serde_json::{Value, json};

use process::{Certificate, TOKEN, Worker, metric};

/// Readings in files; each event has as many as an event may.
const EVENTS: u64 = 12_000;
const METRICS: u64 = 32;
/// Events of a request, which must not be larger than an ingest payload may be.
const EVENTS_PER_REQUEST: usize = 500;
const OFFICE: &str = "office@workers.example";
const ANALYST: &str = "analyst@workers.example";
/// Single rows that no packing makes small: far more than all buffers between a worker and a client hold.
const WHOLE: &str = "SELECT seq, metric, value, person, sin(seq + value) AS a, sin(seq * 1.1 + value) AS b, sin(seq * 1.2 + value) AS c,
    sin(seq * 1.3 + value) AS d, sin(seq * 1.4 + value) AS e, sin(seq * 1.5 + value) AS f, sin(seq * 1.6 + value) AS g,
    sin(seq * 1.7 + value) AS h, sin(seq * 1.8 + value) AS i FROM telemetry WHERE metric <> 'probe'";

/// Filters, groups, counts of different values, joins with the roster, orders, windows, and the seam of files and hot rows.
const QUESTIONS: [&str; 13] = [
    "SELECT count(*), count(DISTINCT seq), sum(value), min(ts), max(ts), count(DISTINCT \"offset\") FROM telemetry",
    "SELECT metric, count(*), avg(value), count(DISTINCT person) FROM telemetry GROUP BY metric ORDER BY metric",
    "SELECT seq, metric, value FROM telemetry WHERE metric = 'm7' AND value < 300 ORDER BY seq, metric",
    "SELECT person, count(*), sum(value) FROM telemetry GROUP BY person ORDER BY person",
    "SELECT s.grade, count(*), count(DISTINCT t.person) FROM telemetry t JOIN students s ON s.person = t.person GROUP BY s.grade ORDER BY 1",
    "SELECT sc.name, count(*) FROM telemetry t JOIN schools sc ON sc.school = t.school GROUP BY sc.name",
    "SELECT s.dir, count(*) FROM scans s GROUP BY s.dir",
    "SELECT count(*) FROM scans s JOIN telemetry t ON t.person = s.person WHERE t.metric = 'm1'",
    "SELECT seq, metric FROM telemetry ORDER BY seq DESC, metric LIMIT 20",
    "SELECT date_trunc('minute', ts) AS minute, count(*) FROM telemetry GROUP BY 1 ORDER BY 1",
    "SELECT metric, value, rank() OVER (PARTITION BY metric ORDER BY value DESC, seq) FROM telemetry WHERE seq % 997 = 1 ORDER BY 1, 3",
    "SELECT count(*) FROM telemetry WHERE person NOT IN (SELECT person FROM scans)",
    "WITH busy AS (SELECT person, count(*) AS n FROM telemetry GROUP BY person) SELECT max(n), min(n) FROM busy",
];

/// What an analyst asks; figures about students come with a small uncertainty that is the same each time.
const FIGURES: [&str; 3] = [
    "SELECT metric, count(*), count(DISTINCT person), avg(value) FROM telemetry GROUP BY metric ORDER BY metric",
    "SELECT count(*), sum(value) FROM telemetry",
    "SELECT person FROM telemetry",
];

struct Field {
    instance: Instance,
    settings: PathBuf,
    office: Session,
    analyst: Session,
    dir: tempfile::TempDir,
}

impl Field {
    /// A server whose history has most of the readings in files, and the rest hot.
    async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let settings = dir.path().join("own.toml");
        std::fs::write(&settings, "[history]\nflush_interval_s = 1\nfile_rows = 50000\n")?;
        let mut instance = Instance::start_with(dir.path(), &["--config", settings.to_str().context("a path")?])?;
        let district = district::synthetic(&instance, dir.path(), "Workers", 60)?;
        for (email, role) in [(OFFICE, "office"), (ANALYST, "analyst")] {
            district.account(&instance, email, role, None)?;
        }
        district.until_known(&instance).await?;
        let device = District::device(&instance, &district.name, &district.school, "room", "Hall")?;
        send(&instance, &device, readings(&district, 1..EVENTS + 1)).await?;
        send(&instance, &district.gate, scans(&district)).await?;
        until("all rows are in files", || async {
            let lag = metric(&instance.http, "rollcall_history_lag_rows", "").await?;
            Ok(lag == 0.0 && metric(&instance.http, "rollcall_history_files", "").await? > 3.0)
        })
        .await?;
        // From now on nothing is written into files within the test's time.
        std::fs::write(&settings, "[history]\nflush_interval_s = 3600\n")?;
        instance.kill()?;
        instance.restart()?;
        send(&instance, &device, readings(&district, EVENTS + 1..EVENTS + 501)).await?;
        let (office, analyst) = (District::sign_in(&instance, OFFICE).await?, District::sign_in(&instance, ANALYST).await?);
        Ok(Self { instance, settings, office, analyst, dir })
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of exports.
    fn exports(&self) -> PathBuf {
        self.folder().join("exports")
    }

    /// The same server again, with workers and all doors.
    async fn with_workers(&mut self, workers: &[&Worker], certificate: &Certificate) -> Result<()> {
        let urls: Vec<&str> = workers.iter().map(|worker| worker.url.as_str()).collect();
        let settings = format!(
            "[history]\nflush_interval_s = 3600\n[sql]\nworkers = {urls:?}\nworkers_token = {TOKEN:?}\nworkers_ca = {:?}\n\
             workers_shares = 2\nworkers_bytes_min = 1000\nflight = \"127.0.0.1:0\"\npostgres = \"127.0.0.1:0\"\n[exports]\nurl = \"file://{}\"\n",
            certificate.certificate,
            self.exports().display()
        );
        std::fs::write(&self.settings, settings)?;
        self.instance.kill()?;
        self.instance.restart()?;
        self.office = District::sign_in(&self.instance, OFFICE).await?;
        self.analyst = District::sign_in(&self.instance, ANALYST).await?;
        Ok(())
    }

    /// What everybody is told, for each question.
    async fn answers(&self) -> Result<Vec<Value>> {
        let mut answers = Vec::new();
        for (session, questions) in [(&self.office, &QUESTIONS[..]), (&self.analyst, &FIGURES[..])] {
            for sql in questions {
                let (status, mut answer) = session.request(reqwest::Method::POST, "/sql", Some(&json!({"sql": sql}))).await?;
                // A refusal has an id of its own each time.
                answer.as_object_mut().context("an object")?.retain(|key, _| key != "request_id" && key != "instance");
                answers.push(json!({"sql": sql, "status": status.as_u16(), "answer": answer}));
            }
        }
        Ok(answers)
    }

    async fn stream(&self, sql: &str) -> Result<reqwest::Response> {
        let request = reqwest::Client::new().post(format!("{}/api/v1/sql", self.instance.http)).json(&json!({"sql": sql}));
        let request = request.header("cookie", &self.office.cookie).header("sec-fetch-site", "same-origin").header("accept", "text/csv");
        Ok(request.send().await?.error_for_status()?)
    }

    async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        metric(&self.instance.http, name, label).await
    }
}

fn readings(district: &District, seqs: std::ops::Range<u64>) -> Vec<Value> {
    let now = now_ms();
    let reading = |seq: u64| {
        let student = &district.students[seq as usize % district.students.len()];
        let metrics: serde_json::Map<String, Value> = (0..METRICS).map(|at| (format!("m{at}"), json!(seq * (at + 1) % 1_009))).collect();
        json!({"type": "telemetry", "seq": seq, "ts": now - (EVENTS as i64 - seq as i64) * 100, "badge": student.badge, "m": metrics})
    };
    seqs.map(reading).collect()
}

fn scans(district: &District) -> Vec<Value> {
    let event = |(seq, student): (u64, &district::Student)| {
        let mut event = scan(seq, &student.badge, "in", now_ms());
        event["type"] = json!("scan");
        event
    };
    (1..).zip(&district.students[..40]).map(event).collect()
}

async fn send(instance: &Instance, device: &Device, events: Vec<Value>) -> Result<()> {
    let client = reqwest::Client::new();
    for events in events.chunks(EVENTS_PER_REQUEST) {
        let request = client.post(format!("{}/ingest/v1", instance.http)).json(&events);
        let request = request.header("authorization", format!("Bearer {}:{}", device.id, device.token));
        let accepted: Value = request.send().await?.error_for_status()?.json().await?;
        ensure!(accepted["accepted"] == events.len(), "{accepted}");
    }
    Ok(())
}

/// Waits for something that must happen.
async fn until<F: Future<Output = Result<bool>>>(what: &str, mut reached: impl FnMut() -> F) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !reached().await? {
        ensure!(Instant::now() < deadline, "it did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn sorted(csv: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = csv.lines().collect();
    lines.sort_unstable();
    lines
}

/// The two answers side by side where they differ.
fn same(found: &[Value], expected: &[Value]) -> Result<()> {
    for (found, expected) in found.iter().zip(expected) {
        ensure!(found == expected, "with workers: {found}\nalone: {expected}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_change_no_answer_and_neither_do_their_deaths() -> Result<()> {
    let mut field = Field::new().await?;
    let mut alone = field.answers().await?;
    let all = field.stream(WHOLE).await?.text().await?;
    ensure!(sorted(&all).len() as u64 == (EVENTS + 500) * METRICS + 1, "{} lines", sorted(&all).len());
    let certificate = Certificate::make(field.folder())?;
    let mut first = Worker::start(field.folder(), &certificate, "127.0.0.1:0")?;
    let mut second = Worker::start(field.folder(), &certificate, "127.0.0.1:0")?;
    field.with_workers(&[&first, &second], &certificate).await?;

    same(&field.answers().await?, &alone)?;
    for worker in [&first, &second] {
        let (shares, read) =
            (worker.metric("rollcall_worker_shares_total").await?, worker.metric("rollcall_worker_read_rows_total").await?);
        ensure!(shares > 20.0 && read > 1e6, "{} did {shares} shares of {read} rows", worker.url);
    }
    ensure!(field.metric("rollcall_query_worker_shares_total", "failed").await? == 0.0, "something was done twice");

    killed_while_rows_come(&field, &mut first, sorted(&all)).await?;
    // The killed one is back, and has work again once its rest is over.
    first = Worker::start(field.folder(), &certificate, &first.listen().to_owned())?;
    until("the worker that came back has work", || async {
        field.office.post("/sql", &json!({"sql": QUESTIONS[0]})).await?;
        Ok(first.metric("rollcall_worker_shares_total").await? > 0.0)
    })
    .await?;
    killed_in_a_sum(&field, &mut second, &alone[1]["answer"]["rows"]).await?;

    first.kill()?;
    let found = field.answers().await?;
    for ((found, expected), table) in found.iter().zip(&mut alone).zip(QUESTIONS.iter().chain(&FIGURES)) {
        // Nobody is left. What was read of many files says so.
        let warnings = found["answer"]["warnings"].as_array().cloned().unwrap_or_default();
        let says = warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text.contains("a worker did not answer")));
        ensure!(says || found["status"] != 200 || !table.contains("telemetry"), "{found}");
        if says {
            expected["answer"]["warnings"] = found["answer"]["warnings"].clone();
        }
    }
    same(&found, &alone)?;
    ensure!(field.instance.stop()?, "the stop was not in order");
    Ok(())
}

/// A client that reads slowly holds the query in the middle: some rows have come, some have not been read yet.
async fn killed_while_rows_come(field: &Field, worker: &mut Worker, expected: Vec<&str>) -> Result<()> {
    let failed = field.metric("rollcall_query_worker_shares_total", "failed").await?;
    let came = field.metric("rollcall_query_worker_rows_total", &worker.url).await?;
    let mut response = field.stream(WHOLE).await?;
    let mut csv = response.chunk().await?.context("a first piece")?.to_vec();
    until("rows came from the worker", || async { Ok(field.metric("rollcall_query_worker_rows_total", &worker.url).await? > came) })
        .await?;
    ensure!(field.metric("rollcall_query_worker_running", &worker.url).await? > 0.0, "the worker was done before it was killed");
    worker.kill()?;
    while let Some(piece) = response.chunk().await? {
        csv.extend_from_slice(&piece);
    }
    let csv = String::from_utf8(csv)?;
    ensure!(sorted(&csv) == expected, "{} lines instead of {}", csv.lines().count(), expected.len());
    ensure!(field.metric("rollcall_query_worker_shares_total", "failed").await? > failed, "no share failed");
    ensure!(field.instance.logged().contains("a worker did not finish its share"), "the log says nothing");
    Ok(())
}

/// The worker stands still, so that it is killed while the sum waits for it.
async fn killed_in_a_sum(field: &Field, worker: &mut Worker, expected: &Value) -> Result<()> {
    worker.freeze()?;
    let asked = {
        let office = field.office.clone();
        tokio::spawn(async move { office.post("/sql", &json!({"sql": QUESTIONS[1]})).await })
    };
    until("the query waits for the worker", || async { Ok(field.metric("rollcall_query_worker_running", &worker.url).await? > 0.0) })
        .await?;
    worker.kill()?;
    let answer = asked.await??;
    ensure!(answer["rows"] == *expected, "{answer}");
    ensure!(answer["warnings"].to_string().contains("a worker did not answer"), "{answer}");
    Ok(())
}

#[test]
fn a_worker_without_a_token_or_open_to_others_without_tls_does_not_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let start = |listen: &str, token: &str| -> Result<String> {
        let output = std::process::Command::new(rollcall_tests::instance::binary()?)
            .args(["worker", "--listen", listen, "--data-dir"])
            .arg(dir.path())
            .env("ROLLCALL_SQL_WORKERS_TOKEN", token)
            .output()?;
        ensure!(!output.status.success(), "it ran to its end");
        Ok(String::from_utf8(output.stderr)?)
    };
    let (open, short) = (start("0.0.0.0:0", TOKEN)?, start("127.0.0.1:0", "")?);
    ensure!(open.contains("tls.certificate and tls.key are needed"), "{open}");
    ensure!(short.contains("at least 32"), "{short}");
    Ok(())
}
