//! How fast live attendance takes a first bell: a district of 200,000 students arrives in 15 simulated minutes, while
//! some boards are followed. Prints scans a second and how many times faster than the clock that is.
//!
//! `cargo run --release --example first_bell -p rollcall-analytics [SCHOOLS] [STUDENTS_OF_A_SCHOOL]`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use rollcall_analytics::attendance::*;
use rollcall_analytics::hub::Hub;
use rollcall_model::event::{DeviceKind, Direction, Method};
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Bell, Meeting, Span, date_span, instant_of};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::Log;
use rollcall_stream::heartbeat::HeartbeatRow;
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::{self, ScanRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const ZONE: Tz = chrono_tz::Europe::Berlin;
const DISTRICT: DistrictId = DistrictId(Uuid::from_u128(1));
const PERIODS: u32 = 7;
const CLASS_STUDENTS: u32 = 30;
const ARRIVAL_MIN: i64 = 15;
const FOLLOWED_SECTIONS: u32 = 300;

fn date() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 20).expect("a date of the calendar")
}

fn id(kind: u128, school: u32, number: u32) -> Uuid {
    Uuid::from_u128(kind << 96 | u128::from(school) << 64 | u128::from(number))
}

/// Every student has the same class in all periods; sections differ by period and class.
struct District {
    schools: u32,
    students: u32,
    version: watch::Sender<u64>,
}

impl District {
    fn number(&self, school: SchoolId) -> u32 {
        (school.0.as_u128() >> 64) as u32
    }

    fn classes(&self) -> u32 {
        self.students.div_ceil(CLASS_STUDENTS)
    }

    fn section(&self, school: u32, period: u32, class: u32) -> SectionId {
        SectionId(id(4, school, period * self.classes() + class))
    }
}

impl DirectoryView for District {
    fn schools(&self) -> Vec<SchoolInfo> {
        let info = |number| SchoolInfo { district: DISTRICT, id: SchoolId(id(1, number, 0)), name: format!("School {number}"), zone: ZONE };
        (0..self.schools).map(info).collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        let gate = |number| DeviceInfo {
            district: DISTRICT,
            school: SchoolId(id(1, number, 0)),
            id: DeviceId(id(2, number, 0)),
            kind: DeviceKind::Gate,
            name: "Gate".into(),
            disabled: false,
            gateway: None,
        };
        (0..self.schools).map(gate).collect()
    }

    fn school_of(&self, section: SectionId) -> Option<(DistrictId, SchoolId)> {
        Some((DISTRICT, SchoolId(id(1, (section.0.as_u128() >> 64) as u32, 0))))
    }

    fn plan(&self, day: DayKey) -> Option<DayPlan> {
        let school = self.number(day.school);
        let mut meetings = Vec::new();
        for period in 0..PERIODS {
            let time = |minute| NaiveTime::from_hms_opt(8 + period, minute, 0).expect("a time of the day");
            let (starts, ends) = (time(0), time(50));
            let bell = Bell { period: PeriodId(id(5, 0, period)), starts, ends, instructional: true };
            let span = bell.span_on(day.date, ZONE);
            for class in 0..self.classes() {
                let section = self.section(school, period, class);
                let meeting = Meeting { section, period: bell.period, span, instructional: true };
                meetings.push(PlannedMeeting { meeting, period_name: format!("Period {period}").into() });
            }
        }
        let places =
            |student: u32| -> Box<[u32]> { (0..PERIODS).map(|period| period * self.classes() + student / CLASS_STUDENTS).collect() };
        let students = (0..self.students).map(|student| (PersonId(id(3, school, student)), places(student)));
        let section = |planned: &PlannedMeeting| (planned.meeting.section, SectionInfo { title: "Class".into(), room: None });
        Some(DayPlan {
            span: date_span(day.date, ZONE),
            policy: AttendancePolicy::default(),
            sections: meetings.iter().map(section).collect(),
            meetings,
            students: students.collect(),
        })
    }
}

struct Source(Arc<District>);

impl DirectorySource for Source {
    fn current(&self) -> Arc<dyn DirectoryView> {
        self.0.clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }
}

/// An empty database that takes every row at once.
struct Nothing;

impl AttendanceStore for Nothing {
    fn load_cut(&self, _: DayKey, _: Span) -> BoxFuture<'_, Result<Cut, SeamError>> {
        Box::pin(async { Ok(Cut::default()) })
    }

    fn last_words(&self) -> BoxFuture<'_, Result<Vec<HeartbeatRow>, SeamError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn append(&self, _: Arc<Vec<Transition>>) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Who arrives when: everybody, from five minutes before the bell until ten minutes after it, in an order that
