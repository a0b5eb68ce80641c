//! A town of two schools, and a database that is a list: what its sink has taken of the log, and the rows written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use parking_lot::Mutex;
use rollcall_model::event::{DeviceKind, Direction, Method};
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Bell, Meeting, Span, date_span, instant_of, local_date};
use rollcall_model::status::{Authority, Mark, MarkStatus, ScanEvidence, Status};
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::heartbeat::HeartbeatRow;
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::ScanRow;
use rollcall_stream::{Log, heartbeat, mark, scan};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::attendance::*;
use crate::hub::Hub;

pub const BERLIN: Tz = chrono_tz::Europe::Berlin;
pub const NEW_YORK: Tz = chrono_tz::America::New_York;
pub const ZONES: [Tz; 2] = [BERLIN, NEW_YORK];
pub const STUDENTS: u8 = 4;

pub fn uuid(kind: u8, number: u8) -> Uuid {
    let mut bytes = [0; 16];
    (bytes[0], bytes[15]) = (kind, number);
    Uuid::from_bytes(bytes)
}

pub const DISTRICT: DistrictId = DistrictId(Uuid::from_bytes([9; 16]));

pub fn school(number: u8) -> SchoolId {
    SchoolId(uuid(1, number))
}
pub fn gate(school: u8) -> DeviceId {
    DeviceId(uuid(2, school))
}
/// Students of a school are `10 * school + 0..STUDENTS`.
pub fn student(number: u8) -> PersonId {
    PersonId(uuid(3, number))
}
/// A section has one period.
pub fn section(school: u8, period: u8) -> SectionId {
    SectionId(uuid(4, 10 * school + period))
}
pub fn period(number: u8) -> PeriodId {
    PeriodId(uuid(5, number))
}
pub fn friday() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 20).unwrap()
}

/// Local wall-clock time of a school on Friday.
pub fn at(school: u8, hour: u32, minute: u32) -> UtcMillis {
    instant_of(friday(), NaiveTime::from_hms_opt(hour, minute, 0).unwrap(), ZONES[school as usize])
}

/// Where a period begins and ends, as hours and minutes of the wall clock.
pub type BellTimes = ((u32, u32), (u32, u32));

#[derive(Clone)]
pub struct Town {
    pub schools: u8,
    /// The one date in session, and its two periods.
    pub date: NaiveDate,
    pub bells: [BellTimes; 2],
    /// By student: the periods whose sections they attend.
    pub enrolled: BTreeMap<PersonId, (u8, Vec<u8>)>,
    pub devices: Vec<DeviceInfo>,
}

impl Town {
    pub fn new(schools: u8) -> Self {
        let device = |number: u8| DeviceInfo {
            district: DISTRICT,
            school: school(number),
            id: gate(number),
            kind: DeviceKind::Gate,
            name: format!("Gate {number}"),
            disabled: false,
            gateway: None,
        };
        let students = |number: u8| (0..STUDENTS).map(move |s| (student(10 * number + s), (number, vec![0, 1])));
        // Period 0 is from 8:00 to 9:00, period 1 from 9:15 to 10:15.
        let bells = [((8, 0), (9, 0)), ((9, 15), (10, 15))];
        Self {
            schools,
            date: friday(),
            bells,
            enrolled: (0..schools).flat_map(students).collect(),
            devices: (0..schools).map(device).collect(),
        }
    }
}

impl DirectoryView for Town {
    fn schools(&self) -> Vec<SchoolInfo> {
        let info = |number: u8| SchoolInfo {
            district: DISTRICT,
            id: school(number),
            name: format!("School {number}"),
            zone: ZONES[number as usize],
        };
        (0..self.schools).map(info).collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        self.devices.clone()
    }

    fn school_of(&self, wanted: SectionId) -> Option<(DistrictId, SchoolId)> {
        let found = (0..self.schools).find(|number| (0..2).any(|period| section(*number, period) == wanted))?;
        Some((DISTRICT, school(found)))
    }

    fn plan(&self, day: DayKey) -> Option<DayPlan> {
        let number = (0..self.schools).find(|number| school(*number) == day.school)?;
        let zone = ZONES[number as usize];
        let time = |(hour, minute)| NaiveTime::from_hms_opt(hour, minute, 0).unwrap();
        let bells = (0u8..).zip(self.bells).map(|(n, (starts, ends))| (n, time(starts), time(ends)));
        let in_session = day.date == self.date;
        let meetings: Vec<PlannedMeeting> = bells
            .filter(|_| in_session)
            .map(|(n, starts, ends)| {
                let bell = Bell { period: period(n), starts, ends, instructional: true };
                let span = bell.span_on(day.date, zone);
                let meeting = Meeting { section: section(number, n), period: period(n), span, instructional: true };
                PlannedMeeting { meeting, period_name: format!("Period {n}").into() }
            })
            .collect();
        let mine = self.enrolled.iter().filter(|(_, (at, _))| *at == number);
        let places = |periods: &Vec<u8>| -> Box<[u32]> { periods.iter().filter(|_| in_session).map(|period| u32::from(*period)).collect() };
        Some(DayPlan {
            span: date_span(day.date, zone),
            policy: AttendancePolicy::default(),
            meetings,
            sections: (0..2).map(|n| (section(number, n), SectionInfo { title: format!("Class {n}"), room: None })).collect(),
            students: mine.map(|(id, (_, periods))| (*id, places(periods))).collect(),
        })
    }
}

