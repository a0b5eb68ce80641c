//! kill -9 while history writes: whatever was acknowledged is in the Parquet files exactly once, read as any other
//! program would read them, by the manifest's JSON and the files it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rollcall_tests::Instance;
use rollcall_tests::district::{self, District};
use serde_json::Value;

use super::durability::publish;

const SETTINGS: &str = "[history]\nflush_interval_s = 1\nfile_rows = 1000\ndelete_delay_s = 0\n";

/// The data files that count now.
pub(super) fn files(folder: &Path) -> Result<BTreeMap<String, Value>> {
    let mut edits: Vec<_> = std::fs::read_dir(folder.join("manifest"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    edits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    edits.sort();
    let mut files = BTreeMap::new();
    for path in edits {
        let text = std::fs::read_to_string(&path)?;
        let edit: Value = serde_json::from_str(text.lines().nth(1).context("an edit has two lines")?)?;
        if edit["full"] == true {
            files.clear();
        }
        for gone in edit["remove"].as_array().into_iter().flatten() {
            files.remove(gone.as_str().context("a path")?);
        }
        for file in edit["add"].as_array().into_iter().flatten() {
            files.insert(file["path"].as_str().context("a path")?.to_owned(), file.clone());
        }
    }
    Ok(files)
}

/// Sequence numbers of all telemetry in files, sorted, with repetitions. The server may merge files meanwhile, so
/// a file that is gone means that the manifest has moved on.
fn kept(folder: &Path) -> Result<Option<Vec<u64>>> {
    let mut seqs = Vec::new();
    for path in files(folder)?.keys().filter(|path| path.starts_with("telemetry/")) {
        let Ok(file) = std::fs::File::open(folder.join(path)) else { return Ok(None) };
        for rows in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let rows = rows?;
            seqs.extend(rows.column_by_name("seq").context("a column seq")?.as_primitive::<UInt64Type>().values());
        }
    }
    seqs.sort_unstable();
    Ok(Some(seqs))
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_are_in_parquet_exactly_once_after_kills() -> Result<()> {
    const EVENTS_PER_ROUND: i64 = 4_000;
    let dir = tempfile::tempdir()?;
    let settings = dir.path().join("own.toml");
    std::fs::write(&settings, SETTINGS)?;
    let mut instance = Instance::start_with(dir.path(), &["--config", settings.to_str().context("a path")?])?;
    let district = district::synthetic(&instance, dir.path(), "History", 10)?;
    let device = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3_i64 {
        let pid = i32::try_from(instance.pid())?;
        let seqs = round * EVENTS_PER_ROUND + 1..(round + 1) * EVENTS_PER_ROUND + 1;
        // SAFETY: the pid is that of the server this test started and has not waited for.
        let kill = || unsafe { _ = libc::kill(pid, libc::SIGKILL) };
        acknowledged.extend(publish(&instance, &device, seqs.clone(), 1_500 + 700 * round as usize, kill).await?);
        instance.kill()?;
        instance.restart()?;
        acknowledged.extend(publish(&instance, &device, seqs, usize::MAX, || ()).await?);
    }
    let wanted: Vec<u64> = acknowledged.iter().map(|seq| seq.cast_unsigned()).collect();
    let folder = dir.path().join("history");
    let mut found = None;
    for _ in 0..600 {
        found = kept(&folder)?;
        if found.as_ref().is_some_and(|found| found.len() >= wanted.len()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(found.as_ref() == Some(&wanted), "{} rows in files, {} acknowledged", found.map_or(0, |found| found.len()), wanted.len());
    let ready: Value = reqwest::get(format!("{}/health/ready", instance.http)).await?.json().await?;
    let check = ready["checks"].as_array().into_iter().flatten().find(|check| check["name"] == "history").context("no line of history")?;
    ensure!(check["ready"] == true, "{check}");
    ensure!(instance.stop()?, "the stop was not in order");
    Ok(())
}

/// After a kill some rows are in files, some of these in the log and hot too, and newer ones hot only: SQL has each once.
#[tokio::test(flavor = "multi_thread")]
async fn one_name_covers_files_and_hot_rows_after_a_kill() -> Result<()> {
    const IN_FILES: i64 = 1_500;
    const HOT: i64 = 400;
    let dir = tempfile::tempdir()?;
    let settings = dir.path().join("own.toml");
    std::fs::write(&settings, SETTINGS)?;
    let mut instance = Instance::start_with(dir.path(), &["--config", settings.to_str().context("a path")?])?;
    let district = district::synthetic(&instance, dir.path(), "History", 60)?;
    district.account(&instance, "office@history.example", "office", None)?;
    let device = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    publish(&instance, &device, 1..IN_FILES + 1, usize::MAX, || ()).await?;
    let folder = dir.path().join("history");
    for _ in 0..600 {
        if kept(&folder)?.is_some_and(|found| found.len() as i64 == IN_FILES) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    instance.kill()?;
    // From now on nothing is written into files within the test's time.
    std::fs::write(&settings, "[history]\nflush_interval_s = 3600\n")?;
    instance.restart()?;
    publish(&instance, &device, IN_FILES + 1..IN_FILES + HOT + 1, usize::MAX, || ()).await?;
    let in_files = kept(&folder)?.context("no file goes meanwhile")?.len() as i64;
    ensure!(in_files == IN_FILES, "{in_files} rows are in files");

    let office = District::sign_in(&instance, "office@history.example").await?;
    let ask = async |sql: &str| office.post("/sql", &serde_json::json!({"sql": sql})).await;
    let all = IN_FILES + HOT;
    let sql = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq), sum(value), count(DISTINCT \"offset\") FROM telemetry WHERE metric = 'steps'";
    let answer = ask(sql).await?;
    let expected = serde_json::json!([[all, all, 1, all, (all * (all + 1) / 2) as f64, all]]);
    ensure!(answer["rows"] == expected && answer["warnings"].as_array().is_none_or(Vec::is_empty), "{answer}");
    let plan = ask("EXPLAIN SELECT sum(value) FROM telemetry").await?.to_string();
    ensure!(plan.contains(".parquet") && plan.contains("HotScan"), "{plan}");
    ensure!(instance.stop()?, "the stop was not in order");
    Ok(())
}
