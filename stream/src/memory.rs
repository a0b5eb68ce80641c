//! A log in memory, for the tests of everything above the log. It is never trimmed and has no budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use crate::batch::EventBatch;
use crate::log::{AppendError, KindSet, Log, LogError, LogStatus, ReadBatch};

/// Rows are durable at once, unless [`MemoryLog::hold`] delays it.
pub struct MemoryLog {
    state: Mutex<State>,
    durable: watch::Receiver<Offset>,
}

struct State {
    batches: Vec<EventBatch>,
    end: Offset,
    held: bool,
    /// Dropped when the log fails, which closes the watch.
    durable: Option<watch::Sender<Offset>>,
    readers: BTreeMap<String, Offset>,
}

const FAILED: &str = "the memory log was told to fail";

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    pub fn new() -> Self {
        let (sender, durable) = watch::channel(Offset(0));
        let readers = BTreeMap::new();
        let state = State { batches: Vec::new(), end: Offset(0), held: false, durable: Some(sender), readers };
        Self { state: Mutex::new(state), durable }
    }

    /// From now on nothing becomes durable, until [`MemoryLog::release`].
    pub fn hold(&self) {
        self.state.lock().held = true;
    }

    /// Everything that was appended becomes durable, and later appends at once.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.held = false;
        state.publish();
    }

    /// Stops for ever, as after a failed fsync: appends are refused and the durable watch is closed.
    pub fn fail(&self) {
        self.state.lock().durable = None;
    }

    /// What a reader has committed or was registered at.
    pub fn committed(&self, reader: &str) -> Option<Offset> {
        self.state.lock().readers.get(reader).copied()
    }
}

impl State {
    fn publish(&self) {
        if let (false, Some(durable)) = (self.held, &self.durable) {
            durable.send_replace(self.end);
        }
    }
}

impl Log for MemoryLog {
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError> {
        let mut state = self.state.lock();
        if state.durable.is_none() {
            return Err(AppendError::Stopped(FAILED.into()));
        }
        for mut batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
            batch.first = state.end;
            state.end = batch.next();
            state.batches.push(batch);
        }
        state.publish();
        Ok(state.end)
    }

    fn end(&self) -> Offset {
        self.state.lock().end
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        self.durable.clone()
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError> {
        self.read_kinds(from, bytes_max, KindSet::ALL)
    }

    fn read_kinds(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        let durable = *self.durable.borrow();
        let state = self.state.lock();
        let start = state.batches.partition_point(|batch| batch.next() <= from);
        let held_back = state.batches.partition_point(|batch| batch.next() <= durable);
        let kept = state.batches.get(start..held_back).unwrap_or_default();
        Ok(ReadBatch::take(kept.iter(), from, bytes_max, kinds))
    }

    fn read_cached(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Option<Result<ReadBatch, LogError>> {
        Some(self.read_kinds(from, bytes_max, kinds))
    }

    fn status(&self) -> LogStatus {
        let state = self.state.lock();
        let durable = *self.durable.borrow();
        let queued = state.batches.iter().filter(|batch| batch.first >= durable);
        LogStatus {
            oldest: Offset(0),
            newest_segment: Offset(0),
            durable,
            end: state.end,
            queued_bytes: queued.map(|batch| batch.bytes() as u64).sum(),
            disk_bytes: 0,
            budget_bytes: u64::MAX,
            full: false,
            stopped: state.durable.is_none().then(|| FAILED.into()),
            readers: state.readers.iter().map(|(name, offset)| (name.clone(), *offset)).collect(),
        }
    }

    fn oldest(&self) -> Offset {
        Offset(0)
    }

    fn commit(&self, reader: &str, offset: Offset) {
        self.state.lock().readers.insert(reader.to_owned(), offset);
    }

    fn register(&self, reader: &str, offset: Offset) {
        self.commit(reader, offset);
    }
}

/// The memory log as everything above the log takes it.
impl From<MemoryLog> for Arc<dyn Log> {
    fn from(log: MemoryLog) -> Self {
        Arc::new(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tail, mark};
    use rollcall_model::ids::DistrictId;

    /// A batch of `rows` status rows.
    fn batch(rows: u64) -> EventBatch {
        let row = crate::heartbeat::HeartbeatRow {
            district: DistrictId::from_bytes([1; 16]),
            school: rollcall_model::ids::SchoolId::from_bytes([2; 16]),
            device: rollcall_model::ids::DeviceId::from_bytes([3; 16]),
            seq: 0,
            ts: rollcall_model::time::UtcMillis(0),
            received: rollcall_model::time::UtcMillis(0),
            battery: None,
            fw: None,
            queued: None,
            uptime_s: None,
            connected: None,
            offset: Offset(0),
        };
        crate::heartbeat::encode(&vec![row; rows as usize])
    }

    #[tokio::test]
    async fn held_rows_are_not_shown_before_their_release() {
        let log = Arc::new(MemoryLog::new());
        log.append(vec![batch(2)]).unwrap();
        log.hold();
        assert_eq!(log.append(vec![batch(3), mark::encode(DistrictId::from_bytes([1; 16]), &[])]).unwrap(), Offset(5));
        assert_eq!((log.end(), *log.durable().borrow()), (Offset(5), Offset(2)));
        assert_eq!(log.read(Offset(0), usize::MAX).unwrap().next, Offset(2));
        assert!(log.status().queued_bytes > 0);
        log.release();
        let mut tail = Tail::new(log.clone(), Offset(1));
        let read = tail.next(usize::MAX).await.unwrap();
        let firsts: Vec<_> = read.batches.iter().map(|batch| (batch.first.0, batch.len())).collect();
        assert_eq!((firsts, read.next), (vec![(1, 1), (2, 3)], Offset(5)));
    }

    #[tokio::test]
    async fn a_tail_wakes_for_new_rows_and_passes_over_other_kinds() {
        let log = Arc::new(MemoryLog::new());
        let mut tail = Tail::new(log.clone(), Offset(0)).only(&[rollcall_model::event::Kind::Mark]);
        let waiting = tokio::spawn(async move { tail.next(usize::MAX).await.map(|read| (read.batches.len(), read.next)) });
        log.append(vec![batch(4)]).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), (0, Offset(4)));
    }

    #[tokio::test]
    async fn a_failed_log_refuses_and_says_so() {
        let log = Arc::new(MemoryLog::new());
        log.append(vec![batch(1)]).unwrap();
        log.fail();
        assert!(matches!(log.append(vec![batch(1)]), Err(AppendError::Stopped(_))));
        let mut tail = Tail::new(log.clone(), Offset(0));
        assert_eq!(tail.next(1).await.unwrap().next, Offset(1));
        assert!(matches!(tail.next(1).await, Err(LogError::Stopped(_))));
    }
}
