//! Whoever asked what, through which door: the audit has each question with its text, its rows and its time.

use anyhow::{Context, Result, ensure};
use rollcall_tests::Live;
use rollcall_tests::district::{District, PASSWORD};
use serde_json::{Value, json};

use super::adbc::{ask, by_password};
use super::postgres::{connection, through_psql};
use super::{Asked, OFFICE};

/// A text that only one door is asked, and gives as many rows.
fn question(door: &str) -> (String, usize) {
    let rows = 2 + door.len();
    (format!("SELECT value, '{door}' AS door FROM generate_series(1, {rows})"), rows)
}

pub async fn told(it: &rollcall_tests::Session, account: &Value, sql: &str) -> Result<Value> {
    // The row is written when the answer has ended, a moment after its reader has it.
    for _ in 0..200 {
        let audit = it.get("/audit?action=sql.query&limit=100").await?;
        let rows = audit["items"].as_array().context("no audit")?;
        if let Some(row) = rows.iter().find(|row| row["detail"]["sql"] == sql) {
            ensure!(row["account"] == *account, "{row} is not about {account}");
            return Ok(row["detail"].clone());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("{sql} is not in the audit")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_in_the_audit_whatever_its_door() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_POSTGRES", "127.0.0.1:0"), ("ROLLCALL_SQL_FLIGHT", "127.0.0.1:0")]).await?;
    asked.district.account(&asked.instance, "it@questions.example", "it", None)?;
    let it = District::sign_in(&asked.instance, "it@questions.example").await?;
    let office = asked.office.get("/session").await?["account"]["id"].clone();

    asked.office.post("/sql", &json!({"sql": question("rest").0})).await?;
    let driver = ask(&format!("grpc://{}", asked.door("flight")?), by_password(OFFICE), json!({"query": question("flight").0}))?;
    ensure!(driver["ok"].is_object(), "{driver}");
    through_psql(&connection(&asked, OFFICE, PASSWORD)?, &question("postgres").0)?;
    let mut live = Live::connect(&asked.instance.http, &asked.office).await?;
    live.send(&json!({"op": "subscribe", "id": 1, "topic": "sql", "sql": question("live").0})).await?;
    live.until("result", 30, |live| live.boards.contains_key(&1)).await?;

    for door in ["rest", "flight", "postgres", "live"] {
        let (sql, rows) = question(door);
        let detail = told(&it, &office, &sql).await?;
        ensure!(detail["door"] == door && detail["outcome"] == "done" && detail["rows"] == rows, "{detail}");
        ensure!(detail["time_ms"].is_u64(), "{detail}");
    }
    // What was refused was asked too.
    let single = "SELECT person FROM scans";
    let (status, _) = asked.analyst.request("POST".parse()?, "/sql", Some(&json!({"sql": single}))).await?;
    let analyst = asked.analyst.get("/session").await?["account"]["id"].clone();
    let detail = told(&it, &analyst, single).await?;
    ensure!(status == 422 && detail["outcome"] == "sql_refused" && detail["rows"] == 0, "{detail}");
    Ok(())
}
