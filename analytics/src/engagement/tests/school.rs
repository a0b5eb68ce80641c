//! A school in memory: two sections of three students, the log, a history that can be asked, and engagement on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use parking_lot::Mutex;
use rollcall_model::event::ActivityKind;
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::Span;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::{EventBatch, Log};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::attendance::{BoxFuture, DayKey, SchoolInfo, SeamError};
use crate::engagement::definition::Parameters;
use crate::engagement::meeting::{MeetingPlan, Student};
use crate::engagement::*;
use crate::hub::{Hub, Subscription, Update};

/// 2026-11-20 at 9:00 UTC: the class lasts until 9:20.
pub const STARTS: i64 = 1_795_165_200_000;
pub const DISTRICT: DistrictId = DistrictId::from_bytes([1; 16]);
pub const SCHOOL: SchoolId = SchoolId::from_bytes([2; 16]);
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn section(number: u8) -> SectionId {
    SectionId::from_bytes([10 + number; 16])
}

pub fn person(number: u8) -> PersonId {
    PersonId::from_bytes([100 + number; 16])
}

pub fn at(seconds: i64) -> UtcMillis {
    UtcMillis(STARTS + seconds * 1000)
}

pub fn day() -> DayKey {
    DayKey { district: DISTRICT, school: SCHOOL, date: NaiveDate::from_ymd_opt(2026, 11, 20).unwrap() }
}

/// What the database would hold: survives a restart.
#[derive(Default)]
pub struct History {
    pub next: Option<Offset>,
    pub rows: Vec<WindowRecord>,
    pub is_away: bool,
    /// Saves that write their rows and then fail before the position: a crash between the two.
    pub torn: u32,
}

/// Everything that outlives the process.
pub struct School {
    pub log: Arc<MemoryLog>,
    pub history: Arc<Mutex<History>>,
    pub clock: Clock,
    pub present: Arc<Mutex<(u64, Vec<Present>)>>,
    pub consent: Arc<Mutex<bool>>,
    bells: Arc<Mutex<Vec<Bell>>>,
    changed: watch::Sender<u64>,
    seq: Mutex<u64>,
}

/// A period in which both sections meet.
pub type Bell = (PeriodId, Span);

/// Engagement while it runs.
pub struct Running {
    pub handle: EngagementHandle,
    pub hub: Hub,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), EngagementError>>,
}

impl School {
    pub fn new() -> Self {
        let span = Span::new(at(0), at(1200));
        let present = all_present(&[(PERIOD, span)]);
        Self {
            log: Arc::new(MemoryLog::new()),
            history: Arc::default(),
            clock: Clock::stepped(at(-3600)),
            present: Arc::new(Mutex::new((1, present))),
            consent: Arc::new(Mutex::new(true)),
            bells: Arc::new(Mutex::new(vec![(PERIOD, span)])),
            changed: watch::Sender::new(0),
            seq: Mutex::new(0),
        }
    }

