//! Following the log as a task: wait for durable rows, then take them, from memory if they are still there.

use std::sync::Arc;

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use crate::log::{KindSet, Log, LogError, ReadBatch};

/// A position in the log that moves forward. It is not durable: its owner keeps the offset beside its effects.
pub struct Tail {
    log: Arc<dyn Log>,
    durable: watch::Receiver<Offset>,
    next: Offset,
    kinds: KindSet,
}

impl Tail {
    /// Begins with the row at `from`.
    pub fn new(log: Arc<dyn Log>, from: Offset) -> Self {
        let durable = log.durable();
        Self { log, durable, next: from, kinds: KindSet::ALL }
    }

    /// Leaves rows of all other kinds out, without decoding them.
    #[must_use]
    pub fn only(mut self, kinds: &[Kind]) -> Self {
        self.kinds = KindSet::of(kinds);
        self
    }

    /// The row that the next read begins with: everything before it has been returned or left out.
    pub fn position(&self) -> Offset {
        self.next
    }

    /// Waits until rows from the position on are durable and returns them, about `bytes_max` bytes at most beyond the
    /// first batch. When kinds are left out there may be no batch in it; the position has moved all the same.
    ///
    /// Dropping the future loses nothing: the position moves only with a returned result. Once the log has stopped, what
    /// is durable is still returned, and then [`LogError::Stopped`].
    pub async fn next(&mut self, bytes_max: usize) -> Result<ReadBatch, LogError> {
        let next = self.next;
        let closed = self.durable.wait_for(|durable| *durable > next).await.is_err();
        if closed {
            let reason = self.log.status().stopped.unwrap_or_else(|| "it was closed".into());
            return Err(LogError::Stopped(reason));
        }
        let read = match self.log.read_cached(next, bytes_max, self.kinds) {
            Some(read) => read?,
            None => self.read_files(bytes_max).await?,
        };
        self.next = read.next;
        Ok(read)
    }

    async fn read_files(&self, bytes_max: usize) -> Result<ReadBatch, LogError> {
        let (log, from, kinds) = (Arc::clone(&self.log), self.next, self.kinds);
        match tokio::task::spawn_blocking(move || log.read_kinds(from, bytes_max, kinds)).await {
            Ok(read) => read,
            Err(panic) => Err(LogError::Stopped(format!("a read failed: {panic}").into())),
        }
    }
}
