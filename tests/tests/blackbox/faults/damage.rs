//! Damaged log files under the real binary. A torn or damaged tail is cut off and the start goes on; damage to what was
//! once durable is refused with the file and the place in it, and nothing is changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_tests::district::{self, Device, District};
use rollcall_tests::ledger::Ledger;
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use rollcall_tests::{Instance, Launch};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{Instant, sleep};

use super::{CATCH_UP, DRAIN, LOOK, check_log, until_ready};

/// Bytes that headers and frames begin at multiples of.
const ALIGN: usize = 64;

/// The database that was beside the log when it was filled, and the one in which others are made.
const ORIGINAL: &str = "filled";
const MAINTENANCE: &str = "postgres";

/// A stopped server's data folder with several segments in its log, and the book of the device that filled it.
struct Filled {
    dir: tempfile::TempDir,
    database: EmbeddedPostgres,
    /// The name of the database that servers are started beside.
    used: String,
    books: Vec<(Device, Ledger)>,
}

impl Filled {
    async fn new(torture: &Torture) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let database = EmbeddedPostgres::start(&dir.path().join("existing")).await?;
        let filled = Self { dir, database, used: ORIGINAL.to_owned(), books: Vec::new() };
        filled.sql_in(MAINTENANCE, &format!("create database {ORIGINAL}")).await?;
        let mut instance = filled.start(&filled.dir.path().join("data"))?;
        let district = district::synthetic(&instance, filled.dir.path(), "Damaged", 10)?;
        let band = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
        // A sink that may not write keeps the log from being trimmed.
        filled.sql_in(ORIGINAL, "revoke usage on schema event from rollcall_app").await?;
        let sending = Sending::start(&instance.mqtt, &band, Source::Readings, 20_000, torture.seed);
        let segments = || filled.segments(&filled.dir.path().join("data")).map_or(0, |paths| paths.len());
        // In the last segment there is more than one write, so that the first of them is proven by the second.
        while segments() < 3 || filled.proven()? <= ALIGN {
            sending.progress(500, DRAIN).await?;
        }
        instance.kill()?;
        let books = vec![sending.abandon()];
        drop(instance);
        filled.sql_in(ORIGINAL, "grant usage on schema event to rollcall_app").await?;
        Ok(Self { books, ..filled })
    }

    fn url(&self, database: &str) -> Result<String> {
        let url = self.database.url();
        let (server, _) = url.rsplit_once('/').context("a database URL ends in a name")?;
        Ok(format!("{server}/{database}"))
    }

    async fn sql_in(&self, database: &str, text: &str) -> Result<()> {
        let mut owner = PgConnection::connect(&self.url(database)?).await?;
        sqlx::query(AssertSqlSafe(text)).execute(&mut owner).await?;
        Ok(owner.close().await?)
    }

    fn start(&self, data_dir: &Path) -> Result<Instance> {
        fs::create_dir_all(data_dir)?;
        Instance::launch(data_dir, Launch::flags(&["--database-url", &self.url(&self.used)?]).set("ROLLCALL_LOG_SEGMENT_BYTES", 1 << 20))
    }

    /// The start must fail: what is left of the log does not fit what the database has taken of it.
    fn refused_by_database(&self, data_dir: &Path, word: &str) -> Result<()> {
        let Err(error) = self.start(data_dir) else { anyhow::bail!("a log without some of its rows was opened for intake") };
        let said = format!("{error:#}");
        ensure!(said.contains(word), "the refusal does not say {word:?}: {said}");
        Ok(())
    }

    /// A copy of the folder, to be damaged.
    fn copy(&self, name: &str) -> Result<PathBuf> {
        let copy = self.dir.path().join(name);
        copy_folder(&self.dir.path().join("data"), &copy)?;
        Ok(copy)
    }

    fn segments(&self, data_dir: &Path) -> Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = fs::read_dir(data_dir.join("log"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        Ok(paths)
    }

    /// Up to where the last frame of the last segment says that everything was durable; see the format of the log.
    fn proven(&self) -> Result<usize> {
        let path = self.segments(&self.dir.path().join("data"))?.pop().context("no segment")?;
        Ok(frames(&fs::read(path)?).0)
    }

    /// The start must fail, name the file and the word, and leave the log as it was.
    fn refused(&self, data_dir: &Path, file: &Path, word: &str) -> Result<()> {
        let before = contents(data_dir)?;
        let Err(error) = self.start(data_dir) else { anyhow::bail!("a damaged log was opened") };
        let said = format!("{error:#}");
        let name = file.file_name().context("a segment has a name")?.to_string_lossy().into_owned();
        ensure!(said.contains(&name) && said.contains(word), "the refusal names neither {name} nor {word:?}: {said}");
        ensure!(contents(data_dir)? == before, "a refused log was changed");
        Ok(())
    }

    /// The start must succeed and the log must hold what was acknowledged. The log's last write was perhaps never confirmed, so one copy may
    /// keep it and another lose it with its tail: each is beside a copy of the database that has taken nothing of it yet.
    async fn recovered(&mut self, data_dir: &Path, round: u64) -> Result<()> {
        self.used = format!("round_{round}");
        // A killed server's connections may last a moment longer than it did.
        self.sql_in(MAINTENANCE, &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{ORIGINAL}'")).await?;
        self.sql_in(MAINTENANCE, &format!("create database {} template {ORIGINAL}", self.used)).await?;
        let mut instance = self.start(data_dir)?;
        let filled_up = Instant::now() + CATCH_UP;
        while !until_ready(&instance, "database", true).await?["detail"].as_str().is_some_and(|detail| detail.contains(" 0 rows behind")) {
            ensure!(Instant::now() < filled_up, "the sink did not catch up");
            sleep(LOOK).await;
        }
        ensure!(instance.stop()?, "the server did not end in order");
        check_log(data_dir, &self.books)
    }
}

fn contents(data_dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(data_dir.join("log"))? {
        let path = entry?.path();
        files.push((path.clone(), fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Up to where the last frame of a segment proves that everything was durable, and where the frames end.
fn frames(segment: &[u8]) -> (usize, usize) {
    let (mut at, mut proven) = (ALIGN, 0);
    while let Some(header) = segment.get(at..at + ALIGN).filter(|header| header.starts_with(b"RCFR")) {
        let number = |range: std::ops::Range<usize>| header[range].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
        (proven, at) = (number(24..32), at + ALIGN + number(48..52));
    }
    (proven, at)
}

/// One past the last byte of a file that is not zero, rounded up to a frame's alignment.
fn written_to(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| (last + 1).next_multiple_of(ALIGN))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut bytes = fs::read(path)?;
    change(&mut bytes);
    Ok(fs::write(path, bytes)?)
}

fn flip(bytes: &mut [u8], from: usize, to: usize, random: &mut StdRng) {
    let at = random.random_range(from..to);
    bytes[at] ^= 1 << random.random_range(0..8);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_cut_off_or_refused() -> Result<()> {
    let torture = Torture::begin("damaged log");
    let mut random = torture.random();
    let mut filled = Filled::new(&torture).await?;
    let segments = filled.segments(&filled.dir.path().join("data"))?;
    ensure!(segments.len() >= 3, "{} segments", segments.len());
    let (last, middle) = (segments.len() - 1, segments.len() / 2);
    let at = |data_dir: &Path, index: usize| data_dir.join("log").join(segments[index].file_name().unwrap_or_default());

    // The first missing, while the database still needs its rows.
    let copy = filled.copy("first missing")?;
    fs::remove_file(at(&copy, 0))?;
    filled.refused_by_database(&copy, "has been trimmed")?;

    for round in 0..torture.scaled(1, 10) {
        // A torn write: garbage of random length behind what is durable.
        let copy = filled.copy(&format!("torn {round}"))?;
        let garbage: Vec<u8> = (0..random.random_range(1..20_000)).map(|_| random.random()).collect();
        change(&at(&copy, last), |bytes| {
            // A frame may end in zeros, so its header says where.
            let (_, end) = frames(bytes);
            bytes.truncate(end);
            bytes.extend_from_slice(&garbage);
        })?;
        filled.recovered(&copy, round).await?;

        // A bit of what was acknowledged, in the middle of the last segment.
        let copy = filled.copy(&format!("last {round}"))?;
        let proven = filled.proven()?;
        change(&at(&copy, last), |bytes| flip(bytes, ALIGN, proven, &mut random))?;
        filled.refused(&copy, &segments[last], "corrupt at byte")?;

        // A header in an earlier segment.
        let copy = filled.copy(&format!("header {round}"))?;
        change(&at(&copy, middle), |bytes| flip(bytes, ALIGN, ALIGN + 60, &mut random))?;
        filled.refused(&copy, &segments[middle], "corrupt at byte")?;

        // An earlier segment cut short.
        let copy = filled.copy(&format!("short {round}"))?;
        change(&at(&copy, middle), |bytes| bytes.truncate(random.random_range(0..written_to(bytes) - 1)))?;
        filled.refused(&copy, &segments[middle], "corrupt at byte")?;

        // One missing from the middle: the one before it ends too early.
        let copy = filled.copy(&format!("missing {round}"))?;
        fs::remove_file(at(&copy, middle))?;
        filled.refused(&copy, &segments[middle - 1], "are missing")?;

        // The last one missing, after the database has taken its rows.
        let copy = filled.copy(&format!("last missing {round}"))?;
        fs::remove_file(at(&copy, last))?;
        filled.refused_by_database(&copy, "but the log ends at")?;
    }
    Ok(())
}
