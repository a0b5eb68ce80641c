//! `scan-to-board`: how long after its time to be sent a scan is on the board of a WebSocket subscriber, durable write included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use reqwest::{Method, StatusCode};
use rollcall_tests::district::{self, District, now_ms};
use rollcall_tests::{Instance, Live};
use rumqttc::{AsyncClient, MqttOptions, QoS};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::Settings;
use crate::fresh::Fresh;
use crate::load::flood::{self};
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::load::{self, Running};
use crate::machine;
use crate::table::{Latency, Row};

/// Students who arrive, each one measurement, and how many a second.
const STUDENTS: u32 = 240;
const ARRIVALS_PER_S: u32 = 40;

/// What is done beside the arrivals; one run each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Telemetry in events a second.
    Telemetry(u64),
    /// Queries that end by their limits only, as many as the server runs at a time.
    Bombs,
}

const RUNS: [Beside; 3] = [Beside::Nothing, Beside::Telemetry(100_000), Beside::Bombs];

/// Two accounts with four queries each: all turns of a server with its defaults.
const BOMB_ACCOUNTS: [&str; 2] = ["first@bench.example", "second@bench.example"];
const BOMBS: [&str; 4] = [
    "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where a.value + b.value < 0",
    "select max(sin(a.value) * cos(b.value)) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b",
    "select count(distinct a.value * b.value) from generate_series(1, 1000000) a cross join generate_series(1, 1000) b",
    "select max(n) from (select row_number() over (order by -a.value * b.value) as n
        from generate_series(1, 1000000) a cross join generate_series(1, 1000) b) c",
];
/// A query that finds no turn is asked again after this.
const AFTER_REFUSAL: Duration = Duration::from_millis(20);
const BACKGROUND_DEVICES: usize = 20;
const BACKGROUND_EVENTS_PER_MESSAGE: usize = 10;

pub async fn run(_settings: Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for beside in RUNS {
        rows.push(once(beside).await?);
    }
    Ok(rows)
}

async fn once(beside: Beside) -> Result<Row> {
    let server = Fresh::start("")?;
    let idle_mib = machine::memory_mib(server.instance.pid())?;
    let sync_ms = machine::fdatasync_time(&server.data())?.as_secs_f64() * 1000.0;
    let district = server.district(STUDENTS)?;
    district.account(&server.instance, "office@bench.example", "office", None)?;
    let session = District::sign_in(&server.instance, "office@bench.example").await?;
    let mut live = Live::connect(&server.instance.http, &session).await?;
    let sections = session.get("/sections").await?;
    let all = sections["items"].as_array().context("no sections")?;
    let meeting: Vec<_> = all.iter().filter(|section| section["meets_now"] == true).collect();
    for (index, section) in meeting.iter().enumerate() {
        live.subscribe(index as u64, &format!("section/{}/attendance", section["id"].as_str().unwrap_or_default()), None).await?;
    }
    live.until("all snapshots", 30, |live| live.boards.len() == meeting.len()).await?;

    let load = start_load(&server, &district, beside)?;
    let bombs = if beside == Beside::Bombs { start_bombs(&server, &district).await? } else { JoinSet::new() };
    let meter = server.meter()?;
    let began = Instant::now();
    let latencies = arrivals(&server.instance, &district, &mut live).await?;
    let seconds = began.elapsed().as_secs_f64();
    let cost = meter.end(latencies.len())?;
    let (what, bar_ms) = match beside {
        Beside::Nothing => ("idle".to_owned(), 15.0),
        Beside::Telemetry(events_per_s) => (format!("beside {events_per_s} telemetry/s"), 40.0),
        Beside::Bombs => (format!("beside {} queries that end by their limits", bombs.len()), 40.0),
    };
    if beside == Beside::Bombs {
        let (status, answer) = session.request(Method::POST, "/sql", Some(&json!({"sql": "select 1"}))).await?;
        ensure!(status == StatusCode::TOO_MANY_REQUESTS, "not every turn was taken by a bomb: {status}: {answer}");
    }
    drop(bombs);
    let latency = Latency::of(&latencies);
    let mut row = Row::new("scan-to-board", what, latencies.len(), seconds)
        .latency(latency)
        .cost(cost)
        .bar(format!("p99 at most {bar_ms:.0} ms"), latency.p99_ms <= bar_ms)
        .note(format!(
            "fdatasync {sync_ms:.2} ms; idle server {idle_mib:.0} MiB, ready after {:.1} s",
            server.instance.started_in.as_secs_f64()
        ));
    if let Some(load) = load {
        let report: flood::Report = load.finish()?;
        let rate = report.events as f64 / report.seconds;
        row = row.note(format!("telemetry acknowledged: {rate:.0}/s"));
    }
    Ok(row)
}

