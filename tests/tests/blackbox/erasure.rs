//! A family asks for an erasure: what devices said about a student who has left goes from the database, from SQL and from the files of
//! history, over kills at its two most delicate moments, and does not come back though the log still has it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, AsArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::{Method, StatusCode};
use rollcall_store::embedded::running_url;
use rollcall_tests::district::{self, District, Student, now_ms};
use rollcall_tests::{Instance, Session};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::day::mosquitto_pub;
use super::history::files;

const SETTINGS: &str = "[history]\nflush_interval_s = 1\nfile_rows = 1000\ndelete_delay_s = 0\n";
/// Tables of SQL that say whom a row is about.
const TABLES: [(&str, &str); 6] = [
    ("scans", "person"),
    ("telemetry", "person"),
    ("activity", "person"),
    ("marks", "student"),
    ("engagement_student", "student"),
    ("attendance_now", "student"),
];
/// Those of them that have rows of everybody here while nobody is erased.
const FILLED: usize = 4;
/// What the database keeps of what devices said, as the program reads it.
const STORED: [(&str, &str); 4] = [("scan", "person"), ("telemetry", "person"), ("activity", "person"), ("student_day", "student")];

/// Asks until it holds, or fails with what was said last.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<std::result::Result<T, String>>) -> Result<T> {
    let mut last = String::new();
    for _ in 0..1_200 {
        match look().await? {
            Ok(found) => return Ok(found),
            Err(seen) => last = seen,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("waited in vain: {what}: {last}")
}

/// Rows by person in a table of SQL.
async fn in_sql(office: &Session, (table, column): (&str, &str)) -> Result<BTreeMap<String, i64>> {
    let sql = format!("SELECT {column}, count(*) FROM {table} GROUP BY {column}");
    let answer = office.post("/sql", &json!({"sql": sql})).await?;
    let rows = answer["rows"].as_array().with_context(|| answer.to_string())?;
    Ok(rows.iter().filter_map(|row| Some((row[0].as_str()?.to_owned(), row[1].as_i64()?))).collect())
}

/// Rows about a person in the files of history, by the table; `None`: a file went while it was read.
fn in_files(folder: &Path, person: &str) -> Result<Option<BTreeMap<String, usize>>> {
    let id = person.parse::<Uuid>()?;
    let mut found = BTreeMap::new();
    for path in files(folder)?.keys() {
        let table = path.split('/').next().unwrap_or_default().to_owned();
        let Ok(file) = std::fs::File::open(folder.join(path)) else { return Ok(None) };
        for rows in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let rows = rows?;
            let column = rows.column_by_name("person").or_else(|| rows.column_by_name("student")).context("no person")?;
            let people = column.as_fixed_size_binary();
            let about = (0..people.len()).filter(|row| people.is_valid(*row) && people.value(*row) == id.as_bytes()).count();
            *found.entry(table.clone()).or_default() += about;
        }
    }
    found.retain(|_, rows| *rows > 0);
    Ok(Some(found))
}

