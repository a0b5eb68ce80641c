//! `sql-hot`, `sql-files`, `engagement`: the query engine and the engagement of classes by themselves, without a server around
//! them. The programs are examples of the analytics crate, which ask the engine as its doors do; each runs as a process of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

use super::Settings;
use crate::table::Row;

/// Longer than any of them takes on two busy processors.
const TIME_MAX: Duration = Duration::from_secs(15 * 60);

const HOT_ROWS: u64 = 10_000_000;
const FILE_ROWS: u64 = 50_000_000;

/// A line that a program prints.
#[derive(Deserialize)]
struct Measured {
    what: String,
    events: u64,
    ms: f64,
    cpu_ms: f64,
    against: Option<(String, f64)>,
    bar: Option<(String, bool)>,
    notes: Vec<String>,
}

impl Measured {
    fn row(self, scenario: &'static str) -> Row {
        let mut row = Row::new(scenario, self.what, self.events, self.ms / 1000.0);
        if self.ms > 0.0 {
            row = row.note(format!("{:.2} ms, {:.2} ms of processor time", self.ms, self.cpu_ms));
        }
        if let Some((name, ratio)) = self.against {
            row = row.against(name, ratio);
        }
        if let Some((text, reached)) = self.bar {
            row = row.bar(text, reached);
        }
        self.notes.into_iter().fold(row, Row::note)
    }
}

pub async fn hot(_: Settings) -> Result<Vec<Row>> {
    rows("sql-hot", "sql_speed", &["hot", &HOT_ROWS.to_string()]).await
}

/// The files are made anew, so they are what this build writes.
pub async fn files(settings: Settings) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let (folder, count) = (folder.path().to_string_lossy(), FILE_ROWS.to_string());
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/.venv/bin/python");
    let python = python.to_string_lossy();
    let mut args = vec!["files", &*folder, &count];
    if settings.peers {
        args.push(&python);
    }
    rows("sql-files", "sql_speed", &args).await
}

pub async fn engagement(_: Settings) -> Result<Vec<Row>> {
    rows("engagement", "engagement_tick", &[]).await
}

/// Runs a program that stands beside this one and reads what it measured.
async fn rows(scenario: &'static str, program: &str, args: &[&str]) -> Result<Vec<Row>> {
    let path = beside(program)?;
    let mut command = Command::new(&path);
    command.args(args).env("ROLLCALL_BENCH_JSON", "1").kill_on_drop(true);
    let output = tokio::time::timeout(TIME_MAX, command.output()).await.with_context(|| format!("{program} did not end"))?;
    let output = output.with_context(|| format!("{} is not there; cargo xtask bench builds it", path.display()))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout)?;
    let rows: Vec<Row> = lines
        .lines()
        .map(|line| Ok(serde_json::from_str::<Measured>(line)?.row(scenario)))
        .collect::<Result<_>>()
        .with_context(|| lines.clone())?;
    ensure!(!rows.is_empty(), "{program} measured nothing");
    Ok(rows)
}

fn beside(program: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.parent().context("this program stands in no folder")?.join("examples").join(program))
}
