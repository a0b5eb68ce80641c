//! Measures the real server from outside: starts a fresh one for each scenario, runs a bounded load from separate processes,
//! prints a table and writes JSON. Latency is open-loop: each event has its time to be sent, and the clock runs from that time
//! on, whether or not the sender was late (no coordinated omission).
//!
//! A scenario is one file in `scenarios` and one line in its table.

mod fresh;
mod gate;
mod load;
mod machine;
mod meter;
mod readings;
mod scenarios;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "rollcall-bench", about = "Measure the Rollcall server", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    inner: Option<Inner>,
    #[command(flatten)]
    wish: Wish,
}

#[derive(Subcommand)]
enum Inner {
    /// A load generator; the scenarios start it as a process of its own
    #[command(hide = true, subcommand)]
    Load(load::Load),
}

#[derive(Args)]
struct Wish {
    /// Scenarios to run, in this order; none: all
    scenarios: Vec<String>,
    /// How long each scenario may load the server, in seconds; starting and seeding come on top
    #[arg(long, default_value_t = 24)]
    seconds: u64,
    /// Leave other systems out
    #[arg(long)]
    no_peers: bool,
    /// An empty PostgreSQL, such as one with TimescaleDB, for the scenario sink instead of the private one
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Print the scenarios and end
    #[arg(long)]
    list: bool,
    /// Where the results are written as JSON; a Markdown table goes beside it
    #[arg(long, default_value = "target/bench.json")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    machine::raise_descriptors();
    match cli.inner {
        Some(Inner::Load(load)) => load.run(),
        None => measure(&cli.wish),
    }
}

fn measure(wish: &Wish) -> Result<()> {
    if wish.list {
        scenarios::ALL.iter().for_each(|scenario| println!("{:<16} {}", scenario.name, scenario.about));
        return Ok(());
    }
    let chosen = chosen(&wish.scenarios)?;
    let settings = scenarios::Settings { seconds: wish.seconds.max(4), peers: !wish.no_peers, database_url: wish.database_url.clone() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = table::Report::begin()?;
    let mut failed = Vec::new();
    for scenario in chosen {
        eprintln!("\n== {}: {}", scenario.name, scenario.about);
        let began = Instant::now();
        match runtime.block_on((scenario.run)(settings.clone())) {
            Ok(rows) => {
                table::print(&rows);
                report.rows.extend(rows);
            }
            // The others are worth having all the same; the exit code tells.
            Err(error) => {
                eprintln!("{} failed: {error:#}", scenario.name);
                failed.push(scenario.name);
            }
        }
        eprintln!("== {} took {:.0} s", scenario.name, began.elapsed().as_secs_f64());
        report.write(&wish.out)?;
    }
    println!("\n{}", report.machine);
    table::print(&report.rows);
    println!("written to {}", wish.out.display());
    if !failed.is_empty() {
        bail!("no result: {}", failed.join(", "));
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static scenarios::Scenario>> {
    if names.is_empty() {
        return Ok(scenarios::ALL.iter().collect());
    }
    let find = |name: &String| {
        let known = || scenarios::ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
        scenarios::ALL.iter().find(|scenario| scenario.name == name).with_context(|| format!("no scenario {name:?}; there are {}", known()))
    };
    names.iter().map(find).collect()
}
