//! A worker that is lost while questions run: whoever asked is told, through every door, and gets the whole answer.

use std::future::Future;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use rollcall_tests::Live;
use rollcall_tests::district::PASSWORD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::process::{Certificate, Worker};
use super::{ANALYST, Field, OFFICE, until};
use crate::questions::adbc::{Driver, by_password};
use crate::questions::postgres::{through_psql, through_psycopg};

/// Groups, so that nothing is handed on before a worker is heard; an analyst may ask it too.
const SUM: &str = "SELECT metric, count(*), avg(value) FROM telemetry GROUP BY metric ORDER BY metric";

/// What is said.
const LOST: &str = "a worker did not answer";

/// Questions through all doors at the same time, each of which waits for the worker.
struct Asking<'a> {
    field: &'a Field,
    worker: &'a Worker,
    running: f64,
}

impl Asking<'_> {
    /// Begins one and returns when the worker has been given a share of it.
    async fn begin<T: Send + 'static>(
        &mut self,
        door: &str,
        asked: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let asked = tokio::spawn(asked);
        let before = self.running;
        until(&format!("the question through {door} waits for the worker"), || async {
            ensure!(!asked.is_finished(), "{door} did not wait");
            Ok(self.field.metric("rollcall_query_worker_running", &self.worker.url).await? > before)
        })
        .await?;
        self.running = self.field.metric("rollcall_query_worker_running", &self.worker.url).await?;
        Ok(asked)
    }
}

