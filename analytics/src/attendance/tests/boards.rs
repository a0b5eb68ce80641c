//! What moves a board: arrivals, the clock, gates, marks, late evidence, the roster, and midnight in two zones.

use std::time::Duration;

use rollcall_model::event::Direction::{self, In, Out};
use rollcall_model::ids::Offset;
use rollcall_model::status::{MarkStatus, Status};
use rollcall_model::time::UtcMillis;
use serde_json::json;

use super::town::*;
use crate::hub::Update;

/// One school, gate connected, at 7:30.
async fn morning() -> Running {
    let town = Running::start(Town::new(1), at(0, 7, 30)).await;
    town.connection(0, true).await;
    town
}

#[tokio::test]
async fn an_arrival_moves_the_boards() {
    let town = morning().await;
    let mut section_topic = town.hub.subscribe(&format!("section/{}/attendance", section(0, 0)), None);
    let mut school_topic = town.hub.subscribe(&format!("school/{}/attendance", school(0)), None);
    let mut district_topic = town.hub.subscribe(&format!("district/{DISTRICT}/attendance"), None);
    let mut student_topic = town.hub.subscribe(&format!("student/{}/day", student(0)), None);
    for topic in [&mut section_topic, &mut school_topic, &mut district_topic, &mut student_topic] {
        assert!(matches!(topic.next().await.unwrap(), Update::Snapshot { .. }));
    }
    town.scan(scanned(0, student(0), 1, at(0, 7, 50), In)).await;
    let read = |update: Option<Update>| -> serde_json::Value { serde_json::from_slice(update.unwrap().data()).unwrap() };

    let delta = read(section_topic.next().await);
    assert_eq!(delta["students"].as_object().unwrap().len(), 1, "only who arrived: {delta}");
    let entry = &delta["students"][student(0).to_string()];
    assert_eq!((&entry["status"], &entry["day_status"]), (&json!("present"), &json!("present")));
    assert_eq!(entry["since"], "2026-11-20T06:50:00.000Z");
    assert_eq!(entry["detail"]["evidence"][0]["seq"], 1);
    assert_eq!(delta["counts"], json!({"expected": 3, "present": 1}));

    let delta = read(school_topic.next().await);
    assert_eq!(delta["feed"]["1"]["person"], student(0).to_string());
    assert_eq!(delta["building"][student(0).to_string()]["device"], gate(0).to_string());
    assert_eq!(delta["counts"]["in_building"], 1);
    assert_eq!(delta["sections"][section(0, 0).to_string()]["counts"]["present"], 1);

    let delta = read(district_topic.next().await);
    assert_eq!(delta["schools"][school(0).to_string()]["counts"]["present"], 1);
    assert_eq!(read(student_topic.next().await)["day"]["arrival"], "2026-11-20T06:50:00.000Z");

    let inside = town.handle.building(DISTRICT, school(0)).await.unwrap();
    assert_eq!(inside.iter().map(|inside| inside.person).collect::<Vec<_>>(), [student(0)]);
    town.scan(scanned(0, student(0), 2, at(0, 8, 30), Out)).await;
    assert!(town.handle.building(DISTRICT, school(0)).await.unwrap().is_empty());
    town.stop(false).await;
}

/// A family is told of the arrival and of the departure even when both lie before the first bell, and of the way home
/// after the last one: the day's window is the school's business, not theirs.
#[tokio::test]
async fn a_family_sees_comings_and_goings_outside_the_bells() {
    let town = morning().await;
    let mut topic = town.hub.subscribe(&format!("student/{}/day", student(0)), None);
    let mut day = serde_json::Map::new();
    let known = |day: &serde_json::Map<_, serde_json::Value>, key: &str| day.get(key).filter(|value| !value.is_null()).cloned();
    let mut follow = async |scan: Option<(u64, UtcMillis, Direction)>| {
        if let Some((seq, ts, direction)) = scan {
            town.scan(scanned(0, student(0), seq, ts, direction)).await;
        }
        let data: serde_json::Value = serde_json::from_slice(topic.next().await.unwrap().data()).unwrap();
        day.extend(data["day"].as_object().unwrap().clone());
        (day["status"].clone(), known(&day, "arrival"), known(&day, "departure"))
    };
    follow(None).await;
    let (status, arrival, departure) = follow(Some((1, at(0, 7, 20), In))).await;
    assert_eq!((arrival, departure), (Some(json!("2026-11-20T06:20:00.000Z")), None), "{status}");
    let (status, arrival, departure) = follow(Some((2, at(0, 7, 28), Out))).await;
    assert_eq!(status, "expected");
    assert_eq!(arrival, Some(json!("2026-11-20T06:20:00.000Z")));
    assert_eq!(departure, Some(json!("2026-11-20T06:28:00.000Z")));
    assert_eq!(day["zone"], "Europe/Berlin");
    town.stop(false).await;
}

