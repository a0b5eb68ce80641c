//! Making the rollups anew: date by date beside the reader, across kills, and without what is no longer known. Erasing a student from
//! them, whatever the reader and a rebuild have still before them.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rollcall_model::event::Direction;
use rollcall_model::ids::{Offset, PersonId};
use rollcall_model::schedule::local_date;
use rollcall_model::time::UtcMillis;
use rollcall_store::rollup::READER;
use rollcall_store::{Retention, erasure};
use rollcall_stream::Log;
use rollcall_stream::memory::MemoryLog;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::database::{Database, District, PATIENCE, ZONE};
use crate::rollups::{Event, Rolling, STARTS, Said, add_staff, encode, event, expected, person, same, tables};
use crate::sink::Running;

const DAY_MS: i64 = 86_400_000;

/// Long enough for the events of these tests, whatever the date is.
const FOR_AGES: Retention =
    Retention { scan_days: 9_000, telemetry_days: 9_000, activity_days: 9_000, device_status_days: 9_000, rollup_days: 9_000 };

/// A district, its log and what was said in it.
struct Town {
    database: Database,
    district: District,
    staff: PersonId,
    log: Arc<MemoryLog>,
    sink: Option<Running>,
    random: StdRng,
    events: Vec<Event>,
}

impl Town {
    async fn new(retention: Retention, events: usize) -> Self {
        let database = Database::keeping(retention).await;
        let district = database.district("one").await;
        let staff = add_staff(&database, &district).await;
        let log = Arc::new(MemoryLog::new());
        let sink = Some(Running::start(&database, &log));
        let mut town = Self { database, district, staff, log, sink, random: StdRng::seed_from_u64(11), events: Vec::new() };
        for _ in 0..events {
            let event = event(&mut town.random);
            town.say(event);
        }
        town.drained().await;
        town
    }

    fn say(&mut self, event: Event) {
        self.events.push(event);
        self.log.append(vec![encode(&self.district, &event, self.events.len() as u64)]).unwrap();
    }

    /// Until the event tables have all that was said.
    async fn drained(&mut self) {
        self.sink.as_mut().unwrap().drained(&self.log).await;
    }

    async fn stop(mut self) {
        self.sink.take().unwrap().stop().await;
    }

    async fn roll(&self) -> Rolling {
        Rolling::start(&self.database, &self.log).await
    }

    async fn roll_to_the_end(&self) {
        let mut rolling = self.roll().await;
        rolling.until(self.log.end()).await;
        rolling.made().await;
        rolling.stop().await;
    }

    async fn ask_for_a_rebuild(&self) {
        self.database.as_owner(&format!("delete from rollcall.consumer_offset where reader = '{READER}'")).await;
    }

    fn but(&self, is_counted: impl Fn(usize, &Event) -> bool) -> Vec<Event> {
        self.events.iter().enumerate().filter(|(at, event)| is_counted(*at, event)).map(|(_, event)| *event).collect()
    }

    /// The days of devices are those of some events, and the days of students those of some.
    async fn are_as_counted(&self, of_devices: &[Event], of_students: &[Event]) {
        let (devices, _) = expected(&self.district, self.staff, of_devices);
        let (_, students) = expected(&self.district, self.staff, of_students);
        same(&self.database, &(devices, students)).await;
    }

    async fn are_as_all_was_counted(&self) {
        self.are_as_counted(&self.events, &self.events).await;
    }

    async fn erase(&self, number: u8) -> u64 {
        let mut tenant = self.database.store.tenant(self.district.id).await.unwrap();
        let days = erasure::erase(&mut tenant, person(&self.district, number), self.log.end()).await.unwrap();
        tenant.commit().await.unwrap();
        days
    }

    fn scan(&mut self, number: u8) -> Event {
        Event { said: Said::Scan(number, Direction::In), ..event(&mut self.random) }
    }
}

/// Until so many statements of the program wait for somebody's lock.
async fn until_held(database: &Database, statements: i64) {
    let held = "application_name = 'rollcall' and wait_event_type = 'Lock'";
    let waits = async { while database.count_where("pg_stat_activity", held).await < statements {} };
    tokio::time::timeout(PATIENCE, waits).await.expect("they are held");
}

fn date_in(days: i64) -> NaiveDate {
    local_date(UtcMillis(STARTS + days * DAY_MS), ZONE).unwrap()
}

fn is_of(number: u8, event: &Event) -> bool {
    matches!(event.said, Said::Scan(scanned, _) if scanned == number)
}

