//! A log that holds what one reader has not finished with: enough to write history of any length in little memory.

use parking_lot::Mutex;
use rollcall_analytics::history::READER;
use rollcall_model::ids::Offset;
use rollcall_stream::log::{AppendError, KindSet, LogError, LogStatus, ReadBatch};
use rollcall_stream::{EventBatch, Log};
use tokio::sync::watch;

pub struct Feed {
    held: Mutex<Vec<EventBatch>>,
    durable: watch::Sender<Offset>,
    oldest: Mutex<Offset>,
}

impl Feed {
    pub fn new() -> Self {
        Self { held: Mutex::default(), durable: watch::Sender::new(Offset(0)), oldest: Mutex::default() }
    }

    /// Begins at an offset: everything before it has been read and is gone.
    pub fn skip_to(&self, offset: Offset) {
        *self.oldest.lock() = offset;
        self.durable.send_replace(offset);
    }
}

impl Log for Feed {
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError> {
        let mut held = self.held.lock();
        let mut end = *self.durable.borrow();
        for batch in batches {
            let placed = EventBatch { first: end, ..batch };
            end = placed.next();
            held.push(placed);
        }
        self.durable.send_replace(end);
        Ok(end)
    }

    fn end(&self) -> Offset {
        *self.durable.borrow()
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        self.durable.subscribe()
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError> {
        self.read_kinds(from, bytes_max, KindSet::ALL)
    }

    fn read_kinds(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        let held = self.held.lock();
        let (mut batches, mut bytes, mut next) = (Vec::new(), 0, from);
        for batch in held.iter().filter(|batch| batch.next() > from) {
            let skip = (from.0.saturating_sub(batch.first.0)) as usize;
            next = batch.next();
            bytes += batch.bytes();
            if kinds.contains(batch.kind) {
                batches.push(batch.slice(skip, batch.len() - skip));
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(ReadBatch { batches, next })
    }

    fn status(&self) -> LogStatus {
        let (durable, oldest) = (*self.durable.borrow(), *self.oldest.lock());
        LogStatus {
            oldest,
            newest_segment: oldest,
            durable,
            end: durable,
            queued_bytes: 0,
            disk_bytes: 0,
            budget_bytes: u64::MAX,
            full: false,
            stopped: None,
            readers: Vec::new(),
        }
    }

    fn oldest(&self) -> Offset {
        *self.oldest.lock()
    }

    fn commit(&self, reader: &str, offset: Offset) {
        if reader == READER {
            *self.oldest.lock() = offset;
            self.held.lock().retain(|batch| batch.next() > offset);
        }
    }

    fn register(&self, _: &str, _: Offset) {}
}
