//! Reading the log while the rows before are being written.
//!
//! Reads are gathered: after one that took all there was, the next waits a moment for more rows, unless a transaction's worth is
//! there already. So a trickle costs fifty small transactions a second instead of one for each fsync of the log, and a row that
//! comes after a pause is written at once.

use std::sync::Arc;
use std::time::Duration;

use rollcall_model::ids::Offset;
use rollcall_stream::{Log, LogError, ReadBatch, Tail};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// About how many bytes of columns one transaction takes: some 50,000 scans. Larger ones gain nothing and keep locks longer.
pub(super) const TRANSACTION_BYTES_MAX: usize = 6 * 1024 * 1024;

/// The least time from one read to the next while fewer rows wait than [`GATHER_ROWS`].
const GATHER: Duration = Duration::from_millis(20);
const GATHER_ROWS: u64 = 10_000;

/// One read waits for its transaction while another is being made.
const READS_MAX: usize = 1;

pub(super) struct ReadAhead {
    reads: mpsc::Receiver<Result<ReadBatch, LogError>>,
    _task: AbortOnDropHandle<()>,
}

impl ReadAhead {
    pub fn start(log: &Arc<dyn Log>, from: Offset) -> Self {
        let (sender, reads) = mpsc::channel(READS_MAX);
        let task = tokio::spawn(read(log.clone(), from, sender));
        Self { reads, _task: AbortOnDropHandle::new(task) }
    }

    /// Reads follow each other without a gap. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<ReadBatch, LogError> {
        match self.reads.recv().await {
            Some(read) => read,
            // The task sends the error that it ends with, which has been taken; so this is not polled again.
            None => Err(LogError::Stopped("the reading task has ended".into())),
        }
    }
}

async fn read(log: Arc<dyn Log>, from: Offset, reads: mpsc::Sender<Result<ReadBatch, LogError>>) {
    let mut durable = log.durable();
    let mut tail = Tail::new(log, from);
    loop {
        let read = tail.next(TRANSACTION_BYTES_MAX).await;
        let began = Instant::now();
        let failed = read.is_err();
        if reads.send(read).await.is_err() || failed {
            return;
        }
        gather(&mut durable, tail.position(), began + GATHER).await;
    }
}

/// Returns at `until`, or earlier when enough rows wait or the log has stopped.
async fn gather(durable: &mut watch::Receiver<Offset>, position: Offset, until: Instant) {
    let enough = durable.wait_for(|durable| durable.0 >= position.0 + GATHER_ROWS);
    let _ = tokio::time::timeout_at(until, enough).await;
}