/// The answer as it comes over the wire, with its head and its trailers.
async fn wire(address: String, cookie: String, accept: &'static str) -> Result<String> {
    let body = json!({"sql": SUM}).to_string();
    let head = format!(
        "POST /api/v1/sql HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\nsec-fetch-site: same-origin\r\naccept: {accept}\r\n\
         te: trailers\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(&address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn parquet(field: &Field) -> Result<impl Future<Output = Result<Vec<u8>>> + Send + 'static> {
    let request = reqwest::Client::new().post(format!("{}/api/v1/sql", field.instance.http)).json(&json!({"sql": SUM}));
    let request = request.header("cookie", &field.office.cookie).header("sec-fetch-site", "same-origin");
    let request = request.header("accept", "application/vnd.apache.parquet");
    Ok(async move { Ok(request.send().await?.error_for_status()?.bytes().await?.to_vec()) })
}

/// What a Parquet file says of itself.
fn said_in(file: std::fs::File) -> Result<String> {
    let reader = SerializedFileReader::new(file)?;
    let pairs = reader.metadata().file_metadata().key_value_metadata().context("no metadata")?;
    let said: Vec<&str> = pairs.iter().filter(|pair| pair.key == "rollcall.warnings").filter_map(|pair| pair.value.as_deref()).collect();
    ensure!(said.len() == 1, "it says {said:?}");
    Ok(said[0].to_owned())
}

/// The first answer of a driver's script.
fn driver(start: impl FnOnce() -> Result<Driver> + Send + 'static) -> impl Future<Output = Result<Value>> + Send + 'static {
    async move { spawn_blocking(move || start()?.next()).await? }
}

async fn export(field: &Field) -> Result<impl Future<Output = Result<Value>> + Send + 'static> {
    let analyst = field.analyst.clone();
    let query = analyst.post("/saved-queries", &json!({"title": "Metrics", "sql": SUM})).await?;
    let rhythm = json!({"every": "weekly", "weekday": 1, "at": "03:00"});
    let made = analyst.post("/exports", &json!({"query": query["id"], "rhythm": rhythm, "format": "parquet"})).await?;
    let run = format!("/exports/{}/run", made["id"].as_str().context("no id")?);
    Ok(async move {
        analyst.post(&run, &json!({})).await?;
        for _ in 0..1_200 {
            let item = analyst.get("/exports").await?["items"][0].clone();
            if !item["last_outcome"].is_null() {
                return Ok(item);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("the export does not end")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_is_told_through_every_door() -> Result<()> {
    let mut field = Field::new().await?;
    let certificate = Certificate::make(field.folder())?;
    let mut worker = Worker::start(field.folder(), &certificate, "127.0.0.1:0")?;
    field.with_workers(&[&worker], &certificate).await?;
    let expected = field.office.post("/sql", &json!({"sql": SUM})).await?;
    let figures = field.analyst.post("/sql", &json!({"sql": SUM})).await?;
    ensure!(!expected.to_string().contains(LOST) && worker.metric("rollcall_worker_shares_total").await? > 0.0, "{expected}");

    worker.freeze()?;
    let door = |name: &str| field.instance.ready[name].as_str().map(str::to_owned).with_context(|| format!("no {name} door"));
    let (http, flight) = (field.instance.http.trim_start_matches("http://").to_owned(), format!("grpc://{}", door("flight")?));
    let postgres = door("postgres")?;
    let port = postgres.rsplit_once(':').context("no port")?.1.to_owned();
    let connection = move |user: &str| format!("host=127.0.0.1 port={port} dbname=rollcall user='{user}' password='{PASSWORD}'");
    let mut asking = Asking { field: &field, worker: &worker, running: 0.0 };
    let cookie = &field.office.cookie;
    let csv = asking.begin("CSV", wire(http.clone(), cookie.clone(), "text/csv")).await?;
    let arrow = asking.begin("Arrow", wire(http, cookie.clone(), "application/vnd.apache.arrow.stream")).await?;
    let parquet = asking.begin("Parquet", parquet(&field).await?).await?;
    let (by_psql, by_psycopg) = (connection(OFFICE), connection(ANALYST));
    let psql = asking.begin("psql", async move { spawn_blocking(move || through_psql(&by_psql, SUM)).await? }).await?;
    let noticed = json!([{"noticed": SUM}]);
    let psycopg = asking.begin("psycopg", driver(move || through_psycopg(&by_psycopg, noticed))).await?;
    let address = flight.clone();
    let chunks = asking.begin("Flight", driver(move || Driver::start(&address, by_password(ANALYST), json!([{"chunks": SUM}])))).await?;
    let adbc = asking.begin("ADBC", driver(move || Driver::start(&flight, by_password(ANALYST), json!([{"query": SUM}])))).await?;
    let export = asking.begin("export", export(&field).await?).await?;
    let mut live = Live::connect(&field.instance.http, &field.office).await?;
    live.send(&json!({"op": "subscribe", "id": 1, "topic": "sql", "sql": SUM})).await?;
    let live = asking
        .begin("live SQL", async move {
            live.until("the result", 60, |live| live.boards.contains_key(&1)).await?;
            Ok(live.board(1).entry("result", "warnings").to_string())
        })
        .await?;
    worker.kill()?;

    for (name, answer) in [("CSV", csv.await??), ("Arrow", arrow.await??)] {
        let (head, rest) = answer.split_once("\r\n\r\n").context("no head")?;
        let (_, trailers) = rest.rsplit_once("\r\n0\r\n").with_context(|| format!("{name} has no end: {answer}"))?;
        // It was lost before the first row, so a page can read it too.
        let said = head.lines().find(|line| line.starts_with("rollcall-warnings: ["));
        ensure!(said.is_some_and(|said| said.contains(LOST)) && !trailers.contains(LOST), "{name}: {head} {trailers}");
    }
    let answer = tempfile::NamedTempFile::new()?;
    std::fs::write(&answer, parquet.await??)?;
    let said = said_in(answer.reopen()?)?;
    ensure!(said.contains(LOST), "Parquet: {said}");
    let printed = psql.await??;
    ensure!(printed.contains("WARNING:") && printed.contains(LOST), "psql: {printed}");
    ensure!(printed.matches('|').count() == 2 * expected["rows"].as_array().map_or(0, Vec::len), "psql: {printed}");
    let noticed = psycopg.await??;
    ensure!(noticed["ok"]["rows"].as_array().map(Vec::len) == figures["rows"].as_array().map(Vec::len), "psycopg: {noticed}");
    ensure!(noticed["ok"]["notices"].to_string().contains(LOST), "psycopg: {noticed}");
    let chunks = chunks.await??;
    ensure!(
        chunks["ok"]["said"].to_string().contains(LOST) && chunks["ok"]["rows"] == json!(figures["rows"].as_array().map(Vec::len)),
        "Flight: {chunks}"
    );
    let adbc = adbc.await??;
    ensure!(adbc["ok"]["rows"] == figures["rows"], "ADBC reads on: {adbc}");
    let said = live.await??;
    ensure!(said.contains(LOST), "live: {said}");
    let exported = export.await??;
    ensure!(exported["last_outcome"] == "done" && exported["last_warning"].is_null(), "nothing lacks: {exported}");
    let file = Path::new(&field.exports()).join(exported["last_file"].as_str().context("no file")?);
    let said = said_in(std::fs::File::open(file)?)?;
    ensure!(said.contains(LOST), "export: {said}");
    Ok(())
}
