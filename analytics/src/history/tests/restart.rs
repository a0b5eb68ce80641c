//! What is known of files on a local folder outlives the process, and what is not known is read without holding up questions.

use std::path::PathBuf;
use std::time::SystemTime;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures_util::FutureExt;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::Log;

use super::town::{Town, config};
use crate::history::{History, Place, Warning};

const FILES: u64 = 12;

/// Files of three rows each in a local folder, and nothing hot.
struct Kept {
    folder: tempfile::TempDir,
    town: Town,
}

impl Kept {
    async fn new() -> Self {
        let mut kept = Self { folder: tempfile::tempdir().unwrap(), town: Town::new() };
        kept.restart().await;
        for day in 0..FILES {
            kept.town.append(Kind::Scan, 0, &[(1, 10), (2, 20), (3, 30)], day as i64);
            kept.town.history.flush().await.unwrap();
        }
        kept
    }

    async fn restart(&mut self) {
        let (place, town) = (Place::folder(self.folder.path()).unwrap(), &mut self.town);
        town.history = History::new(place, town.log.clone(), town.clock.clone(), config(), &prometheus::Registry::new()).unwrap();
        town.history.open().await.unwrap();
        town.hot.begin_at(Offset(town.log.end().0));
    }

    /// The files in order, and what they hold.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.town.history.state().unwrap();
        state.files.values().map(|file| (self.folder.path().join(&file.path), file.bytes)).collect()
    }

    fn bytes(&self) -> u64 {
        self.files().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that this process has read to check files.
    fn checked(&self) -> u64 {
        self.town.history.0.metrics.checked_bytes.get()
    }

    /// The files are changed at another time than history left them, as by a copy that does not keep times.
    fn touch(&self) {
        for (file, _) in self.files() {
            std::fs::File::options().write(true).open(file).unwrap().set_modified(SystemTime::now()).unwrap();
        }
    }
}

async fn count(town: &Town) -> (i64, Vec<Warning>) {
    let (rows, warnings) = town.query("select count(seq) from scans where seq >= 0").await;
    (rows[0].column(0).as_primitive::<Int64Type>().value(0), warnings)
}

#[tokio::test]
async fn the_first_question_after_a_restart_reads_no_file_whole() {
    let mut kept = Kept::new().await;
    kept.restart().await;
    assert_eq!(count(&kept.town).await, (36, vec![]));
    assert_eq!(kept.checked(), 0);
    // Merged files are known too.
    kept.town.clock.set(kept.town.clock.now().plus_ms(super::town::DAY_MS));
    kept.town.append(Kind::Scan, 0, &[(1, 10)], 0);
    kept.town.history.flush().await.unwrap();
    kept.town.clock.set(kept.town.clock.now().plus_ms(super::town::DAY_MS));
    assert!(kept.town.history.compact().await.unwrap());
    kept.restart().await;
    assert_eq!(count(&kept.town).await, (37, vec![]));
    assert_eq!(kept.checked(), 0);
    // In the background all are read once, for what has rotted.
    kept.town.history.0.check_round().await.unwrap();
    kept.town.history.0.check_round().await.unwrap();
    assert_eq!(kept.checked(), kept.bytes());
}

/// Of the same length, so that nothing but its bytes and the time of its change is other.
#[tokio::test]
async fn a_file_that_changed_while_the_server_was_down_is_named_and_alone_is_read() {
    let mut kept = Kept::new().await;
    let (file, bytes) = kept.files()[4].clone();
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0xff;
    std::fs::write(&file, &content).unwrap();
    kept.restart().await;
    for _ in 0..2 {
        let (rows, warnings) = count(&kept.town).await;
        assert_eq!(rows, 33);
        let named = |path: &str| file.ends_with(path);
        assert!(matches!(&warnings[..], [Warning::Damaged { path, rows: 3, .. }] if named(path)), "{warnings:?}");
        assert_eq!(kept.checked(), bytes);
    }
}

/// Somebody else reads what would be checked: the question is answered all the same, and says what it has not.
#[tokio::test]
async fn what_cannot_be_checked_in_time_is_left_out_and_said() {
    let mut kept = Kept::new().await;
    kept.touch();
    kept.restart().await;
    let core = &kept.town.history.0;
    let mut turns = Vec::new();
    for _ in 0..crate::history::marks::CHECKS_MAX {
        turns.push(core.verified.turn().await.unwrap());
    }
    assert_eq!(count(&kept.town).await, (0, vec![Warning::Unchecked { files: FILES as usize, rows: 36 }]));
    drop(turns);
    core.check_round().await.unwrap();
    assert_eq!((kept.checked(), count(&kept.town).await), (kept.bytes(), (36, vec![])));
    // What was read whole is known to the next process.
    kept.restart().await;
    assert_eq!((count(&kept.town).await, kept.checked()), ((36, vec![]), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_cancelled_half_way_loses_nothing() {
    let mut kept = Kept::new().await;
    kept.touch();
    kept.restart().await;
    let core = &kept.town.history.0;
    let mut turns = Vec::new();
    for _ in 0..crate::history::marks::CHECKS_MAX {
        turns.push(core.verified.turn().await.unwrap());
    }
    let (context, _) = kept.town.context();
    let question = tokio::spawn(async move { context.sql("select count(seq) from scans where seq >= 0").await?.collect().await });
    // One turn goes round: those have it first who wait for it already, and they are fewer than the files.
    while kept.checked() == 0 {
        let mut behind_them = Box::pin(core.verified.turn());
        assert!((&mut behind_them).now_or_never().is_none(), "all turns are taken");
        turns.pop();
        turns.push(behind_them.await.unwrap());
        tokio::task::yield_now().await;
    }
    question.abort();
    assert!(question.await.unwrap_err().is_cancelled());
    let half = kept.checked();
    assert!(half > 0 && half < kept.bytes(), "{half}");
    drop(turns);
    assert_eq!(count(&kept.town).await, (36, vec![]));
    assert_eq!(kept.checked(), kept.bytes(), "each file was read once");
}

/// The disk changes bytes without a word. What was found so is not trusted by the next process either.
#[tokio::test]
async fn what_rots_under_its_mark_is_found_in_the_background() {
    let mut kept = Kept::new().await;
    let (file, _) = kept.files()[7].clone();
    let left = std::fs::metadata(&file).unwrap().modified().unwrap();
    let mut content = std::fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0xff;
    std::fs::write(&file, &content).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(left).unwrap();
    kept.restart().await;
    kept.town.history.0.check_round().await.unwrap();
    for _ in 0..2 {
        let (rows, warnings) = count(&kept.town).await;
        assert!(rows == 33 && matches!(&warnings[..], [Warning::Damaged { .. }]), "{rows} {warnings:?}");
        kept.restart().await;
    }
}
