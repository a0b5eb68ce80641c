//! The reader "rollup" of the log: what each device said on each date, and the scans of each student, as rows that a look-up reads
//! instead of the events.
//!
//! # Promises
//! - Every durable row of the log is in the rollups exactly once: a transaction adds what a stretch of the log gives and moves the
//!   reader's offset, only from where this reader believes it stands.
//! - Within about [`INTERVAL`] of being durable while the database takes it. Intake and the sink never wait for it; the log keeps
//!   its rows until they are added.
//! - An event belongs to the school's local date on which it happened, whenever it comes.
//! - Without the reader's row in `consumer_offset` the rollups are made anew from the event tables, in one transaction with the
//!   offset up to which those have the log. What events retention has removed by then is not in them.
//! - Of people only students are rolled up, and only their scans: what they did in learning apps is for nobody to look up by day.

mod gather;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::{Log, LogError, ReadBatch, Tail};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::Store;
use crate::directory::DirectoryCache;
use crate::error::StoreError;
use gather::Gathered;

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

/// The longest that a transaction may take. One that makes everything anew is not bounded.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds of the pause before the database is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Writes the rollups. Make one, then [`Rollups::run`] it.
pub struct Rollups {
    log: Arc<dyn Log>,
    store: Store,
    directory: Arc<DirectoryCache>,
    interval: Duration,
    written: watch::Sender<Offset>,
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
        let seconds = Histogram::with_opts(
            HistogramOpts::new("rollcall_rollup_transaction_seconds", "Time of one transaction of the rollups")
                .buckets(vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
        )?;
        registry.register(Box::new(rows.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { log, store, directory, interval: INTERVAL, written: watch::Sender::new(Offset(0)), rows, errors, seconds })
    }

    /// Up to where the log is in the rollups.
    pub fn written(&self) -> watch::Receiver<Offset> {
        self.written.subscribe()
    }

    /// Gathers for another time than [`INTERVAL`].
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Runs until shut down. An interrupted transaction leaves nothing behind. An error is the log's and final.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), LogError> {
        let mut retry = RETRY_MIN;
        loop {
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Err(ended) = self.session(&mut retry) => ended,
            };
            match ended {
                Ended::ForGood(error) => return Err(error),
                Ended::Store(error) => {
                    self.errors.inc();
                    tracing::warn!(%error, "rollups cannot be written; the log keeps the rows");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(retry) => retry = (retry * 2).min(RETRY_MAX),
            }
        }
    }

    /// One connection's life: from where the database stands, on and on.
    async fn session(&self, retry: &mut Duration) -> Result<Infallible, Ended> {
        let mut connection = self.store.dedicated().await?;
        let mut next = write::open(&mut connection, &self.store, self.log.oldest()).await?;
        self.advanced(next);
        let mut tail = Tail::new(self.log.clone(), next).only(&KINDS);
        let mut gathered = Gathered::default();
        loop {
            let upto = self.gather(&mut tail, &mut gathered).await.map_err(Ended::ForGood)?;
            self.write(&mut connection, &gathered, (next, upto)).await?;
            gathered.clear();
            next = upto;
            *retry = RETRY_MIN;
            self.advanced(next);
        }
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

    async fn write(&self, connection: &mut PgConnection, gathered: &Gathered, offsets: (Offset, Offset)) -> Result<(), StoreError> {
        let begun = Instant::now();
        let written = tokio::time::timeout(TRANSACTION_TIMEOUT, write::write(connection, gathered, offsets)).await;
        written.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))?;
        self.rows.inc_by(gathered.len() as u64);
        self.seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }
}
