//! A server of this scenario's own: the real binary, a private PostgreSQL, a folder that goes away with it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rollcall_tests::district::{Device, District};
use rollcall_tests::{Instance, district};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::machine;
use crate::meter::Meter;

/// How long the database may need to end before its folder is removed.
const DATABASE_END: Duration = Duration::from_secs(5);

/// How often the database is asked whether it has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

pub struct Fresh {
    pub instance: Instance,
    database_url: Option<String>,
    dir: TempDir,
}

impl Fresh {
    /// Starts it on free ports. `config` is the text of a configuration file; empty for the defaults.
    pub fn start(config: &str) -> Result<Self> {
        Self::start_on(config, None)
    }

    /// The same with a PostgreSQL of the caller's instead of the private one. It must be empty, and is not emptied afterwards.
    pub fn start_on(config: &str, database_url: Option<&str>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rollcall-bench").tempdir()?;
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data)?;
        let mut flags = Vec::new();
        if !config.is_empty() {
            let file = dir.path().join("bench.toml");
            std::fs::write(&file, config)?;
            flags.extend(["--config".to_owned(), file.display().to_string()]);
        }
        flags.extend(database_url.into_iter().flat_map(|url| ["--database-url".to_owned(), url.to_owned()]));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Ok(Self { instance: Instance::start_with(&data, &flags)?, database_url: database_url.map(str::to_owned), dir })
    }

    /// The folder beside the server's own, for files of the scenario.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A synthetic district of one school whose present period began two minutes ago.
    pub fn district(&self, students: u32) -> Result<District> {
        district::synthetic(&self.instance, self.dir(), "Bench", students)
    }

    /// Registers devices of one kind, each with its token.
    pub fn devices(&self, district: &District, kind: &str, name: &str, count: usize) -> Result<Vec<Device>> {
        let count_text = count.to_string();
        let args = [
            "device",
            "add",
            "--district",
            &district.name,
            "--school",
            &district.school,
            "--kind",
            kind,
            "--name",
            name,
            "--count",
            &count_text,
        ];
        let text = self.instance.command(&[&args[..], &["--json"]].concat(), "")?;
        let devices = text.lines().map(|line| {
            let added: serde_json::Value = serde_json::from_str(line)?;
            let field = |key: &str| added[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {added}"));
            Ok(Device { id: field("id")?, token: field("token")? })
        });
        let devices = devices.collect::<Result<Vec<_>>>()?;
        ensure!(devices.len() == count, "{} devices instead of {count}", devices.len());
        Ok(devices)
    }

    /// Begins to measure what the server and its database use.
    pub fn meter(&self) -> Result<Meter> {
        Meter::begin(self.instance.pid(), Some(&self.data()))
    }

    /// A connection to the database as its owner, who sees all districts.
    pub async fn database(&self) -> Result<PgConnection> {
        if let Some(url) = &self.database_url {
            return Ok(PgConnection::connect(url).await?);
        }
        let pid_file = std::fs::read_to_string(self.data().join("postgres/data/postmaster.pid"))?;
        let socket = pid_file.lines().nth(4).unwrap_or_default().trim().replace('/', "%2F");
        Ok(PgConnection::connect(&format!("postgres://rollcall@{socket}/postgres")).await?)
    }

    /// Takes from the program the right to write events, so that its sink stands still as it does beside a broken database,
    /// and everything else goes on. The partitions of the day must be there.
    pub async fn hold_sink(&self) -> Result<()> {
        self.sql("revoke insert on all tables in schema event from rollcall_app").await
    }

    /// Gives the right back. The sink tries again within its longest pause, ten seconds.
    pub async fn release_sink(&self) -> Result<()> {
        self.sql("grant insert on all tables in schema event to rollcall_app").await
    }

    async fn sql(&self, text: &'static str) -> Result<()> {
        let mut owner = self.database().await?;
        sqlx::raw_sql(text).execute(&mut owner).await?;
        Ok(owner.close().await?)
    }

    /// Ends the private database as a crash of the machine would, and waits until it is gone.
    pub fn kill_database(&self) {
        let Some(pid) = crate::meter::postmaster(&self.data()).and_then(|pid| i32::try_from(pid).ok()) else { return };
        // SAFETY: signals to the pid that the pid file in our own folder names; 0 only asks whether it is there.
        let signal = |signal| unsafe { libc::kill(pid, signal) } == 0;
        let began = Instant::now();
        signal(libc::SIGQUIT);
        while signal(0) && began.elapsed() < DATABASE_END {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One number of `/metrics`; all series of the name added up, 0 when there is none.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = reqwest::get(format!("{}/metrics", self.instance.http)).await?.error_for_status()?.text().await?;
        let of_name = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        of_name.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
    }

    /// Waits until the server's memory has stood still for a while: what was just learned has found its place.
    pub async fn settled_memory(&self) -> Result<()> {
        const STILL: Duration = Duration::from_secs(2);
        const DIFFERENCE_MIB: f64 = 0.5;
        let (mut mib, mut since, began) = (0.0_f64, Instant::now(), Instant::now());
        while since.elapsed() < STILL && began.elapsed() < 5 * STILL {
            let now = machine::memory_mib(self.instance.pid())?;
            if (now - mib).abs() > DIFFERENCE_MIB {
                (mib, since) = (now, Instant::now());
            }
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
        Ok(())
    }

    /// Waits until the sink has written everything that is durable.
    pub async fn caught_up(&self, at_most: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let behind = self.metric("rollcall_sink_lag_rows").await?;
            if behind == 0.0 {
                return Ok(began.elapsed());
            }
            if began.elapsed() > at_most {
                bail!("after {at_most:?} the sink is still {behind} rows behind");
            }
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = self.instance.kill();
        self.kill_database();
    }
}
