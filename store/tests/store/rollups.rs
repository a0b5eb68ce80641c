//! The rollups hold what counting all events gives, in whatever order they come and across restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rollcall_model::event::{ActivityKind, Direction, Method};
use rollcall_model::ids::{BadgeId, DeviceId, Offset, PersonId};
use rollcall_model::schedule::{date_span, local_date};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::DirectoryCache;
use rollcall_store::rollup::Rollups;
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::heartbeat::{self, HeartbeatRow};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::{self, ScanRow};
use rollcall_stream::telemetry::{self, TelemetryRow};
use rollcall_stream::{EventBatch, Log};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Database, District, PATIENCE, ZONE};

/// 2026-10-31T00:00Z; a day later a date of 25 hours begins.
pub const STARTS: i64 = 1_793_404_800_000;
const LATE_MS: i64 = 300_000;

#[derive(Clone, Copy)]
pub enum Said {
    Scan(u8, Direction),
    Reading(&'static str, f64),
    Activity,
    Heartbeat(Option<f64>, Option<i64>),
    Connected(bool),
}

#[derive(Clone, Copy)]
pub struct Event {
    pub device: u8,
    pub ts: i64,
    pub received: i64,
    pub offline: bool,
    pub said: Said,
}

pub fn event(random: &mut StdRng) -> Event {
    let ts = STARTS + random.random_range(0..4 * 86_400) * 1_000 + random.random_range(0..3);
    let said = match random.random_range(0..8) {
        0..3 => Said::Scan(random.random_range(0..4), [Direction::In, Direction::Out, Direction::Auto][random.random_range(0..3)]),
        3 => Said::Reading("battery", random.random_range(1..100) as f64 / 100.0),
        4 => Said::Reading("steps", 12.0),
        5 => Said::Activity,
        6 => Said::Heartbeat(random.random_bool(0.5).then_some(0.25), random.random_bool(0.5).then_some(7)),
        _ => Said::Connected(random.random_bool(0.5)),
    };
    // Some exactly at the bound, which are not late.
    let lateness = [3, LATE_MS, LATE_MS + 1, 9_000_000][random.random_range(0..4)];
    Event { device: random.random_range(0..4), ts, received: ts + lateness, offline: random.random_bool(0.3), said }
}

pub fn person(district: &District, number: u8) -> PersonId {
    if number == 0 { district.student } else { PersonId::from_bytes([100 + number; 16]) }
}

pub fn encode(district: &District, event: &Event, seq: u64) -> EventBatch {
    let (school, device) = (district.school, DeviceId::from_bytes([event.device + 1; 16]));
    let (ts, received, offline, offset) = (UtcMillis(event.ts), UtcMillis(event.received), event.offline, Offset(0));
    match event.said {
        Said::Scan(number, direction) => {
            let evidence = ScanEvidence { student: person(district, number), device, seq, ts, received, direction, offline, offset };
            let badge = BadgeId::from_bytes([9; 16]);
            scan::encode(&[ScanRow { district: district.id, school, badge, method: Method::Qr, evidence }])
        }
        Said::Reading(metric, value) => telemetry::encode(&[TelemetryRow {
            district: district.id,
            school,
            device,
            seq,
            ts,
            received,
            offline,
            person: None,
            metric,
            value,
            offset,
        }]),
        Said::Activity => activity::encode(&[ActivityRow {
            district: district.id,
            school,
            device,
            seq,
            ts,
            received,
            offline,
            person: district.student,
            kind: ActivityKind::Opened,
            resource: "reader",
            section: None,
            dur_ms: None,
            offset,
        }]),
        Said::Heartbeat(..) | Said::Connected(_) => {
            let (battery, queued) = if let Said::Heartbeat(battery, queued) = event.said { (battery, queued) } else { (None, None) };
            let connected = if let Said::Connected(connected) = event.said { Some(connected) } else { None };
            heartbeat::encode(&[HeartbeatRow {
                district: district.id,
                school,
                device,
                seq,
                ts,
                received,
                battery,
                fw: None,
                queued,
                uptime_s: None,
                connected,
                offset,
            }])
        }
    }
}

/// What counting gives for a device and date.
fn device_day(date: NaiveDate, events: &[&Event]) -> Value {
    let own: Vec<&&Event> = events.iter().filter(|event| !matches!(event.said, Said::Connected(_))).collect();
    let count = |is: fn(&Said) -> bool| events.iter().filter(|event| is(&event.said)).count();
    let late: Vec<i64> = own.iter().map(|event| event.received - event.ts).filter(|late| *late > LATE_MS).collect();
    let charge = own.iter().filter_map(|event| match event.said {
        Said::Reading("battery", value) => Some(value),
        Said::Heartbeat(battery, _) => battery,
        _ => None,
    });
    let charge: Vec<f64> = charge.collect();
    let queued = own.iter().filter_map(|event| if let Said::Heartbeat(_, queued) = event.said { queued } else { None }).max();
    let begins = date_span(date, ZONE).starts.0;
    let heard: String =
        (0..300).map(|slot| if own.iter().any(|event| (event.ts - begins) / 300_000 == slot) { '1' } else { '0' }).collect();
    json!([
        count(|said| matches!(said, Said::Scan(..))),
        count(|said| matches!(said, Said::Reading(..))),
        count(|said| matches!(said, Said::Activity)),
        count(|said| matches!(said, Said::Heartbeat(..))),
        count(|said| matches!(said, Said::Connected(true))),
        count(|said| matches!(said, Said::Connected(false))),
        own.iter().map(|event| event.ts).min(),
        own.iter().map(|event| event.ts).max(),
        own.iter().filter(|event| event.offline && !matches!(event.said, Said::Heartbeat(..))).count(),
        late.len(),
        late.iter().max().unwrap_or(&0),
        charge.iter().copied().reduce(f64::min),
        charge.iter().copied().reduce(f64::max),
        queued,
        heard,
    ])
}

fn student_day(scans: &[(&Event, Direction)]) -> Value {
    let of = |wanted: Direction| scans.iter().filter(move |(_, direction)| *direction == wanted).map(|(event, _)| event.ts);
    json!([
        scans.len(),
        of(Direction::In).count(),
        of(Direction::Out).count(),
        scans.iter().filter(|(event, _)| event.offline).count(),
        scans.iter().filter(|(event, _)| event.received - event.ts > LATE_MS).count(),
        scans.iter().map(|(event, _)| event.ts).min(),
        scans.iter().map(|(event, _)| event.ts).max(),
        of(Direction::In).min(),
        of(Direction::Out).max(),
    ])
}

pub type Table = BTreeMap<(Uuid, NaiveDate), Value>;

pub fn expected(district: &District, staff: PersonId, events: &[Event]) -> (Table, Table) {
    let date = |event: &Event| local_date(UtcMillis(event.ts), ZONE).unwrap();
    let (mut devices, mut students): (BTreeMap<_, Vec<_>>, BTreeMap<_, Vec<_>>) = Default::default();
    for event in events {
        devices.entry((Uuid::from_bytes([event.device + 1; 16]), date(event))).or_default().push(event);
        if let Said::Scan(number, direction) = event.said
            && person(district, number) != staff
        {
            students.entry((person(district, number).0, date(event))).or_default().push((event, direction));
        }
    }
    let devices = devices.into_iter().map(|(key, events)| (key, device_day(key.1, &events))).collect();
    (devices, students.into_iter().map(|(key, scans)| (key, student_day(&scans))).collect())
}

async fn stored(database: &Database, table: &str, key: &str, columns: &str) -> Table {
    let sql = format!("select {key}, date, jsonb_build_array({columns}) from rollcall.{table}");
    let rows: Vec<(Uuid, NaiveDate, Value)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut database.owner().await).await.unwrap();
    rows.into_iter().map(|(id, date, values)| ((id, date), values)).collect()
}

