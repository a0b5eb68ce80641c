//! The reader "sink" of the log: every durable row comes into the database exactly once.
//!
//! One transaction moves the reader's offset (the fence: only from where this sink believes it stands), copies the rows of
//! all kinds and districts, and commits. If the outcome of a commit is not known, the next session asks the
//! database where it stands, so nothing is written twice and nothing is left out. While the database is away the log holds the rows.
//!
//! Marks reach the database through here, a moment after they are durable in the log. Who answers for marks at once reads
//! them from live attendance, which follows the same log.

mod encode;
mod metrics;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::ids::Offset;
use rollcall_stream::{Log, LogError, Tail};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attendance::SINK as READER;
use crate::connection::Store;
use crate::error::StoreError;
use encode::{EncodeError, Gathered};
use metrics::SinkMetrics;

/// About how many bytes of columns one transaction takes: some 50,000 scans. Larger ones gain nothing and keep locks longer.
const TRANSACTION_BYTES_MAX: usize = 6 * 1024 * 1024;

/// The longest a transaction may take before the connection is given up as dead.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Bounds of the pause before the database is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why the sink has ended for good. The program must not go on: rows would be lost or doubled.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    #[error("a batch of the log cannot be written")]
    Batch(#[from] EncodeError),
    #[error(
        "the database holds the log's rows up to {database}, but the log ends at {log}: this log is not the one that the database \
         was filled from. Restore the log's folder, or start with an empty database"
    )]
    Ahead { database: Offset, log: Offset },
}

/// How the sink is doing, for readiness.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SinkStatus {
    /// Every row before this is in the database.
    pub next: Offset,
    /// Durable rows that are not yet in the database, as of the last look.
    pub lag_rows: u64,
    /// Why the last attempt failed; `None` while it works.
    pub error: Option<Arc<str>>,
}

/// Writes the log into the database. Make one, take its [`Sink::status`], then [`Sink::run`] it.
pub struct Sink {
    log: Arc<dyn Log>,
    store: Store,
    metrics: SinkMetrics,
    status: watch::Sender<SinkStatus>,
    gathered: Gathered,
    retry: Duration,
}

/// Why a session ended.
enum Ended {
    ForGood(SinkError),
    /// The database: tried again.
    Store(StoreError),
    /// The offset was not where this sink believed; the next session asks.
    FenceLost,
}

impl<E: Into<SinkError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::ForGood(error.into())
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Sink {
    /// Registers its metrics (`rollcall_sink_*`); there is one sink in a program.
    pub fn new(log: Arc<dyn Log>, store: Store, registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            log,
            store,
            metrics: SinkMetrics::register(registry)?,
            status: watch::Sender::new(SinkStatus::default()),
            gathered: Gathered::default(),
            retry: RETRY_MIN,
        })
    }

    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Whether the log goes on where the database stands. Asked before intake opens: what is acknowledged on a log that then
    /// turns out to be the wrong one would be given up with it. A database that cannot be asked is no error here.
    pub async fn check(&self) -> Result<(), SinkError> {
        let asked = async { open_offset(&mut self.store.dedicated().await?).await };
        match asked.await {
            Ok(from) => self.fits(from),
            Err(error) => {
                self.report(describe(&error));
                Ok(())
            }
        }
    }

    fn fits(&self, database: Offset) -> Result<(), SinkError> {
        let (oldest, log) = (self.log.oldest(), *self.log.durable().borrow());
        if database > log {
            return Err(SinkError::Ahead { database, log });
        }
        if database < oldest {
            return Err(LogError::Trimmed { asked: database, oldest }.into());
        }
        Ok(())
    }

    /// Runs until shut down. An interrupted transaction leaves nothing behind. An error is final.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), SinkError> {
        loop {
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Err(ended) = self.session() => ended,
            };
            match ended {
                Ended::ForGood(error) => {
                    self.report(error.to_string());
                    return Err(error);
                }
                Ended::FenceLost => self.metrics.fence_lost.inc(),
                Ended::Store(error) => {
                    self.metrics.errors.inc();
                    self.report(describe(&error));
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.retry) => self.retry = (self.retry * 2).min(RETRY_MAX),
            }
        }
    }

    fn report(&self, message: String) {
        tracing::warn!(error = %message, "the sink cannot write; the log keeps the rows");
        self.status.send_modify(|status| status.error = Some(message.into()));
    }

    /// One connection's life: from where the database stands, on and on.
    async fn session(&mut self) -> Result<Infallible, Ended> {
        let mut connection = self.store.dedicated().await?;
        let from = open_offset(&mut connection).await?;
        self.fits(from)?;
        let mut writer = write::Writer::new(connection, self.store.engine());
        let mut tail = Tail::new(Arc::clone(&self.log), from);
        let mut next = from;
        self.advanced(from);
        loop {
            let read = tail.next(TRANSACTION_BYTES_MAX).await.map_err(SinkError::from)?;
            self.gathered.clear();
            for batch in &read.batches {
                self.gathered.add(batch)?;
            }
            let started = Instant::now();
            let written = tokio::time::timeout(TRANSACTION_TIMEOUT, writer.write(&self.gathered, next, read.next)).await;
            let written = written.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))?;
            if !written {
                return Err(Ended::FenceLost);
            }
            self.metrics.committed(&self.gathered, started.elapsed());
            next = read.next;
            self.retry = RETRY_MIN;
            self.advanced(next);
        }
    }

    /// The rows before `next` are in the database: tells the log, the status and the metrics.
    fn advanced(&mut self, next: Offset) {
        self.log.commit(READER, next);
        let lag_rows = self.log.durable().borrow().0.saturating_sub(next.0);
        self.metrics.lag(lag_rows);
        self.status.send_if_modified(|status| {
            let now = SinkStatus { next, lag_rows, error: None };
            let differs = *status != now;
            *status = now;
            differs
        });
    }
}

/// The message with its causes, for operators.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Where the database stands, from the first row of the log on.
async fn open_offset(connection: &mut PgConnection) -> Result<Offset, StoreError> {
    sqlx::query("insert into rollcall.consumer_offset (reader, next) values ($1, 0) on conflict do nothing")
        .bind(READER)
        .execute(&mut *connection)
        .await?;
    let next: i64 =
        sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1").bind(READER).fetch_one(connection).await?;
    Ok(Offset(next.cast_unsigned()))
}
