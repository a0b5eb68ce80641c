//! Finding the rows that the database refuses for what is in them (an instant beyond its calendar, a check that somebody
//! added): ranges are halved until one row is alone, and that row goes into the dead letters.

use rollcall_model::ids::Offset;
use rollcall_stream::{ReadBatch, Tail};
use tokio::time::Instant;

use super::pipeline::{Lane, granted};
use super::read_ahead::TRANSACTION_BYTES_MAX;
use super::write::Outcome;
use super::{Ended, Sink, describe};
use crate::error::StoreError;

/// Rows in a range at which all is well again.
const ROWS_WELL: u64 = 65_536;

/// Rows that may be set aside one after another. If the database takes none of so many, the fault lies in the database,
/// and the log keeps the rows until somebody has mended it.
const SET_ASIDE_RUN_MAX: u32 = 16;

/// A search that is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suspect {
    /// Rows that the next transaction may have.
    rows_max: u64,
    /// Rows set aside since the database last took one.
    run: u32,
}

impl Sink {
    /// What to do after a transaction of so many rows failed.
    pub(super) fn refused(&mut self, error: StoreError, rows: u64) -> Ended {
        if !refuses_content(&error) {
            return Ended::Store(error);
        }
        tracing::warn!(error = %describe(&error), rows, "the database refuses rows; looking for the ones");
        self.metrics.errors.inc();
        let run = self.suspect.map_or(0, |suspect| suspect.run);
        self.suspect = Some(Suspect { rows_max: (rows / 2).max(1), run });
        Ended::Suspect
    }

    /// Goes on alone and in small steps until the rows are found; the offset from which all is well again. Every failure
    /// ends the session, so that the next begins with a fresh connection and knows of no partition.
    pub(super) async fn search(&mut self, lane: &mut Lane, from: Offset) -> Result<Offset, Ended> {
        let mut next = from;
        while let Some(suspect) = self.suspect {
            let read = Tail::new(self.log.clone(), next).next(TRANSACTION_BYTES_MAX).await?;
            let read = first_rows(read, next, suspect.rows_max);
            let rows = read.next.0 - next.0;
            let began = Instant::now();
            let run = match lane.write(&read, next, granted()).await {
                Ok(Outcome::Committed) => 0,
                Ok(_) => return Err(Ended::FenceLost),
                Err(error) if refuses_content(&error) && rows == 1 && next == from => {
                    if suspect.run >= SET_ASIDE_RUN_MAX {
                        return Err(Ended::Store(error));
                    }
                    *lane = Lane::open(&self.store).await?;
                    self.set_aside(lane, &read, next, &error).await?;
                    suspect.run + 1
                }
                Err(error) => return Err(self.refused(error, rows)),
            };
            let grown = suspect.rows_max * 2;
            self.suspect = (grown < ROWS_WELL || run > 0).then_some(Suspect { rows_max: grown.min(ROWS_WELL), run });
            self.committed(lane, read.next, began.elapsed());
            next = read.next;
            if run > 0 {
                // The row after may be refused as well, and is judged by a fresh session too.
                return Err(Ended::Suspect);
            }
        }
        Ok(next)
    }

    async fn set_aside(&mut self, lane: &mut Lane, read: &ReadBatch, expected: Offset, error: &StoreError) -> Result<(), Ended> {
        for batch in &read.batches {
            lane.gathered.tables.set_aside(batch, 0..batch.len(), &describe(error));
        }
        match lane.write_gathered(expected, read.next).await? {
            Outcome::Committed => Ok(()),
            _ => Err(Ended::FenceLost),
        }
    }
}

/// Whether it was the content of a row: classes 22 (data exception) and 23 (integrity constraint violation).
fn refuses_content(error: &StoreError) -> bool {
    match error {
        StoreError::Conflict { .. } => true,
        StoreError::Database(sqlx::Error::Database(cause)) => {
            cause.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
        }
        _ => false,
    }
}

/// The first `rows_max` rows of a read from `from`, or all when there are fewer.
fn first_rows(mut read: ReadBatch, from: Offset, rows_max: u64) -> ReadBatch {
    let end = Offset(from.0 + rows_max);
    read.batches.retain(|batch| batch.first < end);
    for batch in &mut read.batches {
        let keep = usize::try_from(end.0 - batch.first.0).unwrap_or(usize::MAX);
        if keep < batch.len() {
            *batch = batch.slice(0, keep);
        }
    }
    read.next = read.next.min(end);
    read
}
