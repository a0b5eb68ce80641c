//! Measures the real server from outside: starts a fresh one, runs a bounded load from separate processes, prints a table
//! and writes JSON. Latency is open-loop: each event has its time to be sent, and the clock runs from that time on, whether or
//! not the sender was late (no coordinated omission).

mod load;
mod machine;
mod scan_to_board;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "rollcall-bench", about = "Measure the Rollcall server")]
struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// Where the results are written as JSON
    #[arg(long, global = true, default_value = "target/bench.json")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Scenario {
    /// Scan published to delta received by a WebSocket subscriber, idle and under telemetry
    ScanToBoard(scan_to_board::Options),
    /// A load generator; the scenarios start it as a process of its own
    #[command(hide = true)]
    Load(load::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let rows = match cli.scenario {
        Some(Scenario::Load(options)) => return load::run(options).await,
        Some(Scenario::ScanToBoard(options)) => scan_to_board::run(&options).await?,
        None => scan_to_board::run(&scan_to_board::Options::default()).await?,
    };
    table::print(&rows);
    table::write(&cli.out, &rows)
}
