//! The reader "rollup" of the log: what each device said on each date, and the scans of each student, as rows that a look-up reads
//! instead of the events.
//!
//! # Promises
//! - Every durable row of the log is in the rollups exactly once: a transaction adds what a stretch of the log gives and moves the
//!   reader's offset, only from where this reader believes it stands.
//! - Within about [`INTERVAL`] of being durable while the database takes it. Intake and the sink never wait for it; the log keeps
//!   its rows until they are added.
//! - An event belongs to the school's local date on which it happened, whenever it comes.
//! - Without the reader's row in `consumer_offset` the rollups are made anew from the event tables, date by date beside the reader, and a
//!   crash costs one date's work. Dates of which events are not kept any more stay as they are.
//! - What the log said of a person before an erasure ([`crate::erasure`]) is in no rollup of people. Those of devices count no people.
//! - Rows whose date is older than `Retention::rollup_days` are deleted by [`crate::maintenance`].
//! - Of people only students are rolled up, and only their scans: what they did in learning apps is for nobody to look up by day.

mod expire;
mod gather;
mod rebuild;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::{Log, LogError, ReadBatch, Tail};
use sqlx::PgConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::Store;
use crate::directory::DirectoryCache;
use crate::erasure::Erased;
use crate::error::StoreError;
pub(crate) use expire::expire;
use gather::Gathered;
use rebuild::Rebuild;

/// The name under which the log keeps rows for this reader, and the database its offset.
pub const READER: &str = "rollup";

/// Kinds that are rolled up.
const KINDS: [Kind; 4] = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Status];

/// How long rows are gathered: of a device that speaks every second one row is written for so many of its own.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Rows of the rollups that are gathered at most; then they are written at once.
const GATHERED_MAX: usize = 100_000;

/// Bytes of columns that are read from the log at a time.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The longest that a transaction of the reader may take. One that makes a date anew is not bounded.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds of the pause before the database is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Pause of making dates anew while the sink has not written what the reader has read.
const SINK_PAUSE: Duration = Duration::from_millis(500);

/// Writes the rollups. Make one, then [`Rollups::run`] it.
pub struct Rollups {
    log: Arc<dyn Log>,
    store: Store,
    directory: Arc<DirectoryCache>,
    interval: Duration,
    written: watch::Sender<Offset>,
    /// Dates that are to be made anew.
    left: watch::Sender<u64>,
    opened: Notify,
    dates_left: IntGauge,
    rows: IntCounter,
    errors: IntCounter,
    seconds: Histogram,
}

