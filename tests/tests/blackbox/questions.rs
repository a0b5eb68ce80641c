//! A question in SQL over HTTP: what was acknowledged a moment ago is in the answer.

use anyhow::{Result, ensure};
use rollcall_tests::district::{self, District, Student, now_ms, scan};
use rollcall_tests::{Instance, Launch};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_answer() -> Result<()> {
    const STUDENTS: usize = 24;
    let dir = tempfile::tempdir()?;
    let instance = Instance::launch(dir.path(), Launch::default().set("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0"))?;
    ensure!(instance.ready["flight"].is_string(), "the ready line names no flight door: {}", instance.ready);
    let district = district::synthetic(&instance, dir.path(), "Questions", 60)?;
    district.account(&instance, "office@questions.example", "office", None)?;
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
    ensure!(over_http["rows"] == json!([["in", STUDENTS]]), "{over_http}");
    Ok(())
}
