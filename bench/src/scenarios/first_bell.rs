//! `first-bell`: a district of 200,000 students arrives within a quarter of an hour, which is replayed through the gates' MQTT
//! connections as fast as it goes, into the log, the boards and the database. Afterwards every status on every board and in the
//! database must be what a naive reference says. The district's import is measured as well.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_tests::district::{Device, Roster, Size};
use rollcall_tests::{District, Session};
use serde_json::Value;
use sqlx::Row as _;

use super::Settings;
use crate::fresh::Fresh;
use crate::load::replay::{self, Connected, Recorded, Replayed};
use crate::load::{self, Running};
use crate::table::Row;

const SCENARIO: &str = "first-bell";

const SCHOOLS: usize = 100;
const STUDENTS_PER_SCHOOL: usize = 2_000;
const SEED: u64 = 20_261_121;

/// They come from five minutes before the bell until ten after it, which is all over when it is replayed.
const ARRIVE_FROM_S: i64 = -5 * 60;
const ARRIVE_S: i64 = 15 * 60;
const STARTED_MIN: i32 = 11;

/// The default policy, in seconds: until when one is present, and until when tardy; then absence is concluded.
const GRACE_S: i64 = 5 * 60;
const CUTOFF_S: i64 = 20 * 60;

/// Shares: who never comes, whose badge is read twice, and who goes out again for a moment.
const STAY_AWAY: f64 = 0.03;
const READ_TWICE: f64 = 0.03;
const STEP_OUT: f64 = 0.02;

const TIMES_REAL_MIN: f64 = 20.0;

const OFFICE: &str = "office@bench.example";

/// How often the counts are looked at, and how long everything may take after the last scan was acknowledged.
const LOOK: Duration = Duration::from_millis(50);
const SETTLE_MAX: Duration = Duration::from_secs(120);

pub async fn run(_settings: Settings) -> Result<Vec<Row>> {
    let (stage, import) = Stage::start().await?;
    let days = stage.days();
    let mut scans: Vec<Recorded> = days.values().flat_map(|day| day.scans.clone()).collect();
    scans.sort_by_key(|scan| scan.ts_ms);
    let expected = days.values().filter(|day| !day.scans.is_empty()).count() as u64;

    let gates: Vec<Device> = stage.districts.iter().map(|district| district.gate.clone()).collect();
    let file = |name: &str| stage.server.dir().join(name);
    load::write_devices(&file("gates"), &gates)?;
    load::write_lines(&file("scans"), &scans)?;
    let options = replay::Options { mqtt: stage.server.instance.mqtt.clone(), gates: file("gates"), scans: file("scans") };
    let mut load = Running::start(&options.args())?;
    let connected: Connected = load.report()?;
    ensure!(connected.gates == gates.len(), "{} of {} gates are connected", connected.gates, gates.len());
    let meter = stage.server.meter()?;
    load.go_on()?;
    let first_at = Instant::now();
    let replay = tokio::task::spawn_blocking(move || load.finish::<Replayed>());
    let shown_at = stage.until_shown(expected).await?;
    let replayed = replay.await??;
    let caught_up = stage.server.caught_up(SETTLE_MAX).await;
    let written_at = stage.until_written().await?;
    caught_up?;
    let cost = meter.end(replayed.scans)?;
    let (seconds, stored_s) = ((shown_at - first_at).as_secs_f64(), (written_at - first_at).as_secs_f64());
    stage.check_boards(&days).await?;
    stage.check_database(&days).await?;

    let times = ARRIVE_S as f64 / seconds;
    let row = Row::new(SCENARIO, format!("{expected} of {} students arrive", days.len()), replayed.scans, seconds)
        .cost(cost)
        .bar(format!("at least {TIMES_REAL_MIN:.0} x real time: {times:.0} x"), times >= TIMES_REAL_MIN)
        .note("every status of the period equals the reference, on the boards and in the database")
        .note(format!(
            "acknowledged after {:.1} s, on all boards after {seconds:.1} s, in the database after {stored_s:.1} s; load generator: {:.1} CPU s",
            replayed.seconds, replayed.cpu_s
        ));
    Ok(vec![import, row])
}

