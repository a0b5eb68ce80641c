//! A school morning: scans of a foreign MQTT client move the board, a mark stands over them, and a killed server comes back with the same board.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode};
use rollcall_tests::district::{self, District, now_ms};
use rollcall_tests::{Board, Instance, Live};
use serde_json::{Value, json};

/// A section of the school that a subscriber may watch, with the ids of its students.
pub async fn a_section(session: &rollcall_tests::Session) -> Result<(String, Vec<String>)> {
    let sections = session.get("/sections").await?;
    for section in sections["items"].as_array().into_iter().flatten() {
        let id = section["id"].as_str().unwrap_or_default().to_owned();
        let students = session.get(&format!("/sections/{id}/students")).await?;
        let students: Vec<String> =
            students["items"].as_array().into_iter().flatten().filter_map(|student| student["id"].as_str().map(str::to_owned)).collect();
        if section["meets_now"] == true && students.len() >= 5 {
            return Ok((id, students));
        }
    }
    anyhow::bail!("no section meets now: {sections}")
}

/// mosquitto_pub: a client that shares no code with this project.
pub fn mosquitto_pub(
    instance: &Instance,
    device: &rollcall_tests::district::Device,
    version: &str,
    topic: &str,
    payload: &str,
) -> Result<bool> {
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &instance.mqtt_port()?.to_string(), "-V", version, "-q", "1"])
        .args(["-i", &device.id, "-u", &device.id, "-P", &device.token, "-t", topic, "-m", payload])
        .stdin(Stdio::null())
        .status()?;
    Ok(status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_moves_the_board_and_a_kill_does_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Day", 60)?;
    district.account(&instance, "office@day.example", "office", None)?;
    let session = District::sign_in(&instance, "office@day.example").await?;
    let (section, students) = a_section(&session).await?;
    let topic = format!("section/{section}/attendance");
    let mut live = Live::connect(&instance.http, &session).await?;
    live.subscribe(1, &topic, None).await?;
    live.until("snapshot", 20, |live| live.boards.contains_key(&1)).await?;

    let badges = district.student_by_id();
    let seq = now_ms() as u64;
    for (index, (student, version)) in students.iter().zip(["mqttv311", "mqttv5", "mqttv311"]).enumerate() {
        let event = district::scan(seq + index as u64, &badges[student.as_str()].badge, "in", now_ms());
        ensure!(mosquitto_pub(&instance, &district.gate, version, "v1/scan", &event.to_string())?, "mosquitto_pub failed");
        let arrived = student.clone();
        live.until("arrival on the board", 20, move |live| {
            let board = live.board(1);
            !board.entry("students", &arrived)["since"].is_null() && ["present", "tardy"].contains(&board.status(&arrived))
        })
        .await?;
    }

    // The mark stands over the scan; undo brings the scan's word back.
    let evidence_says = live.board(1).status(&students[0]).to_owned();
    let meta = live.board(1).data["meta"].clone();
    let mark = json!({"section": section, "period": meta["period"], "date": meta["date"],
        "marks": [{"student": students[0], "status": "absent_excused", "reason": "nurse"}]});
    let answer = session.post("/marks", &mark).await?;
    let marked = students[0].clone();
    live.until("the mark", 20, move |live| live.board(1).status(&marked) == "absent").await?;
    let day = session.get(&format!("/students/{}/days/{}", students[0], meta["date"].as_str().unwrap_or_default())).await?;
    ensure!(day.to_string().contains("nurse"), "the day explains the mark: {day}");
    let id = answer["items"][0]["id"].as_str().unwrap_or_default().to_owned();
    session.post(&format!("/marks/{id}/undo"), &json!({})).await?;
    let (unmarked, expected) = (students[0].clone(), evidence_says.clone());
    live.until("the undo", 20, move |live| live.board(1).status(&unmarked) == expected).await?;

    let before = live.board(1);
    instance.kill()?;
    instance.restart()?;
    let mut again = Live::connect(&instance.http, &session).await?;
    // A version from before the kill must lead to a snapshot or exact deltas, never to a board that lies.
    again.subscribe(1, &topic, None).await?;
    again.until("the board after the restart", 30, |live| live.boards.contains_key(&1)).await?;
    let after = again.board(1);
    for student in &students {
        ensure!(
            essence(&before, student) == essence(&after, student),
            "{student}: {} became {}",
            before.entry("students", student),
            after.entry("students", student)
        );
    }
    Ok(())
}

/// What must survive: what the board says of a student, not when it was said.
fn essence(board: &Board, student: &str) -> Value {
    let entry = board.entry("students", student);
    json!({"status": entry["status"], "since": entry["since"], "rule": entry["rule"], "evidence": entry["detail"]["evidence"], "mark": entry["detail"]["mark"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_sees_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Roles", 40)?;
    district.account(&instance, "office@roles.example", "office", None)?;
    district.account(&instance, "analyst@roles.example", "analyst", None)?;
    let office = District::sign_in(&instance, "office@roles.example").await?;
    let analyst = District::sign_in(&instance, "analyst@roles.example").await?;
    let (section, students) = a_section(&office).await?;
    let (status, _) = analyst.request(Method::GET, &format!("/sections/{section}/students"), None).await?;
    ensure!([StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status), "an analyst saw names: {status}");
    let mut live = Live::connect(&instance.http, &analyst).await?;
    live.subscribe(1, &format!("section/{section}/attendance"), None).await?;
    live.subscribe(2, &format!("student/{}/day", students[0]), None).await?;
    live.until("two refusals", 20, |live| live.other.iter().filter(|message| message["op"] == "error").count() == 2).await?;
    ensure!(live.boards.is_empty(), "an analyst got a board");
    // Another district's office sees nothing of this one.
    let other = district::synthetic(&instance, dir.path(), "Elsewhere", 20)?;
    other.account(&instance, "office@elsewhere.example", "office", None)?;
    let stranger = District::sign_in(&instance, "office@elsewhere.example").await?;
    let (status, _) = stranger.request(Method::GET, &format!("/sections/{section}/students"), None).await?;
    ensure!(status == StatusCode::NOT_FOUND, "another district's section answered {status}");
    Ok(())
}
