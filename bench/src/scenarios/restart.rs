//! `restart`: kill -9 with ten million events in the log that the database has not taken, and the way back: how long until the
//! server is ready, and whether every board is as it was.
//!
//! The sink stands still while the log is filled, because the database refuses it; history keeps the log as well. When the server
//! is dead the database takes rows again, so the new process also has the sink's backlog beside its own start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rollcall_tests::{District, Live, Session};
use serde_json::{Value, json};
use sqlx::Row as _;

use super::Settings;
use super::intake::{CONFIG, CONNECTIONS, Flow, Stage};
use crate::fresh::Fresh;
use crate::gate::Gate;
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::machine;
use crate::table::Row;

const EVENTS: u64 = 10_000_000;
const STUDENTS: u32 = 1_200;
/// Every so manieth student does not come and is marked absent, so that marks come back too.
const ABSENT_EVERY: usize = 20;
const READY_MAX: Duration = Duration::from_secs(5);

/// What fills the log: the same events as in `mqtt-batch`.
const FILL: Flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Json, events_per_message: 100, window: 10 };
const FILL_S: f64 = 4.0;

const OFFICE: &str = "office@bench.example";

/// How long the boards may take to come to rest, and how long they must have been the same.
const REST_MAX: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_millis(500);

/// How long the sink may need for what the kills have left to it.
const CATCH_UP: Duration = Duration::from_secs(120);

type Boards = BTreeMap<String, Value>;

pub async fn run(_settings: Settings) -> Result<Vec<Row>> {
    let server = Fresh::start(CONFIG)?;
    let district = server.district(STUDENTS)?;
    district.account(&server.instance, OFFICE, "office", None)?;
    let mut stage = Stage::equip(server, &district, CONNECTIONS, true)?;
    let session = District::sign_in(&stage.server.instance, OFFICE).await?;
    // The first rows make the partitions of today.
    stage.flood(FILL, 0.1, 0.0).await?;
    stage.settle().await?;
    stage.server.hold_sink().await?;
    fill(&mut stage, &district, &session).await?;
    let before = boards_at_rest(&stage, &session).await?;
    let behind = rows_behind(&stage.server).await?;
    ensure!(behind >= EVENTS, "the database holds all but {behind} rows of the log; the sink did not stand still");

    let mut rows = Vec::new();
    for with_database in [false, true] {
        let row = once(&mut stage, with_database, behind).await?;
        ensure_same(&before, &boards_at_rest(&stage, &session).await?)?;
        rows.push(row.note(format!("{} boards are as they were", before.len())));
    }
    stage.server.caught_up(CATCH_UP).await?;
    let stored = stored_telemetry(&stage.server).await?;
    let acknowledged = stage.acknowledged();
    ensure!(stored == acknowledged, "{acknowledged} readings acknowledged, {stored} in the database after the kills");
    Ok(rows)
}

/// Scans and marks stand at the beginning, in the middle and at the end of the telemetry.
async fn fill(stage: &mut Stage, district: &District, session: &Session) -> Result<()> {
    let come: Vec<_> =
        district.students.iter().enumerate().filter(|(index, _)| index % ABSENT_EVERY != 0).map(|(_, student)| student.clone()).collect();
    let begin = stage.acknowledged();
    let parts = come.chunks(come.len().div_ceil(4));
    for (part, students) in parts.enumerate() {
        // Gone again before the boards are looked at, as it will be after the kill.
        Gate::connect(&stage.server.instance.mqtt, &district.gate)?.arrive(students)?;
        if part == 1 {
            mark_absent(district, session).await?;
        }
        while stage.acknowledged() - begin < EVENTS * (part as u64 + 1) / 4 {
            stage.flood(FILL, FILL_S, 0.0).await?;
        }
    }
    Ok(())
}

async fn mark_absent(district: &District, session: &Session) -> Result<()> {
    let absent = district.students.iter().step_by(ABSENT_EVERY);
    let marks: Vec<Value> = absent.map(|student| json!({"student": student.id, "status": "absent_excused", "reason": "illness"})).collect();
    session.post("/marks", &json!({"marks": marks})).await.map(drop)
}

