//! A seeded district on a running server: imported from OneRoster files through the command line, with devices, badges and
//! accounts, as an administrator would make it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::{Timelike, Utc};
use rollcall_roster::synthetic::{self, DayShape, Plan};
use serde_json::{Value, json};

use crate::instance::Instance;
use crate::session::Session;

pub const PASSWORD: &str = "correct horse battery staple";

#[derive(Clone, Debug)]
pub struct Device {
    pub id: String,
    pub token: String,
}

#[derive(Clone, Debug)]
pub struct Student {
    pub id: String,
    pub source_id: String,
    pub badge: String,
}

/// One school of the district with everything that a test needs of it.
pub struct District {
    pub name: String,
    pub school: String,
    pub gate: Device,
    /// All students of the school that have a badge, in the order of issue.
    pub students: Vec<Student>,
}

impl District {
    /// Imports a OneRoster zip with its timetable and equips the named school with a gate and a badge for everybody.
    pub fn import(instance: &Instance, name: &str, zip: &str, timetable: &str, school: &str) -> Result<Self> {
        instance.json(&["import", "oneroster", zip, "--district", name, "--timetable", timetable, "--json"], "")?;
        Self::equip(instance, name, school)
    }

    /// Gives a school that was imported a gate and everybody in it a badge.
    pub fn equip(instance: &Instance, name: &str, school: &str) -> Result<Self> {
        let gate = Self::device(instance, name, school, "gate", "Gate 1")?;
        let badges = instance.command(&["badge", "issue", "--school", school, "--district", name, "--json"], "")?;
        let students = badges
            .lines()
            .map(|line| {
                let issued: Value = serde_json::from_str(line)?;
                let text = |key: &str| issued[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {issued}"));
                Ok(Student { id: text("person")?, source_id: text("source_id")?, badge: text("badge")? })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { name: name.to_owned(), school: school.to_owned(), gate, students })
    }

    pub fn device(instance: &Instance, district: &str, school: &str, kind: &str, name: &str) -> Result<Device> {
        let added =
            instance.json(&["device", "add", "--district", district, "--school", school, "--kind", kind, "--name", name, "--json"], "")?;
        let text = |key: &str| added[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {added}"));
        Ok(Device { id: text("id")?, token: text("token")? })
    }

    /// Registers many devices at once.
    pub fn devices(instance: &Instance, district: &str, school: &str, kind: &str, count: usize) -> Result<Vec<Device>> {
        let count = count.to_string();
        let args = [
            "device",
            "add",
            "--district",
            district,
            "--school",
            school,
            "--kind",
            kind,
            "--name",
            "One of many",
            "--count",
            &count,
            "--json",
        ];
        let printed = instance.command(&args, "")?;
        let text = |added: &Value, key: &str| added[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {added}"));
        serde_json::Deserializer::from_str(&printed)
            .into_iter::<Value>()
            .map(|added| added.map_err(Into::into).and_then(|added| Ok(Device { id: text(&added, "id")?, token: text(&added, "token")? })))
            .collect()
    }

    /// Adds an account with [`PASSWORD`]. `person` is an id or sourcedId.
    pub fn account(&self, instance: &Instance, email: &str, role: &str, person: Option<&str>) -> Result<()> {
        let mut args = vec!["account", "add", "--district", &self.name, "--email", email, "--role", role, "--json"];
        if let Some(person) = person {
            args.extend(["--person", person]);
        }
        instance.json(&args, &format!("{PASSWORD}\n"))?;
        Ok(())
    }

    /// Waits until the running server knows everything of this district. It learns of changes a moment after they were made,
    /// and refuses a badge that it does not know yet.
    pub async fn until_known(&self, instance: &Instance) -> Result<()> {
        let probe = Self::device(instance, &self.name, &self.school, "room", "Probe")?;
        let badge = &self.students.last().context("a district without students")?.badge;
        let client = reqwest::Client::new();
        for seq in 1..1_000 {
            let event = json!({"type": "telemetry", "seq": seq, "ts": now_ms(), "badge": badge, "m": {"probe": 1}});
            let request = client.post(format!("{}/ingest/v1", instance.http)).json(&event);
            let response = request.header("authorization", format!("Bearer {}:{}", probe.id, probe.token)).send().await?;
            if response.status().is_success() && response.json::<Value>().await?["accepted"] == 1 {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        anyhow::bail!("the server did not learn of {}", self.name)
    }

    pub fn student_by_id(&self) -> HashMap<&str, &Student> {
        self.students.iter().map(|student| (student.id.as_str(), student)).collect()
    }

    pub async fn sign_in(instance: &Instance, email: &str) -> Result<Session> {
        Session::sign_in(&instance.http, email, PASSWORD).await
    }
}

/// A zone in which it is about noon now: a synthetic day laid around the present minute then never meets midnight.
fn zone_at_noon() -> chrono_tz::Tz {
    // The names of these zones have the sign reversed: Etc/GMT-3 is three hours ahead of UTC.
    let ahead = 12 - i64::from(Utc::now().hour());
    format!("Etc/GMT{}{}", if ahead > 0 { '-' } else { '+' }, ahead.abs()).parse().unwrap_or(chrono_tz::UTC)
}

/// How large a synthetic district is, and how long its present period has run when its files are written.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub schools: usize,
    pub students_per_school: usize,
    pub started_min: i32,
}

/// The files of a synthetic district whose present period began a few minutes before they were written.
pub struct Roster {
    name: String,
    size: Size,
    folder: tempfile::TempDir,
}

impl Roster {
    /// One school whose period began two minutes ago.
    pub fn write(dir: &Path, name: &str, students: u32) -> Result<Self> {
        Self::write_sized(dir, name, Size { schools: 1, students_per_school: students as usize, started_min: 2 })
    }

    pub fn write_sized(dir: &Path, name: &str, size: Size) -> Result<Self> {
        let zone = zone_at_noon();
        let now = Utc::now().with_timezone(&zone);
        let plan = Plan {
            schools: size.schools,
            students_per_school: size.students_per_school,
            zone,
            shape: DayShape::Around { now: now.time(), started_min: size.started_min },
            ..Plan::new(name, now.date_naive())
        };
        let folder = tempfile::Builder::new().prefix("district").tempdir_in(dir)?;
        let timetable = folder.path().join("timetable");
        let generated = synthetic::generate(&plan)?;
        generated.write_package(&folder.path().join("roster.zip"))?;
        std::fs::create_dir_all(&timetable)?;
        generated.write_timetable(&timetable)?;
        Ok(Self { name: name.to_owned(), size, folder })
    }

    /// Imports the files and equips the first school. On another server people and sections get the same ids, devices and
    /// badges others.
    pub fn import(&self, instance: &Instance) -> Result<District> {
        self.import_files(instance)?;
        self.equip(instance, 1)
    }

    /// Imports the files and nothing else; returns the command's report.
    pub fn import_files(&self, instance: &Instance) -> Result<Value> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (zip, timetable) = (path("roster.zip"), path("timetable"));
        instance.json(&["import", "oneroster", &zip, "--district", &self.name, "--timetable", &timetable, "--json"], "")
    }

    /// Equips one of the schools, which are numbered from 1 on.
    pub fn equip(&self, instance: &Instance, school: usize) -> Result<District> {
        let district = District::equip(instance, &self.name, &format!("sch-{school:04}"))?;
        let (badges, students) = (district.students.len(), self.size.students_per_school);
        ensure!(badges == students, "{badges} badges for {students} students");
        Ok(district)
    }
}

/// Imports a synthetic district of one school whose present period began two minutes ago, and equips it.
pub fn synthetic(instance: &Instance, dir: &Path, name: &str, students: u32) -> Result<District> {
    Roster::write(dir, name, students)?.import(instance)
}

/// A scan event as a gate sends it.
pub fn scan(seq: u64, badge: &str, direction: &str, ts_ms: i64) -> Value {
    json!({"seq": seq, "ts": ts_ms, "badge": badge, "dir": direction, "method": "qr"})
}

pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