/// Asks them again and again, each when it has ended, until the set is dropped.
async fn start_bombs(server: &Fresh, district: &District) -> Result<JoinSet<()>> {
    let mut bombs = JoinSet::new();
    for email in BOMB_ACCOUNTS {
        district.account(&server.instance, email, "office", None)?;
        let session = Arc::new(District::sign_in(&server.instance, email).await?);
        for sql in BOMBS {
            let session = session.clone();
            bombs.spawn(async move {
                let question = json!({"sql": sql});
                while let Ok((status, _)) = session.request(Method::POST, "/sql", Some(&question)).await {
                    if status == StatusCode::TOO_MANY_REQUESTS {
                        sleep(AFTER_REFUSAL).await;
                    }
                }
            });
        }
    }
    Ok(bombs)
}

fn start_load(server: &Fresh, district: &District, beside: Beside) -> Result<Option<Running>> {
    let Beside::Telemetry(events_per_s) = beside else { return Ok(None) };
    let devices = server.dir().join("load-devices");
    load::write_devices(&devices, &server.devices(district, "wearable", "Load", BACKGROUND_DEVICES)?)?;
    let options = flood::Options {
        protocol: Protocol::Mqtt,
        address: server.instance.mqtt.clone(),
        devices,
        encoding: Encoding::Json,
        events_per_message: BACKGROUND_EVENTS_PER_MESSAGE,
        badge: None,
        topic: "v1/telemetry".to_owned(),
        window: 100,
        seconds: f64::from(STUDENTS / ARRIVALS_PER_S) + 3.0,
        events_per_s: events_per_s as f64,
    };
    Running::start(&options.args()).map(Some)
}

/// Publishes each student's scan at its time and waits for all of them on the boards; latencies in microseconds.
async fn arrivals(instance: &Instance, district: &District, live: &mut Live) -> Result<Histogram<u64>> {
    let mut mqtt = MqttOptions::new(&district.gate.id, "127.0.0.1", instance.mqtt_port()?);
    mqtt.set_credentials(&district.gate.id, &district.gate.token);
    let (client, mut events) = AsyncClient::new(mqtt, 1000);
    let connection = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let begin = Instant::now() + Duration::from_secs(2);
    let pause = Duration::from_secs(1) / ARRIVALS_PER_S;
    let due: HashMap<String, Instant> =
        district.students.iter().enumerate().map(|(index, student)| (student.id.clone(), begin + pause * index as u32)).collect();
    let students = district.students.clone();
    let publisher = tokio::spawn(async move {
        let first = now_ms() as u64;
        for (index, student) in students.iter().enumerate() {
            sleep_until(begin + pause * index as u32).await;
            let event = district::scan(first + index as u64, &student.badge, "in", now_ms());
            client.publish("v1/scan", QoS::AtLeastOnce, false, event.to_string()).await?;
        }
        anyhow::Ok(())
    });
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut seen: HashMap<String, ()> = HashMap::new();
    let deadline = begin + pause * STUDENTS + Duration::from_secs(20);
    while seen.len() < due.len() {
        let message = tokio::time::timeout_at(deadline, live.next()).await;
        let Ok(message) = message else { bail!("{} of {} arrivals reached a board in time", seen.len(), due.len()) };
        let message = message?;
        let Some(changed) = message["data"]["students"].as_object() else { continue };
        for (student, entry) in changed {
            let arrived = entry["detail"]["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty());
            if arrived && !seen.contains_key(student) {
                if let Some(due) = due.get(student) {
                    latencies.record(due.elapsed().as_micros() as u64)?;
                    seen.insert(student.clone(), ());
                }
            }
        }
    }
    publisher.await??;
    connection.abort();
    Ok(latencies)
}
