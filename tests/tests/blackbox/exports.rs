//! A scheduled export over a kill: what was due before is written once after the next start, whole, and said to be done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::{self, District};
use rollcall_tests::{Instance, Launch};
use serde_json::json;

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
    let mut listed = analyst.get("/exports").await?;
    for _ in 0..600 {
        if listed["items"][0]["last_outcome"] != json!(null) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        listed = analyst.get("/exports").await?;
    }
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
