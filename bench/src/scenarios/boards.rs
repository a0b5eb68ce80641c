//! `boards`: teachers and offices follow 300 sections while the first bell rings, each on a connection of its own. How long it
//! takes until a scan is on the last board that shows it, and what a change costs the server with few and with many subscribers.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use rollcall_tests::district::{Roster, Size, Student};
use rollcall_tests::{District, Session};

use super::Settings;
use crate::fresh::Fresh;
use crate::load::watch::{self, Following, Scan, Watched};
use crate::load::{self, Running};
use crate::machine;
use crate::meter::Cost;
use crate::table::Row;

const SCENARIO: &str = "boards";

const SCHOOLS: usize = 3;
const STUDENTS_PER_SCHOOL: usize = 2_800;
const SECTIONS: usize = 300;

/// Few and many, each on a fresh server.
const SUBSCRIBERS: [usize; 2] = [1_000, 10_000];
/// An account may have 50 live connections.
const CONNECTIONS_PER_ACCOUNT: usize = 50;

/// Arrivals a second: the 8,400 students within 84 seconds, ten times as fast as in a real quarter of an hour.
const SCANS_PER_S: f64 = 100.0;

/// The bell rings at the first whole minute that leaves this many seconds to set up a thousand subscribers and the arrivals before it.
const SET_UP_S: i64 = 15;
const SET_UP_A_THOUSAND_S: i64 = 3;

const LAST_P99_MAX_MS: f64 = 100.0;

const OFFICE: &str = "office-0@bench.example";

pub async fn run(settings: Settings) -> Result<Vec<Row>> {
    let seconds = settings.seconds as f64 / SUBSCRIBERS.len() as f64;
    let (mut rows, mut before) = (Vec::new(), None);
    for subscribers in SUBSCRIBERS {
        let stage = Stage::start(subscribers).await?;
        let (following, watched, cost, at_bell) = stage.watch(subscribers, (seconds * SCANS_PER_S) as usize).await?;
        let micros = cost.server_cpu_s * 1e6;
        let (a_change, a_message) = (micros / watched.scans as f64, micros / watched.messages as f64);
        let mut row = Row::new(SCENARIO, format!("{subscribers} subscribers"), watched.scans, watched.seconds)
            .latency(watched.last)
            .cost(cost)
            .bar(format!("p99 from scan to the last subscriber at most {LAST_P99_MAX_MS:.0} ms"), watched.last.p99_ms <= LAST_P99_MAX_MS)
            .note(format!(
                "{a_change:.0} us of CPU a change, {a_message:.1} us a message; {:.1} messages a change of {:.0} bytes; p99 of all deliveries {:.1} ms",
                watched.messages as f64 / watched.scans as f64,
                watched.bytes as f64 / watched.messages.max(1) as f64,
                watched.each.p99_ms
            ))
            .note(format!(
                "{} connected and with their snapshots ({:.0} MiB) after {:.1} s; {}; load generator: {:.1} CPU s",
                following.subscribers,
                following.snapshot_bytes as f64 / (1024.0 * 1024.0),
                following.seconds,
                if at_bell { "the bell rang in the middle of it" } else { "set up too late for the bell" },
                watched.cpu_s
            ));
        if let Some((fewer, message_before, change_before)) = before.replace((subscribers, a_message, a_change)) {
            row = row.note(format!(
                "{} x the subscribers: {:.1} x the CPU a change, {:.2} x the CPU a message",
                subscribers / fewer,
                a_change / change_before,
                a_message / message_before
            ));
        }
        rows.push(row);
    }
    Ok(rows)
}

struct Stage {
    server: Fresh,
    bell: DateTime<Utc>,
    /// By school.
    districts: Vec<District>,
    cookies: Vec<String>,
    session: Session,
}

impl Stage {
    async fn start(subscribers: usize) -> Result<Self> {
        machine::raise_descriptors();
        let server = Fresh::start("")?;
        let (bell, in_min) = bell_after(Utc::now(), SET_UP_S + SET_UP_A_THOUSAND_S * subscribers as i64 / 1_000);
        let size = Size { schools: SCHOOLS, students_per_school: STUDENTS_PER_SCHOOL, started_min: -in_min };
        let roster = Roster::write_sized(server.dir(), "Bench", size)?;
        roster.import_files(&server.instance)?;
        let districts: Vec<District> = (1..=SCHOOLS).map(|school| roster.equip(&server.instance, school)).collect::<Result<_>>()?;
        districts[0].account(&server.instance, OFFICE, "office", None)?;
        let session = District::sign_in(&server.instance, OFFICE).await?;
        let accounts = subscribers.div_ceil(CONNECTIONS_PER_ACCOUNT);
        // Hashing a password for each would take longer than the scenario; they all have the first one's.
        let mut database = server.database().await?;
        sqlx::query(
            "insert into rollcall.account (district, id, email, role, password_hash)
             select district, gen_random_uuid(), format('office-%s@bench.example', number), role, password_hash
             from rollcall.account, generate_series(1, $1) number where email = $2",
        )
        .bind(i32::try_from(accounts)? - 1)
        .bind(OFFICE)
        .execute(&mut database)
        .await?;
        let mut cookies = vec![session.cookie.clone()];
        for number in 1..accounts {
            cookies.push(District::sign_in(&server.instance, &format!("office-{number}@bench.example")).await?.cookie);
        }
        districts[SCHOOLS - 1].until_known(&server.instance).await?;
        Ok(Self { server, bell, districts, cookies, session })
    }

