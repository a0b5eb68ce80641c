//! One live query: computed, compared with what the topic holds, and left alone until something comes that can show in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::rows::Rows;
use crate::hub::Subscription;
use crate::query::caller::Caller;
use crate::query::engine::QueryEngine;
use crate::query::error::QueryError;
use crate::query::reads::Read;

/// Of the average time of a computation, the share of the newest: one of this many.
const AVERAGE_OVER: u64 = 4;

pub struct Live {
    topic: Arc<str>,
    caller: Caller,
    sql: String,
    interval: Duration,
    /// Rows of the last result; `None` before the first.
    made: watch::Sender<Option<usize>>,
    /// Average time of a computation, in microseconds.
    cost_us: AtomicU64,
    ended: OnceLock<QueryError>,
    stop: CancellationToken,
}

/// Of the time that passes, a query computes one part of so many at most.
const SHARE: u32 = 4;

/// One result, and what it was made of.
struct Computed {
    rows: Rows,
    reads: Vec<Read>,
}

impl Live {
    pub fn new(topic: Arc<str>, caller: Caller, sql: String, interval: Duration) -> Self {
        Self {
            topic,
            caller,
            sql,
            interval,
            made: watch::Sender::new(None),
            cost_us: AtomicU64::new(0),
            ended: OnceLock::new(),
            stop: CancellationToken::new(),
        }
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn ended(&self) -> Option<QueryError> {
        self.ended.get().cloned()
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the first result and returns its rows, or why there is none.
    pub async fn first(&self) -> Result<usize, QueryError> {
        let mut made = self.made.subscribe();
        tokio::select! {
            biased;
            made = made.wait_for(Option::is_some) => Ok(made.map_or(0, |made| made.unwrap_or(0))),
            () = self.stop.cancelled() => Err(self.ended().unwrap_or(QueryError::Stopped)),
        }
    }

    /// Keeps the topic until nobody follows it or a computation fails. `held` keeps the topic alive meanwhile.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>, held: Subscription) {
        let error = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            error = self.keep(&shared) => error,
        };
        drop(held);
        shared.metrics.runs.with_label_values(&["failed"]).inc();
        self.end(&shared, error);
    }

    fn end(self: &Arc<Self>, shared: &Shared, error: QueryError) {
        let _ = self.ended.set(error);
        shared.remove(self);
        self.stop.cancel();
    }

    async fn keep(&self, shared: &Shared) -> QueryError {
        let mut pressed = shared.pressed.clone();
        let mut earlier: Option<Rows> = None;
        loop {
            let Ok(turn) = shared.turns.acquire().await else { return QueryError::Stopped };
            calm(&mut pressed).await;
            let began = Instant::now();
            let computed = tokio::select! {
                biased;
                () = behind(&mut pressed) => {
                    shared.metrics.runs.with_label_values(&["cancelled"]).inc();
                    continue;
                }
                computed = self.compute(shared) => computed,
            };
            let took = began.elapsed();
            drop(turn);
            let Computed { rows, reads } = match computed {
                Ok(computed) => computed,
                Err(error) => return error,
            };
            self.count(shared, took);
            let changes = rows.since(earlier.as_ref());
            if earlier.is_none() {
                shared.hub.replace(&self.topic, changes);
            } else {
                shared.hub.update(&self.topic, changes);
            }
            self.made.send_replace(Some(rows.len()));
            earlier = Some(rows);
            news(&shared.engine, reads, shared.config.reread).await;
            tokio::time::sleep_until(began + self.interval.max(took * SHARE)).await;
        }
    }

    async fn compute(&self, shared: &Shared) -> Result<Computed, QueryError> {
        let _running = shared.metrics.begin();
        let mut stream = shared.engine.run(&self.caller, &self.sql, &shared.config.limits).await?;
        let reads = std::mem::take(&mut stream.reads);
        let mut warnings = stream.warnings.clone();
        warnings.extend(reads.iter().filter(|read| read.upto.is_empty()).map(|read| {
            let seconds = shared.config.reread.as_secs();
            format!("{} does not say when it changes; the result is computed again every {seconds} seconds", read.table)
        }));
        let mut rows = Rows::new(&stream.schema, &warnings, stream.is_ordered);
        let key = stream.key.clone();
        while let Some(batch) = stream.next().await {
            rows.add(&batch?, &key).map_err(|error| QueryError::Data { message: error.to_string() })?;
        }
        rows.warn(stream.later_warnings());
        Ok(Computed { rows, reads })
    }

    fn count(&self, shared: &Shared, took: Duration) {
        shared.metrics.runs.with_label_values(&["done"]).inc();
        shared.metrics.run_seconds.observe(took.as_secs_f64());
        let (before, now) = (self.cost_us.load(Ordering::Relaxed), took.as_micros() as u64);
        let average = if before == 0 { now } else { (before * (AVERAGE_OVER - 1) + now) / AVERAGE_OVER };
        self.cost_us.store(average, Ordering::Relaxed);
    }
}

/// Waits until boards are not behind.
async fn calm(pressed: &mut watch::Receiver<bool>) {
    // Whoever knew is gone: nobody says that boards are behind.
    let _ = pressed.wait_for(|pressed| !pressed).await;
}

/// Waits until boards are behind.
async fn behind(pressed: &mut watch::Receiver<bool>) {
    if pressed.wait_for(|pressed| *pressed).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until something has come, since the tables were read, that can show in the result, but no longer than `reread` where a table does
/// not tell.
async fn news(engine: &QueryEngine, reads: Vec<Read>, reread: Duration) {
    let all_tell = reads.iter().all(|read| !read.upto.is_empty());
    let told = told(engine, reads);
    match all_tell {
        true => told.await,
        false => drop(tokio::time::timeout(reread, told).await),
    }
}

/// Waits for what tables tell; for ever when none does.
async fn told(engine: &QueryEngine, reads: Vec<Read>) {
    let followed = |read: Read| engine.source(&read.table).map(|source| (source.changed(), source, read));
    let mut tables: Vec<_> = reads.into_iter().filter_map(followed).filter(|(changed, ..)| !changed.is_empty()).collect();
    loop {
        for (changed, source, read) in &mut tables {
            let position: Vec<u64> = changed.iter_mut().map(|changed| *changed.borrow_and_update()).collect();
            if position != read.upto && read.scans.iter().any(|filters| source.has_news(&read.upto, filters)) {
                return;
            }
            read.upto = position;
        }
        any_changed(tables.iter_mut().flat_map(|(changed, ..)| changed)).await;
    }
}

/// Waits until one of the tables has changed; for ever when none can any more.
async fn any_changed(tables: impl Iterator<Item = &mut watch::Receiver<u64>>) {
    let changed = tables.map(|table| {
        Box::pin(async {
            if table.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let changed: Vec<_> = changed.collect();
    if changed.is_empty() {
        return std::future::pending().await;
    }
    select_all(changed).await;
}

/// Ends the costliest query each time that boards have been behind for as long as the patience.
pub async fn relieve(shared: Weak<Shared>, mut pressed: watch::Receiver<bool>, patience: Duration) {
    loop {
        if pressed.wait_for(|pressed| *pressed).await.is_err() {
            return;
        }
        if tokio::time::timeout(patience, calm(&mut pressed)).await.is_ok() {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        let costliest = {
            let followed = shared.followed.lock();
            followed.queries.values().map(|entry| entry.live.clone()).max_by_key(|live| live.cost_us.load(Ordering::Relaxed))
        };
        if let Some(live) = costliest {
            shared.metrics.relieved.inc();
            live.end(&shared, QueryError::Pressed);
        }
    }
}