#[tokio::test]
async fn a_rebuild_that_is_held_up_and_killed_holds_up_nobody_and_goes_on() {
    let mut town = Town::new(FOR_AGES, 600).await;
    town.roll_to_the_end().await;
    // The rows are wrong, and somebody holds one of a date in the middle.
    let held = date_in(2);
    let row = format!("date = '{held}' and device = '{}'", uuid::Uuid::from_bytes([1; 16]));
    town.database.as_owner("update rollcall.device_day set scans = scans + 1; update rollcall.student_day set outs = 77").await;
    town.ask_for_a_rebuild().await;
    let mut owner = town.database.owner().await;
    let copied =
        format!("create table taken as select * from rollcall.device_day where {row}; delete from rollcall.device_day where {row}");
    town.database.as_owner(&copied).await;
    let mut holding = owner.begin().await.unwrap();
    holding.execute("insert into rollcall.device_day select * from taken").await.unwrap();

    let mut rolling = town.roll().await;
    until_held(&town.database, 1).await;
    for day in 0..4 {
        let late = Event { device: 40, ts: STARTS + day * DAY_MS, ..town.scan(1) };
        town.say(late);
    }
    rolling.until(town.log.end()).await;
    rolling.task.abort();
    let left = format!("date = '{held}' and cut is not null and rollup = 'device_day'");
    assert_eq!(town.database.count_where("rollcall.rollup_rebuild", &left).await, 1);
    holding.rollback().await.unwrap();

    town.roll_to_the_end().await;
    assert_eq!(town.database.count("rollcall.rollup_rebuild").await, 0);
    town.are_as_all_was_counted().await;
    town.stop().await;
}

/// How far the rebuilds are.
async fn progress(database: &Database) -> Vec<(String, NaiveDate, bool)> {
    let sql = "select rollup, date, cut is null from rollcall.rollup_rebuild order by 1";
    sqlx::query_as(sql).fetch_all(&mut database.owner().await).await.unwrap()
}

#[tokio::test]
async fn a_rebuild_counts_everything_once_whenever_it_is_killed() {
    let mut town = Town::new(FOR_AGES, 300).await;
    let mut kills_midway = 0;
    for round in 0..30_u64 {
        let before = progress(&town.database).await;
        if before.is_empty() {
            town.roll_to_the_end().await;
            town.are_as_all_was_counted().await;
            town.ask_for_a_rebuild().await;
        }
        for _ in 0..30 {
            let event = event(&mut town.random);
            town.say(event);
        }
        let rolling = town.roll().await;
        let moves = async { while progress(&town.database).await == before {} };
        tokio::time::timeout(PATIENCE, moves).await.expect("it goes on");
        // Another moment of its work each time; some of them with connections that are cut.
        tokio::time::sleep(Duration::from_millis(round * 7 % 30)).await;
        if round % 4 == 3 {
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                where application_name = 'rollcall' and query ~ 'rollup|device_day|student_day'";
            town.database.as_owner(cut).await;
        }
        rolling.task.abort();
        assert!(rolling.task.await.is_err_and(|ended| ended.is_cancelled()));
        kills_midway += u32::from(!progress(&town.database).await.is_empty());
    }
    assert!(kills_midway > 10, "{kills_midway} kills in the middle");
    town.roll_to_the_end().await;
    town.are_as_all_was_counted().await;
    town.stop().await;
}

#[tokio::test]
async fn a_rebuild_lets_a_transaction_of_the_reader_end_first() {
    let mut town = Town::new(FOR_AGES, 600).await;
    town.roll_to_the_end().await;
    // The reader has moved its offset and changed a row of the last date, and waits for a row of an earlier one.
    let mut owner = town.database.owner().await;
    let mut holding = owner.begin().await.unwrap();
    let device = uuid::Uuid::from_bytes([4; 16]);
    let row = format!("select from rollcall.device_day where device = '{device}' and date = '{}' for update", date_in(1));
    holding.execute(AssertSqlSafe(row)).await.unwrap();
    let mut rolling = town.roll().await;
    for (device, days) in [(0, 3), (3, 1)] {
        let event = Event { device, ts: STARTS + days * DAY_MS, ..town.scan(1) };
        town.say(event);
    }
    until_held(&town.database, 1).await;
    let asked = "insert into rollcall.rollup_rebuild (district, rollup, date, oldest)";
    town.database.as_owner(&format!("{asked} values ('{}', 'device_day', '{1}', '{1}')", town.district.id, date_in(3))).await;
    // Another one looks for what is to be made: both of its connections wait for the first.
    let mut other = town.roll().await;
    until_held(&town.database, 3).await;
    holding.rollback().await.unwrap();
    rolling.until(town.log.end()).await;
    other.until(town.log.end()).await;
    other.made().await;
    town.are_as_all_was_counted().await;
    rolling.stop().await;
    other.stop().await;
    town.stop().await;
}

