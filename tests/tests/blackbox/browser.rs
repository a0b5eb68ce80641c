//! The journeys in a real Chromium, against a real server: writes what they need into a file and runs them with Node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::{self, District, PASSWORD};
use rollcall_tests::{Instance, Launch};
use serde_json::{Value, json};

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
            "students": students,
        }));
    }
    anyhow::bail!("no section of eight meets now: {sections}")
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
    std::fs::write(&path, serde_json::to_vec_pretty(&fixture(&instance, dir.path()).await?)?)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let status = tokio::task::spawn_blocking(move || {
        Command::new("npm").args(["test", "--silent"]).current_dir(folder).env("ROLLCALL_FIXTURE", path).status()
    })
    .await?
    .context("cannot run npm")?;
    ensure!(status.success(), "a journey failed; its report stands above");
    Ok(())
}
