//! The same question through three doors: over HTTP as JSON and CSV, and through an ADBC driver as BI tools use it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::{self, District, PASSWORD, Student, now_ms, scan};
use rollcall_tests::{Instance, Launch};
use serde_json::{Value, json};

/// What the driver says to a question; the set-up step installs it beside its script.
fn through_adbc(address: &str, user: &str, password: &str, sql: &str) -> Result<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("adbc");
    let mut child = Command::new(folder.join(".venv/bin/python"))
        .arg(folder.join("ask.py"))
        .arg(format!("grpc://{address}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the ADBC driver is not installed: cargo xtask setup")?;
    let request = json!({"user": user, "password": password, "sql": sql});
    child.stdin.take().context("no standard input")?.write_all(request.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the driver's script failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_gives_the_same_numbers_and_the_same_rights() -> Result<()> {
    const STUDENTS: usize = 24;
    let dir = tempfile::tempdir()?;
    let instance = Instance::launch(dir.path(), Launch::default().set("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0"))?;
    let flight = instance.ready["flight"].as_str().context("the ready line names no flight door")?.to_owned();
    let district = district::synthetic(&instance, dir.path(), "Questions", 60)?;
    for role in ["office", "analyst"] {
        district.account(&instance, &format!("{role}@questions.example"), role, None)?;
    }
    let now = now_ms();
    let typed = |(seq, student): (u64, &Student)| {
        let mut event = scan(seq, &student.badge, "in", now);
        event["type"] = json!("scan");
        event
    };
    let scans: Vec<Value> = (1..).zip(&district.students[..STUDENTS]).map(typed).collect();
    let request = reqwest::Client::new().post(format!("{}/ingest/v1", instance.http)).json(&scans);
    let request = request.header("authorization", format!("Bearer {}:{}", district.gate.id, district.gate.token));
    let accepted: Value = request.send().await?.error_for_status()?.json().await?;
    ensure!(accepted["accepted"] == STUDENTS, "{accepted}");

    let sql = "SELECT dir, count(*) AS scans FROM scans GROUP BY dir";
    let office = District::sign_in(&instance, "office@questions.example").await?;
    // What is durable is in the tables as soon as their reader has seen it.
    let over_http = office.post("/sql", &json!({"sql": sql})).await?;
    let rows = over_http["rows"].clone();
    ensure!(rows == json!([["in", STUDENTS]]), "{over_http}");
    let over_adbc = through_adbc(&flight, "office@questions.example", PASSWORD, sql)?;
    ensure!(over_adbc["rows"] == rows && over_adbc["columns"] == json!(["dir", "scans"]), "{over_adbc}");
    let tables = over_adbc["tables"].as_array().context("no tables")?;
    ensure!(tables.iter().any(|name| name == "scans"), "{over_adbc}");

    // An analyst has figures about groups only, whatever the door, and a wrong password has nothing.
    let single = "SELECT * FROM scans";
    let analyst = District::sign_in(&instance, "analyst@questions.example").await?;
    let (status, refused) = analyst.request("POST".parse()?, "/sql", Some(&json!({"sql": single}))).await?;
    ensure!(status == 422, "{status} {refused}");
    let refused_too = through_adbc(&flight, "analyst@questions.example", PASSWORD, single)?;
    let detail = refused["detail"].as_str().context("no detail")?;
    ensure!(refused_too["error"].as_str().is_some_and(|error| error.contains(detail)), "{refused_too} {refused}");
    let wrong = through_adbc(&flight, "office@questions.example", "not the password", sql)?;
    ensure!(wrong["error"].as_str().is_some_and(|error| error.to_lowercase().contains("unauthenticated")), "{wrong}");
    Ok(())
}