#[tokio::test]
async fn a_rebuild_waits_for_the_sink_to_have_what_the_reader_has_read() {
    let mut town = Town::new(FOR_AGES, 100).await;
    town.roll_to_the_end().await;
    town.sink.take().unwrap().stop().await;
    for _ in 0..200 {
        let event = event(&mut town.random);
        town.say(event);
    }
    town.roll_to_the_end().await;
    let asked = format!(
        "insert into rollcall.rollup_rebuild (district, rollup, date, oldest)
         select '{}', rollup, '{}', '{}' from unnest(array['device_day', 'student_day']) rollup",
        town.district.id,
        date_in(4),
        date_in(0)
    );
    town.database.as_owner(&asked).await;
    let mut rolling = town.roll().await;
    rolling.until(town.log.end()).await;
    let begun = async { while progress(&town.database).await.iter().any(|(_, _, is_untouched)| *is_untouched) {} };
    tokio::time::timeout(PATIENCE, begun).await.expect("a date is cleared");
    assert_eq!(progress(&town.database).await.len(), 2);
    town.sink = Some(Running::start(&town.database, &town.log));
    rolling.made().await;
    town.are_as_all_was_counted().await;
    rolling.stop().await;
    town.stop().await;
}

#[tokio::test]
async fn a_rebuild_keeps_what_events_do_not_give_any_more() {
    // What devices say of themselves is kept for a week only. There is nothing yet, so the days are made of what there is.
    let town = Town::new(Retention { device_status_days: 7, ..FOR_AGES }, 300).await;
    town.roll_to_the_end().await;
    town.are_as_all_was_counted().await;
    town.database.as_owner("delete from event.device_status").await;
    let ancient = "insert into rollcall.student_day select district, school, student, date - 1000, scans, ins, outs, offline, late,
        first_scan, last_scan, first_in, last_out from rollcall.student_day order by date limit 1;
        update rollcall.student_day set scans = scans + 5 where date > '2026-01-01'";
    town.database.as_owner(ancient).await;
    let devices = tables(&town.database).await.0;
    town.ask_for_a_rebuild().await;
    town.roll_to_the_end().await;
    assert_eq!(tables(&town.database).await.0, devices);
    assert_eq!(town.database.count_where("rollcall.student_day", "date < '2026-01-01'").await, 1);
    town.database.as_owner("delete from rollcall.student_day where date < '2026-01-01'").await;
    town.are_as_all_was_counted().await;
    town.stop().await;
}

#[tokio::test]
async fn an_erased_student_does_not_come_back_by_a_reader_that_is_behind() {
    let mut town = Town::new(FOR_AGES, 200).await;
    let scan = town.scan(1);
    town.roll_to_the_end().await;
    // The reader has not read these.
    town.say(scan);
    for _ in 0..50 {
        let event = event(&mut town.random);
        town.say(event);
    }
    assert!(town.erase(1).await > 0);
    let erased = town.events.len();
    assert_eq!(town.database.count_where("rollcall.student_day", "student = '65656565-6565-6565-6565-656565656565'").await, 0);
    let rolling = town.roll().await;
    town.say(scan);
    rolling.stop().await;
    town.roll_to_the_end().await;
    let left = town.but(|at, event| at >= erased || !is_of(1, event));
    town.are_as_counted(&town.events, &left).await;

    // Nor by a rebuild, from events that hold the student's scans.
    town.drained().await;
    assert!(town.database.count_where("event.scan", "person = '65656565-6565-6565-6565-656565656565'").await > 1);
    town.database.as_owner("update rollcall.student_day set scans = 1000").await;
    let mut tenant = town.database.store.tenant(town.district.id).await.unwrap();
    let shown = "select count(*) from rollcall.scan where person = '65656565-6565-6565-6565-656565656565'";
    let shown: i64 = sqlx::query_scalar(shown).fetch_one(&mut *tenant).await.unwrap();
    assert_eq!(shown, 1, "only what came after the erasure is shown");
    drop(tenant);
    town.ask_for_a_rebuild().await;
    town.roll_to_the_end().await;
    town.are_as_counted(&left, &left).await;

    // Asked for again it erases what has come since, and an older offset takes nothing back.
    assert_eq!(town.erase(1).await, 1);
    let mut tenant = town.database.store.tenant(town.district.id).await.unwrap();
    assert_eq!(erasure::erase(&mut tenant, person(&town.district, 1), Offset(1)).await.unwrap(), 0);
    tenant.commit().await.unwrap();
    town.ask_for_a_rebuild().await;
    town.roll_to_the_end().await;
    let left = town.but(|_, event| !is_of(1, event));
    town.are_as_counted(&left, &left).await;
    town.stop().await;
}

#[tokio::test]
async fn an_erasure_between_reading_and_writing_is_heeded() {
    let mut town = Town::new(FOR_AGES, 100).await;
    town.roll_to_the_end().await;
    // The reader has gathered scans of the student and waits to write them.
    let mut owner = town.database.owner().await;
    let mut holding = owner.begin().await.unwrap();
    holding.execute("lock table rollcall.consumer_offset in share mode").await.unwrap();
    let (scan, other) = (town.scan(1), town.scan(2));
    town.say(scan);
    town.say(other);
    let mut rolling = town.roll().await;
    until_held(&town.database, 1).await;
    town.erase(1).await;
    holding.rollback().await.unwrap();
    rolling.until(town.log.end()).await;
    town.are_as_counted(&town.events, &town.but(|_, event| !is_of(1, event))).await;
    rolling.stop().await;
    town.stop().await;
}
