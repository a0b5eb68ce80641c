//! A database that is away, slow, restarted, cut off or shut against its own program. Intake goes on, `/health/ready` says
//! what is wrong, and afterwards the sink catches up with nothing twice.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_tests::Instance;
use rollcall_tests::district::{self, District};
use rollcall_tests::mqtt::Link;
use rollcall_tests::proxy::{Mode, Proxy};
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::{DRAIN, check_database, check_log, private_url, readiness, until_ready};

/// Where the server listens, from the URL it is reached by.
fn socket_of(url: &str) -> Result<PathBuf> {
    let folder = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).context("the URL names no socket")?;
    Ok(PathBuf::from(folder.replace("%2F", "/")).join(".s.PGSQL.5432"))
}

async fn sql(url: &str, text: &'static str) -> Result<()> {
    let mut owner = PgConnection::connect(url).await?;
    sqlx::raw_sql(text).execute(&mut owner).await?;
    Ok(owner.close().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn intake_goes_on_whatever_the_database_does() -> Result<()> {
    let torture = Torture::begin("database in trouble");
    let mut random = torture.random();
    let dir = tempfile::tempdir()?;
    let mut database = EmbeddedPostgres::start(&dir.path().join("existing")).await?;
    let proxy = Proxy::start(&socket_of(&database.url())?).await?;
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data)?;
    let url = format!("postgres://rollcall@127.0.0.1:{}/postgres", proxy.port);
    let mut instance = Instance::start_with(&data, &["--database-url", &url])?;
    let district = district::synthetic(&instance, dir.path(), "Away", 20)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    district.until_known(&instance).await?;
    let start = |device, source, per_s, number| Sending::start(&instance.mqtt, device, source, per_s, torture.seed + number);
    let bands = start(&band, Source::Readings, 1_000, 1);
    let gate = start(&district.gate, Source::Scans(district.students.clone()), 50, 2);
    // How long each trouble lasts, in milliseconds.
    let (least, most) = torture.either((300, 800), (1_000, 20_000));
    for _ in 0..torture.scaled(1, 3) {
        let mut while_it_lasts = async |what: &str, ready: Option<bool>| -> Result<()> {
            bands.progress(50, DRAIN).await.with_context(|| format!("intake while the database was {what}"))?;
            gate.progress(5, DRAIN).await.with_context(|| format!("scans while the database was {what}"))?;
            // Somebody with the same credentials takes the place of the device, which has to sign in again.
            drop(Link::open(&instance.mqtt, &band).await.with_context(|| format!("sign-in while the database was {what}"))?);
            bands.progress(50, DRAIN).await.with_context(|| format!("a reconnected device while the database was {what}"))?;
            if let Some(ready) = ready {
                until_ready(&instance, "database", ready).await.with_context(|| what.to_owned())?;
            }
            sleep(Duration::from_millis(random.random_range(least..most))).await;
            Ok(())
        };
        proxy.set(Mode::Down);
        while_it_lasts("away", Some(false)).await?;
        proxy.set(Mode::Pass);
        until_ready(&instance, "database", true).await?;

        proxy.set(Mode::Slow(Duration::from_millis(150)));
        while_it_lasts("slow", None).await?;
        proxy.set(Mode::Pass);

        proxy.set(Mode::Stalled);
        while_it_lasts("standing still", None).await?;
        proxy.set(Mode::Pass);

        for _ in 0..torture.scaled(3, 20) {
            proxy.cut();
            while_it_lasts("cut off", None).await?;
        }
        until_ready(&instance, "database", true).await?;

        sql(&database.url(), "revoke usage on schema event, rollcall from rollcall_app").await?;
        while_it_lasts("shut against its program", Some(false)).await?;
        sql(&database.url(), "grant usage on schema event, rollcall to rollcall_app").await?;
        until_ready(&instance, "database", true).await?;

        // SAFETY: the pid is that of the database this test started.
        unsafe { libc::kill(database.pid(), libc::SIGQUIT) };
        while_it_lasts("killed", Some(false)).await?;
        database.restart().await?;
        until_ready(&instance, "database", true).await?;
    }
    let books = [bands.finish(DRAIN).await?, gate.finish(DRAIN).await?];
    check_database(&database.url(), &books).await?;
    let (ready, body) = readiness(&instance).await?;
    ensure!(ready, "not ready after all troubles: {body}");
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&data, &books)
}

/// The private database is started again by the server itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_database_that_is_killed_comes_back() -> Result<()> {
    let torture = Torture::begin("private database killed");
    let dir = tempfile::tempdir()?;
    let mut instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Private", 10)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 1_000, torture.seed);
    for _ in 0..torture.scaled(2, 10) {
        sending.progress(200, DRAIN).await?;
        let pid_file = std::fs::read_to_string(dir.path().join("postgres/data/postmaster.pid"))?;
        let pid: i32 = pid_file.lines().next().context("no pid")?.trim().parse()?;
        // SAFETY: the pid stands in the pid file of this test's own database.
        unsafe { libc::kill(pid, libc::SIGQUIT) };
        until_ready(&instance, "database", false).await?;
        sending.progress(200, DRAIN).await?;
        until_ready(&instance, "database", true).await?;
    }
    let books = [sending.finish(DRAIN).await?];
    check_database(&private_url(&instance)?, &books).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(dir.path(), &books)
}
