//! What is refused, and what is cut at its limits, over HTTP and through a driver.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_tests::Live;
use rollcall_tests::district::{self, District, PASSWORD, now_ms, scan};
use serde_json::{Value, json};

use super::adbc::{ask, by_password};
use super::{ANALYST, Asked, BOMB, OFFICE, QUESTION, STUDENTS};

/// A text, the code of its refusal, and words that the refusal says.
const REFUSED: [(&str, &str, &str); 18] = [
    ("INSERT INTO scans SELECT * FROM scans", "sql_refused", "INSERT is refused"),
    ("UPDATE scans SET dir = 'out'", "sql_refused", "UPDATE is refused"),
    ("DELETE FROM scans", "sql_refused", "DELETE is refused"),
    ("DROP TABLE scans", "sql_refused", "DROP is refused"),
    ("CREATE TABLE x AS SELECT * FROM scans", "sql_refused", "CREATE is refused"),
    ("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'", "sql_refused", "files and network addresses"),
    ("COPY (SELECT * FROM scans) TO '/tmp/x.csv'", "sql_refused", "COPY is refused"),
    ("COPY scans TO 's3://bucket/x'", "sql_refused", "COPY is refused"),
    ("SELECT * INTO x FROM scans", "sql_refused", "SELECT INTO is refused"),
    ("SET datafusion.execution.batch_size = 1", "sql_refused", "settings"),
    ("SHOW ALL", "sql_refused", "settings"),
    ("SELECT * FROM '/etc/passwd'", "sql_invalid", "no table"),
    ("SELECT * FROM read_csv('/etc/passwd')", "sql_invalid", "read_csv"),
    ("SELECT pg_read_file('/etc/passwd')", "sql_invalid", "pg_read_file"),
    ("SELECT * FROM other.public.scans", "sql_invalid", "no table \"other.public.scans\""),
    ("SELECT * FROM rollcall.other.scans", "sql_invalid", "no table"),
    ("SELECT 1; SELECT 2", "sql_invalid", "one query at a time"),
    ("SELECT\n  drr\nFROM scans", "sql_invalid", "no column \"drr\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_door_refuses_with_the_same_reason_and_place() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")]).await?;
    let address = format!("grpc://{}", asked.door("flight")?);
    let steps: Vec<Value> = REFUSED.iter().map(|(sql, ..)| json!({"query": sql})).collect();
    let mut driver = super::adbc::Driver::start(&address, by_password(OFFICE), Value::Array(steps))?;
    for (sql, code, words) in REFUSED {
        let (status, refused) = asked.office.request("POST".parse()?, "/sql", Some(&json!({"sql": sql}))).await?;
        ensure!(status == 422 && refused["code"] == code, "{sql}: {status} {refused}");
        let detail = refused["detail"].as_str().unwrap_or_default();
        ensure!(detail.contains(words), "{sql}: {detail}");
        super::adbc::says(&driver.next()?, detail)?;
    }
    let (_, refused) = asked.office.request("POST".parse()?, "/sql", Some(&json!({"sql": REFUSED[17].0}))).await?;
    ensure!(refused["line"] == 2 && refused["column"] == 3 && refused["hint"] == "did you mean \"dir\"?", "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_district_is_not_there_whatever_is_written() -> Result<()> {
    let asked = Asked::launch(&[]).await?;
    let dir = tempfile::tempdir()?;
    let other = district::synthetic(&asked.instance, dir.path(), "Elsewhere", 30)?;
    other.account(&asked.instance, "office@elsewhere.example", "office", None)?;
    let sent: Vec<Value> = (1..)
        .zip(&other.students[..3])
        .map(|(seq, student)| {
            let mut event = scan(seq, &student.badge, "in", now_ms());
            event["type"] = json!("scan");
            event
        })
        .collect();
    other.until_known(&asked.instance).await?;
    let request = reqwest::Client::new().post(format!("{}/ingest/v1", asked.instance.http)).json(&sent);
    let request = request.header("authorization", format!("Bearer {}:{}", other.gate.id, other.gate.token));
    let accepted: Value = request.send().await?.error_for_status()?.json().await?;
    ensure!(accepted["accepted"] == 3, "{accepted}");
    let elsewhere = District::sign_in(&asked.instance, "office@elsewhere.example").await?;
    for (session, expected) in [(&asked.office, STUDENTS), (&elsewhere, 3)] {
        let all = session.post("/sql", &json!({"sql": "SELECT count(*) FROM scans"})).await?;
        ensure!(all["rows"] == json!([[expected]]), "{all}");
    }
    let theirs = &other.students[0].id;
    for sql in [
        format!("SELECT count(*) FROM scans WHERE person = '{theirs}'"),
        format!("WITH scans AS (SELECT * FROM scans) SELECT count(*) FROM public.scans WHERE person = '{theirs}' OR 1 = 0"),
        format!("SELECT count(*) FROM rollcall.public.scans WHERE true OR person = '{theirs}' HAVING count(*) > {STUDENTS}"),
    ] {
        let found = asked.office.post("/sql", &json!({"sql": sql})).await?;
        ensure!(found["rows"] == json!([[0]]) || found["rows"] == json!([]), "{sql}: {found}");
    }
    Ok(())
}