    async fn watch(&self, subscribers: usize, scans: usize) -> Result<(Following, Watched, Cost, bool)> {
        let (topics, scans) = self.topics_and_scans(scans).await?;
        let file = |name: &str| self.server.dir().join(name);
        load::write_lines(&file("cookies"), &self.cookies)?;
        load::write_lines(&file("topics"), &topics)?;
        load::write_lines(&file("scans"), &scans)?;
        let gates: Vec<_> = self.districts.iter().map(|district| district.gate.clone()).collect();
        load::write_devices(&file("gates"), &gates)?;
        let options = watch::Options {
            http: self.server.instance.http.trim_start_matches("http://").to_owned(),
            mqtt: self.server.instance.mqtt.clone(),
            cookies: file("cookies"),
            topics: file("topics"),
            gates: file("gates"),
            scans: file("scans"),
            subscribers,
            scans_per_s: SCANS_PER_S,
        };
        let mut load = Running::start(&options.args())?;
        let following: Following = load.report()?;
        ensure!(following.subscribers == subscribers, "{} of {subscribers} follow", following.subscribers);
        let half = Duration::from_secs_f64(scans.len() as f64 / SCANS_PER_S / 2.0);
        let until_bell = (self.bell - half - Utc::now()).to_std();
        if let Ok(pause) = until_bell {
            tokio::time::sleep(pause).await;
        }
        let meter = self.server.meter()?;
        load.go_on()?;
        let watched: Watched = load.finish()?;
        let cost = meter.end(watched.scans)?;
        Ok((following, watched, cost, until_bell.is_ok()))
    }

    /// The boards of the first period, and arrivals that go from board to board.
    async fn topics_and_scans(&self, count: usize) -> Result<(Vec<String>, Vec<Scan>)> {
        let student: HashMap<&str, (usize, &Student)> = self
            .districts
            .iter()
            .enumerate()
            .flat_map(|(gate, district)| district.students.iter().map(move |student| (student.id.as_str(), (gate, student))))
            .collect();
        let sections = self.first_period().await?;
        ensure!(sections.len() >= SECTIONS, "{} sections in the first period instead of {SECTIONS}", sections.len());
        let mut by_place = Vec::new();
        for (topic, section) in sections[..SECTIONS].iter().enumerate() {
            let board = self.session.get(&format!("/sections/{section}/attendance")).await?;
            let students = board["data"]["students"].as_object().context("a board without students")?;
            for (place, id) in students.keys().enumerate() {
                let (gate, student) = student.get(id.as_str()).context("a student without a badge")?;
                let scan = Scan { gate: *gate, badge: student.badge.clone(), student: id.clone(), topic };
                by_place.push((place, topic, scan));
            }
        }
        by_place.sort_by_key(|(place, topic, _)| (*place, *topic));
        ensure!(by_place.len() >= count, "{} students for {count} arrivals", by_place.len());
        let topics = sections[..SECTIONS].iter().map(|section| format!("section/{section}/attendance")).collect();
        Ok((topics, by_place.into_iter().take(count).map(|(_, _, scan)| scan).collect()))
    }

    async fn first_period(&self) -> Result<Vec<String>> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.session.get(&format!("/sections?limit=1000{cursor}")).await?;
            let items = page["items"].as_array().context("no sections")?;
            let first = items.iter().filter(|section| section["title"].as_str().is_some_and(|title| title.ends_with("(period 1)")));
            found.extend(first.filter_map(|section| section["id"].as_str().map(str::to_owned)));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(found),
            }
        }
    }
}

/// The first whole minute at least so many seconds from now, and how many minutes after the present one that is.
fn bell_after(now: DateTime<Utc>, seconds: i64) -> (DateTime<Utc>, i32) {
    let minute = (now.timestamp() + seconds).div_euclid(60) + 1;
    let in_min = minute - now.timestamp().div_euclid(60);
    (DateTime::from_timestamp(minute * 60, 0).unwrap_or(now), in_min as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_leaves_enough_time() {
        let at = |second: i64| DateTime::from_timestamp(1_700_000_040 + second, 0).unwrap();
        for (second, seconds, in_min) in [(0, 15, 1), (44, 15, 1), (45, 15, 2), (59, 45, 2), (0, 61, 2)] {
            assert_eq!(bell_after(at(second), seconds), (at(60 * i64::from(in_min)), in_min), "{second} {seconds}");
        }
    }
}