#[tokio::test]
async fn the_clock_alone_makes_absent() {
    let town = morning().await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Expected);
    let mut topic = town.hub.subscribe(&format!("section/{}/attendance", section(0, 0)), None);
    topic.next().await.unwrap();
    town.go_to(at(0, 8, 19)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Expected);
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Absent);
    let board = town.board(section(0, 0)).await;
    assert_eq!(board["counts"]["absent"], 4);
    assert_eq!(board["meta"]["state"], "running");
    // Four periods and four days; nobody had to be told that they were expected.
    town.written(8).await;
    let (_, database, ..) = town.stop(false).await;
    assert!(database.rows.lock().iter().all(|row| row.status == Status::Absent && row.recorded == at(0, 8, 20)));
}

#[tokio::test]
async fn the_board_follows_the_bells() {
    let town = morning().await;
    let state = async |hour, minute| {
        town.go_to(at(0, hour, minute)).await;
        let board = town.board(section(0, 1)).await;
        board["meta"]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(7, 31).await, "before");
    assert_eq!(state(9, 15).await, "running");
    assert_eq!(state(10, 15).await, "over");
    assert!(town.handle.section_board(section(5, 1)).await.is_none(), "a section that does not exist");
    town.stop(false).await;
}

#[tokio::test]
async fn a_gate_that_is_offline_makes_unknown_until_it_is_back() {
    let town = morning().await;
    town.go_to(at(0, 7, 40)).await;
    town.connection(0, false).await;
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Unknown);
    let mut devices = town.hub.subscribe(&format!("district/{DISTRICT}/devices"), None);
    let devices: serde_json::Value = serde_json::from_slice(devices.next().await.unwrap().data()).unwrap();
    assert_eq!(devices["counts"], json!({"devices": 1, "connected": 0, "behind": 1}));
    let board = town.board(section(0, 0)).await;
    assert_eq!(board["students"][student(0).to_string()]["detail"]["behind"][0]["device"], gate(0).to_string());

    town.go_to(at(0, 8, 30)).await;
    town.connection(0, true).await;
    let mut late = scanned(0, student(0), 7, at(0, 7, 55), In);
    (late.evidence.offline, late.evidence.received) = (true, at(0, 8, 30));
    town.scan(late).await;
    town.heartbeat(0, 0).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Present);
    assert_eq!(town.status(student(1), Some(0)).await, Status::Absent);
    town.stop(false).await;
}

#[tokio::test]
async fn a_silent_gate_is_noticed_by_the_clock() {
    let town = morning().await;
    town.heartbeat(0, 0).await;
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Unknown);
    town.heartbeat(0, 0).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Absent);
    town.stop(false).await;
}

#[tokio::test]
async fn a_gate_that_never_spoke_hides_nothing() {
    let mut two = Town::new(1);
    let spare = crate::attendance::DeviceInfo { id: gate(77), ..two.devices[0].clone() };
    two.devices.push(spare);
    let town = Running::start(two, at(0, 7, 30)).await;
    town.connection(0, true).await;
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Absent);
    let board = town.hub.snapshot(&format!("school/{}/attendance", school(0))).await.unwrap();
    let board: serde_json::Value = serde_json::from_slice(&board.data).unwrap();
    assert_eq!(board["devices"][gate(77).to_string()]["never_seen"], true);
    town.stop(false).await;
}

#[tokio::test]
async fn a_mark_stands_over_evidence_and_is_undone() {
    let town = morning().await;
    town.scan(scanned(0, student(0), 1, at(0, 7, 50), In)).await;
    town.go_to(at(0, 8, 6)).await;
    town.mark(marked(1, 0, student(0), 0, MarkStatus::AbsentUnexcused, at(0, 8, 6))).await;
    let board = town.board(section(0, 0)).await;
    let entry = &board["students"][student(0).to_string()];
    assert_eq!((&entry["status"], &entry["rule"]), (&json!("absent"), &json!("teacher_mark")));
    assert_eq!(entry["detail"]["flags"], json!(["in_but_marked_absent"]));
    town.go_to(at(0, 8, 7)).await;
    town.mark(marked(2, 0, student(0), 0, MarkStatus::Cleared, at(0, 8, 7))).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Present);
    town.stop(false).await;
}