/// Whether history has been told of the erasure.
fn is_begun(folder: &Path, person: &str) -> Result<bool> {
    for edit in std::fs::read_dir(folder.join("manifest"))? {
        // An edit may be replaced by a newer one while they are listed.
        let Ok(text) = std::fs::read_to_string(edit?.path()) else { continue };
        if text.contains("\"pending\"") && text.contains(person) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The database's owner, who sees the district's rows as the program does.
async fn owner(instance: &Instance) -> Result<PgConnection> {
    let url = running_url(instance.data_dir(), "rollcall").context("the private database does not run")?;
    let mut owner = PgConnection::connect(&url).await?;
    sqlx::query("select set_config('rollcall.district', (select district::text from rollcall.district), false)")
        .execute(&mut owner)
        .await?;
    Ok(owner)
}

async fn stored(owner: &mut PgConnection, (table, column): (&str, &str), person: &str) -> Result<i64> {
    let sql = format!("select count(*) from rollcall.{table} where {column} = $1::uuid");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(person).fetch_one(owner).await?)
}

/// Both students come in, work in an app and wear a band, and the office marks them: all of it acknowledged.
async fn lived(instance: &Instance, district: &District, office: &Session, students: &[&Student]) -> Result<()> {
    let tablet = District::device(instance, &district.name, &district.school, "tablet", "Tablet")?;
    let band = District::device(instance, &district.name, &district.school, "wearable", "Band")?;
    district.until_known(instance).await?;
    let (now, mut seq) = (now_ms(), now_ms() as u64);
    for student in students {
        seq += 10;
        let scan = district::scan(seq, &student.badge, "in", now);
        let work = json!({"seq": seq, "ts": now, "badge": student.badge, "kind": "answered", "resource": "quiz:fractions-3"});
        let steps = json!({"seq": seq, "ts": now, "badge": student.badge, "m": {"steps": 14}});
        for (device, topic, event) in [(&district.gate, "v1/scan", scan), (&tablet, "v1/activity", work), (&band, "v1/telemetry", steps)] {
            ensure!(mosquitto_pub(instance, device, "mqttv5", topic, &event.to_string())?, "{topic} was not acknowledged");
        }
        office.post("/marks", &json!({"marks": [{"student": student.id, "status": "present"}]})).await?;
    }
    Ok(())
}

/// Nothing of what devices said is shown of one student, and all of the other's.
async fn is_gone(instance: &Instance, office: &Session, gone: &str, stays: &str) -> Result<()> {
    for table in TABLES {
        let rows = in_sql(office, table).await?;
        ensure!(!rows.contains_key(gone), "{table:?} in SQL still has rows of the student");
    }
    for table in &TABLES[..FILLED] {
        ensure!(in_sql(office, *table).await?.contains_key(stays), "{table:?} in SQL has lost somebody else's rows");
    }
    let mut owner = owner(instance).await?;
    for table in STORED {
        let (left, others) = (stored(&mut owner, table, gone).await?, stored(&mut owner, table, stays).await?);
        ensure!(left == 0 && others > 0, "{table:?} in the database has {left} rows of the student and {others} of the other");
    }
    let days = office.get(&format!("/students/{gone}/days")).await?;
    let evidence = days["items"].as_array().into_iter().flatten().filter_map(|day| day["evidence"].as_array()).flatten().count();
    ensure!(evidence == 0, "scans are summed up in {days}");
    // The record of attendance is the school's, and stays.
    ensure!(stored(&mut owner, ("mark", "student"), gone).await? == 1, "the mark is not in the record any more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_student_who_has_left_is_erased_everywhere_over_kills() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = dir.path().join("own.toml");
    std::fs::write(&settings, SETTINGS)?;
    let mut instance = Instance::start_with(dir.path(), &["--config", settings.to_str().context("a path")?])?;
    let district = district::synthetic(&instance, dir.path(), "Erasure", 40)?;
    for role in ["office", "it"] {
        district.account(&instance, &format!("{role}@erasure.example"), role, None)?;
    }
    let office = District::sign_in(&instance, "office@erasure.example").await?;
    let (gone, stays) = (&district.students[0], &district.students[1]);
    lived(&instance, &district, &office, &[gone, stays]).await?;
    let folder = dir.path().join("history");
    until("everything is in files, in SQL and in the rollups", async || {
        let (found, mut owner) = (in_files(&folder, &gone.id)?, owner(&instance).await?);
        let mut missing = Vec::new();
        for table in &TABLES[..FILLED] {
            if !in_sql(&office, *table).await?.contains_key(&gone.id) {
                missing.push(table.0);
            }
        }
        for table in STORED {
            if stored(&mut owner, table, &gone.id).await? == 0 {
                missing.push(table.0);
            }
        }
        let is_filed = found.as_ref().is_some_and(|found| found.len() == FILLED);
        Ok(if is_filed && missing.is_empty() { Ok(()) } else { Err(format!("{found:?} in files, not in {missing:?}")) })
    })
    .await?;

    let path = format!("/students/{}/erasure", gone.id);
    let (refused, why) = office.request(Method::PUT, &path, None).await?;
    ensure!(refused == StatusCode::CONFLICT && why["code"] == "student_attends", "{refused}: {why}");
    let school = office.get("/schools").await?["items"][0].clone();
    let zone: chrono_tz::Tz = school["zone"].as_str().context("no zone")?.parse()?;
    let today = chrono::Utc::now().with_timezone(&zone).date_naive();
    let mut administrator = owner(&instance).await?;
    for table in ["membership", "enrolment"] {
        let sql = format!("update rollcall.{table} set ends = $1 where person = $2::uuid");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(today).bind(&gone.id).execute(&mut administrator).await?;
    }
    until("the server learns that the student has left", async || {
        let (status, body) = office.request(Method::PUT, &path, None).await?;
        Ok(if status == StatusCode::ACCEPTED { Ok(()) } else { Err(format!("{status}: {body}")) })
    })
    .await?;

    // Killed at once after the answer, before history is told; and again when history has just been told.
    instance.kill()?;
    instance.restart()?;
    until("history is told", async || Ok(is_begun(&folder, &gone.id)?.then_some(()).ok_or_else(String::new))).await?;
    instance.kill()?;
    instance.restart()?;
    let office = District::sign_in(&instance, "office@erasure.example").await?;
    let done = until("the erasure is carried out", async || {
        let state = office.get(&path).await?;
        Ok(if state["history"].is_string() { Ok(state) } else { Err(state.to_string()) })
    })
    .await?;
    ensure!(done["asked_by"].is_string() && done["rows_until"].is_string(), "{done}");
    let files_of = |person: &str| in_files(&folder, person)?.context("a file goes though nothing is written");
    ensure!(
        files_of(&gone.id)?.is_empty() && files_of(&stays.id)?.len() == FILLED,
        "{:?} and {:?}",
        files_of(&gone.id),
        files_of(&stays.id)
    );
    is_gone(&instance, &office, &gone.id, &stays.id).await?;

    // The log still has all of it: what is read from there once more stays away too.
    instance.kill()?;
    instance.restart()?;
    let office = District::sign_in(&instance, "office@erasure.example").await?;
    is_gone(&instance, &office, &gone.id, &stays.id).await?;
    let it = District::sign_in(&instance, "it@erasure.example").await?;
    let audit = it.get(&format!("/audit?subject={}&action=student.erase", gone.id)).await?;
    ensure!(audit["items"].as_array().is_some_and(|items| items.len() == 1 && items[0]["account"].is_string()), "{audit}");
    let former = office.get("/former-students").await?;
    ensure!(former["items"][0]["id"] == gone.id.as_str() && former["items"][0]["erasure"]["history"].is_string(), "{former}");
    ensure!(instance.stop()?, "the stop was not in order");
    Ok(())
}
