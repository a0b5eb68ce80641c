//! Transactions of the sink side by side, committed strictly one after another.
//!
//! On plain PostgreSQL two are on their way at a time: while the server takes in the rows of one, the next is encoded and
//! copied on a connection of its own, and its rows hide the other's wait for the disk. Each transaction moves the
//! offset only after the one before has committed, and only from where that one left it: so the rows in the database are
//! at every moment exactly those before the offset, as if there had been one connection. If one fails, those after it roll back.
//!
//! With TimescaleDB there is one at a time: a COPY may create a chunk or change its state, and holds locks for that until it
//! commits, which the transaction before could come to wait for.

use std::collections::VecDeque;
use std::time::Duration;

use rollcall_model::ids::Offset;
use rollcall_stream::ReadBatch;
use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::gathered::Gathered;
use super::write::{Outcome, Writer};
use crate::connection::{Engine, Store};
use crate::error::StoreError;

/// Transactions on their way at once on plain PostgreSQL.
const LANES: usize = 2;

/// The longest a transaction may take, its wait for the one before included, before the connection is given up as dead.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection and the buffers for its transaction.
pub(super) struct Lane {
    writer: Writer,
    pub gathered: Gathered,
}

impl Lane {
    pub fn new(connection: PgConnection, store: &Store) -> Self {
        let by_day = *store.engine() == Engine::Plain;
        Self { writer: Writer::new(connection, store.engine()), gathered: Gathered::new(by_day) }
    }

    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self::new(store.dedicated().await?, store))
    }

    /// Gathers and writes what was read from `expected` on.
    pub async fn write(&mut self, read: &ReadBatch, expected: Offset, turn: oneshot::Receiver<()>) -> Result<Outcome, StoreError> {
        self.gathered.clear();
        for batch in &read.batches {
            self.gathered.add(batch);
        }
        self.send(expected, read.next, turn).await
    }

    /// Writes what has been gathered, with nobody before it.
    pub async fn write_gathered(&mut self, expected: Offset, next: Offset) -> Result<Outcome, StoreError> {
        self.send(expected, next, granted()).await
    }

    async fn send(&mut self, expected: Offset, next: Offset, turn: oneshot::Receiver<()>) -> Result<Outcome, StoreError> {
        let written = tokio::time::timeout(TRANSACTION_TIMEOUT, self.writer.write(&self.gathered, expected, next, turn)).await;
        written.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
    }

    pub fn compress_fell_back(&self) -> Option<bool> {
        self.writer.compress_fell_back()
    }
}

/// A turn that has come.
pub(super) fn granted() -> oneshot::Receiver<()> {
    let (grant, turn) = oneshot::channel();
    let _ = grant.send(());
    turn
}

/// A transaction that has ended.
pub(super) struct Landed {
    pub lane: Lane,
    pub outcome: Outcome,
    pub next: Offset,
    pub took: Duration,
}

/// A transaction that the database refused, and how many rows of the log it had.
pub(super) struct Refused {
    pub error: StoreError,
    pub rows: u64,
}

pub(super) struct Pipeline {
    lanes_max: usize,
    idle: Vec<Lane>,
    /// In the order in which they commit.
    flights: VecDeque<AbortOnDropHandle<Result<Landed, Refused>>>,
    /// Comes when the last of `flights` has committed.
    turn: oneshot::Receiver<()>,
}

impl Pipeline {
    pub fn new(store: &Store, first: Lane) -> Self {
        let lanes_max = if *store.engine() == Engine::Plain { LANES } else { 1 };
        Self { lanes_max, idle: vec![first], flights: VecDeque::new(), turn: granted() }
    }

    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.flights.len() < self.lanes_max
    }

    /// Sends what was read from `expected` on its way.
    pub async fn start(&mut self, store: &Store, read: ReadBatch, expected: Offset) -> Result<(), StoreError> {
        let mut lane = match self.idle.pop() {
            Some(lane) => lane,
            None => Lane::open(store).await?,
        };
        let (committed, following) = oneshot::channel();
        let turn = std::mem::replace(&mut self.turn, following);
        let flight = async move {
            let began = Instant::now();
            match lane.write(&read, expected, turn).await {
                Ok(outcome) => {
                    if outcome == Outcome::Committed {
                        let _ = committed.send(());
                    }
                    Ok(Landed { lane, outcome, next: read.next, took: began.elapsed() })
                }
                Err(error) => Err(Refused { error, rows: read.next.0 - expected.0 }),
            }
        };
        self.flights.push_back(AbortOnDropHandle::new(tokio::spawn(flight)));
        Ok(())
    }

    /// Waits for the oldest transaction; never returns when there is none. Dropping the future loses nothing.
    pub async fn landed(&mut self) -> Result<Landed, Refused> {
        let Some(flight) = self.flights.front_mut() else { return std::future::pending().await };
        let landed = match flight.await {
            Ok(landed) => landed,
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // Only an ending runtime cancels it, and ends this one too.
            Err(_) => return std::future::pending().await,
        };
        self.flights.pop_front();
        landed
    }

    /// Takes a lane back after its transaction.
    pub fn rest(&mut self, lane: Lane) {
        self.idle.push(lane);
    }
}
