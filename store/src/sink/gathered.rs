//! The rows of one transaction, encoded. Buffers are kept from one transaction to the next.

use rollcall_model::event::Kind;
use rollcall_stream::EventBatch;

use super::columns::EncodeError;
use super::encode::{CopyStream, day_runs};
use super::rows::RowTables;

/// Buffers that are kept. Rows of more days at once are rare, and their buffers small.
const SPARE_BUFFERS_MAX: usize = 8;

pub(super) struct Gathered {
    /// Whether each day of an event table has a stream of its own, for a server that keeps a partition a day.
    by_day: bool,
    streams: Vec<CopyStream>,
    spare: Vec<Vec<u8>>,
    pub tables: RowTables,
}

impl Gathered {
    pub fn new(by_day: bool) -> Self {
        Self { by_day, streams: Vec::new(), spare: Vec::new(), tables: RowTables::default() }
    }

    pub fn clear(&mut self) {
        self.spare.extend(self.streams.drain(..).map(|stream| stream.bytes));
        self.spare.truncate(SPARE_BUFFERS_MAX);
        self.tables.clear();
    }

    pub fn rows(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Mark => self.tables.marks.values().map(|rows| rows.len() as u64).sum(),
            Kind::DeadLetter => self.tables.dead_letters.values().map(|rows| rows.len() as u64).sum(),
            _ => self.streams.iter().filter(|stream| stream.kind == kind).map(|stream| stream.rows).sum(),
        }
    }

    pub fn streams(&self) -> &[CopyStream] {
        &self.streams
    }

    /// Adds all rows of a batch. A batch that cannot be read is set aside, never refused.
    pub fn add(&mut self, batch: &EventBatch) {
        let added = match batch.kind {
            Kind::Mark => self.tables.add_marks(batch),
            Kind::DeadLetter => self.tables.add_dead_letters(batch),
            _ => self.add_events(batch),
        };
        if let Err(error) = added {
            self.tables.set_aside(batch, 0..batch.len(), &error.to_string());
        }
    }

    fn add_events(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
        if !self.by_day {
            return self.stream(batch.kind, None).add(batch, 0..batch.len());
        }
        for (day, rows) in day_runs(batch)? {
            self.stream(batch.kind, Some(day)).add(batch, rows)?;
        }
        Ok(())
    }

    fn stream(&mut self, kind: Kind, day: Option<i64>) -> &mut CopyStream {
        let found = self.streams.iter().position(|stream| stream.kind == kind && stream.day == day);
        let at = found.unwrap_or_else(|| {
            let bytes = self.spare.pop().unwrap_or_default();
            self.streams.push(CopyStream::new(kind, day, bytes));
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }
}