pub async fn tables(database: &Database) -> (Table, Table) {
    let ms = |column: &str| format!("(extract(epoch from {column}) * 1000)::bigint");
    let devices = format!(
        "scans, readings, activities, heartbeats, connects, disconnects, {}, {}, offline, late, late_ms_max, battery_min, battery_max,
         queued_max, heard::text",
        ms("first_event"),
        ms("last_event")
    );
    let students =
        format!("scans, ins, outs, offline, late, {}, {}, {}, {}", ms("first_scan"), ms("last_scan"), ms("first_in"), ms("last_out"));
    (stored(database, "device_day", "device", &devices).await, stored(database, "student_day", "student", &students).await)
}

/// The tables are as expected, row for row.
pub async fn same(database: &Database, expected: &(Table, Table)) {
    let stored = tables(database).await;
    for (stored, expected) in [(&stored.0, &expected.0), (&stored.1, &expected.1)] {
        assert!(stored.keys().eq(expected.keys()), "{:?} are not {:?}", stored.keys(), expected.keys());
        for (key, row) in expected {
            assert_eq!(&stored[key], row, "{key:?}");
        }
    }
}

pub struct Rolling {
    written: watch::Receiver<Offset>,
    left: watch::Receiver<u64>,
    shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Rolling {
    pub async fn start(database: &Database, log: &Arc<MemoryLog>) -> Self {
        let log: Arc<dyn Log> = log.clone();
        let directory = DirectoryCache::load(database.store.clone()).await.unwrap();
        let rollups = Rollups::new(log, database.store.clone(), directory, &prometheus::Registry::new()).unwrap();
        let rollups = rollups.every(Duration::from_millis(20));
        let (written, left, shutdown) = (rollups.written(), rollups.dates_left(), CancellationToken::new());
        let stop = shutdown.clone();
        Self { written, left, shutdown, task: tokio::spawn(async move { rollups.run(stop).await.unwrap() }) }
    }

    pub async fn until(&mut self, end: Offset) {
        tokio::time::timeout(PATIENCE, self.written.wait_for(|written| *written >= end)).await.expect("the rollups get there").unwrap();
    }

    /// Until everything has been made that was asked for; after [`Rolling::until`].
    pub async fn made(&mut self) {
        tokio::time::timeout(PATIENCE, self.left.wait_for(|left| *left == 0)).await.expect("the rollups are made").unwrap();
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A member of the staff, whose scans are nobody's evidence.
pub async fn add_staff(database: &Database, district: &District) -> PersonId {
    let staff = person(district, 3);
    let sql = "insert into rollcall.person (district, id, source_id, kind) values ($1, $2, 't-1', 'staff')";
    sqlx::query(sql).bind(district.id.0).bind(staff.0).execute(&mut database.owner().await).await.unwrap();
    staff
}

#[tokio::test]
async fn they_hold_what_counting_all_events_gives() {
    let database = Database::start().await;
    let district = database.district("one").await;
    let staff = add_staff(&database, &district).await;
    let log = Arc::new(MemoryLog::new());
    let mut random = StdRng::seed_from_u64(7);
    let mut events: Vec<Event> = (0..1_500).map(|_| event(&mut random)).collect();
    events.shuffle(&mut random);
    let mut rest = events.as_slice();
    let mut seq = 0;
    while !rest.is_empty() {
        // A reader of its own for each portion: it goes on where the one before has committed.
        let (portion, later) = rest.split_at(random.random_range(1..400).min(rest.len()));
        rest = later;
        let mut rolling = Rolling::start(&database, &log).await;
        for event in portion {
            seq += 1;
            log.append(vec![encode(&district, event, seq)]).unwrap();
        }
        if random.random_bool(0.5) {
            rolling.until(log.end()).await;
        }
        rolling.stop().await;
    }
    let expected = expected(&district, staff, &events);
    let mut rolling = Rolling::start(&database, &log).await;
    rolling.until(log.end()).await;
    same(&database, &expected).await;
    let late = Event { device: 0, ts: STARTS + 50, received: STARTS + 90_000_000, offline: true, said: Said::Activity };
    log.append(vec![encode(&district, &late, seq + 1)]).unwrap();
    events.push(late);
    rolling.until(log.end()).await;
    same(&database, &self::expected(&district, staff, &events)).await;
    rolling.stop().await;
}

#[tokio::test]
async fn a_district_sees_its_own_days_only() {
    let database = Database::start().await;
    let (one, two) = (database.district("one").await, database.district("two").await);
    let log = Arc::new(MemoryLog::new());
    let mut random = StdRng::seed_from_u64(3);
    for (seq, district) in [one, two, one].iter().enumerate() {
        let scan = Event { said: Said::Scan(0, Direction::In), ..event(&mut random) };
        log.append(vec![encode(district, &scan, seq as u64)]).unwrap();
    }
    let mut rolling = Rolling::start(&database, &log).await;
    rolling.until(log.end()).await;
    for table in ["device_day", "student_day"] {
        let sql = || AssertSqlSafe(format!("select coalesce(sum(scans), 0)::bigint from rollcall.{table}"));
        for (district, scans) in [(one, 2_i64), (two, 1)] {
            let mut tenant = database.store.tenant(district.id).await.unwrap();
            let seen: i64 = sqlx::query_scalar(sql()).fetch_one(&mut *tenant).await.unwrap();
            assert_eq!(seen, scans, "{table}");
        }
        let nobody: i64 = sqlx::query_scalar(sql()).fetch_one(database.store.pool()).await.unwrap();
        assert_eq!(nobody, 0);
    }
    rolling.stop().await;
}
