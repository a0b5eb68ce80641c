//! The analyst's desk: saved questions, exports into a folder, and today's arrivals against the usual ones.

use std::path::Path;

use axum::http::Method;
use chrono::{Days, NaiveTime};
use rollcall_analytics::history::Place;
use rollcall_api::Exporter;
use rollcall_model::event::Direction;
use rollcall_model::ids::PersonId;
use rollcall_model::schedule::instant_of;
use rollcall_model::time::UtcMillis;
use serde_json::{Value, json};

use crate::town::{As, Town, ZONE};

const HOUR_MS: i64 = 60 * 60 * 1000;

async fn saved(town: &Town, who: As, title: &str, shared: bool) -> Value {
    let body = json!({"title": title, "sql": "SELECT 1 AS one", "view": {"chart": "bar"}, "shared": shared});
    let answer = town.post(who, "/api/v1/saved-queries", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body
}

fn path(of: &str, what: &Value) -> String {
    format!("/api/v1/{of}/{}", what["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_saved_question_opens_as_it_was_and_changes_by_version() {
    let town = Town::start().await;
    let own = saved(&town, As::Analyst, " Mine ", false).await;
    assert_eq!((&own["title"], &own["own"], &own["version"]), (&json!("Mine"), &json!(true), &json!(1)));
    assert_eq!((&own["sql"], &own["view"]), (&json!("SELECT 1 AS one"), &json!({"chart": "bar"})));
    assert_eq!(town.get(As::DistrictOffice, &path("saved-queries", &own)).await.status, 404);

    let change = json!({"version": 1, "title": "Ours", "shared": true});
    let changed = town.ask(As::Analyst, Method::PATCH, &path("saved-queries", &own), Some(change.clone())).await;
    assert_eq!((changed.status.as_u16(), &changed.body["version"], &changed.body["sql"]), (200, &json!(2), &own["sql"]));
    let late = town.ask(As::Analyst, Method::PATCH, &path("saved-queries", &own), Some(change)).await;
    assert_eq!((late.status.as_u16(), &late.body["code"]), (409, &json!("changed_meanwhile")));

    let listed = town.get(As::DistrictOffice, "/api/v1/saved-queries").await.body;
    assert_eq!(listed["items"][0]["owner"], "analyst@here.example", "{listed}");
    assert_eq!((&listed["items"][0]["own"], listed["items"][0].get("sql")), (&json!(false), None));
    assert_eq!(town.get(As::Foreign, "/api/v1/saved-queries").await.body["items"], json!([]));

    for (what, code) in [
        (json!({"title": " ", "sql": "SELECT 1"}), "title"),
        (json!({"title": "t", "sql": "x".repeat(65_537)}), "sql"),
        (json!({"title": "t", "sql": "s", "view": {"x": "v".repeat(4_096)}}), "view"),
        (json!({"title": "t", "sql": "s", "view": [1]}), "view"),
        (json!({"title": "t", "sql": "a\u{0}b"}), "sql"),
    ] {
        let refused = town.post(As::Analyst, "/api/v1/saved-queries", what).await;
        assert_eq!((refused.status.as_u16(), &refused.body["errors"][0]["field"]), (422, &json!(code)), "{}", refused.body);
    }
    assert_eq!(town.ask(As::Analyst, Method::DELETE, &path("saved-queries", &own), None).await.status, 204);
    assert_eq!(town.get(As::Analyst, &path("saved-queries", &own)).await.status, 404);
    let told = town.get(As::It, "/api/v1/audit?limit=50").await.body;
    let actions: Vec<&str> = told["items"].as_array().unwrap().iter().filter_map(|row| row["action"].as_str()).collect();
    for action in ["saved_query.create", "saved_query.change", "saved_query.delete"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    assert!(!told.to_string().contains("Ours"), "a title is a person's own words");
}

#[tokio::test]
async fn an_answer_ends_well_for_a_client_that_takes_it_compressed() {
    let town = Town::start().await;
    let cookie = town.cookies[&As::Analyst].clone();
    for accept in ["application/vnd.apache.arrow.stream", "text/csv", "application/json"] {
        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let sql = json!({"sql": "SELECT 1 AS one, 'a text that is long enough to be worth packing' AS words"});
        let answer = town.send(Method::POST, "/api/v1/sql", Some(&cookie), Some(sql), &headers).await;
        assert_eq!((answer.status.as_u16(), answer.headers["content-encoding"].to_str().unwrap()), (200, "gzip"), "{accept}");
    }
}

/// All files below a folder, by path, with what is in them.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.strip_prefix(folder).unwrap().display().to_string(), std::fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

async fn scheduled(town: &Town, query: &Value, format: &str) -> Value {
    let body = json!({"query": query["id"], "rhythm": {"every": "daily", "at": "10:00"}, "format": format});
    let answer = town.post(As::Analyst, "/api/v1/exports", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body
}

#[tokio::test]
async fn an_export_is_one_whole_file_a_run_whichever_server_runs_it() {
    let town = Town::start().await;
    let folder = tempfile::tempdir().unwrap();
    let exporter = Exporter::new(town.state.clone(), Place::folder(folder.path()).unwrap()).unwrap();
    let query = saved(&town, As::Analyst, "Ones & Twos", false).await;
    let csv = scheduled(&town, &query, "csv").await;
    let parquet = scheduled(&town, &query, "parquet").await;
    assert_eq!((&csv["zone"], &csv["rhythm"]), (&json!("America/Chicago"), &json!({"every": "daily", "at": "10:00"})));
    let ten = instant_of(town.date, NaiveTime::from_hms_opt(10, 0, 0).unwrap(), ZONE);
    assert_eq!(csv["next"], json!(ten.to_chrono().unwrap().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()));
    assert_eq!(exporter.run_due().await.unwrap(), 0, "nothing is due at nine");

    // Two servers look at the same time; three days were missed.
    town.clock.set(UtcMillis(ten.0 + 72 * HOUR_MS));
    let other = exporter.clone();
    let (one, two) = tokio::join!(exporter.run_due(), other.run_due());
    assert_eq!(one.unwrap() + two.unwrap(), 2);
    assert_eq!(exporter.run_due().await.unwrap(), 0);
    let written = files(folder.path());
    let instant = ten.to_chrono().unwrap().format("%Y%m%dT%H%M%SZ");
    let name =
        |export: &Value, format: &str| format!("{}/{}/ones-twos-{instant}.{format}", town.own.district, export["id"].as_str().unwrap());
    let mut names = [name(&csv, "csv"), name(&parquet, "parquet")];
    names.sort();
    assert_eq!(written.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), names);
    for (path, bytes) in &written {
        match path.ends_with(".csv") {
            true => assert_eq!(bytes, b"one\n1\n"),
            false => assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
        }
    }
    let listed = town.get(As::Analyst, "/api/v1/exports").await.body;
    for item in listed["items"].as_array().unwrap() {
        assert_eq!((&item["last_outcome"], &item["last_rows"], &item["last_error"]), (&json!("done"), &json!(1), &Value::Null), "{item}");
    }
    let told = town.get(As::It, "/api/v1/audit?action=export.run").await.body;
    assert_eq!(told["items"].as_array().unwrap().len(), 2, "{told}");
    let asked = town.get(As::It, "/api/v1/audit?action=sql.query").await.body;
    assert_eq!((&asked["items"][0]["detail"]["door"], &asked["items"][0]["detail"]["outcome"]), (&json!("export"), &json!("done")));
}

#[tokio::test]
async fn an_export_that_may_not_or_cannot_run_says_why_and_leaves_no_file() {
    let town = Town::start().await;
    let folder = tempfile::tempdir().unwrap();
    let exporter = Exporter::new(town.state.clone(), Place::folder(folder.path()).unwrap()).unwrap();
    let query = saved(&town, As::Analyst, "One", false).await;
    let export = scheduled(&town, &query, "csv").await;
    let last = async || town.get(As::Analyst, "/api/v1/exports").await.body["items"][0].clone();

    let wrong = json!({"version": 1, "sql": "SELECT nothing FROM nowhere"});
    town.ask(As::Analyst, Method::PATCH, &path("saved-queries", &query), Some(wrong)).await;
    let run = format!("{}/run", path("exports", &export));
    assert_eq!(town.post(As::Analyst, &run, json!({})).await.status, 202);
    assert_eq!(exporter.run_due().await.unwrap(), 1);
    let failed = last().await;
    assert_eq!(failed["last_outcome"], "failed", "{failed}");
    assert!(failed["last_error"].as_str().unwrap().contains("nowhere"), "{failed}");

    let late = json!({"version": 2, "sql": "SELECT 10 / (n - 2) AS x FROM (VALUES (1), (2)) AS t (n)"});
    let patched = town.ask(As::Analyst, Method::PATCH, &path("saved-queries", &query), Some(late)).await;
    assert_eq!(patched.status, 200);
    town.post(As::Analyst, &run, json!({})).await;
    assert_eq!(exporter.run_due().await.unwrap(), 1);
    assert_eq!(last().await["last_outcome"], "failed");

    town.post(As::Analyst, &run, json!({})).await;
    town.as_owner("update rollcall.account set disabled = true where email = 'analyst@here.example'").await;
    assert_eq!(exporter.run_due().await.unwrap(), 1);
    town.as_owner("update rollcall.account set disabled = false where email = 'analyst@here.example'").await;
    let skipped = last().await;
    assert_eq!(skipped["last_outcome"], "skipped", "{skipped}");
    assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));

    for (body, status) in [
        (json!({"query": query["id"], "rhythm": {"every": "weekly", "at": "06:00"}, "format": "csv"}), 422),
        (json!({"query": query["id"], "rhythm": {"every": "daily", "weekday": 1, "at": "06:00"}, "format": "csv"}), 422),
        (json!({"query": query["id"], "rhythm": {"every": "daily", "at": "25:00"}, "format": "csv"}), 422),
        (json!({"query": query["id"], "rhythm": {"every": "weekly", "weekday": 8, "at": "06:00"}, "format": "csv"}), 422),
    ] {
        let refused = town.post(As::Analyst, "/api/v1/exports", body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {}", refused.body);
    }
}

/// Everybody of the own school.
fn students(town: &Town) -> Vec<PersonId> {
    let directory = town.cache.current().district(town.own.district).unwrap().clone();
    let mut students: Vec<_> = directory.students_in(town.own.school, town.date).map(|student| student.id).collect();
    students.sort_unstable();
    students
}

/// Conclusions about a past date: who of the school's students arrived at which minute after midnight.
async fn arrived(town: &Town, weeks_ago: u64, minutes: &[(i64, &str)]) {
    let date = town.date.checked_sub_days(Days::new(7 * weeks_ago)).unwrap();
    for ((minute, status), student) in minutes.iter().zip(students(town)) {
        let instant = instant_of(date, NaiveTime::MIN, ZONE).0 + minute * 60_000;
        let arrival = match *minute {
            0 => Value::Null,
            _ => json!(UtcMillis(instant).to_chrono().unwrap().to_rfc3339()),
        };
        let detail = json!({"arrival": arrival, "present_min": 300, "scheduled_min": 300, "absent_half_days": 0});
        town.as_owner(&format!(
            "insert into rollcall.attendance_status (district, school, student, date, status, rule, detail, recorded_at)
             values ('{}', '{}', '{student}', '{date}', '{status}', 'arrived_by_grace', '{detail}', '{date} 23:00Z')",
            town.own.district, town.own.school
        ))
        .await;
    }
}

#[tokio::test]
async fn arrivals_are_shown_against_days_with_evidence_only() {
    let town = Town::start().await;
    let at = format!("/api/v1/overview/arrivals?school={}", town.own.school);
    let weeks: Vec<u64> = (1..=8)
        .filter(|weeks| {
            let date = town.date.checked_sub_days(Days::new(7 * weeks)).unwrap();
            let directory = town.cache.current().district(town.own.district).unwrap().clone();
            directory.schedule_for(town.own.school, date).is_some()
        })
        .collect();
    assert!(weeks.len() >= 4, "the synthetic calendar goes back far enough: {weeks:?}");
    let early = vec![(471, "present"); 40];
    let late = vec![(491, "tardy"); 40];
    // Half came unseen: a gate was away, and the day says nothing.
    let unseen: Vec<(i64, &str)> = (0..40).map(|n| (if n < 10 { 471 } else { 0 }, "present")).collect();
    arrived(&town, weeks[0], &early).await;
    arrived(&town, weeks[1], &early).await;
    arrived(&town, weeks[2], &unseen).await;
    let two = town.get(As::DistrictOffice, &at).await.body;
    assert_eq!((&two["usual"], two["usual_days"].as_array().unwrap().len()), (&Value::Null, 2), "{two}");
    assert_eq!((&two["in_session"], &two["students"], &two["suppressed"]), (&json!(true), &json!(40), &json!(false)));

    arrived(&town, weeks[3], &late).await;
    // What was read is held for ten minutes.
    town.clock.set(UtcMillis(town.clock.now().0 + 11 * 60_000));
    let three = town.get(As::DistrictOffice, &at).await.body;
    assert_eq!((&three["usual"], three["usual_days"].as_array().unwrap().len()), (&json!([{"minute": 475, "share": 1.0}]), 3), "{three}");
    assert_eq!(three["today"], json!([]));

    // Nine arrive. The office sees the step; to the analyst no step stands for fewer than ten. Two conclusions of one
    // instant would be taken for one: what the clock alone concludes is done before the scans come.
    let students = students(&town);
    town.scan(1, students[9], town.clock.now(), Direction::Out).await;
    town.clock.set(UtcMillis(town.clock.now().0 + 1_000));
    let now = town.clock.now();
    for (seq, student) in (2..).zip(students.into_iter().take(9)) {
        town.scan(seq, student, UtcMillis(now.0 - HOUR_MS), Direction::In).await;
    }
    town.until_concluded(9).await;
    town.clock.set(UtcMillis(town.clock.now().0 + 60_000));
    let office = town.get(As::Office, &at).await.body;
    assert_eq!(office["today"][0]["share"], json!(9.0 / 40.0), "{office}");
    let analyst = town.get(As::Analyst, &at).await.body;
    assert_eq!((&analyst["today"], &analyst["usual"]), (&json!([]), &json!([{"minute": 475, "share": 1.0}])), "{analyst}");
    assert_eq!(town.get(As::Analyst, "/api/v1/overview/arrivals").await.body["students"], 80);
    let elsewhere = format!("/api/v1/overview/arrivals?school={}", town.other_school);
    assert_eq!(town.get(As::Office, &elsewhere).await.status, 403);
    assert_eq!(town.get(As::Office, "/api/v1/overview/arrivals").await.status, 403);
}