async fn once(stage: &mut Stage, with_database: bool, events: u64) -> Result<Row> {
    stage.server.instance.kill()?;
    if with_database {
        stage.server.kill_database();
    } else {
        stage.server.release_sink().await?;
    }
    stage.server.instance.restart()?;
    let (pid, ready_in) = (stage.server.instance.pid(), stage.server.instance.started_in);
    let cpu_s = machine::processes()?.get(&pid).map_or(0.0, |process| process.own.as_secs_f64());
    let peak_mib = machine::peak_memory_mib(pid)?;
    let what = if with_database { "server and its PostgreSQL killed" } else { "server killed" };
    let row = Row::new("restart", what, events, ready_in.as_secs_f64())
        .bar(format!("ready in under {} s: {:.2} s", READY_MAX.as_secs(), ready_in.as_secs_f64()), ready_in < READY_MAX)
        .note(format!("{events} rows in the log behind the database; {cpu_s:.1} CPU s and {peak_mib:.0} MiB until ready"));
    Ok(row)
}

/// Rows that live attendance shows and the database has not.
async fn rows_behind(server: &Fresh) -> Result<u64> {
    let shown = server.metric("rollcall_live_applied_offset").await? as u64;
    let mut database = server.database().await?;
    let next = sqlx::query("select next from rollcall.consumer_offset where reader = 'sink'").fetch_one(&mut database).await?;
    Ok(shown - next.get::<i64, _>(0) as u64)
}

async fn stored_telemetry(server: &Fresh) -> Result<u64> {
    let mut database = server.database().await?;
    Ok(sqlx::query("select count(*) from event.telemetry").fetch_one(&mut database).await?.get::<i64, _>(0) as u64)
}

/// Every board of the district, once nothing has changed for a while.
async fn boards_at_rest(stage: &Stage, session: &Session) -> Result<Boards> {
    let began = Instant::now();
    let mut boards = boards(&stage.server, session).await?;
    loop {
        tokio::time::sleep(REST).await;
        let now = self::boards(&stage.server, session).await?;
        let shown = stage.server.metric("rollcall_live_lag_rows").await? == 0.0;
        if shown && now == boards {
            return Ok(boards);
        }
        ensure!(began.elapsed() < REST_MAX, "the boards do not come to rest");
        boards = now;
    }
}

/// The section boards over REST, the school's and the district's as a subscriber gets them. Versions are not compared.
async fn boards(server: &Fresh, session: &Session) -> Result<Boards> {
    let mut boards = Boards::new();
    for section in items(session, "/sections").await? {
        let id = section["id"].as_str().context("a section without id")?;
        let mut board = session.get(&format!("/sections/{id}/attendance")).await?["data"].take();
        // Minutes of presence grow with the clock and not with what is known.
        for entry in board["students"].as_object_mut().into_iter().flat_map(|students| students.values_mut()) {
            if let Some(detail) = entry["detail"].as_object_mut() {
                detail.remove("present_min");
            }
        }
        boards.insert(format!("section {id}"), board);
    }
    let who = session.get("/session").await?;
    let mut topics = vec![format!("district/{}/attendance", who["district"]["id"].as_str().unwrap_or_default())];
    for school in items(session, "/schools").await? {
        topics.push(format!("school/{}/attendance", school["id"].as_str().unwrap_or_default()));
    }
    let mut live = Live::connect(&server.instance.http, session).await?;
    for (id, topic) in (0..).zip(&topics) {
        live.subscribe(id, topic, None).await?;
    }
    live.until("all snapshots", 30, |live| live.boards.len() == topics.len()).await?;
    for (id, topic) in (0..).zip(topics) {
        boards.insert(topic, Value::Object(live.board(id).data));
    }
    Ok(boards)
}

/// All pages of a list.
async fn items(session: &Session, path: &str) -> Result<Vec<Value>> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = match &cursor {
            Some(cursor) => session.get(&format!("{path}?cursor={cursor}")).await?,
            None => session.get(path).await?,
        };
        found.extend(page["items"].as_array().with_context(|| format!("{path} is no list"))?.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(found),
        }
    }
}

fn ensure_same(before: &Boards, after: &Boards) -> Result<()> {
    for (name, board) in before {
        let now = after.get(name).with_context(|| format!("{name} is gone after the restart"))?;
        let Some(collections) = board.as_object() else { continue };
        for (collection, entries) in collections {
            for (key, entry) in entries.as_object().into_iter().flatten() {
                let again = &now[collection][key];
                if again != entry {
                    bail!("{name}, {collection}, {key}: before the kill {entry}, after it {again}");
                }
            }
        }
        ensure!(now == board, "{name} has entries after the kill that it had not before");
    }
    ensure!(before.len() == after.len(), "{} boards before the kill, {} after it", before.len(), after.len());
    Ok(())
}
