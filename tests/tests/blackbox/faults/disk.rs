//! A disk that fails: fsync answers an error, a write finds no space, the file system is full. Nothing is acknowledged that
//! is not on the disk, and it goes on by itself when the disk does, or after the restart that a supervisor would make.
//!
//! System calls of the real binary are made to fail by a seccomp filter, which needs no rights. Where mounting is
//! permitted a small tmpfs is filled as well; where it is not, the test says so and the filter's answer stands for it.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::Rng;
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_tests::district::{self, District};
use rollcall_tests::syscalls::{Call, Faults, Rule};
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use rollcall_tests::{Instance, Launch};
use tokio::time::{Instant, sleep};

use super::{CATCH_UP, DRAIN, LOOK, check_database, check_log, readiness, until_ready};

/// The log's segments, not the snapshots beside it.
const SEGMENTS: &str = ".seg";

fn rule(call: Call, errno: i32, after: u64) -> Rule {
    Rule { call, path: SEGMENTS, after, errno: Some(errno), delay: Duration::ZERO }
}

struct Place {
    dir: tempfile::TempDir,
    database: EmbeddedPostgres,
    data: PathBuf,
}

impl Place {
    async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let database = EmbeddedPostgres::start(&dir.path().join("existing")).await?;
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data)?;
        Ok(Self { dir, database, data })
    }

    fn launch(&self) -> Launch {
        Launch::flags(&["--database-url", &self.database.url()]).log_file(&self.dir.path().join("server.log"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fsync_ends_the_process_and_nothing_false_was_acknowledged() -> Result<()> {
    let torture = Torture::begin("fsync fails");
    let mut random = torture.random();
    let place = Place::new().await?;
    let faults = Faults::default();
    let mut instance = Instance::launch(&place.data, place.launch().faults(&faults))?;
    let district = district::synthetic(&instance, place.dir.path(), "Fsync", 10)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 2_000, torture.seed);
    for round in 0..torture.scaled(2, 20) {
        sending.progress(100, DRAIN).await?;
        let call = if round % 2 == 0 { Call::Sync } else { Call::Write };
        faults.set(vec![rule(call, libc::EIO, random.random_range(0..20))]);
        let end = Instant::now() + DRAIN;
        while !instance.has_ended()? {
            ensure!(Instant::now() < end, "the process outlived a failed {call:?}: {:?}", readiness(&instance).await);
            sleep(LOOK).await;
        }
        // Never again on the same file: one failure is the last.
        ensure!(faults.failed(call) == 1 + round / 2, "{} calls failed in {} rounds", faults.failed(call), 1 + round / 2);
        let told = sending.acknowledged();
        faults.set(Vec::new());
        instance.restart()?;
        sending.progress(1, DRAIN).await?;
        ensure!(sending.acknowledged() > told);
    }
    let books = [sending.finish(DRAIN).await?];
    check_database(&place.database.url(), &books).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&place.data, &books)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_acknowledgements_and_nothing_else() -> Result<()> {
    let torture = Torture::begin("disk full by system calls");
    let mut random = torture.random();
    let place = Place::new().await?;
    let faults = Faults::default();
    let launch = place.launch().set("ROLLCALL_LOG_SEGMENT_BYTES", 1 << 20).faults(&faults);
    let mut instance = Instance::launch(&place.data, launch)?;
    let district = district::synthetic(&instance, place.dir.path(), "Full", 10)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 5_000, torture.seed);
    for _ in 0..torture.scaled(3, 30) {
        sending.progress(500, DRAIN).await?;
        faults.set(vec![rule(Call::Write, libc::ENOSPC, random.random_range(0..30))]);
        let log = until_ready(&instance, "log", false).await?;
        ensure!(log["detail"].as_str().is_some_and(|detail| detail.starts_with("full")), "{log}");
        let told = sending.acknowledged();
        sleep(Duration::from_millis(random.random_range(100..600))).await;
        ensure!(sending.acknowledged() == told, "acknowledged on a full disk");
        faults.set(Vec::new());
        until_ready(&instance, "log", true).await?;
        // The devices never noticed more than silence.
        ensure!(!instance.has_ended()?, "a full disk ended the process");
    }
    let books = [sending.finish(DRAIN).await?];
    check_database(&place.database.url(), &books).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&place.data, &books)
}

/// A disk that takes a second for each fsync: everything waits for it, nothing fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_only_delays() -> Result<()> {
    let torture = Torture::begin("slow disk");
    let place = Place::new().await?;
    let faults = Faults::default();
    let mut instance = Instance::launch(&place.data, place.launch().faults(&faults))?;
    let district = district::synthetic(&instance, place.dir.path(), "Slow", 10)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let delay = Duration::from_millis(500);
    faults.set(vec![Rule { call: Call::Sync, path: SEGMENTS, after: 0, errno: None, delay }]);
    let began = Instant::now();
    let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 1_000, torture.seed);
    sending.progress(torture.either(100, 1_000), CATCH_UP).await?;
    ensure!(began.elapsed() >= delay, "acknowledged before the disk had answered");
    ensure!(readiness(&instance).await?.0, "a slow disk is not a failed one");
    faults.set(Vec::new());
    let books = [sending.finish(DRAIN).await?];
    check_database(&place.database.url(), &books).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&place.data, &books)
}

/// A small file system of its own; gone when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this process may not mount.
    fn tmpfs(path: &Path, bytes: u64) -> Option<Self> {
        let text = |text: &str| CString::new(text).ok();
        let (kind, target, options) = (text("tmpfs")?, text(path.to_str()?)?, text(&format!("size={bytes},mode=755"))?);
        // SAFETY: the strings outlive the call.
        let mounted = unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
        (mounted == 0).then(|| Self(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(target) = self.0.to_str().and_then(|path| CString::new(path).ok()) {
            // SAFETY: the string outlives the call.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_recovers_when_there_is_room_again() -> Result<()> {
    const BYTES: u64 = 8 << 20;
    let torture = Torture::begin("full file system");
    let place = Place::new().await?;
    let Some(_mount) = Mount::tmpfs(&place.data, BYTES) else {
        println!("mounting is not permitted here; the full disk is tested by failing system calls only");
        return Ok(());
    };
    let launch = place.launch().set("ROLLCALL_LOG_SEGMENT_BYTES", 1 << 20);
    let mut instance = Instance::launch(&place.data, launch)?;
    let district = district::synthetic(&instance, place.dir.path(), "Tmpfs", 10)?;
    let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 20_000, torture.seed);
    for round in 0..torture.scaled(2, 10) {
        sending.progress(500, DRAIN).await?;
        // Somebody else fills the disk to the last page.
        let hog = place.data.join("hog");
        let _ = std::fs::write(&hog, vec![1u8; BYTES as usize]);
        until_ready(&instance, "log", false).await?;
        let told = sending.acknowledged();
        sleep(Duration::from_millis(300)).await;
        ensure!(sending.acknowledged() == told, "acknowledged on a full file system");
        if round % 2 == 1 {
            // A server that starts on a full disk must not lose what is there.
            instance.kill()?;
            std::fs::remove_file(&hog)?;
            instance.restart()?;
        } else {
            std::fs::remove_file(&hog)?;
        }
        until_ready(&instance, "log", true).await?;
        ensure!(!instance.has_ended()?, "a full file system ended the process");
    }
    let books = [sending.finish(DRAIN).await?];
    check_database(&place.database.url(), &books).await?;
    ensure!(instance.stop()?, "the server did not end in order");
    check_log(&place.data, &books)
}