/// mixes the schools.
fn arrivals(schools: u32, students: u32, bell: UtcMillis) -> Vec<ScanRow> {
    let all = u64::from(schools) * u64::from(students);
    (0..all)
        .map(|place| {
            let (school, student) = ((place % u64::from(schools)) as u32, (place / u64::from(schools)) as u32);
            let after_ms = (place as i64 * ARRIVAL_MIN * 60_000) / all as i64;
            let ts = bell.plus_ms(after_ms - (ARRIVAL_MIN - 10) * 60_000);
            let evidence = ScanEvidence {
                student: PersonId(id(3, school, student)),
                device: DeviceId(id(2, school, 0)),
                seq: u64::from(student),
                ts,
                received: ts,
                direction: Direction::In,
                offline: false,
                offset: Offset(0),
            };
            let school = SchoolId(id(1, school, 0));
            ScanRow { district: DISTRICT, school, badge: BadgeId(id(6, 0, 0)), method: Method::Qr, evidence }
        })
        .collect()
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let (schools, students) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(2_000));
    let district = Arc::new(District { schools, students, version: watch::Sender::new(0) });
    let bell = instant_of(date(), NaiveTime::from_hms_opt(8, 0, 0).expect("a time of the day"), ZONE);
    let scans = arrivals(schools, students, bell);
    let log = Arc::new(MemoryLog::new());
    let clock = Clock::stepped(bell.plus_ms(-30 * 60_000));
    let hub = Hub::new(clock.now());
    let started = Instant::now();
    let (engine, handle) = Engine::new(EngineDeps {
        log: log.clone(),
        store: Arc::new(Nothing),
        directory: Arc::new(Source(district.clone())),
        hub: hub.clone(),
        clock: clock.clone(),
        metrics: prometheus::Registry::new(),
        connections_since: Offset(0),
    });
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(engine.run(shutdown.clone()));
    assert!(handle.wait_ready().await, "live attendance did not start");
    println!("ready            {:>10.2} s for {} students", started.elapsed().as_secs_f64(), scans.len());
    let followed = follow(&hub, &district).await;

    let started = Instant::now();
    let mut end = Offset(0);
    // One append a simulated second, as a gateway's read batches would be.
    for second in scans.chunk_by(|a, b| a.evidence.ts.0 / 1_000 == b.evidence.ts.0 / 1_000) {
        clock.set(second[second.len() - 1].evidence.ts);
        end = log.append(vec![scan::encode(second)]).expect("a log in memory takes everything");
    }
    assert!(handle.wait_applied(end, Duration::from_secs(600)).await, "not applied within ten minutes");
    let took = started.elapsed().as_secs_f64();
    println!("scans            {:>10.0} /s ({:.1} us each)", scans.len() as f64 / took, took * 1e6 / scans.len() as f64);
    println!("times real time  {:>10.0}", ARRIVAL_MIN as f64 * 60.0 / took);

    let started = Instant::now();
    clock.set(bell.plus_ms(21 * 60_000));
    handle.clock_moved().await;
    println!("bell and grace   {:>10.1} ms of one turn", started.elapsed().as_secs_f64() * 1e3);
    println!("in time, late    {:>10?} as the rules say {:?}", counts(&hub).await, expected(&scans, bell));
    shutdown.cancel();
    task.await.expect("the engine does not panic").expect("the engine ends without an error");
    drop(followed);
}

/// Follows some sections, as teachers do, and reads their updates as they come.
async fn follow(hub: &Hub, district: &District) -> Vec<tokio::task::JoinHandle<()>> {
    let mut readers = Vec::new();
    for number in 0..FOLLOWED_SECTIONS.min(district.schools * district.classes()) {
        let section = district.section(number % district.schools, 0, number / district.schools);
        let mut topic = hub.subscribe(&format!("section/{section}/attendance"), None);
        topic.next().await.expect("the section exists");
        readers.push(tokio::spawn(async move { while topic.next().await.is_some() {} }));
    }
    readers
}

/// (present, tardy) of the district by its live topic.
async fn counts(hub: &Hub) -> (u64, u64) {
    let board = hub.snapshot(&format!("district/{DISTRICT}/attendance")).await.expect("the district exists");
    let board: HashMap<String, HashMap<String, serde_json::Value>> = serde_json::from_slice(&board.data).expect("a board is JSON");
    let sum = |status: &str| board["schools"].values().filter_map(|school| school["counts"][status].as_u64()).sum();
    (sum("present"), sum("tardy"))
}

/// (present, tardy) by the definition: by the grace, or after it.
fn expected(scans: &[ScanRow], bell: UtcMillis) -> (u64, u64) {
    let grace = bell.plus_min(AttendancePolicy::default().grace_min);
    let present = scans.iter().filter(|row| row.evidence.ts <= grace).count();
    (present as u64, (scans.len() - present) as u64)
}
