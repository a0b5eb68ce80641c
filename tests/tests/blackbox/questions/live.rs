//! A question that is followed on `/live/v1`.

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::{District, now_ms, scan};
use rollcall_tests::live::Live;
use rollcall_tests::mqtt::{Link, publish_packet};
use serde_json::{Value, json};

use super::{Asked, OFFICE, QUESTION, STUDENTS};

async fn subscribe(live: &mut Live, id: u64, sql: &str) -> Result<()> {
    live.send(&json!({"op": "subscribe", "id": id, "topic": "sql", "sql": sql})).await
}

/// The count of the one row of [`QUESTION`].
fn count(live: &Live, id: u64) -> Option<u64> {
    live.board(id).entry("rows", "[\"in\"]")[1].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_over_mqtt_changes_a_count_that_is_followed() -> Result<()> {
    let mut asked = Asked::launch(&[("ROLLCALL_SQL_LIVE_INTERVAL_MS", "100")]).await?;
    let mut live = Live::connect(&asked.instance.http, &asked.office).await?;
    subscribe(&mut live, 1, QUESTION).await?;
    live.until("first result", 30, |live| count(live, 1) == Some(STUDENTS as u64)).await?;
    let columns = live.board(1).entry("result", "columns").clone();
    ensure!(columns == json!([{"name": "dir", "type": "Utf8"}, {"name": "scans", "type": "Int64"}]), "{columns}");

    let mut gate = Link::open(&asked.instance.mqtt, &asked.district.gate).await?;
    asked.seq += 1;
    let event = scan(asked.seq, &asked.district.students[STUDENTS].badge, "in", now_ms());
    gate.send(&publish_packet("v1/scan", 1, event.to_string().as_bytes())).await?;
    gate.acknowledged().await?;
    live.until("count of the new scan", 30, |live| count(live, 1) == Some(STUDENTS as u64 + 1)).await?;

    // What is wrong is told with its place; what is not a question, and what is another account's, is refused.
    subscribe(&mut live, 2, "SELECT\n  drr FROM scans").await?;
    live.until("refusal", 30, |live| !live.other.is_empty()).await?;
    let refused = live.other.remove(0);
    ensure!(refused["id"] == 2 && refused["code"] == "sql_invalid", "{refused}");
    ensure!(refused["line"] == 2 && refused["column"] == 3 && refused["hint"] == "did you mean \"dir\"?", "{refused}");
    for (id, message, code) in [
        (3, json!({"topic": "sql", "sql": "DELETE FROM scans"}), "sql_refused"),
        (4, json!({"topic": "sql"}), "malformed"),
        (5, json!({"topic": "district/x/attendance", "sql": "SELECT 1"}), "malformed"),
        (6, json!({"topic": "sql", "sql": "SELECT value FROM generate_series(1, 2000)"}), "sql_limit"),
    ] {
        let mut message: Value = message;
        message["op"] = json!("subscribe");
        message["id"] = json!(id);
        live.send(&message).await?;
        live.until("refusal", 30, |live| !live.other.is_empty()).await?;
        let refused = live.other.remove(0);
        ensure!(refused["id"] == id && refused["code"] == code, "{message}: {refused}");
    }
    let mut analyst = Live::connect(&asked.instance.http, &asked.analyst).await?;
    subscribe(&mut analyst, 1, "SELECT * FROM scans").await?;
    analyst.until("refusal", 30, |live| !live.other.is_empty()).await?;
    ensure!(analyst.other[0]["code"] == "sql_refused", "{:?}", analyst.other);

    // A second follower shares the computation; the gauge follows both.
    let mut second = Live::connect(&asked.instance.http, &District::sign_in(&asked.instance, OFFICE).await?).await?;
    subscribe(&mut second, 7, &QUESTION.to_lowercase().replace("from", "\n from")).await?;
    second.until("shared result", 30, |live| count(live, 7) == Some(STUDENTS as u64 + 1)).await?;
    ensure!(second.board(7).version == live.board(1).version, "one topic");
    ensure!(metric(&asked, "rollcall_live_sql_queries").await? == 1.0, "one query");
    live.send(&json!({"op": "unsubscribe", "id": 1})).await?;
    drop(second);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while metric(&asked, "rollcall_live_sql_queries").await? > 0.0 {
        ensure!(std::time::Instant::now() < deadline, "a query goes on without followers");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) async fn metric(asked: &Asked, name: &str) -> Result<f64> {
    let text = reqwest::get(format!("{}/metrics", asked.instance.http)).await?.error_for_status()?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}
