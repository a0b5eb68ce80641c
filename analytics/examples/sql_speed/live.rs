//! What following a question about one school adds to each batch that the log brings, on top of the hot rows that are there.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rollcall_analytics::hot::HotTables;
use rollcall_analytics::hub::Hub;
use rollcall_analytics::query::QueryEngine;
use rollcall_analytics::query::live::{LiveConfig, LiveQueries};
use rollcall_model::ids::Offset;
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use rollcall_stream::EventBatch;
use tokio::sync::watch;

use crate::ask::{caller, processor_ms};
use crate::measured::Measured;
use crate::{Result, data};

/// Batches of a measurement, how many rows each has, and how often one comes.
const BATCHES: u64 = 500;
const BATCH_ROWS: u64 = 1_000;
const EVERY: Duration = Duration::from_millis(10);
/// What following may add to a batch, in milliseconds of processor time.
const MORE_MS_MAX: f64 = 1.0;

/// The tables with what comes next.
struct Growing {
    tables: Arc<HotTables>,
    next: u64,
    all: u64,
}

impl Growing {
    /// Milliseconds of processor time for a batch, of all schools or of all but one.
    async fn grow(&mut self, leave_out: Option<u64>) -> f64 {
        let mut batches = Vec::new();
        for _ in 0..BATCHES {
            let acts = match leave_out {
                Some(school) => data::acts_without(self.next..self.next + BATCH_ROWS, self.all, school),
                None => data::acts(self.next..self.next + BATCH_ROWS, self.all),
            };
            let batch = EventBatch { first: Offset(self.next), ..acts };
            self.next = batch.next().0;
            batches.push(batch);
        }
        let begun = processor_ms();
        let mut tick = tokio::time::interval(EVERY);
        for batch in batches {
            tick.tick().await;
            let next = batch.next();
            self.tables.take(&[batch], next, UtcMillis(data::START_MS + data::DAY_MS));
        }
        (processor_ms() - begun) / BATCHES as f64
    }
}

pub async fn run(tables: &Arc<HotTables>, engine: &QueryEngine, rows: u64) -> Result<()> {
    let mut growing = Growing { tables: Arc::clone(tables), next: rows, all: rows };
    let registry = Registry::new();
    let live = LiveQueries::new(engine, Hub::new(UtcMillis(1)), LiveConfig::default(), watch::channel(false).1, &registry)?;
    let runs = || -> u64 {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "rollcall_live_sql_runs_total");
        family.map_or(0, |family| family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum())
    };
    let school = data::school(41);
    let sql = format!("select section, count(*), sum(dur_ms) from activity where school = '{school}' group by section");
    let batch = format!("a batch of {BATCH_ROWS} rows, one every {} ms", EVERY.as_millis());
    let alone = growing.grow(None).await;
    Measured::new(format!("{batch}: nobody follows"), BATCH_ROWS, alone, alone).tell();
    let following = live.follow(&caller(Role::Office), &sql).await?;
    for (name, leave_out) in [("a school followed, batches of all schools", None), ("a school followed, batches of the others", Some(41))] {
        let before = runs();
        let followed = growing.grow(leave_out).await;
        let more = followed - alone;
        let note = format!("{more:.3} ms more than without; computed {} times in {BATCHES} batches", runs() - before);
        let bar = format!("{MORE_MS_MAX} ms of processor time more");
        Measured::new(format!("{batch}: {name}"), BATCH_ROWS, followed, followed).bar(&bar, more <= MORE_MS_MAX).note(note).tell();
    }
    drop(following);
    Ok(())
}