/// A section that meets now, and the place among the students of one who belongs there and has not come.
async fn awaited(asked: &Asked) -> Result<(String, usize)> {
    let sections = asked.office.get("/sections").await?;
    for section in sections["items"].as_array().into_iter().flatten().filter(|section| section["meets_now"] == true) {
        let id = section["id"].as_str().context("no id")?;
        let listed = asked.office.get(&format!("/sections/{id}/students")).await?;
        let belongs = |id: &str| listed["items"].as_array().into_iter().flatten().any(|student| student["id"] == id);
        let mut others = asked.district.students.iter().enumerate().skip(STUDENTS);
        if let Some((place, _)) = others.find(|(_, student)| belongs(&student.id)) {
            return Ok((id.to_owned(), place));
        }
    }
    anyhow::bail!("everybody has come: {sections}")
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn bombs_end_at_their_limits_and_others_are_answered_meanwhile() -> Result<()> {
    let mut asked = Asked::launch(&[("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0"), ("ROLLCALL_SQL_TIME_S", "4")]).await?;
    let address = format!("grpc://{}", asked.door("flight")?);
    let (section, place) = awaited(&asked).await?;
    let late = asked.district.students[place].id.clone();
    let mut live = Live::connect(&asked.instance.http, &asked.office).await?;
    live.subscribe(1, &format!("section/{section}/attendance"), None).await?;
    live.until("snapshot", 30, |live| live.boards.contains_key(&1)).await?;
    let bombs = (0..2).map(|_| {
        let office = asked.office.clone();
        tokio::spawn(async move { office.post("/sql", &json!({"sql": BOMB})).await })
    });
    let bombs: Vec<_> = bombs.collect();
    asked.until_busy().await?;
    let began = Instant::now();
    let meanwhile = asked.analyst.post("/sql", &json!({"sql": "SELECT count(*) FROM schools"})).await?;
    ensure!(meanwhile["rows"].as_array().is_some_and(|rows| rows.len() == 1), "{meanwhile}");
    let board = asked.office.get("/session").await?;
    ensure!(board["account"]["email"] == OFFICE, "{board}");
    println!("others waited {:?}", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(3), "others waited {:?}", began.elapsed());
    // A board moves while they run: every thread of questions is busy, and no board waits for one.
    asked.come_in(place..place + 1).await?;
    live.until("the arrival", 30, |live| !live.board(1).entry("students", &late)["since"].is_null()).await?;
    ensure!(bombs.iter().all(|bomb| !bomb.is_finished()), "the board moved only when a bomb had ended");
    for bomb in bombs {
        let ended = bomb.await??;
        let error = ended["error"].as_str().unwrap_or_default();
        ensure!(error.contains("did not end within 4 seconds"), "{ended}");
    }
    asked.until_idle().await?;
    let through_driver = ask(&address, by_password(OFFICE), json!({"query": BOMB}))?;
    super::adbc::says(&through_driver, "did not end within 4 seconds")?;
    let after = ask(&address, json!({"user": ANALYST, "password": PASSWORD}), json!({"query": "SELECT 1"}))?;
    ensure!(after["ok"]["rows"] == json!([[1]]), "{after}");
    let rows = asked.office.post("/sql", &json!({"sql": QUESTION})).await?;
    ensure!(rows["rows"] == json!([["in", STUDENTS + 1]]), "{rows}");
    // A function that would make a list or a text larger than any memory.
    for sql in ["SELECT range(1, 100000000000)", "SELECT array_repeat(1, 100000000000)", "SELECT length(repeat('x', 2000000000))"] {
        let (status, refused) = asked.office.request("POST".parse()?, "/sql", Some(&json!({"sql": sql}))).await?;
        // What is seen only when rows are made is said at the end of the answer.
        ensure!(status == 422 || refused["error"].is_string(), "{sql}: {status} {refused}");
    }
    Ok(())
}
