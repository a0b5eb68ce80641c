//! Questions in SQL through every door: the same text by the same account gives the same numbers, and the same refusal.

pub mod adbc;
mod audited;
mod damaged;
mod everywhere;
mod formats;
mod jdbc;
mod left;
mod live;
pub mod postgres;
mod refused;
mod tools;

use anyhow::{Context, Result, ensure};
use rollcall_tests::district::{self, District, Student, now_ms, scan};
use rollcall_tests::session::Session;
use rollcall_tests::{Instance, Launch};
use serde_json::{Value, json};

pub const STUDENTS: usize = 24;
/// One row, in every spelling of a result.
pub const QUESTION: &str = "SELECT dir, count(*) AS scans FROM scans GROUP BY dir";
pub const OFFICE: &str = "office@questions.example";
pub const ANALYST: &str = "analyst@questions.example";
/// Some 10^12 rows, none of which is ever shown.
pub const BOMB: &str =
    "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b WHERE a.value + b.value < 0";

/// A server with a district whose gate has seen [`STUDENTS`] students come in.
pub struct Asked {
    pub instance: Instance,
    pub district: District,
    pub office: Session,
    pub analyst: Session,
    /// Of the last scan that was sent.
    pub seq: u64,
    _dir: tempfile::TempDir,
}

impl Asked {
    pub async fn launch(environment: &[(&str, &str)]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let launch = environment.iter().fold(Launch::default(), |launch, (name, value)| launch.set(name, value));
        let instance = Instance::launch(dir.path(), launch)?;
        let district = district::synthetic(&instance, dir.path(), "Questions", 60)?;
        for (email, role) in [(OFFICE, "office"), (ANALYST, "analyst")] {
            district.account(&instance, email, role, None)?;
        }
        let (office, analyst) = (District::sign_in(&instance, OFFICE).await?, District::sign_in(&instance, ANALYST).await?);
        let mut asked = Self { instance, district, office, analyst, seq: 0, _dir: dir };
        asked.come_in(0..STUDENTS).await?;
        Ok(asked)
    }

    pub fn data_dir(&self) -> &std::path::Path {
        self.instance.data_dir()
    }

    /// The gate sees these students; returns when the server has acknowledged them.
    pub async fn come_in(&mut self, students: std::ops::Range<usize>) -> Result<()> {
        let now = now_ms();
        let first = self.seq + 1;
        let typed = |(seq, student): (u64, &Student)| {
            let mut event = scan(seq, &student.badge, "in", now);
            event["type"] = json!("scan");
            event
        };
        let scans: Vec<Value> = (first..).zip(&self.district.students[students]).map(typed).collect();
        self.seq += scans.len() as u64;
        let request = reqwest::Client::new().post(format!("{}/ingest/v1", self.instance.http)).json(&scans);
        let request = request.header("authorization", format!("Bearer {}:{}", self.district.gate.id, self.district.gate.token));
        let accepted: Value = request.send().await?.error_for_status()?.json().await?;
        ensure!(accepted["accepted"] == scans.len(), "{accepted}");
        Ok(())
    }

    pub fn door(&self, name: &str) -> Result<String> {
        let address = self.instance.ready[name].as_str();
        Ok(address.with_context(|| format!("the ready line names no {name} door: {}", self.instance.ready))?.to_owned())
    }

    /// Processor time of the threads that answer questions, in hundredths of a second.
    pub fn query_ticks(&self) -> Result<u64> {
        let mut ticks = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.instance.pid()))? {
            // A thread may end while it is looked at.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
            let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")) else { continue };
            if name.starts_with("query") {
                // Fields 14 and 15 of proc(5); the rest begins with the third.
                ticks += rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
            }
        }
        Ok(ticks)
    }

    /// Waits until the threads of questions work.
    pub async fn until_busy(&self) -> Result<()> {
        let began = self.query_ticks()?;
        self.poll("queries do not begin to work", || Ok(self.query_ticks()? > began + 20)).await
    }

    /// Waits until the threads of questions have used next to nothing for half a second.
    pub async fn until_idle(&self) -> Result<()> {
        let mut before = self.query_ticks()?;
        let mut since = std::time::Instant::now();
        self.poll("queries go on using the processor", || {
            let now = self.query_ticks()?;
            if now > before + 1 {
                (before, since) = (now, std::time::Instant::now());
            }
            Ok(since.elapsed().as_millis() > 500)
        })
        .await
    }

    async fn poll(&self, what: &str, mut reached: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !reached()? {
            ensure!(std::time::Instant::now() < deadline, "{what}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_answer() -> Result<()> {
    let asked = Asked::launch(&[]).await?;
    // What is durable is in the tables as soon as their reader has seen it.
    let over_http = asked.office.post("/sql", &json!({"sql": QUESTION})).await?;
    ensure!(over_http["rows"] == json!([["in", STUDENTS]]), "{over_http}");
    ensure!(asked.instance.ready["flight"].is_null(), "doors are off by default");
    Ok(())
}
