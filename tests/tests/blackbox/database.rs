//! With an existing database instead of the private one; and with TimescaleDB where a server that has it is named.

use anyhow::{Result, ensure};
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_tests::district::{self, District, now_ms};
use rollcall_tests::{Instance, Live};

use crate::day::{a_section, mosquitto_pub};

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_server_is_used() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = EmbeddedPostgres::start(&dir.path().join("existing")).await?;
    works_with(dir.path(), &database.url(), "plain").await
}

/// Runs wherever a server with the extension is reachable; elsewhere the schema is tested on the WebAssembly build.
#[tokio::test(flavor = "multi_thread")]
async fn timescale_is_used_where_it_is_reachable() -> Result<()> {
    let Ok(url) = std::env::var("ROLLCALL_TEST_DATABASE_URL") else {
        println!("ROLLCALL_TEST_DATABASE_URL names no server");
        return Ok(());
    };
    works_with(tempfile::tempdir()?.path(), &url, "timescale").await
}

async fn works_with(dir: &std::path::Path, url: &str, engine: &str) -> Result<()> {
    let data = dir.join("data");
    std::fs::create_dir_all(&data)?;
    let instance = Instance::start_with(&data, &["--database-url", url])?;
    ensure!(instance.ready["engine"] == engine, "{}", instance.ready);
    ensure!(!data.join("postgres").exists(), "a private database was made beside the named one");
    let name = format!("Existing {}", uuid::Uuid::new_v4());
    let district = district::synthetic(&instance, dir, &name, 30)?;
    let email = format!("{}@existing.example", uuid::Uuid::new_v4());
    district.account(&instance, &email, "office", None)?;
    let session = District::sign_in(&instance, &email).await?;
    let (section, students) = a_section(&session).await?;
    let mut live = Live::connect(&instance.http, &session).await?;
    live.subscribe(1, &format!("section/{section}/attendance"), None).await?;
    live.until("snapshot", 20, |live| live.boards.contains_key(&1)).await?;
    let event = district::scan(now_ms() as u64, &district.student_by_id()[students[0].as_str()].badge, "in", now_ms());
    ensure!(mosquitto_pub(&instance, &district.gate, "mqttv5", "v1/scan", &event.to_string())?);
    let student = students[0].clone();
    live.until("the arrival", 20, move |live| !live.board(1).entry("students", &student)["since"].is_null()).await
}
