//! Marks from the request to the board, and what may not be marked.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use chrono::Days;
use rollcall_api::ApiConfig;
use rollcall_model::event::Direction;
use rollcall_model::time::UtcMillis;
use serde_json::{Value, json};

use crate::town::{As, PATIENCE, Town};

async fn board(town: &Town) -> Value {
    let answer = town.get(As::Teacher, &format!("/api/v1/sections/{}/attendance", town.own.section)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

fn status<'a>(board: &'a Value, student: &impl ToString) -> &'a str {
    board["data"]["students"][student.to_string()]["status"].as_str().unwrap_or("")
}

#[tokio::test]
async fn a_mark_is_on_the_board_when_it_is_answered_and_undo_takes_it_back() {
    let town = Town::start().await;
    let student = town.own.student;
    let before = board(&town).await;
    let request = json!({"section": town.own.section, "marks": [{"student": student, "status": "absent_excused", "reason": " dentist "}]});
    let marked = town.post(As::Teacher, "/api/v1/marks", request).await;
    assert_eq!(marked.status, StatusCode::CREATED, "{}", marked.body);
    let mark = &marked.body["items"][0];
    assert_eq!(mark["reason"], "dentist");
    assert_eq!(mark["period"], town.own.period.to_string());
    let shown = board(&town).await;
    assert_eq!(status(&shown, &student), "absent");
    assert!(shown["version"].as_u64() > before["version"].as_u64());
    assert_eq!(shown["data"]["students"][student.to_string()]["detail"]["mark"]["id"], mark["id"]);

    let path = format!("/api/v1/marks/{}/undo", mark["id"].as_str().unwrap());
    let undone = town.ask(As::Teacher, Method::POST, &path, None).await;
    assert_eq!(undone.status, StatusCode::CREATED, "{}", undone.body);
    assert_eq!(undone.body["status"], "cleared");
    assert_eq!(undone.body["supersedes"], mark["id"]);
    assert_eq!(status(&board(&town).await, &student), status(&before, &student));
    let again = town.ask(As::Teacher, Method::POST, &path, None).await;
    assert_eq!((again.status, again.body["code"].as_str()), (StatusCode::CONFLICT, Some("already_superseded")));

    let office = json!({"section": town.own.section, "marks": [{"student": student, "status": "present"}]});
    let by_office = town.post(As::Office, "/api/v1/marks", office).await.body;
    let path = format!("/api/v1/marks/{}/undo", by_office["items"][0]["id"].as_str().unwrap());
    assert_eq!(town.ask(As::Teacher, Method::POST, &path, None).await.status, StatusCode::FORBIDDEN, "a teacher undoes own marks only");

    let marks = town.get(As::Teacher, &format!("/api/v1/marks?student={student}")).await.body;
    let told: Vec<&str> = marks["items"].as_array().unwrap().iter().map(|mark| mark["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["present", "cleared", "absent_excused"], "newest first, each once");
}

#[tokio::test]
async fn the_whole_class_leaves_marks_and_arrivals_alone() {
    let town = Town::start().await;
    let students = town.students();
    let (marked, tardy, rest) = (students[0], students[1], &students[2..]);
    let one = json!({"section": town.own.section, "marks": [{"student": marked, "status": "absent_unexcused"}]});
    assert_eq!(town.post(As::Teacher, "/api/v1/marks", one).await.status, StatusCode::CREATED);
    let meeting = board(&town).await["data"]["meta"]["starts"].as_str().unwrap().to_owned();
    let starts = chrono::DateTime::parse_from_rfc3339(&meeting).unwrap().timestamp_millis();
    town.clock.set(UtcMillis(starts + 15 * 60_000));
    town.engine.clock_moved().await;
    town.scan(1, tardy, UtcMillis(starts + 12 * 60_000), Direction::In).await;
    assert_eq!(status(&board(&town).await, &tardy), "tardy");

    let answer = town.post(As::Teacher, "/api/v1/marks", json!({"section": town.own.section, "whole_class": "present"})).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let shown = board(&town).await;
    assert_eq!(status(&shown, &marked), "absent");
    assert_eq!(status(&shown, &tardy), "tardy");
    assert!(rest.iter().all(|student| status(&shown, student) == "present"), "{shown}");
    assert_eq!(answer.body["items"].as_array().unwrap().len(), rest.len());
    let again = town.post(As::Teacher, "/api/v1/marks", json!({"section": town.own.section, "whole_class": "present"})).await;
    assert_eq!(again.body["items"], json!([]), "nobody is left");
}

#[tokio::test]
async fn what_cannot_be_marked_is_told_by_field() {
    let town = Town::start().await;
    let (section, student) = (town.own.section, town.own.student);
    let mark = json!([{"student": student, "status": "present"}]);
    let tomorrow = town.date + Days::new(1);
    let long_ago = town.date - Days::new(20);
    let cases = [
        (As::Teacher, json!({"section": section}), "marks", "required"),
        (As::Teacher, json!({"section": section, "marks": []}), "marks", "out_of_range"),
        (As::Teacher, json!({"section": section, "marks": mark, "whole_class": "present"}), "marks", "required"),
        (
            As::Teacher,
            json!({"section": section, "marks": [{"student": town.other_student, "status": "present"}]}),
            "marks[0].student",
            "unknown",
        ),
        (As::Teacher, json!({"section": section, "marks": [mark[0], mark[0]]}), "marks[1].student", "repeated"),
        (
            As::Teacher,
            json!({"section": section, "marks": [{"student": student, "status": "present", "reason": "x".repeat(201)}]}),
            "marks[0].reason",
            "not_a_line",
        ),
        (
            As::Teacher,
            json!({"section": section, "marks": [{"student": student, "status": "present", "at": "2026-01-01T00:00:00Z"}]}),
            "marks[0].at",
            "not_allowed",
        ),
        (
            As::Teacher,
            json!({"section": section, "marks": [{"student": student, "status": "tardy", "at": "2026-01-01T00:00:00Z"}]}),
            "marks[0].at",
            "other_date",
        ),
        (As::Teacher, json!({"section": section, "period": uuid::Uuid::nil(), "marks": mark}), "period", "does_not_meet"),
        (As::Teacher, json!({"section": section, "period": town.own.period, "date": tomorrow, "marks": mark}), "date", "in_future"),
        (As::Teacher, json!({"section": section, "period": town.own.period, "date": long_ago, "marks": mark}), "date", "too_old"),
        (As::Office, json!({"period": town.own.period, "marks": mark}), "section", "required"),
    ];
    for (who, body, field, code) in cases {
        let answer = town.post(who, "/api/v1/marks", body.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.body);
        assert_eq!(
            (answer.body["errors"][0]["field"].as_str(), answer.body["errors"][0]["code"].as_str()),
            (Some(field), Some(code)),
            "{body}"
        );
    }
    let day = json!({"marks": [{"student": student, "status": "absent_excused"}]});
    assert_eq!(town.post(As::Teacher, "/api/v1/marks", day.clone()).await.status, StatusCode::FORBIDDEN, "the office marks days");
    assert_eq!(town.post(As::Office, "/api/v1/marks", day).await.status, StatusCode::CREATED);
    let past = json!({"section": section, "period": town.own.period, "date": long_ago, "marks": mark});
    assert_eq!(town.post(As::Office, "/api/v1/marks", past).await.status, StatusCode::CREATED, "the office corrects any past day");
    let excused = json!({"section": section, "period": town.own.period, "date": tomorrow, "marks": [{"student": student, "status": "absent_excused"}]});
    assert_eq!(town.post(As::Office, "/api/v1/marks", excused).await.status, StatusCode::CREATED, "known absences to come");
}

#[tokio::test]
async fn the_same_write_sent_again_counts_once() {
    let town = Town::start().await;
    let cookie = &town.cookies[&As::Teacher];
    let body = json!({"section": town.own.section, "marks": [{"student": town.own.student, "status": "present"}]});
    let send = |body: Value| town.send(Method::POST, "/api/v1/marks", Some(cookie), Some(body), &[("idempotency-key", "k-1")]);
    let (one, two) = (send(body.clone()).await, send(body.clone()).await);
    assert_eq!((one.status, two.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(one.body, two.body);
    assert_eq!(two.headers["idempotency-replayed"], "true");
    let mut other = body.clone();
    other["marks"][0]["status"] = "tardy".into();
    let reused = send(other).await;
    assert_eq!((reused.status, reused.body["code"].as_str()), (StatusCode::CONFLICT, Some("idempotency_key_reused")));
    let office =
        town.send(Method::POST, "/api/v1/marks", Some(&town.cookies[&As::Office]), Some(body), &[("idempotency-key", "k-1")]).await;
    assert_ne!(office.body["items"][0]["id"], one.body["items"][0]["id"], "a key belongs to its account");
    let marks = town.get(As::Office, &format!("/api/v1/marks?student={}", town.own.student)).await.body;
    assert_eq!(marks["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let config =
        ApiConfig { write_wait_max: Duration::from_millis(200), session_idle: Duration::from_secs(48 * 3600), ..ApiConfig::default() };
    let town = Town::with(config).await;
    let body = json!({"section": town.own.section, "marks": [{"student": town.own.student, "status": "present"}]});
    town.log.hold();
    let held = town.post(As::Teacher, "/api/v1/marks", body.clone()).await;
    assert_eq!((held.status, held.body["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("not_durable")));
    town.log.release();
    assert_eq!(town.post(As::Teacher, "/api/v1/marks", body.clone()).await.status, StatusCode::CREATED);
    town.log.fail();
    let failed = town.post(As::Teacher, "/api/v1/marks", body).await;
    assert_eq!((failed.status, failed.body["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("log_stopped")));
}

#[tokio::test]
async fn a_day_tells_its_evidence_its_history_and_what_was_known() {
    let town = Town::start().await;
    let student = town.own.student;
    let starts = board(&town).await["data"]["meta"]["starts"].as_str().unwrap().to_owned();
    let starts = chrono::DateTime::parse_from_rfc3339(&starts).unwrap().timestamp_millis();
    town.scan(1, student, UtcMillis(starts - 3 * 60_000), Direction::In).await;
    let first = town.clock.now();
    town.clock.set(UtcMillis(first.0 + 60_000));
    let body = json!({"section": town.own.section, "marks": [{"student": student, "status": "tardy"}]});
    assert_eq!(town.post(As::Teacher, "/api/v1/marks", body).await.status, StatusCode::CREATED);

    let path = format!("/api/v1/students/{student}/days/{}", town.date);
    let is_own = |window: &&Value| window["period"] == town.own.period.to_string();
    let own = |day: &Value| day["periods"].as_array().unwrap().iter().find(is_own).cloned().unwrap_or_default();
    let now = town.get(As::Guardian, &path).await.body;
    assert_eq!(own(&now)["status"], "tardy", "{now}");
    assert_eq!(own(&now)["detail"]["evidence"][0]["device"], town.own.device.to_string());
    assert!(own(&now)["explanation"].as_str().is_some_and(|sentence| sentence.ends_with('.')), "{now}");

    // The record follows the board; it is asked until it has.
    let recorded = async {
        loop {
            let day = town.get(As::Guardian, &path).await.body;
            let told = own(&day)["history"].as_array().map(|changes| changes.iter().any(|change| change["rule"] == "teacher_mark"));
            if told == Some(true) {
                break day;
            }
        }
    };
    let day = tokio::time::timeout(PATIENCE, recorded).await.expect("the conclusion is recorded");
    assert!(own(&day)["recorded"].is_string(), "{day}");
    let at = format!("{path}?at={}", first.to_chrono().unwrap().format("%Y-%m-%dT%H:%M:%SZ"));
    let then = town.get(As::Guardian, &at).await.body;
    assert_eq!(own(&then)["status"], "present", "{then}");
    let days = town.get(As::Guardian, &format!("/api/v1/students/{student}/days?from={0}&to={0}", town.date)).await.body;
    assert_eq!(days["items"][0]["date"], town.date.to_string(), "{days}");
    let audit = town.get(As::It, &format!("/api/v1/audit?subject={student}&action=student.read")).await.body;
    assert!(audit["items"].as_array().unwrap().len() >= 3, "{audit}");
    assert!(audit["items"][0]["account"].is_string(), "{audit}");
}