pub struct Office {
    view: Mutex<Arc<Town>>,
    version: watch::Sender<u64>,
}

impl Office {
    pub fn change(&self, change: impl FnOnce(&mut Town)) {
        let mut view = self.view.lock();
        change(Arc::make_mut(&mut view));
        self.version.send_modify(|version| *version += 1);
    }
}

impl DirectorySource for Office {
    fn current(&self) -> Arc<dyn DirectoryView> {
        self.view.lock().clone()
    }
    fn changed(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// The database: a sink that has taken the log up to `sunk`, and the transitions in the order written.
pub struct Database {
    log: Arc<MemoryLog>,
    pub sunk: Mutex<Offset>,
    pub rows: Mutex<Vec<Transition>>,
    pub written: watch::Sender<usize>,
    pub away: watch::Sender<bool>,
}

pub type WindowKey = (DayKey, PersonId, Option<(SectionId, PeriodId)>);

impl Database {
    pub fn newest(&self) -> HashMap<WindowKey, Transition> {
        let rows = self.rows.lock();
        rows.iter().map(|row| ((row.day, row.student, row.meeting), row.clone())).collect()
    }

    fn batches(&self) -> Vec<rollcall_stream::EventBatch> {
        let sunk = *self.sunk.lock();
        let read = self.log.read(Offset(0), usize::MAX).unwrap();
        let below = read.batches.into_iter().filter(|batch| batch.first < sunk);
        below.map(|batch| batch.slice(0, (sunk.0 - batch.first.0).min(batch.len() as u64) as usize)).collect()
    }
}

impl AttendanceStore for Database {
    fn load_cut(&self, day: DayKey, _: Span) -> BoxFuture<'_, Result<Cut, SeamError>> {
        Box::pin(async move {
            if *self.away.borrow() {
                return Err(SeamError("the database is away".into()));
            }
            let number = (0..2).find(|number| school(*number) == day.school).unwrap();
            let on_date = |scan: &ScanEvidence| local_date(scan.ts, ZONES[number as usize]) == Some(day.date);
            let mut cut = Cut { next_offset: *self.sunk.lock(), ..Cut::default() };
            for batch in self.batches() {
                cut.scans.extend(scan::decode(&batch).filter(|(_, at, scan)| *at == day.school && on_date(scan)).map(|row| row.2));
                cut.marks.extend(mark::decode(&batch).map(|row| row.2).filter(|m| (m.school, m.date) == (day.school, day.date)));
            }
            cut.last = self
                .newest()
                .into_values()
                .filter(|row| row.day == day)
                .map(|row| LastStatus {
                    student: row.student,
                    meeting: row.meeting,
                    status: row.status,
                    rule: row.rule,
                    since: row.since,
                    detail: row.detail,
                    recorded: row.recorded,
                })
                .collect();
            Ok(cut)
        })
    }

    fn last_words(&self) -> BoxFuture<'_, Result<Vec<HeartbeatRow>, SeamError>> {
        Box::pin(async { Ok(self.batches().iter().flat_map(heartbeat::decode).collect()) })
    }

    fn append(&self, rows: Arc<Vec<Transition>>) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            if *self.away.borrow() {
                return Err(SeamError("the database is away".into()));
            }
            self.rows.lock().extend(rows.iter().cloned());
            self.written.send_modify(|written| *written += rows.len());
            Ok(())
        })
    }
}

/// A running engine and everything around it. The log and the database outlive a restart.
pub struct Running {
    pub log: Arc<MemoryLog>,
    pub database: Arc<Database>,
    pub office: Arc<Office>,
    pub clock: Clock,
    pub hub: Hub,
    pub handle: EngineHandle,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), EngineError>>,
}

impl Running {
    /// Starts a town at an instant and waits until it is ready.
    pub async fn start(town: Town, now: UtcMillis) -> Self {
        let log = Arc::new(MemoryLog::new());
        let database = Arc::new(Database {
            log: log.clone(),
            sunk: Mutex::new(Offset(0)),
            rows: Mutex::new(Vec::new()),
            written: watch::Sender::new(0),
            away: watch::Sender::new(false),
        });
        let office = Arc::new(Office { view: Mutex::new(Arc::new(town)), version: watch::Sender::new(0) });
        Self::over(log, database, office, Clock::stepped(now)).await
    }

