//! History that cannot be read: every way in says so by the file's name and goes on with the rest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use parquet::file::reader::{FileReader, SerializedFileReader};
use rollcall_tests::Live;
use rollcall_tests::district::{District, PASSWORD};
use serde_json::{Value, json};

use super::adbc::{Driver, by_password};
use super::everywhere::desk;
use super::live::metric;
use super::postgres::{connection, through_psql};
use super::{Asked, OFFICE, STUDENTS};

const ENVIRONMENT: [(&str, &str); 3] =
    [("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0"), ("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0"), ("ROLLCALL_HISTORY_FLUSH_INTERVAL_S", "1")];
const COUNT: &str = "SELECT count(*) FROM scans WHERE seq >= 0";

/// The data files of a kind below the folder of history.
fn parquet(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// The desk shows the count with a warning that has these words.
fn on_the_page(asked: &Asked, words: &[&str]) -> Result<()> {
    if std::env::var_os("ROLLCALL_TEST_NO_BROWSER").is_some() {
        return Ok(());
    }
    let shown = desk(asked, OFFICE, &[COUNT])?;
    let said = shown.first().map(|answer| warnings(answer).join("\n")).context("no answer")?;
    ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are not on the page: {shown:?}");
    Ok(())
}

fn warnings(answer: &Value) -> Vec<&str> {
    answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The count and what is said with it.
async fn count(asked: &Asked) -> Result<(Value, String)> {
    let answer = asked.office.post("/sql", &json!({"sql": COUNT})).await?;
    Ok((answer["rows"][0][0].clone(), warnings(&answer).join("\n")))
}

/// A driver of Flight SQL finds these words in the metadata of its table, with and without a parameter.
fn through_flight(asked: &Asked, words: &[&str]) -> Result<()> {
    let steps = json!([{"query": COUNT}, {"query": "SELECT count(*) FROM scans WHERE seq >= ?", "parameters": [0]}]);
    let mut driver = Driver::start(&format!("grpc://{}", asked.door("flight")?), by_password(OFFICE), steps)?;
    for _ in 0..2 {
        let answer = driver.next()?;
        let said = warnings(&answer["ok"]).join("\n");
        ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are not said through Flight: {answer}");
    }
    Ok(())
}

/// Whoever follows the question live is told these words.
async fn live(asked: &Asked, words: &[&str]) -> Result<()> {
    let mut live = Live::connect(&asked.instance.http, &asked.office).await?;
    live.send(&json!({"op": "subscribe", "id": 1, "topic": "sql", "sql": COUNT})).await?;
    live.until("the result with its warnings", 30, |live| live.boards.contains_key(&1)).await?;
    let said = live.board(1).entry("result", "warnings").to_string();
    ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are not said live: {said}");
    Ok(())
}

/// An export of the question, to be run when a test wants it.
async fn export(asked: &Asked, sql: &str) -> Result<String> {
    let query = asked.office.post("/saved-queries", &json!({"title": "Scans", "sql": sql})).await?;
    let rhythm = json!({"every": "weekly", "weekday": 1, "at": "03:00"});
    let made = asked.office.post("/exports", &json!({"query": query["id"], "rhythm": rhythm, "format": "parquet"})).await?;
    Ok(made["id"].as_str().context("no id")?.to_owned())
}

/// Runs the export now and returns what came of it.
async fn exported(asked: &Asked, export: &str) -> Result<Value> {
    let before = asked.office.get("/exports").await?["items"][0]["last_at"].clone();
    asked.office.post(&format!("/exports/{export}/run"), &json!({})).await?;
    for _ in 0..600 {
        let item = asked.office.get("/exports").await?["items"][0].clone();
        if item["last_at"] != before {
            return Ok(item);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the export does not end")
}

/// The server forgets what is hot: the rows are the files' only.
async fn restart(asked: &mut Asked) -> Result<()> {
    asked.instance.kill()?;
    asked.instance.restart()?;
    asked.office = District::sign_in(&asked.instance, OFFICE).await?;
    Ok(())
}

/// The same, when all rows are in files.
async fn restart_from_files(asked: &mut Asked) -> Result<()> {
    for _ in 0..600 {
        if metric(asked, "rollcall_history_lag_rows").await? == 0.0 {
            return restart(asked).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("rows stay in the log")
}

/// Bytes that nobody wrote, in a file that looks as it was left.
fn rot(file: &Path) -> Result<()> {
    let (mut bytes, changed) = (std::fs::read(file)?, std::fs::metadata(file)?.modified()?);
    let middle = bytes.len() / 2;
    bytes[4..middle].fill(0xa5);
    std::fs::write(file, bytes)?;
    Ok(std::fs::File::options().write(true).open(file)?.set_modified(changed)?)
}

/// It is found while the rows are made, after the question was planned with them.
#[tokio::test(flavor = "multi_thread")]
async fn what_rots_without_a_trace_is_named_in_the_head_and_with_an_export() -> Result<()> {
    let exports = tempfile::tempdir()?;
    let place = format!("file://{}", exports.path().display());
    let mut asked = Asked::launch(&[&ENVIRONMENT[..], &[("ROLLCALL_EXPORTS_URL", &place)]].concat()).await?;
    let export = export(&asked, "SELECT sum(seq) FROM scans").await?;
    restart_from_files(&mut asked).await?;
    let files = parquet(&asked.data_dir().join("history/scans"))?;
    files.iter().try_for_each(|file| rot(file))?;
    let names: Vec<&str> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    let is_named = |said: &str| names.iter().any(|name| said.contains(name));

    let written = exported(&asked, &export).await?;
    ensure!(written["last_outcome"] == "done" && written["last_warning"].as_str().is_some_and(is_named), "{names:?}: {written}");

    restart(&mut asked).await?;
    let request = reqwest::Client::new().post(format!("{}/api/v1/sql", asked.instance.http)).header("accept", "text/csv");
    let request = request.header("cookie", &asked.office.cookie).header("sec-fetch-site", "same-origin");
    let answer = request.json(&json!({"sql": "SELECT sum(seq) AS all FROM scans"})).send().await?.error_for_status()?;
    let head = answer.headers().get("rollcall-warnings").and_then(|said| said.to_str().ok()).unwrap_or_default().to_owned();
    let csv = answer.text().await?;
    ensure!(is_named(&head) && csv == "all\n\"\"\n", "{names:?}: {head}: {csv:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_place_leaves_what_is_hot_and_a_damaged_file_is_named() -> Result<()> {
    let exports = tempfile::tempdir()?;
    let place = format!("file://{}", exports.path().display());
    let environment = [&ENVIRONMENT[..], &[("ROLLCALL_EXPORTS_URL", &place)]].concat();
    let mut asked = Asked::launch(&environment).await?;
    let export = export(&asked, COUNT).await?;
    let (history, away) = (asked.data_dir().join("history"), asked.data_dir().join("away"));
    // The rows may have come in several steps, and be merged since.
    restart_from_files(&mut asked).await?;
    ensure!(count(&asked).await? == (json!(STUDENTS), String::new()), "all is in files");

    std::fs::rename(&history, &away)?;
    std::fs::write(&history, b"no folder")?;
    asked.come_in(0..1).await?;
    let (hot, said) = count(&asked).await?;
    // By the file's name, or by the offset before which all rows are, when the list of files is away too.
    ensure!(hot == 1 && said.contains("left out"), "{hot}: {said}");
    on_the_page(&asked, &["left out"])?;
    through_flight(&asked, &["left out"])?;
    live(&asked, &["left out"]).await?;
    // What can be whole later is not written with less in it.
    let failed = exported(&asked, &export).await?;
    ensure!(failed["last_outcome"] == "failed" && failed["last_file"].is_null(), "{failed}");
    ensure!(failed["last_error"].as_str().is_some_and(|error| error.contains("left out")), "{failed}");

    asked.instance.kill()?;
    std::fs::remove_file(&history)?;
    std::fs::rename(&away, &history)?;
    let files = parquet(&history.join("scans"))?;
    for file in &files {
        std::fs::write(file, b"PAR1 this is no Parquet PAR1")?;
    }
    let first = files.first().context("no file of scans")?;
    std::fs::write(first.with_file_name("foreign.parquet"), b"somebody else's")?;
    asked.instance.restart()?;
    asked.office = District::sign_in(&asked.instance, OFFICE).await?;
    let (rest, said) = count(&asked).await?;
    // A file that was merged into another is nobody's any more.
    let names = files.iter().filter_map(|file| file.file_name()?.to_str());
    let name = names.map(str::to_owned).find(|name| said.contains(name)).with_context(|| format!("none of {files:?} in {said}"))?;
    ensure!(rest == 1 && said.contains("foreign.parquet"), "{rest}: {said}");
    let printed = through_psql(&connection(&asked, OFFICE, PASSWORD)?, COUNT)?;
    ensure!(printed.contains("WARNING:") && printed.contains(&name), "{printed}");
    on_the_page(&asked, &[&name, "foreign.parquet"])?;
    through_flight(&asked, &[&name, "foreign.parquet"])?;
    live(&asked, &[&name, "foreign.parquet"]).await?;
    // What is lost for good is named beside the file and in it.
    let written = exported(&asked, &export).await?;
    ensure!(written["last_outcome"] == "done" && written["last_error"].is_null(), "{written}");
    ensure!(written["last_warning"].as_str().is_some_and(|lacks| lacks.contains(&name) && !lacks.contains("foreign")), "{written}");
    let file = exports.path().join(written["last_file"].as_str().context("no file")?);
    let reader = SerializedFileReader::new(std::fs::File::open(file)?)?;
    let metadata = reader.metadata().file_metadata().key_value_metadata().context("no metadata")?.clone();
    let said = metadata.into_iter().find(|pair| pair.key == "rollcall.warnings").and_then(|pair| pair.value);
    ensure!(said.as_ref().is_some_and(|said| said.contains(&name)), "the file itself says {said:?}");
    Ok(())
}
