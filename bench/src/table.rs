//! Results as a table for people and as JSON for machines.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

#[derive(Serialize)]
pub struct Row {
    pub scenario: String,
    pub what: String,
    /// Events a second over the measured time.
    pub rate_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// CPU seconds of the server alone, its database aside, over the measured time.
    pub server_cpu_s: f64,
    pub server_memory_mib: f64,
    /// Bytes of the log on disk at the end.
    pub log_mib: f64,
}

pub fn print(rows: &[Row]) {
    println!(
        "{:<16} {:<34} {:>10} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}",
        "scenario", "what", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "cpu s", "MiB", "log MiB"
    );
    for row in rows {
        println!(
            "{:<16} {:<34} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>8.2} {:>8.1} {:>8.1}",
            row.scenario,
            row.what,
            row.rate_per_s,
            row.p50_ms,
            row.p99_ms,
            row.p999_ms,
            row.server_cpu_s,
            row.server_memory_mib,
            row.log_mib
        );
    }
}

pub fn write(path: &Path, rows: &[Row]) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, serde_json::to_vec_pretty(rows)?)?;
    println!("written to {}", path.display());
    Ok(())
}
