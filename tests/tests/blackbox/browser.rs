//! The journeys in a real Chromium, against a real server: writes what they need into a file and runs them with Node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Days, TimeDelta, Utc};
use chrono_tz::Tz;
use rollcall_store::embedded::running_url;
use rollcall_tests::district::{self, District, PASSWORD};
use rollcall_tests::{Instance, Launch, Session};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

/// Fixture file of the journeys; its shape is documented in tests/browser/fixture.ts or .js.
async fn fixture(instance: &Instance, dir: &Path) -> Result<Value> {
    let district = district::synthetic(instance, dir, "Browser", 120)?;
    let office = "office@browser.example";
    for role in ["office", "analyst", "it"] {
        district.account(instance, &format!("{role}@browser.example"), role, None)?;
    }
    let session = District::sign_in(instance, office).await?;
    let tablet = District::device(instance, &district.name, &district.school, "tablet", "Tablet 1")?;
    let sections = session.get("/sections").await?;
    let badges = district.student_by_id();
    for section in sections["items"].as_array().context("no sections")? {
        let id = section["id"].as_str().unwrap_or_default();
        let listed = session.get(&format!("/sections/{id}/students")).await?;
        let students: Vec<Value> = listed["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|student| {
                let badge = &badges.get(student["id"].as_str()?)?.badge;
                Some(json!({"id": student["id"], "given": student["given"], "family": student["family"], "badge": badge}))
            })
            .collect();
        let teacher = section["teachers"][0]["id"].as_str();
        let (true, Some(teacher)) = (section["meets_now"] == true && students.len() >= 8, teacher) else { continue };
        district.account(instance, "teacher@browser.example", "teacher", Some(teacher))?;
        // The synthetic district names a student's first guardian after the student.
        let first = badges.get(students[0]["id"].as_str().unwrap_or_default()).context("the first student has no badge")?;
        let guardian = format!("{}-1", first.source_id.replacen("stu-", "grd-", 1));
        district.account(instance, "guardian@browser.example", "guardian", Some(&guardian))?;
        // The school answers for learning apps; without that no engagement is computed.
        let school = section["school"].as_str().unwrap_or_default();
        let school_office = ["account", "add", "--district", &district.name, "--email", "school@browser.example", "--role", "office"];
        instance.json(&[&school_office[..], &["--school", school, "--json"]].concat(), &format!("{PASSWORD}\n"))?;
        let consent = json!({"student": null, "purpose": "activity", "granted": true});
        session.post(&format!("/schools/{school}/consents"), &consent).await?;
        let account = |role: &str| json!({"email": format!("{role}@browser.example"), "password": PASSWORD});
        return Ok(json!({
            "url": instance.http,
            "mqtt": {"host": "127.0.0.1", "port": instance.mqtt_port()?},
            "gate": {"id": district.gate.id, "token": district.gate.token},
            "tablet": {"id": tablet.id, "token": tablet.token},
            "teacher": account("teacher"), "office": account("office"), "guardian": account("guardian"),
            "it": account("it"), "analyst": account("analyst"), "schoolOffice": account("school"),
            "school": {"id": section["school"]},
            "section": {"id": id, "title": section["title"]},
            "left": leaver(instance, &session, &district, &students).await?,
            "students": students,
        }));
    }
    anyhow::bail!("no section of eight meets now: {sections}")
}

/// A student outside the section that the journeys are about leaves the school today.
async fn leaver(instance: &Instance, office: &Session, district: &District, stay: &[Value]) -> Result<Value> {
    let school = office.get("/schools").await?["items"][0].clone();
    let zone: Tz = school["zone"].as_str().context("no zone")?.parse()?;
    let students = || district.students.iter().filter(|student| stay.iter().all(|other| other["id"] != student.id.as_str()));
    let leaver = students().next_back().context("everybody is in the section")?;
    let named = office.get(&format!("/students/{}", leaver.id)).await?;
    let url = running_url(instance.data_dir(), "rollcall").context("the private database does not run")?;
    let mut owner = PgConnection::connect(&url).await?;
    for table in ["membership", "enrolment"] {
        let sql = format!("update rollcall.{table} set ends = $1 where person = $2::uuid");
        let today = Utc::now().with_timezone(&zone).date_naive();
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(today).bind(&leaver.id).execute(&mut owner).await?;
    }
    Ok(json!({"id": leaver.id, "given": named["given"], "family": named["family"], "badge": leaver.badge}))
}

