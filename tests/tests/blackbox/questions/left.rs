//! Whoever goes away from a question over HTTP ends it, whatever the format and however far it has come.

use anyhow::{Result, ensure};
use rollcall_tests::district::District;
use serde_json::Value;

use super::audited::told;
use super::formats::fetch;
use super::{Asked, BOMB, OFFICE};

const FORMATS: [&str; 4] = ["application/json", "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"];

/// Asks a bomb of its own text and goes away when the threads of questions work.
async fn asks_and_leaves(asked: &Asked, name: &str, accept: &str) -> Result<String> {
    let sql = format!("{BOMB} -- {name}");
    tokio::select! {
        ended = fetch(asked, &asked.office, &sql, accept) => anyhow::bail!("a bomb has ended: {ended:?}"),
        busy = asked.until_busy() => busy?,
    }
    Ok(sql)
}

async fn is_cancelled(it: &rollcall_tests::Session, account: &Value, sql: &str) -> Result<()> {
    let detail = told(it, account, sql).await?;
    ensure!(detail["outcome"] == "cancelled" && detail["door"] == "rest" && detail["rows"] == 0, "{detail}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_ends_the_question_and_the_audit_says_so() -> Result<()> {
    let asked = Asked::launch(&[("ROLLCALL_SQL_CONCURRENT", "1")]).await?;
    asked.district.account(&asked.instance, "it@questions.example", "it", None)?;
    let it = District::sign_in(&asked.instance, "it@questions.example").await?;
    let office = asked.office.get("/session").await?["account"]["id"].clone();
    for accept in FORMATS {
        let sql = asks_and_leaves(&asked, accept, accept).await?;
        asked.until_idle().await?;
        is_cancelled(&it, &office, &sql).await?;
    }
    // Also while it waits for its turn: the analyst's bomb has the only one.
    let waits = format!("SELECT 1 -- {OFFICE}");
    tokio::select! {
        ended = fetch(&asked, &asked.analyst, BOMB, FORMATS[0]) => anyhow::bail!("a bomb has ended: {ended:?}"),
        left = async {
            asked.until_busy().await?;
            let waiting = fetch(&asked, &asked.office, &waits, FORMATS[0]);
            let ended = tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await;
            ensure!(ended.is_err(), "there was a turn for {ended:?}");
            is_cancelled(&it, &office, &waits).await
        } => left?,
    }
    asked.until_idle().await
}
