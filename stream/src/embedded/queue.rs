//! What was appended and is not durable yet. The lock is held for as long as it takes to number the rows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rollcall_model::ids::Offset;

use super::config::LogConfig;
use crate::batch::EventBatch;
use crate::log::AppendError;

pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits here for batches, for space, and for the end.
    changed: Condvar,
}

struct State {
    waiting: Vec<EventBatch>,
    end: Offset,
    /// Bytes and number of batches that are not durable: those waiting and those with the writer.
    bytes: usize,
    batches: usize,
    disk_full: bool,
    /// Whether the budget refused the last append.
    budget_full: bool,
    space_was_made: bool,
    closing: bool,
    stopped: Option<Arc<str>>,
}

pub(super) struct QueueStatus {
    pub end: Offset,
    pub bytes: usize,
    pub full: bool,
    pub stopped: Option<Arc<str>>,
}

/// What the writer woke up for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// There are batches to write, or segments to delete.
    Work,
    /// Nothing happened for the time given.
    Idle,
    /// The log is being closed and nothing waits any more.
    Close,
}

impl Queue {
    pub fn new(end: Offset) -> Self {
        let state = State {
            waiting: Vec::new(),
            end,
            bytes: 0,
            batches: 0,
            disk_full: false,
            budget_full: false,
            space_was_made: false,
            closing: false,
            stopped: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub fn append(&self, mut batches: Vec<EventBatch>, config: &LogConfig, disk_bytes: u64) -> Result<Offset, AppendError> {
        batches.retain(|batch| !batch.is_empty());
        let bytes: usize = batches.iter().map(EventBatch::bytes).sum();
        let mut state = self.state.lock();
        state.admit(batches.len(), bytes, config, disk_bytes)?;
        state.bytes += bytes;
        state.batches += batches.len();
        for mut batch in batches {
            batch.first = state.end;
            state.end = batch.next();
            state.waiting.push(batch);
        }
        let end = state.end;
        drop(state);
        self.changed.notify_one();
        Ok(end)
    }

    /// Waits for work; `idle` bounds the wait if given. Moves the waiting batches behind those in `taken`.
    pub fn take(&self, taken: &mut Vec<EventBatch>, idle: Option<Duration>) -> Wake {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.closing && !state.space_was_made {
            match idle {
                Some(idle) if self.changed.wait_for(&mut state, idle).timed_out() => return Wake::Idle,
                Some(_) => {}
                None => self.changed.wait(&mut state),
            }
        }
        state.space_was_made = false;
        if state.waiting.is_empty() && state.closing {
            return Wake::Close;
        }
        if taken.is_empty() {
            std::mem::swap(taken, &mut state.waiting);
        } else {
            taken.append(&mut state.waiting);
        }
        Wake::Work
    }

    /// A group has become durable.
    pub fn done(&self, batches: usize, bytes: usize) -> usize {
        let mut state = self.state.lock();
        state.batches -= batches;
        state.bytes -= bytes;
        state.disk_full = false;
        state.bytes
    }

    /// The disk took no more. Waits until it is worth another try; false when the log is being closed.
    pub fn wait_for_space(&self, retry: Duration) -> bool {
        let mut state = self.state.lock();
        state.disk_full = true;
        if !state.space_was_made && !state.closing {
            self.changed.wait_for(&mut state, retry);
        }
        state.space_was_made = false;
        !state.closing
    }

    /// A segment has been given up and can be deleted.
    pub fn space_was_made(&self) {
        let mut state = self.state.lock();
        state.space_was_made = true;
        state.budget_full = false;
        drop(state);
        self.changed.notify_one();
    }

    pub fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_one();
    }

    /// From now on nothing is taken; the first reason stays.
    pub fn stop(&self, reason: Arc<str>) {
        let mut state = self.state.lock();
        state.stopped.get_or_insert(reason);
        state.waiting = Vec::new();
    }

    pub fn end(&self) -> Offset {
        self.state.lock().end
    }

    pub fn status(&self) -> QueueStatus {
        let state = self.state.lock();
        let full = state.disk_full || state.budget_full;
        QueueStatus { end: state.end, bytes: state.bytes, full, stopped: state.stopped.clone() }
    }
}

impl State {
    fn admit(&mut self, batches: usize, bytes: usize, config: &LogConfig, disk_bytes: u64) -> Result<(), AppendError> {
        if let Some(reason) = &self.stopped {
            return Err(AppendError::Stopped(Arc::clone(reason)));
        }
        if self.closing {
            return Err(AppendError::Stopped("it is being closed".into()));
        }
        self.budget_full = disk_bytes + (self.bytes + bytes) as u64 > config.budget_bytes;
        if self.budget_full || self.disk_full {
            return Err(AppendError::Full);
        }
        // One append is always taken when nothing waits, or one larger than the queue could never be.
        let fits = self.bytes + bytes <= config.queue_bytes_max && self.batches + batches <= config.queue_batches_max;
        if fits || self.batches == 0 { Ok(()) } else { Err(AppendError::Busy) }
    }
}
