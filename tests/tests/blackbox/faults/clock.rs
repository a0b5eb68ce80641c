//! A server whose clock is set while it works. The real binary runs under libfaketime, which changes what it is told of the
//! time of day and leaves timers alone, as a step of the system's clock does. Both daylight-saving days, and any steps at
//! all, are tried with the real engine in `analytics`, whose clock is injected.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_tests::district::{self, Device, District};
use rollcall_tests::ledger::Ledger;
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use rollcall_tests::{Instance, Launch};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::{CATCH_UP, DRAIN, LOOK, check_database, check_log, readiness, rows_in_database, until_ready};

const MINUTE_S: i64 = 60;
/// More than this is no slip of the library that sets the clock.
const REFUSED_MAX: usize = 3;

/// The library as Debian and Homebrew install it.
fn library() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")));
    debian.into_iter().find(|path| path.exists())
}

/// The server's clock: a file with its difference from the real one.
struct ServerClock(PathBuf);

impl ServerClock {
    fn set(&self, ahead_s: i64) -> Result<()> {
        // Replaced at once, so that nobody reads half of it.
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}\n"))?;
        Ok(std::fs::rename(next, &self.0)?)
    }

    fn launch(&self, library: &Path, database: &str) -> Launch {
        Launch::flags(&["--database-url", database])
            .set("LD_PRELOAD", library.display())
            .set("FAKETIME_TIMESTAMP_FILE", self.0.display())
            .set("FAKETIME_NO_CACHE", 1)
            .set("FAKETIME_DONT_FAKE_MONOTONIC", 1)
    }
}

/// Takes out of the books what was refused as being from the future. The library reads its file anew for each call, with nothing that
/// keeps its threads apart, so that one of them may be told the real time for an instant; a device that is a day ahead is then refused
/// rightly. A PUBACK of MQTT 3.1.1 cannot say so, a dead letter does. What is in neither place stays in the books and is missed.
async fn leave_out_refused(url: &str, books: &mut [(Device, Ledger)]) -> Result<()> {
    let end = Instant::now() + CATCH_UP;
    for (device, ledger) in books {
        let letters = loop {
            let mut connection = PgConnection::connect(url).await?;
            let letters: Vec<i64> =
                sqlx::query_scalar("select seq from rollcall.dead_letter where device = $1::uuid and code = 'time_in_future'")
                    .bind(&device.id)
                    .fetch_all(&mut connection)
                    .await?;
            connection.close().await?;
            let letters: Vec<u64> = letters.into_iter().map(i64::cast_unsigned).collect();
            let rows = rows_in_database(url, &device.id).await?;
            let held: BTreeSet<u64> = rows.iter().map(|row| row.0).chain(letters.iter().copied()).collect();
            if ledger.acknowledged.is_subset(&held) || Instant::now() > end {
                break letters;
            }
            sleep(LOOK).await;
        };
        println!("{}: {} refused as being from the future", device.id, letters.len());
        ensure!(letters.len() <= REFUSED_MAX, "{} events of {} were refused", letters.len(), device.id);
        for seq in letters {
            ledger.acknowledged.remove(&seq);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_loses_and_doubles_nothing() -> Result<()> {
    let torture = Torture::begin("clock steps");
    let library = library().context("libfaketime is not installed; cargo xtask setup installs it")?;
    let mut random = torture.random();
    let dir = tempfile::tempdir()?;
    let database = EmbeddedPostgres::start(&dir.path().join("existing")).await?;
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data)?;
    let clock = ServerClock(dir.path().join("clock"));
    clock.set(0)?;
    let mut instance = Instance::launch(&data, clock.launch(&library, &database.url()))?;
    let district = district::synthetic(&instance, dir.path(), "Clock", 20)?;
    district.until_known(&instance).await?;
    let mut books = Vec::new();
    for round in 0..torture.scaled(1, 10) {
        let band = District::device(&instance, &district.name, &district.school, "wearable", &format!("Band {round}"))?;
        let room = District::device(&instance, &district.name, &district.school, "room", &format!("Room {round}"))?;
        let start = |device, source, per_s, number| Sending::start(&instance.mqtt, device, source, per_s, torture.seed + round + number);
        let sending = [start(&band, Source::Readings, 500, 1), start(&room, Source::Scans(district.students.clone()), 50, 2)];
        // Forward by hours and over midnight; back by less than the skew that a device may have, or what is on its way would
        // be refused as being from the future, which is what the protocol promises then.
        let (hours, minutes, day) = (random.random_range(1..6) * 3600, random.random_range(1..5) * MINUTE_S, 24 * 3600);
        for ahead_s in [0, hours, hours - minutes, hours + day, hours + day - minutes] {
            clock.set(ahead_s)?;
            for device in &sending {
                device.set_clock(Duration::from_secs(ahead_s.unsigned_abs()));
                device.progress(20, DRAIN).await.with_context(|| format!("intake with the clock {ahead_s} s ahead"))?;
            }
            until_ready(&instance, "attendance", true).await?;
        }
        for device in sending {
            books.push(device.finish(DRAIN).await?);
        }
        // Back by more than a day, while nothing is on its way.
        clock.set(0)?;
    }
    leave_out_refused(&database.url(), &mut books).await?;
    check_database(&database.url(), &books).await?;
    let (ready, body) = readiness(&instance).await?;
    ensure!(ready && !instance.has_ended()?, "not ready after the clock was set: {body}");
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&data, &books)
}
