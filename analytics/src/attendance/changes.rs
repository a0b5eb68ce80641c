//! Which schools' statuses have changed, for whoever keeps what was made of them.
//!
//! Changes are counted over all schools, so that one number says what a reader knows. The count moves with every turn that
//! changes a status, whether an event or the clock did it, and with no other.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDate;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::live::{Live, SchoolKey};

/// Of each school the count at its last change.
type BySchool = Arc<RwLock<HashMap<SchoolKey, u64>>>;

/// The engine's side.
pub(super) struct Changes {
    /// Date and version of what was concluded at the last look; without a school whose day is not loaded.
    seen: HashMap<SchoolKey, (NaiveDate, u64)>,
    by_school: BySchool,
    count: watch::Sender<u64>,
}

/// What the statuses of today have gone through.
#[derive(Clone)]
pub struct StatusChanges {
    by_school: BySchool,
    count: watch::Receiver<u64>,
}

impl Changes {
    pub fn new() -> (Self, StatusChanges) {
        let (by_school, (count, counted)) = (BySchool::default(), watch::channel(0));
        let changes = StatusChanges { by_school: Arc::clone(&by_school), count: counted };
        (Self { seen: HashMap::new(), by_school, count }, changes)
    }

    /// Looks at the schools in which something may have changed. Before the boards are published, which forgets them.
    pub fn look(&mut self, live: &Live) {
        let touched = live.changed.iter().map(|day| (day.district, day.school));
        let mut moved: Vec<SchoolKey> = touched.chain(live.rung.iter().copied()).filter(|school| self.has_moved(live, school)).collect();
        if self.seen.len() > live.schools.len() {
            let gone: Vec<_> = self.seen.keys().filter(|school| !live.schools.contains_key(*school)).copied().collect();
            self.seen.retain(|school, _| live.schools.contains_key(school));
            moved.extend(gone);
        }
        if moved.is_empty() {
            return;
        }
        let count = *self.count.borrow() + 1;
        self.by_school.write().extend(moved.into_iter().map(|school| (school, count)));
        self.count.send_replace(count);
    }

    fn has_moved(&mut self, live: &Live, school: &SchoolKey) -> bool {
        match live.today_of(school).filter(|day| day.settled) {
            Some(day) => {
                let now = (day.key.date, day.version);
                self.seen.insert(*school, now) != Some(now)
            }
            None => self.seen.remove(school).is_some(),
        }
    }
}

impl StatusChanges {
    /// How many turns have changed a status.
    pub fn count(&self) -> watch::Receiver<u64> {
        self.count.clone()
    }

    /// Whether a status of a school that is wanted has changed since there were so many.
    pub fn since(&self, count: u64, wanted: impl Fn(&SchoolKey) -> bool) -> bool {
        self.by_school.read().iter().any(|(school, at)| *at > count && wanted(school))
    }
}
