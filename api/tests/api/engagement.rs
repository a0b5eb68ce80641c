//! Engagement from an event in the log to the teacher's topic and the answer of REST, with the real database.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use rollcall_analytics::engagement::store::{StoreClasses, StoreEngagement};
use rollcall_analytics::engagement::{Engagement, EngagementDeps, EngagementHandle};
use rollcall_model::event::{ActivityKind, Direction};
use rollcall_model::ids::{DeviceId, Offset, PersonId};
use rollcall_model::time::UtcMillis;
use rollcall_store::Store;
use rollcall_stream::Log;
use rollcall_stream::activity::{self, ActivityRow};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::town::{As, PATIENCE, Town};

async fn start(town: &Town) -> (EngagementHandle, CancellationToken, tokio::task::JoinHandle<()>) {
    let store = Store::connect(&town.config).await.unwrap();
    let (engagement, handle) = Engagement::new(EngagementDeps {
        log: town.log.clone(),
        store: Arc::new(StoreEngagement { store: store.clone() }),
        classes: Arc::new(StoreClasses { cache: town.cache.clone(), store }),
        presence: Arc::new(town.engine.clone()),
        hub: town.hub.clone(),
        clock: town.clock.clone(),
        metrics: prometheus::Registry::new(),
        pool: tokio::runtime::Handle::current(),
    });
    let stop = CancellationToken::new();
    let running = engagement.run(stop.clone());
    let task = tokio::spawn(async move { running.await.unwrap() });
    (handle, stop, task)
}

fn acts(town: &Town, student: PersonId, seq: u64, ts: UtcMillis, resource: &str) {
    let row = ActivityRow {
        district: town.own.district,
        school: town.own.school,
        device: DeviceId::from_bytes([5; 16]),
        seq,
        ts,
        received: town.clock.now(),
        offline: false,
        person: student,
        kind: ActivityKind::Answered,
        resource,
        section: None,
        dur_ms: None,
        offset: Offset(0),
    };
    town.log.append(vec![activity::encode(&[row])]).unwrap();
}

fn engagement_path(town: &Town) -> String {
    format!("/api/v1/sections/{}/engagement", town.own.section)
}

