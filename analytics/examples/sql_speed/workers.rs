//! The questions on files with workers and without.

use std::path::Path;

use rollcall_analytics::distributed::{self, WorkerConfig, WorkerMetrics, Workers, WorkersConfig};
use rollcall_analytics::history::Place;
use rollcall_analytics::query::tables::event_tables;
use rollcall_analytics::query::{EngineConfig, QueryEngine};
use tokio_util::sync::CancellationToken;

use crate::ask::{ask, median, processor_ms};
use crate::files::{self, Question, THREADS};
use crate::{Result, TURNS};

/// Both sides are this program on this machine.
const TOKEN: &str = "of-a-measurement-on-one-machine-only";

const SHARES_PER_WORKER: usize = 2;

/// A worker until the program is ended.
pub async fn serve(folder: &str, address: &str) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let config = WorkerConfig { token: TOKEN.to_owned(), memory_bytes: 1 << 30, spill_bytes: 1 << 34, spill_dir: None };
    let metrics = WorkerMetrics::register(&prometheus::Registry::new())?;
    Ok(distributed::run(Place::folder(Path::new(folder))?, config, metrics, listener, None, CancellationToken::new()).await?)
}

pub async fn run(folder: &str, rows: u64, urls: &[&str]) -> Result<()> {
    let (tables, history) = files::prepare(folder, rows).await?;
    let engine = || {
        let engine = QueryEngine::new(EngineConfig { threads: THREADS, ..EngineConfig::default() })?;
        event_tables(&tables, Some(&history)).into_iter().for_each(|table| engine.register(table));
        std::io::Result::Ok(engine)
    };
    let (alone, with) = (engine()?, engine()?);
    let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
    println!("{} workers, {SHARES_PER_WORKER} shares each", urls.len());
    let config = WorkersConfig { urls, token: TOKEN.to_owned(), authority: None, shares_per_worker: SHARES_PER_WORKER, bytes_min: 0 };
    with.share_with(Workers::new(config, &prometheus::Registry::new())?);
    println!(
        "| question | alone ms | with workers ms | ratio | the server's CPU ms alone | with workers |\n| --- | --- | --- | --- | --- | --- |"
    );
    for Question { name, caller, sql } in files::questions() {
        let (mut times, mut used) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for turn in 0..=TURNS {
            for (at, engine) in [&alone, &with].into_iter().enumerate() {
                let begun = processor_ms();
                let (ms, _) = ask(engine, &caller, &sql).await?;
                // The first turn reads footers and fills caches of the system.
                if turn > 0 {
                    times[at].push(ms);
                    used[at].push(processor_ms() - begun);
                }
            }
        }
        let ([alone, with], [cpu_alone, cpu_with]) = (times.map(median), used.map(median));
        println!("| {name} | {alone:.1} | {with:.1} | {:.2} | {cpu_alone:.1} | {cpu_with:.1} |", with / alone);
    }
    Ok(())
}