/// Conclusions about four days of this weekday: twenty of forty students came at 10:40, sixteen at 11:10; but two weeks ago all of them at
/// 11:40.
const EARLIER: &str = "insert into rollcall.attendance_status (district, school, student, date, status, rule, detail, recorded_at)
    select s.district, s.id, came.student, days.date, 'present', 'arrived_by_grace',
        jsonb_build_object('present_min', 200, 'scheduled_min', 300, 'absent_half_days', 0, 'arrival', (days.date + came.at) at time zone s.zone),
        (days.date + time '20:00') at time zone s.zone
    from rollcall.school s, unnest($2::date[]) with ordinality days (date, ago),
        lateral (select student, case when days.ago = 2 then time '11:40' when number <= 20 then '10:40' else '11:10' end as at
                 from unnest($3::uuid[]) with ordinality students (student, number) where number <= 36) came
    where s.id = $1";

/// A district with earlier days in it, of which the other one has none.
async fn with_earlier_days(instance: &Instance, dir: &Path) -> Result<Value> {
    let district = district::synthetic(instance, dir, "Earlier", 40)?;
    for role in ["office", "analyst"] {
        district.account(instance, &format!("{role}@earlier.example"), role, None)?;
    }
    let office = District::sign_in(instance, "office@earlier.example").await?;
    let school = office.get("/schools").await?["items"][0].clone();
    let zone: Tz = school["zone"].as_str().context("no zone")?.parse()?;
    let today = Utc::now().with_timezone(&zone).date_naive();
    let sections = office.get("/sections").await?;
    let meets =
        sections["items"].as_array().into_iter().flatten().find(|section| section["meets_now"] == true).context("nothing meets now")?;
    let bell: DateTime<Utc> = meets["starts"].as_str().context("no start")?.parse()?;
    let dates: Vec<_> = (1..=4).filter_map(|weeks| today.checked_sub_days(Days::new(7 * weeks))).collect();
    let students = district.students.iter().map(|student| Ok(student.id.parse()?)).collect::<Result<Vec<uuid::Uuid>>>()?;
    let url = running_url(instance.data_dir(), "rollcall").context("the private database does not run")?;
    let mut owner = PgConnection::connect(&url).await?;
    let school_id: uuid::Uuid = school["id"].as_str().context("no school")?.parse()?;
    let dates_shown = dates[0].to_string();
    let made = sqlx::query(EARLIER).bind(school_id).bind(dates).bind(students).execute(&mut owner).await?;
    ensure!(made.rows_affected() == 4 * 36, "{} conclusions", made.rows_affected());
    let last: uuid::Uuid = district.students.last().context("no student")?.id.parse()?;
    sqlx::query("update rollcall.person set grade = null where id = $1").bind(last).execute(&mut owner).await?;
    Ok(json!({
        "analyst": {"email": "analyst@earlier.example", "password": PASSWORD},
        "office": {"email": "office@earlier.example", "password": PASSWORD},
        "date": dates_shown,
        "bell": (bell - TimeDelta::days(7)).timestamp_millis(),
        "school": {"id": school_id},
        "gate": {"id": district.gate.id, "token": district.gate.token},
        "students": district.students.iter().map(|student| json!({"id": student.id, "badge": student.badge})).collect::<Vec<_>>(),
        "weekday": today.format("%A").to_string(),
        "usual": {"10:45": 0.5, "11:15": 0.9, "11:45": 0.9},
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_in_a_browser() -> Result<()> {
    if std::env::var_os("ROLLCALL_TEST_NO_BROWSER").is_some() {
        println!("left out: the browser was switched off by name");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let exports = format!("file://{}", dir.path().join("exports").display());
    let instance = Instance::launch(dir.path(), Launch::default().set("ROLLCALL_EXPORTS_URL", exports))?;
    let path = dir.path().join("fixture.json");
    let mut made = fixture(&instance, dir.path()).await?;
    made["earlier"] = with_earlier_days(&instance, dir.path()).await?;
    std::fs::write(&path, serde_json::to_vec_pretty(&made)?)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let status = tokio::task::spawn_blocking(move || {
        Command::new("npm").args(["test", "--silent"]).current_dir(folder).env("ROLLCALL_FIXTURE", path).status()
    })
    .await?
    .context("cannot run npm")?;
    ensure!(status.success(), "a journey failed; its report stands above");
    Ok(())
}