    async fn over(log: Arc<MemoryLog>, database: Arc<Database>, office: Arc<Office>, clock: Clock) -> Self {
        let hub = Hub::new(clock.now());
        let (engine, handle) = Engine::new(EngineDeps {
            log: log.clone(),
            store: database.clone(),
            directory: office.clone(),
            hub: hub.clone(),
            clock: clock.clone(),
            metrics: prometheus::Registry::new(),
            connections_since: Offset(0),
        });
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(engine.run(shutdown.clone()));
        assert!(handle.wait_ready().await);
        Self { log, database, office, clock, hub, handle, shutdown, task }
    }

    /// Ends the engine; what waits to be written is written, or with `kill` lost.
    pub async fn stop(self, kill: bool) -> (Arc<MemoryLog>, Arc<Database>, Arc<Office>, Clock) {
        if kill {
            self.task.abort();
            assert!(self.task.await.unwrap_err().is_cancelled());
        } else {
            self.shutdown.cancel();
            self.task.await.unwrap().unwrap();
        }
        (self.log, self.database, self.office, self.clock)
    }

    /// Whether the engine ends by itself with an error.
    pub async fn failed(self) -> bool {
        self.task.await.unwrap().is_err()
    }

    /// Another process takes over, with the sink at `sunk`.
    pub async fn restart(self, kill: bool, sunk: Offset) -> Self {
        let (log, database, office, clock) = self.stop(kill).await;
        *database.sunk.lock() = sunk;
        Self::over(log, database, office, clock).await
    }

    /// Steps the clock and waits until what is due has happened.
    pub async fn go_to(&self, now: UtcMillis) {
        self.clock.set(now);
        self.handle.clock_moved().await;
    }

    async fn append(&self, batch: rollcall_stream::EventBatch) {
        let end = self.log.append(vec![batch]).unwrap();
        assert!(self.handle.wait_applied(end, Duration::from_secs(10)).await);
    }

    pub async fn scan(&self, row: ScanRow) {
        self.append(scan::encode(&[row])).await;
    }

    pub async fn mark(&self, mark: Mark) {
        self.append(mark::encode(DISTRICT, &[mark])).await;
    }

    /// The gateway's word on a gate's connection now.
    pub async fn connection(&self, number: u8, connected: bool) {
        self.append(heartbeat::encode(&[self.word(number, Some(connected), None)])).await;
    }

    pub async fn heartbeat(&self, number: u8, queued: i64) {
        self.append(heartbeat::encode(&[self.word(number, None, Some(queued))])).await;
    }

    pub fn word(&self, number: u8, connected: Option<bool>, queued: Option<i64>) -> HeartbeatRow {
        HeartbeatRow {
            district: DISTRICT,
            school: school(number),
            device: gate(number),
            seq: 0,
            ts: self.clock.now(),
            received: self.clock.now(),
            battery: None,
            fw: None,
            queued,
            uptime_s: None,
            connected,
            offset: Offset(0),
        }
    }

    pub async fn board(&self, section: SectionId) -> Json {
        serde_json::from_slice(&self.handle.section_board(section).await.unwrap().data).unwrap()
    }

    /// Status of a student's period (index into their day), or of the day.
    pub async fn status(&self, person: PersonId, index: Option<usize>) -> Status {
        let today = self.handle.student_day(DISTRICT, person).await.unwrap();
        index.map_or(today.day.as_ref().unwrap().status, |index| today.periods[index].status)
    }

    /// Waits until this many rows were written in all.
    pub async fn written(&self, count: usize) {
        self.database.written.subscribe().wait_for(|written| *written >= count).await.unwrap();
    }
}

/// A scan at the gate of a school, received when it happened.
pub fn scanned(number: u8, person: PersonId, seq: u64, ts: UtcMillis, direction: Direction) -> ScanRow {
    let evidence =
        ScanEvidence { student: person, device: gate(number), seq, ts, received: ts, direction, offline: false, offset: Offset(0) };
    ScanRow { district: DISTRICT, school: school(number), badge: BadgeId(uuid(6, 0)), method: Method::Qr, evidence }
}

pub fn marked(id: u8, number: u8, person: PersonId, period_number: u8, status: MarkStatus, now: UtcMillis) -> Mark {
    Mark {
        id: MarkId(uuid(7, id)),
        school: school(number),
        student: person,
        section: Some(section(number, period_number)),
        period: Some(period(period_number)),
        date: friday(),
        status,
        authority: Authority::Teacher,
        author: AccountId(uuid(8, 0)),
        reason: None,
        supersedes: None,
        recorded: now,
        at: None,
    }
}