/// What one student does, by the seed.
struct Day {
    scans: Vec<Recorded>,
}

struct Stage {
    server: Fresh,
    bell: DateTime<Utc>,
    /// By school.
    districts: Vec<District>,
    session: Session,
}

impl Stage {
    /// Imports and equips the district; the row is that of the import.
    async fn start() -> Result<(Self, Row)> {
        let server = Fresh::start("")?;
        let minute = Utc::now().timestamp() / 60 - i64::from(STARTED_MIN);
        let bell = DateTime::from_timestamp(minute * 60, 0).context("a bell outside the calendar")?;
        let size = Size { schools: SCHOOLS, students_per_school: STUDENTS_PER_SCHOOL, started_min: STARTED_MIN };
        let roster = Roster::write_sized(server.dir(), "Bench", size)?;
        let meter = server.meter()?;
        let began = Instant::now();
        let report = roster.import_files(&server.instance)?;
        let import_s = began.elapsed().as_secs_f64();
        let people = report["report"]["people"]["added"].as_u64().context("the import says nothing of people")?;
        let enrolments = report["report"]["enrolments"]["added"].as_u64().unwrap_or(0);
        let students = (SCHOOLS * STUDENTS_PER_SCHOOL) as u64;
        let began = Instant::now();
        let districts: Vec<District> = (1..=SCHOOLS).map(|school| roster.equip(&server.instance, school)).collect::<Result<_>>()?;
        let equip_s = began.elapsed().as_secs_f64();
        districts[0].account(&server.instance, OFFICE, "office", None)?;
        let began = Instant::now();
        districts[SCHOOLS - 1].until_known(&server.instance).await?;
        let known_s = began.elapsed().as_secs_f64();
        let session = District::sign_in(&server.instance, OFFICE).await?;
        let row = Row::new(SCENARIO, format!("import of {students} students"), people, import_s).cost(meter.end(people)?).note(format!(
            "{people} people and {enrolments} enrolments in {import_s:.1} s; {SCHOOLS} gates and {students} badges by {} commands in \
             {equip_s:.1} s, known to the server {known_s:.1} s later",
            2 * SCHOOLS
        ));
        Ok((Self { server, bell, districts, session }, row))
    }

    /// By student.
    fn days(&self) -> HashMap<String, Day> {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut days = HashMap::new();
        for (gate, district) in self.districts.iter().enumerate() {
            for student in &district.students {
                let scan = |second: i64, dir: &str| {
                    let ts_ms = (self.bell.timestamp() + second) * 1_000;
                    Recorded { gate, badge: student.badge.clone(), ts_ms, dir: dir.to_owned() }
                };
                let mut scans = Vec::new();
                if !random.random_bool(STAY_AWAY) {
                    let second = ARRIVE_FROM_S + random.random_range(0..ARRIVE_S);
                    scans.push(scan(second, "in"));
                    if random.random_bool(READ_TWICE) {
                        scans.push(scan(second + 2, "in"));
                    } else if random.random_bool(STEP_OUT) && second < 0 {
                        // Out for a minute and back: still the first arrival.
                        scans.extend([scan(second + 60, "out"), scan(second + 120, "in")]);
                    }
                }
                days.insert(student.id.clone(), Day { scans });
            }
        }
        days
    }