/// Why a session ended.
enum Ended {
    ForGood(LogError),
    /// Tried again, from where the database stands.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Ended {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Rollups {
    /// Registers its metrics (`rollcall_rollup_*`); there is one such reader in a program.
    pub fn new(log: Arc<dyn Log>, store: Store, directory: Arc<DirectoryCache>, registry: &Registry) -> Result<Self, prometheus::Error> {
        let rows = IntCounter::new("rollcall_rollup_rows_total", "Rows of the rollups that were written or changed")?;
        let errors = IntCounter::new("rollcall_rollup_errors_total", "Attempts of the rollups that failed and are tried again")?;
        let dates_left = IntGauge::new("rollcall_rollup_rebuild_dates", "Dates of the rollups that are still to be made anew")?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new("rollcall_rollup_transaction_seconds", "Time of one transaction of the rollups")
                .buckets(vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
        )?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(dates_left.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        let (written, left, opened) = (watch::Sender::new(Offset(0)), watch::Sender::new(0), Notify::new());
        Ok(Self { log, store, directory, interval: INTERVAL, written, left, opened, dates_left, rows, errors, seconds })
    }

    /// Up to where the log is in the rollups.
    pub fn written(&self) -> watch::Receiver<Offset> {
        self.written.subscribe()
    }

    /// How many dates are still to be made anew, of all districts and both rollups; it is known once [`Rollups::written`] is.
    pub fn dates_left(&self) -> watch::Receiver<u64> {
        self.left.subscribe()
    }

    /// Gathers for another time than [`INTERVAL`].
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Runs until shut down. An interrupted transaction leaves nothing behind. An error is the log's and final.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), LogError> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            Err(error) = self.read() => Err(error),
            never = self.remake() => match never {},
        }
    }

    async fn read(&self) -> Result<Infallible, LogError> {
        let mut retry = RETRY_MIN;
        loop {
            let Err(ended) = self.session(&mut retry).await;
            match ended {
                Ended::ForGood(error) => return Err(error),
                Ended::Store(error) => {
                    self.errors.inc();
                    tracing::warn!(%error, "rollups cannot be written; the log keeps the rows");
                }
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// One connection's life: from where the database stands, on and on.
    async fn session(&self, retry: &mut Duration) -> Result<Infallible, Ended> {
        let mut connection = self.store.dedicated().await?;
        let mut next = write::open(&mut connection, &self.store, self.log.oldest()).await?;
        self.show(&rebuild::pending(&mut connection).await?);
        self.opened.notify_one();
        self.advanced(next);
        let mut tail = Tail::new(self.log.clone(), next).only(&KINDS);
        loop {
            let mut gathered = Gathered::without(Erased::since(&mut connection, next).await?);
            let upto = self.gather(&mut tail, &mut gathered).await.map_err(Ended::ForGood)?;
            if self.write(&mut connection, &gathered, (next, upto)).await? {
                next = upto;
                self.advanced(next);
            } else {
                tail = Tail::new(self.log.clone(), next).only(&KINDS);
            }
            *retry = RETRY_MIN;
        }
    }

    /// Makes anew what is asked for, now and whenever a session has begun.
    async fn remake(&self) -> Infallible {
        let mut retry = RETRY_MIN;
        loop {
            self.opened.notified().await;
            while let Err(error) = self.remake_all(&mut retry).await {
                self.errors.inc();
                tracing::warn!(%error, "rollups cannot be made anew; it is tried again");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }

    async fn remake_all(&self, retry: &mut Duration) -> Result<(), StoreError> {
        let mut connection = self.store.dedicated().await?;
        loop {
            let pending = rebuild::pending(&mut connection).await?;
            self.show(&pending);
            if pending.is_empty() {
                return Ok(());
            }
            let mut is_moving = false;
            for rebuild in &pending {
                is_moving |= rebuild::step(&mut connection, rebuild).await?;
            }
            *retry = RETRY_MIN;
            if !is_moving {
                tokio::time::sleep(SINK_PAUSE).await;
            }
        }
    }

    fn show(&self, pending: &[Rebuild]) {
        let dates = pending.iter().map(Rebuild::dates).sum();
        self.dates_left.set(i64::try_from(dates).unwrap_or(i64::MAX));
        self.left.send_replace(dates);
    }

    fn advanced(&self, next: Offset) {
        self.log.commit(READER, next);
        self.written.send_replace(next);
    }

    /// Reads on for the interval, or until enough is gathered; at least once. Returns where the next stretch begins.
    async fn gather(&self, tail: &mut Tail, gathered: &mut Gathered) -> Result<Offset, LogError> {
        self.add(&tail.next(READ_BYTES_MAX).await?, gathered);
        let until = Instant::now() + self.interval;
        while gathered.len() < GATHERED_MAX {
            match tokio::time::timeout_at(until, tail.next(READ_BYTES_MAX)).await {
                Ok(read) => self.add(&read?, gathered),
                Err(_) => break,
            }
        }
        Ok(tail.position())
    }

    fn add(&self, read: &ReadBatch, gathered: &mut Gathered) {
        let directory = self.directory.current();
        for batch in &read.batches {
            if let Err(error) = gathered.add(batch, &directory) {
                // The sink puts such rows into the dead letters.
                tracing::warn!(%error, rows = batch.len(), "rows cannot be read and are in no rollup");
            }
        }
    }

    async fn write(&self, connection: &mut PgConnection, gathered: &Gathered, offsets: (Offset, Offset)) -> Result<bool, StoreError> {
        let begun = Instant::now();
        let written = tokio::time::timeout(TRANSACTION_TIMEOUT, write::write(connection, gathered, offsets)).await;
        let is_written = written.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))?;
        if is_written {
            self.rows.inc_by(gathered.len() as u64);
        }
        self.seconds.observe(begun.elapsed().as_secs_f64());
        Ok(is_written)
    }
}
