//! Scheduled exports: into a folder over a kill, where what was due before is written once after the next start, whole, and said to be
//! done; and into object storage, in both formats.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rollcall_tests::district::{self, District};
use rollcall_tests::s3::ObjectStore;
use rollcall_tests::session::Session;
use rollcall_tests::{Instance, Launch};
use serde_json::{Value, json};

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// The exports, when each of them has run.
async fn until_ended(analyst: &Session) -> Result<Value> {
    for _ in 0..600 {
        let listed = analyst.get("/exports").await?;
        if listed["items"].as_array().is_some_and(|items| items.iter().all(|item| !item["last_outcome"].is_null())) {
            return Ok(listed);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no export has ended: {}", analyst.get("/exports").await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_to_object_storage_in_both_formats() -> Result<()> {
    let (dir, store) = (tempfile::tempdir()?, ObjectStore::start("exports").await?);
    let launch = Launch::default().set("ROLLCALL_EXPORTS_URL", "s3://exports/rollcall");
    let launch = store.environment().into_iter().fold(launch, |launch, (name, value)| launch.set(name, value));
    let instance = Instance::launch(dir.path(), launch)?;
    let district = district::synthetic(&instance, dir.path(), "Exports", 20)?;
    district.account(&instance, "analyst@exports.example", "analyst", None)?;
    let analyst = District::sign_in(&instance, "analyst@exports.example").await?;
    let sql = "SELECT name, zone FROM schools ORDER BY name";
    let answer = analyst.post("/sql", &json!({"sql": sql})).await?;
    let query = analyst.post("/saved-queries", &json!({"title": "Schools", "sql": sql})).await?;
    for format in ["csv", "parquet"] {
        let rhythm = json!({"every": "weekly", "weekday": 7, "at": "03:00"});
        let export = analyst.post("/exports", &json!({"query": query["id"], "rhythm": rhythm, "format": format})).await?;
        analyst.post(&format!("/exports/{}/run", export["id"].as_str().context("no id")?), &json!({})).await?;
    }
    let listed = until_ended(&analyst).await?;
    let mut written = Vec::new();
    for item in listed["items"].as_array().context("no exports")? {
        ensure!(item["last_outcome"] == "done" && item["last_rows"] == 1, "{item}");
        let key = format!("rollcall/{}", item["last_file"].as_str().context("no file")?);
        let bytes = store.read(&key).await?;
        ensure!(item["last_bytes"] == bytes.len(), "{item}: {} bytes", bytes.len());
        let batches = if item["format"] == "csv" {
            let reader = arrow::csv::ReaderBuilder::new(schema()).with_header(true).build(bytes.as_slice())?;
            reader.collect::<Result<Vec<_>, _>>()?
        } else {
            let path = dir.path().join("export.parquet");
            std::fs::write(&path, bytes)?;
            ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path)?)?.build()?.collect::<Result<Vec<_>, _>>()?
        };
        let row: Vec<&str> = batches[0].columns().iter().map(|column| column.as_string::<i32>().value(0)).collect();
        ensure!(json!([row]) == answer["rows"], "{item}: {row:?}");
        written.push(key);
    }
    written.sort_unstable();
    ensure!(written.len() == 2 && store.keys().await? == written, "{written:?}");
    Ok(())
}

/// Of the question that is exported.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(["name", "zone"].map(|name| Field::new(name, DataType::Utf8, false)).to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_due_at_a_kill_is_written_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("exports");
    let launch = Launch::default().set("ROLLCALL_EXPORTS_URL", format!("file://{}", folder.display()));
    let mut instance = Instance::launch(dir.path(), launch)?;
    let district = district::synthetic(&instance, dir.path(), "Exports", 20)?;
    district.account(&instance, "analyst@exports.example", "analyst", None)?;
    let analyst = District::sign_in(&instance, "analyst@exports.example").await?;
    let sql = "SELECT name, zone FROM schools ORDER BY name";
    let answer = analyst.post("/sql", &json!({"sql": sql})).await?;
    let query = analyst.post("/saved-queries", &json!({"title": "Schools", "sql": sql})).await?;
    let rhythm = json!({"every": "weekly", "weekday": 7, "at": "03:00"});
    let export = analyst.post("/exports", &json!({"query": query["id"], "rhythm": rhythm, "format": "csv"})).await?;
    let run = format!("/exports/{}/run", export["id"].as_str().context("no id")?);
    analyst.post(&run, &json!({})).await?;
    instance.kill()?;
    instance.restart()?;

    let analyst = District::sign_in(&instance, "analyst@exports.example").await?;
    let listed = until_ended(&analyst).await?;
    let item = &listed["items"][0];
    ensure!(item["last_outcome"] == "done" && item["last_rows"] == 1, "{listed}");
    let written = files(&folder)?;
    let named = folder.join(item["last_file"].as_str().context("no file")?);
    ensure!(written == [named.clone()], "{written:?}");
    let row = &answer["rows"][0];
    let expected = format!("name,zone\n{},{}\n", row[0].as_str().unwrap_or_default(), row[1].as_str().unwrap_or_default());
    let text = std::fs::read_to_string(&named)?;
    ensure!(text == expected && item["last_bytes"] == text.len(), "{text:?}, not {expected:?}");
    ensure!(instance.stop()?, "the stop was not in order");
    Ok(())
}