#[tokio::test]
async fn two_changes_within_a_millisecond_are_two_rows() {
    let town = morning().await;
    let now = at(0, 8, 6);
    town.go_to(now).await;
    town.mark(marked(1, 0, student(0), 0, MarkStatus::Present, now)).await;
    town.mark(marked(2, 0, student(0), 0, MarkStatus::Tardy, now)).await;
    let (_, database, ..) = town.stop(false).await;
    let rows = database.rows.lock();
    let of_period = rows.iter().filter(|row| row.student == student(0) && row.meeting.is_some());
    let written: Vec<_> = of_period.map(|row| (row.status, row.recorded)).collect();
    assert_eq!(written, [(Status::Present, now), (Status::Tardy, now.plus_ms(1))]);
}

#[tokio::test]
async fn late_evidence_rewrites_a_day_that_is_no_longer_in_memory() {
    let town = morning().await;
    town.go_to(at(0, 8, 20)).await;
    let weekend = at(0, 12, 0).plus_ms(26 * 60 * 60 * 1000);
    town.go_to(weekend).await;
    let town = town.restart(false, Offset(1)).await;
    let before = town.database.rows.lock().len();
    let mut late = scanned(0, student(0), 7, at(0, 7, 55), In);
    (late.evidence.offline, late.evidence.received) = (true, weekend);
    town.scan(late).await;
    // Two periods and the day of the late student; the others' days end as absences of the whole day.
    let late_rows = |row: &&crate::attendance::Transition| row.student == student(0);
    town.written(before + 3).await;
    let (_, database, ..) = town.stop(false).await;
    let rows = database.rows.lock();
    let newest: Vec<_> = rows.iter().skip(before).filter(late_rows).map(|row| row.status).collect();
    assert_eq!(newest, [Status::Present; 3]);
}

#[tokio::test]
async fn the_roster_changes_in_mid_day_and_evidence_stays() {
    let town = morning().await;
    let newcomer = student(200);
    town.scan(scanned(0, newcomer, 1, at(0, 7, 50), In)).await;
    assert!(town.handle.student_day(DISTRICT, newcomer).await.is_none());
    assert_eq!(town.handle.building(DISTRICT, school(0)).await.unwrap().len(), 1, "in the building all the same");
    let mut topic = town.hub.subscribe(&format!("section/{}/attendance", section(0, 0)), None);
    topic.next().await.unwrap();
    town.office.change(|town| {
        town.enrolled.insert(newcomer, (0, vec![0]));
        town.enrolled.remove(&student(3));
    });
    let delta: serde_json::Value = serde_json::from_slice(topic.next().await.unwrap().data()).unwrap();
    assert_eq!(delta["students"][newcomer.to_string()]["status"], "present");
    assert_eq!(delta["students"][student(3).to_string()], json!(null));
    assert_eq!(town.board(section(0, 0)).await["counts"]["present"], 1);
    town.stop(false).await;
}

#[tokio::test]
async fn each_school_has_its_own_morning_and_midnight() {
    let town = Running::start(Town::new(2), at(0, 7, 30)).await;
    town.connection(0, true).await;
    town.connection(1, true).await;
    town.go_to(at(0, 8, 20)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Absent);
    assert_eq!(town.status(student(10), Some(0)).await, Status::Expected);
    town.go_to(at(1, 8, 20)).await;
    assert_eq!(town.status(student(10), Some(0)).await, Status::Absent);
    let midnight = at(0, 0, 0).plus_ms(24 * 60 * 60 * 1000);
    let mut topic = town.hub.subscribe(&format!("section/{}/attendance", section(0, 0)), None);
    topic.next().await.unwrap();
    town.go_to(midnight).await;
    let delta: serde_json::Value = serde_json::from_slice(topic.next().await.unwrap().data()).unwrap();
    assert_eq!((&delta["meta"]["date"], &delta["meta"]["state"]), (&json!("2026-11-21"), &json!("none")));
    assert_eq!(delta["students"].as_object().unwrap().len(), 4, "yesterday's entries are removed");
    assert_eq!(town.board(section(1, 0)).await["meta"]["date"], "2026-11-20");
    town.stop(false).await;
}

#[tokio::test]
async fn a_database_that_is_away_does_not_stop_the_boards() {
    let town = morning().await;
    town.database.away.send_replace(true);
    town.scan(scanned(0, student(0), 1, at(0, 7, 50), In)).await;
    town.go_to(at(0, 8, 5)).await;
    assert_eq!(town.status(student(0), Some(0)).await, Status::Present);
    assert!(town.database.rows.lock().is_empty());
    town.database.away.send_replace(false);
    town.written(2).await;
    town.stop(false).await;
}

#[tokio::test]
async fn a_log_that_stops_ends_the_engine_with_an_error() {
    let town = morning().await;
    town.log.fail();
    assert!(town.failed().await);
}

#[tokio::test]
async fn waiting_for_a_row_that_is_not_there_yet_is_bounded() {
    let town = morning().await;
    assert!(!town.handle.wait_applied(Offset(99), Duration::ZERO).await);
    town.stop(false).await;
}