    /// Waits until as many students as arrive are present or tardy on the boards.
    async fn until_shown(&self, expected: u64) -> Result<Instant> {
        let who = self.session.get("/session").await?;
        let path = format!("/districts/{}/attendance", who["district"]["id"].as_str().context("no district")?);
        let began = Instant::now();
        loop {
            let here = here(&self.session.get(&path).await?)?;
            if here >= expected {
                return Ok(Instant::now());
            }
            ensure!(began.elapsed() < SETTLE_MAX, "{here} of {expected} students are on the boards after {SETTLE_MAX:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every conclusion is in the database.
    async fn until_written(&self) -> Result<Instant> {
        let began = Instant::now();
        while self.server.metric("rollcall_live_transitions_waiting").await? > 0.0 {
            ensure!(began.elapsed() < SETTLE_MAX, "conclusions still wait for the database after {SETTLE_MAX:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(Instant::now())
    }

    async fn check_boards(&self, days: &HashMap<String, Day>) -> Result<()> {
        let (mut seen, mut cursor) = (0, String::new());
        loop {
            let page = self.session.get(&format!("/sections?limit=1000{cursor}")).await?;
            for section in page["items"].as_array().context("no sections")?.iter().filter(|section| section["meets_now"] == true) {
                let id = section["id"].as_str().context("a section without id")?;
                let board = self.session.get(&format!("/sections/{id}/attendance")).await?;
                for (student, entry) in board["data"]["students"].as_object().context("a board without students")? {
                    let day = days.get(student).with_context(|| format!("nobody knows {student}"))?;
                    let status = entry["status"].as_str().unwrap_or_default();
                    let allowed = reference(&day.scans, self.bell);
                    ensure!(allowed.contains(&status), "{student} is {status} on the board, the reference says {allowed:?}");
                    seen += 1;
                }
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        ensure!(seen == days.len(), "{seen} of {} students stand on a board", days.len());
        Ok(())
    }

    /// The last word of the database on the first period of each student.
    async fn check_database(&self, days: &HashMap<String, Day>) -> Result<()> {
        let mut database = self.server.database().await?;
        let rows = sqlx::query(
            "select distinct on (status.student) status.student::text, status.status
             from rollcall.attendance_status status join rollcall.period period using (district) where period.id = status.period and period.name = '1'
             order by status.student, status.id desc",
        )
        .fetch_all(&mut database)
        .await?;
        let last: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (student, day) in days.iter().filter(|(_, day)| !day.scans.is_empty()) {
            let status = last.get(student).map_or("none", String::as_str);
            let allowed = reference(&day.scans, self.bell);
            ensure!(allowed.contains(&status), "{student} is {status} in the database, the reference says {allowed:?}");
        }
        Ok(())
    }
}

/// Students who are present or tardy in the district's counts.
fn here(board: &Value) -> Result<u64> {
    let schools = board["data"]["schools"].as_object().context("a district without schools")?;
    let count = |school: &Value, status: &str| school["counts"][status].as_u64().unwrap_or(0);
    Ok(schools.values().map(|school| count(school, "present") + count(school, "tardy")).sum())
}

/// What the period's status may be: the first `in` decides, as the rules say in words. Whoever does not come is expected until
/// the deadline and absent after it, which may pass while this looks.
fn reference(scans: &[Recorded], bell: DateTime<Utc>) -> &'static [&'static str] {
    let arrival = scans.iter().filter(|scan| scan.dir == "in").map(|scan| scan.ts_ms / 1_000 - bell.timestamp()).min();
    match arrival {
        Some(after) if after <= GRACE_S => &["present"],
        Some(after) if after <= CUTOFF_S => &["tardy"],
        Some(_) => &["absent"],
        None => &["expected", "absent"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_says_what_the_rules_say() {
        let bell = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let scan = |after_s: i64, dir: &str| Recorded {
            gate: 0,
            badge: String::new(),
            ts_ms: (bell.timestamp() + after_s) * 1_000,
            dir: dir.to_owned(),
        };
        for (after_s, status) in [(-300, "present"), (300, "present"), (301, "tardy"), (1_200, "tardy"), (1_201, "absent")] {
            assert_eq!(reference(&[scan(after_s, "in")], bell), [status], "{after_s}");
        }
        assert_eq!(reference(&[scan(-100, "in"), scan(-50, "out"), scan(400, "in")], bell), ["present"]);
        assert_eq!(reference(&[], bell), ["expected", "absent"]);
    }
}