    pub fn start(&self) -> Running {
        let hub = Hub::new(self.clock.now());
        let (engagement, handle) = Engagement::new(EngagementDeps {
            log: self.log.clone(),
            store: Arc::new(Database { history: self.history.clone(), log: self.log.clone(), present: self.present.clone() }),
            classes: Arc::new(Classes { consent: self.consent.clone(), bells: self.bells.clone(), changed: self.changed.clone() }),
            presence: Arc::new(Attendance(self.present.clone())),
            hub: hub.clone(),
            clock: self.clock.clone(),
            metrics: prometheus::Registry::new(),
            pool: tokio::runtime::Handle::current(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(engagement.run(stop.clone()));
        Running { handle, hub, stop, task }
    }

    /// An event of a student at a second of the class, received when the clock says.
    pub fn acts(&self, student: u8, at_s: i64) {
        self.says(student, at_s, ActivityKind::Answered, "reader");
    }

    pub fn says(&self, student: u8, at_s: i64, kind: ActivityKind, resource: &str) {
        let mut seq = self.seq.lock();
        *seq += 1;
        let row = ActivityRow {
            district: DISTRICT,
            school: SCHOOL,
            device: DeviceId::from_bytes([student; 16]),
            seq: *seq,
            ts: at(at_s),
            received: self.clock.now(),
            offline: false,
            person: person(student),
            kind,
            resource,
            section: None,
            dur_ms: None,
            offset: Offset(0),
        };
        self.log.append(vec![activity::encode(&[row])]).unwrap();
    }

    pub fn clock_at(&self, seconds: i64) {
        self.clock.set(at(seconds));
    }

    /// Attendance says that only these students are here.
    pub fn only_present(&self, students: &[u8]) {
        let mut present = self.present.lock();
        present.0 += 1;
        present.1.retain(|one| students.iter().any(|student| person(*student) == one.student));
    }

    pub fn set_consent(&self, granted: bool) {
        *self.consent.lock() = granted;
        self.changed.send_modify(|version| *version += 1);
    }

    /// The day has another schedule; everybody is there all the time, of which attendance forgets nothing.
    pub fn ring(&self, bells: &[Bell]) {
        *self.bells.lock() = bells.to_vec();
        let mut present = self.present.lock();
        present.0 += 1;
        present.1.extend(all_present(bells));
        self.changed.send_modify(|version| *version += 1);
    }

    /// The newest active seconds of each window in history, and how many revisions it has.
    pub fn history(&self) -> BTreeMap<(SectionId, i64), (u64, usize)> {
        let history = self.history.lock();
        let mut newest = BTreeMap::new();
        for row in &history.rows {
            let entry = newest.entry((row.section, (row.slot.0 - STARTS) / 1000)).or_insert((0, 0));
            *entry = (row.value.active_ms / 1000, entry.1 + 1);
        }
        newest
    }
}

impl Running {
    /// Turns until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let waiting = async {
            while !holds() {
                assert!(self.handle.turn().await, "engagement has stopped");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    pub fn follow(&self, number: u8) -> Subscription {
        self.hub.subscribe(&format!("section/{}/engagement", section(number)), None)
    }

    /// As a kill: nothing is written any more.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Applies updates as a client does.
pub async fn next(subscription: &mut Subscription, state: &mut Value) -> Value {
    let update = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
    let data: Value = serde_json::from_slice(update.data()).unwrap();
    match update {
        Update::Snapshot { .. } => *state = data.clone(),
        Update::Delta { .. } => {
            for (collection, entries) in data.as_object().unwrap() {
                for (key, value) in entries.as_object().unwrap() {
                    state[collection][key] = value.clone();
                }
            }
        }
    }
    data
}

pub const PERIOD: PeriodId = PeriodId::from_bytes([9; 16]);

fn all_present(bells: &[Bell]) -> Vec<Present> {
    let there = |(period, span): Bell| (0..6).map(move |n| Present { section: section(n / 3), period, student: person(n), span });
    bells.iter().copied().flat_map(there).collect()
}

struct Classes {
    consent: Arc<Mutex<bool>>,
    bells: Arc<Mutex<Vec<Bell>>>,
    changed: watch::Sender<u64>,
}

struct View {
    consent: bool,
    bells: Vec<Bell>,
}

impl ClassSource for Classes {
    fn load(&self) -> BoxFuture<'_, Result<Arc<dyn ClassView>, SeamError>> {
        let (consent, bells) = (*self.consent.lock(), self.bells.lock().clone());
        Box::pin(async move { Ok(Arc::new(View { consent, bells }) as Arc<dyn ClassView>) })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl ClassView for View {
    fn schools(&self) -> Vec<SchoolInfo> {
        vec![SchoolInfo { district: DISTRICT, id: SCHOOL, name: "School".into(), zone: chrono_tz::UTC }]
    }

    fn school_of(&self, of: SectionId) -> Option<SchoolInfo> {
        (of == section(0) || of == section(1)).then(|| self.schools().remove(0))
    }

    fn day(&self, key: DayKey) -> Option<ClassDay> {
        if key != day() {
            return Some(ClassDay::default());
        }
        let plan = |number: u8, (period, span): Bell| {
            let students = (number * 3..number * 3 + 3).map(|n| Student { person: person(n), activity: self.consent, wearable: false });
            Arc::new(MeetingPlan {
                section: section(number),
                period,
                period_name: "1".into(),
                span,
                hours: Span::new(at(-600), at(7200)),
                students: students.collect(),
                teachers: Vec::new(),
                allowed: None,
                parameters: Parameters::from(&AttendancePolicy::default()),
            })
        };
        Some(ClassDay { meetings: self.bells.iter().flat_map(|bell| [plan(0, *bell), plan(1, *bell)]).collect() })
    }
}

struct Attendance(Arc<Mutex<(u64, Vec<Present>)>>);

impl PresenceSource for Attendance {
    fn presence(&self, key: DayKey, known: u64) -> BoxFuture<'_, Option<DayPresence>> {
        let (version, present) = self.0.lock().clone();
        Box::pin(async move { (key == day()).then(|| DayPresence { version, present: (version != known).then_some(present) }) })
    }
}

/// Has every event that is durable, as if the sink were always done; keeps history as the store does.
struct Database {
    history: Arc<Mutex<History>>,
    log: Arc<MemoryLog>,
    present: Arc<Mutex<(u64, Vec<Present>)>>,
}

impl EngagementStore for Database {
    fn next(&self) -> BoxFuture<'_, Result<Option<Offset>, SeamError>> {
        Box::pin(async move { Ok(self.history.lock().next) })
    }

    fn load(&self, _: DayKey, meeting: Arc<MeetingPlan>) -> BoxFuture<'_, Result<MeetingCut, SeamError>> {
        Box::pin(async move {
            // The sink is behind: the first half of the rows is stored.
            let read = self.log.read(self.log.oldest(), usize::MAX).map_err(|error| SeamError(Box::new(error)))?;
            let (mut events, half) = (read.batches, Offset(self.log.oldest().0.midpoint(read.next.0)));
            events.retain(|batch| batch.next() <= half);
            let next = events.last().map_or(self.log.oldest(), EventBatch::next);
            let present = self.present.lock().1.iter().filter(|one| one.section == meeting.section).copied().collect();
            Ok(MeetingCut { next, events, present })
        })
    }

    fn save(&self, records: Arc<Vec<WindowRecord>>, next: Offset) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            let mut history = self.history.lock();
            if history.is_away {
                return Err(SeamError("the database is away".into()));
            }
            for record in records.iter() {
                let key = |row: &WindowRecord| (row.section, row.period, row.slot);
                let newest = history.rows.iter().rev().find(|row| key(row) == key(record));
                let differs =
                    newest.map_or(record.value.with_data > 0, |row| (&row.value, &row.students) != (&record.value, &record.students));
                if differs {
                    history.rows.push(record.clone());
                }
            }
            if history.torn > 0 {
                history.torn -= 1;
                return Err(SeamError("torn between the windows and the position".into()));
            }
            history.next = Some(history.next.unwrap_or_default().max(next));
            Ok(())
        })
    }
}
