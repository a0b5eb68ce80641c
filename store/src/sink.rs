//! The reader "sink" of the log: every durable row comes into the database exactly once.
//!
//! One transaction copies the rows of all kinds and districts, moves the reader's offset (the fence: only from where this sink
//! believes it stands), and commits. If the outcome of a commit is not known, the next session asks the
//! database where it stands, so nothing is written twice and nothing is left out. While the database is away the log holds the rows.
//! Two transactions may be on their way at once, see [`pipeline`](self).
//!
//! No row stops it. What cannot be stored as what it is goes into the dead letters, with a warning: rows that this program cannot
//! read (see [`rows`](self)), and rows that the database refuses for what is in them, which are found by halving.
//!
//! Marks reach the database through here, a moment after they are durable in the log. Who answers for marks at once reads
//! them from live attendance, which follows the same log.

pub(crate) mod columns;
mod compress;
mod encode;
mod gathered;
mod metrics;
mod pipeline;
mod read_ahead;
mod rows;
mod suspect;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::{Log, LogError};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attendance::SINK as READER;
use crate::connection::Store;
use crate::error::StoreError;
use metrics::SinkMetrics;
use pipeline::{Landed, Lane, Pipeline, Refused};
use read_ahead::ReadAhead;
pub use rows::UNSTORABLE;
use suspect::Suspect;
use write::Outcome;

/// Bounds of the pause before the database is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why the sink has ended for good. The program must not go on: rows would be lost or doubled.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("the log cannot be read")]
    Log(#[from] LogError),
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
    /// Why the last attempt failed; `None` while it works.
    pub error: Option<Arc<str>>,
    /// Rows put into the dead letters since the start, because they could not be stored as what they are.
    pub unstorable: u64,
    /// Why, for the last of them.
    pub unstorable_reason: Option<Arc<str>>,
    /// TimescaleDB was to compress rows as they came, and wrote them as rows.
    pub compress_fell_back: bool,
}

impl SinkStatus {
    /// What somebody should look at although everything works.
    pub fn warning(&self) -> Option<String> {
        let mut warnings = Vec::new();
        if self.unstorable > 0 {
            let reason = self.unstorable_reason.as_deref().unwrap_or_default();
            warnings.push(format!("{} rows could not be stored and are in the dead letters, the last because: {reason}", self.unstorable));
        }
        if self.compress_fell_back {
            warnings.push(
                "TimescaleDB writes events as rows instead of compressing them: has an event table a trigger, a unique constraint or a \
                 foreign key?"
                    .to_owned(),
            );
        }
        (!warnings.is_empty()).then(|| warnings.join("; "))
    }
}

/// Writes the log into the database. Make one, take its [`Sink::status`], then [`Sink::run`] it.
pub struct Sink {
    log: Arc<dyn Log>,
    store: Store,
    metrics: SinkMetrics,
    status: watch::Sender<SinkStatus>,
    marks: watch::Sender<u64>,
    suspect: Option<Suspect>,
    retry: Duration,
}

/// Why a session ended.
enum Ended {
    ForGood(SinkError),
    /// The database: tried again.
    Store(StoreError),
    /// The database refused some of the rows; the next session looks for them.
    Suspect,
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
        let status = watch::Sender::new(SinkStatus::default());
        let metrics = SinkMetrics::register(registry, &*log, status.subscribe())?;
        Ok(Self { log, store, metrics, status, marks: watch::Sender::new(0), suspect: None, retry: RETRY_MIN })
    }

    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Moves after each transaction that wrote marks.
    pub fn marks(&self) -> watch::Receiver<u64> {
        self.marks.subscribe()
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
                Ended::Suspect => continue,
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
        // A transaction whose outcome was not known may have written some.
        self.marks.send_modify(|writes| *writes += 1);
        let mut lane = Lane::new(connection, &self.store);
        self.advanced(from, Duration::ZERO);
        let mut next = self.search(&mut lane, from).await?;
        let mut reads = ReadAhead::start(&self.log, next);
        let mut pipeline = Pipeline::new(&self.store, lane);
        loop {
            tokio::select! {
                biased;
                landed = pipeline.landed(), if !pipeline.is_empty() => self.landed(&mut pipeline, landed)?,
                read = reads.next(), if pipeline.has_room() => {
                    let read = read?;
                    let expected = std::mem::replace(&mut next, read.next);
                    pipeline.start(&self.store, read, expected).await?;
                }
            }
        }
    }

    fn landed(&mut self, pipeline: &mut Pipeline, landed: Result<Landed, Refused>) -> Result<(), Ended> {
        match landed {
            Ok(Landed { lane, outcome: Outcome::Committed, next, took }) => {
                self.committed(&lane, next, took);
                pipeline.rest(lane);
                Ok(())
            }
            Ok(_) => Err(Ended::FenceLost),
            Err(Refused { error, rows }) => Err(self.refused(error, rows)),
        }
    }

    fn committed(&mut self, lane: &Lane, next: Offset, took: Duration) {
        self.retry = RETRY_MIN;
        self.metrics.committed(&lane.gathered);
        if lane.gathered.rows(Kind::Mark) > 0 {
            self.marks.send_modify(|writes| *writes += 1);
        }
        let tables = &lane.gathered.tables;
        if let Some(reason) = &tables.reason {
            tracing::error!(rows = tables.unstorable, %reason, before = %next, "rows cannot be stored; they are in the dead letters");
            self.status.send_modify(|status| {
                status.unstorable += tables.unstorable;
                status.unstorable_reason = Some(reason.as_str().into());
            });
        }
        if let Some(fell_back) = lane.compress_fell_back() {
            self.metrics.compress_fell_back.set(i64::from(fell_back));
            let before = self.status.send_if_modified(|status| std::mem::replace(&mut status.compress_fell_back, fell_back) != fell_back);
            if before && fell_back {
                tracing::error!("TimescaleDB does not compress events as they come, but writes them as rows");
            }
        }
        self.advanced(next, took);
    }

    /// The rows before `next` are in the database: tells the log, the status and the metrics.
    fn advanced(&mut self, next: Offset, took: Duration) {
        self.log.commit(READER, next);
        if !took.is_zero() {
            self.metrics.took(took);
        }
        let is_behind = *self.log.durable().borrow() > next;
        self.status.send_if_modified(|status| {
            // Only a commit, or nothing to commit, shows that the trouble is over.
            let error = status.error.clone().filter(|_| took.is_zero() && is_behind);
            let now = SinkStatus { next, error, ..status.clone() };
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