/// The windows of the first meeting.
async fn windows(town: &Town, query: &str) -> Vec<Value> {
    let answer = town.get(As::Teacher, &format!("{}{query}", engagement_path(town))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body["meetings"][0]["windows"].as_array().unwrap().clone()
}

async fn until(handle: &EngagementHandle, what: &str, town: &Town, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let waiting = async {
        loop {
            assert!(handle.turn().await);
            let found = windows(town, "").await;
            if holds(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The newest revision alone, for whom the class or the student may be shown.
async fn sql_has_the_window_as_it_stands(town: &Town, student: PersonId) {
    let ask = async |who, sql: &str| town.post(who, "/api/v1/sql", json!({"sql": sql})).await.body;
    let of_section = "select section, revision, active_ms, late_events, with_data from engagement where events > 0";
    let expected = json!([[town.own.section, 2, 119_000, 1, 1]]);
    for who in [As::Teacher, As::Office] {
        assert_eq!(ask(who, of_section).await["rows"], expected, "{who:?}");
    }
    assert_eq!(ask(As::Foreign, of_section).await["rows"], json!([]));
    assert_eq!(ask(As::Analyst, of_section).await["code"], "sql_refused");
    let of_students = "select student, sum(active_ms), sum(events) from engagement_student group by student";
    assert_eq!(ask(As::Teacher, of_students).await["rows"], json!([[student, 119_000, 3]]));
    let of_groups = "select section, sum(active_ms) from engagement_student group by section";
    assert_eq!(ask(As::Analyst, of_groups).await["rows"], json!([]), "one student is a small group");
}

#[tokio::test]
async fn events_become_windows_in_history_once_and_late_ones_a_revision() {
    let town = Town::start().await;
    let school = format!("/api/v1/schools/{}/consents", town.own.school);
    let students = town.students();
    let begins = town.clock.now();
    town.scan(1, students[0], begins.plus_ms(-600_000), Direction::In).await;
    let (handle, stop, task) = start(&town).await;

    // Without consent nothing is computed, whatever comes.
    acts(&town, students[0], 1, begins.plus_ms(1_000), "reader");
    acts(&town, students[0], 2, begins.plus_ms(61_000), "reader");
    town.clock.set(begins.plus_ms(200_000));
    town.engine.clock_moved().await;
    assert!(handle.turn().await);
    assert!(windows(&town, "").await.iter().all(|window| window["value"].is_null()));

    let granted = town.post(As::Office, &school, json!({"student": null, "purpose": "activity", "granted": true})).await;
    assert_eq!(granted.status, StatusCode::CREATED, "{}", granted.body);
    town.clock.set(begins.plus_ms(700_000));
    town.engine.clock_moved().await;
    let found = until(&handle, "the window is in history", &town, |found| found.iter().any(|window| !window["value"].is_null())).await;
    let window = found.iter().find(|window| !window["value"].is_null()).unwrap();
    let value = &window["value"];
    assert_eq!((&value["active_ms"], &value["with_data"], &value["meaningful"]), (&json!(60_000), &json!(1), &json!(2)), "{window}");
    assert_eq!((&window["revision"], &window["definition"], &window["parameters"]["theta_ms"]), (&json!(1), &json!(1), &json!(120_000)));
    assert_eq!(value["resource_alignment"], Value::Null);
    let recorded = window["recorded"].as_str().unwrap().to_owned();

    // A restart computes the window again from the database and the log, and finds it as it is.
    stop.cancel();
    task.await.unwrap();
    let (handle, stop, task) = start(&town).await;
    town.clock.set(begins.plus_ms(800_000));
    acts(&town, students[0], 3, begins.plus_ms(120_000), "reader");
    let found = until(&handle, "the correction is in history", &town, |found| found.iter().any(|window| window["revision"] == 2)).await;
    let corrected = found.iter().find(|window| window["revision"] == 2).unwrap();
    assert_eq!((&corrected["value"]["active_ms"], &corrected["value"]["late_events"]), (&json!(119_000), &json!(1)), "{corrected}");
    sql_has_the_window_as_it_stands(&town, students[0]).await;
    let before = windows(&town, &format!("?at={}", recorded.replace('+', "%2B"))).await;
    let before = before.iter().find(|window| !window["value"].is_null()).unwrap();
    assert_eq!((&before["revision"], &before["value"]["active_ms"]), (&json!(1), &json!(60_000)), "as it was known then");

    // What the teacher allows makes alignment a number where coverage suffices: one of ten is too few.
    let settings = format!("{}/settings", engagement_path(&town));
    let said = town.ask(As::Teacher, Method::PUT, &settings, Some(json!({"resources": [" reader "], "physical": false}))).await;
    assert_eq!((said.status, &said.body["resources"]), (StatusCode::OK, &json!(["reader"])));
    until(&handle, "allowed time is in history", &town, |found| found.iter().any(|window| window["value"]["allowed_ms"] == 119_000)).await;

    let withdrawn = town.post(As::Office, &school, json!({"student": students[0], "purpose": "activity", "granted": false})).await;
    assert_eq!(withdrawn.status, StatusCode::CREATED);
    until(&handle, "withdrawn consent takes it back", &town, |found| found.iter().all(|window| window["value"].is_null())).await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn the_topic_has_the_described_shape() {
    let town = Town::start().await;
    let (handle, stop, task) = start(&town).await;
    let mut topic = town.hub.subscribe(&format!("section/{}/engagement", town.own.section), None);
    assert!(handle.turn().await);
    let first = tokio::time::timeout(PATIENCE, topic.next()).await.unwrap().unwrap();
    let data: Value = serde_json::from_slice(first.data()).unwrap();
    let document: Value = serde_json::from_str(&rollcall_api::openapi_json()).unwrap();
    let described = |name: &str| {
        let schema = &document["components"]["schemas"][name];
        let parts = schema["allOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
        let mut names: Vec<String> = Vec::new();
        for part in parts {
            let part = match part["$ref"].as_str() {
                Some(pointer) => document.pointer(&pointer[1..]).unwrap().clone(),
                None => part,
            };
            names.extend(part["properties"].as_object().unwrap().keys().cloned());
        }
        names.sort();
        names
    };
    let sent = |value: &Value| {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(sent(&data["meta"]), described("EngagementMeta"));
    let window = data["windows"].as_object().unwrap().values().next().expect("the meeting has begun");
    assert_eq!(sent(window), described("EngagementEntry"));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn wrong_settings_and_consents_are_refused() {
    let town = Town::start().await;
    let settings = format!("{}/settings", engagement_path(&town));
    for resources in [json!([""]), json!(["x".repeat(257)]), json!(["a\nb"]), json!((0..201).map(|n| n.to_string()).collect::<Vec<_>>())] {
        let answer = town.ask(As::Teacher, Method::PUT, &settings, Some(json!({"resources": resources, "physical": false}))).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{resources}");
    }
    let school = format!("/api/v1/schools/{}/consents", town.own.school);
    for consent in [
        json!({"student": null, "purpose": "wearable", "granted": true}),
        json!({"student": town.other_student, "purpose": "activity", "granted": true}),
        json!({"student": town.own.student, "purpose": "activity", "granted": true, "starts": "2026-11-02", "ends": "2026-11-02"}),
        json!({"student": town.own.student, "purpose": "emotion", "granted": true}),
    ] {
        let answer = town.post(As::Office, &school, consent.clone()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{consent}");
    }
    let kept = town.get(As::Office, &school).await;
    assert_eq!(kept.body["items"], json!([]));
}
