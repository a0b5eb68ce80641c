//! Writes transitions beside the engine: a database that is away or slow never stops the boards.
//!
//! While few wait, every transition is written. When [`WAITING_MAX`] wait, only the newest of each student and window
//! is kept, so that what waits is bounded by the number of students in memory; the history of that time is coarser.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use rollcall_model::ids::{PeriodId, PersonId, SectionId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::seam::{AttendanceStore, DayKey, Transition};

/// Transitions beyond which they are merged.
pub const WAITING_MAX: usize = 50_000;

/// Most rows of one append.
const ROWS_PER_APPEND_MAX: usize = 2_000;

/// Wait after a failed append, doubled up to the second one.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long the last rows may take at shutdown; what is not written then is found missing at the next start.
const DRAIN_MAX: Duration = Duration::from_secs(5);

type Key = (DayKey, PersonId, Option<(SectionId, PeriodId)>);

#[derive(Clone)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    some: Notify,
    waiting: IntGauge,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Transition>,
    in_flight: bool,
    merge_at: usize,
}

impl Writer {
    pub fn new(waiting: IntGauge) -> Self {
        let state = State { merge_at: WAITING_MAX, ..State::default() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), some: Notify::new(), waiting }) }
    }

    /// Never waits.
    pub fn push(&self, transitions: Vec<Transition>) {
        if transitions.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.queue.extend(transitions);
        if state.queue.len() > state.merge_at {
            state.merge();
        }
        self.shared.waiting.set(state.queue.len() as i64);
        drop(state);
        self.shared.some.notify_one();
    }

    /// Whether everything pushed is written.
    pub fn is_idle(&self) -> bool {
        let state = self.shared.state.lock();
        state.queue.is_empty() && !state.in_flight
    }

    /// Writes until `shutdown`, then what is left.
    pub async fn run(self, store: Arc<dyn AttendanceStore>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                rows = self.take() => if !self.append(&*store, rows, &shutdown).await { break },
            }
        }
        let drained = tokio::time::timeout(DRAIN_MAX, async {
            while let Some(rows) = self.take_now() {
                if let Err(error) = store.append(Arc::new(rows)).await {
                    tracing::warn!(%error, "transitions are left for the next start");
                    return;
                }
            }
        });
        if drained.await.is_err() {
            tracing::warn!("transitions are left for the next start: the database took too long");
        }
    }

    /// Tries until the rows are written; false when `shutdown` came first, and they are at the front again.
    async fn append(&self, store: &dyn AttendanceStore, rows: Vec<Transition>, shutdown: &CancellationToken) -> bool {
        let rows = Arc::new(rows);
        let mut retry = RETRY_FIRST;
        while let Err(error) = store.append(rows.clone()).await {
            tracing::warn!(%error, rows = rows.len(), "transitions could not be written, trying again");
            let stop = tokio::time::timeout(retry, shutdown.cancelled()).await.is_ok();
            if stop {
                let mut state = self.shared.state.lock();
                rows.iter().rev().for_each(|row| state.queue.push_front(row.clone()));
                return false;
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
        self.shared.state.lock().in_flight = false;
        true
    }

    async fn take(&self) -> Vec<Transition> {
        loop {
            if let Some(rows) = self.take_now() {
                return rows;
            }
            self.shared.some.notified().await;
        }
    }

    fn take_now(&self) -> Option<Vec<Transition>> {
        let mut state = self.shared.state.lock();
        let count = state.queue.len().min(ROWS_PER_APPEND_MAX);
        let rows: Vec<Transition> = state.queue.drain(..count).collect();
        state.in_flight = !rows.is_empty();
        if state.queue.len() < WAITING_MAX {
            state.merge_at = WAITING_MAX;
        }
        self.shared.waiting.set(state.queue.len() as i64);
        (!rows.is_empty()).then_some(rows)
    }
}

impl State {
    /// Keeps the newest row of each key, in order.
    fn merge(&mut self) {
        let mut seen: HashSet<Key> = HashSet::with_capacity(self.queue.len());
        let mut newest: VecDeque<Transition> = VecDeque::with_capacity(self.queue.len());
        while let Some(row) = self.queue.pop_back() {
            if seen.insert((row.day, row.student, row.meeting)) {
                newest.push_front(row);
            }
        }
        self.queue = newest;
        self.merge_at = WAITING_MAX.max(2 * self.queue.len());
    }
}
