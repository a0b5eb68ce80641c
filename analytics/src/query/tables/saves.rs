//! What was written to the database, for live queries on tables that are read from there.
//!
//! Live attendance and engagement conclude in memory and write beside it, and the log's marks are written by the sink. A query that looked
//! when something was concluded would miss it, and nothing would wake it again. So the stores of both are given through here, and count
//! what they have written.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rollcall_model::ids::{DistrictId, Offset, SchoolId};
use rollcall_model::schedule::Span;
use rollcall_stream::heartbeat::HeartbeatRow;
use tokio::sync::watch;

use crate::attendance::{AttendanceStore, BoxFuture, Cut, DayKey, SeamError, Transition};
use crate::engagement::meeting::MeetingPlan;
use crate::engagement::{EngagementStore, MeetingCut, WindowRecord};

/// How often something was written, and of each school the count at its last time.
#[derive(Default)]
pub(super) struct Written {
    count: watch::Sender<u64>,
    by_school: RwLock<HashMap<(DistrictId, SchoolId), u64>>,
}

impl Written {
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Whether something of a school that is wanted was written since there was so much.
    pub fn since(&self, count: u64, wanted: impl Fn(&(DistrictId, SchoolId)) -> bool) -> bool {
        self.by_school.read().iter().any(|(school, at)| *at > count && wanted(school))
    }

    fn note(&self, days: impl Iterator<Item = DayKey>) {
        // The count moves under the lock, so that of two who write at once none is counted as the other.
        let mut by_school = self.by_school.write();
        let count = *self.count.borrow() + 1;
        by_school.extend(days.map(|day| ((day.district, day.school), count)));
        self.count.send_replace(count);
    }
}

/// What the tables of the facts and of engagement follow. Cheap to clone.
#[derive(Clone)]
pub struct Saves {
    pub(super) conclusions: Arc<Written>,
    pub(super) windows: Arc<Written>,
    /// Moves with marks that the sink has written.
    pub(super) marks: watch::Receiver<u64>,
}

impl Saves {
    pub fn new(marks: watch::Receiver<u64>) -> Self {
        Self { conclusions: Arc::default(), windows: Arc::default(), marks }
    }

    /// The store for live attendance.
    pub fn of_attendance(&self, store: impl AttendanceStore) -> Arc<dyn AttendanceStore> {
        Arc::new(Counted { store, written: Arc::clone(&self.conclusions) })
    }

    /// The store for engagement.
    pub fn of_engagement(&self, store: impl EngagementStore) -> Arc<dyn EngagementStore> {
        Arc::new(Counted { store, written: Arc::clone(&self.windows) })
    }
}

/// A store whose writing is counted.
struct Counted<S> {
    store: S,
    written: Arc<Written>,
}

impl<S: AttendanceStore> AttendanceStore for Counted<S> {
    fn load_cut(&self, day: DayKey, span: Span) -> BoxFuture<'_, Result<Cut, SeamError>> {
        self.store.load_cut(day, span)
    }

    fn last_words(&self) -> BoxFuture<'_, Result<Vec<HeartbeatRow>, SeamError>> {
        self.store.last_words()
    }

    fn append(&self, rows: Arc<Vec<Transition>>) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            self.store.append(Arc::clone(&rows)).await?;
            self.written.note(rows.iter().map(|row| row.day));
            Ok(())
        })
    }
}

impl<S: EngagementStore> EngagementStore for Counted<S> {
    fn next(&self) -> BoxFuture<'_, Result<Option<Offset>, SeamError>> {
        self.store.next()
    }

    fn load(&self, day: DayKey, meeting: Arc<MeetingPlan>) -> BoxFuture<'_, Result<MeetingCut, SeamError>> {
        self.store.load(day, meeting)
    }

    fn save(&self, records: Arc<Vec<WindowRecord>>, next: Offset) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            self.store.save(Arc::clone(&records), next).await?;
            if !records.is_empty() {
                self.written.note(records.iter().map(|record| record.day));
            }
            Ok(())
        })
    }
}
