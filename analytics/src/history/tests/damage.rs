//! What is wrong with files or the store is said with the result, and never makes it wrong in silence.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parking_lot::Mutex;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::Clock;
use rollcall_stream::Log;
use rollcall_stream::memory::MemoryLog;

use super::faults::Death;
use super::town::{DAY_MS, START, Town, TrimmedLog, config, district, id, person};
use crate::history::{History, HistoryConfig, HistoryError, Place, Warning};

async fn count(town: &Town) -> (i64, Vec<Warning>) {
    use arrow::array::AsArray;
    let (rows, warnings) = town.query("select count(seq) from scans where seq >= 0").await;
    (rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), warnings)
}

/// A town with two files of two rows each and one hot row.
async fn town_on(store: Arc<InMemory>) -> Town {
    let mut town = Town::on(store, config());
    for day in 0..2 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], day);
        town.history.flush().await.unwrap();
    }
    town.append(Kind::Scan, 0, &[(3, 30)], 2);
    town.move_window(0);
    town
}

fn first_file(town: &Town) -> String {
    town.history.state().unwrap().files.keys().next().unwrap().clone()
}

#[tokio::test]
async fn a_missing_or_changed_file_is_left_out_by_name() {
    for content in [None, Some("garbage")] {
        let store = Arc::new(InMemory::new());
        let town = town_on(store.clone()).await;
        assert_eq!(count(&town).await, (5, vec![]));
        let path = first_file(&town);
        let location = Path::from(format!("history/{path}"));
        match content {
            None => store.delete(&location).await.unwrap(),
            Some(text) => drop(store.put(&location, text.into()).await.unwrap()),
        }
        let fresh = {
            let mut town = town;
            town.restart();
            town.move_window(0);
            town
        };
        fresh.history.open().await.unwrap();
        let (rows, warnings) = count(&fresh).await;
        assert_eq!(rows, 3);
        assert!(matches!(&warnings[..], [Warning::Damaged { path: named, rows: 2, .. }] if *named == path), "{warnings:?}");
        let status = fresh.history.status().borrow().clone();
        assert!(status.warnings[0].contains(&path), "{status:?}");
        let erasure = fresh.history.erase(district(0), person(1)).await.unwrap();
        assert_eq!((erasure.rows, erasure.unreadable), (1, vec![path]));
    }
}

#[tokio::test]
async fn a_changed_local_file_is_noticed_and_a_restored_one_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::new());
    let place = Place::folder(folder.path()).unwrap();
    let config = HistoryConfig { probe_interval: std::time::Duration::ZERO, ..HistoryConfig::default() };
    let history = History::new(place, log.clone(), Clock::stepped(START), config, &prometheus::Registry::new()).unwrap();
    let mut town = Town::new();
    town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], 0);
    log.append(town.log.read(Offset(0), usize::MAX).unwrap().batches).unwrap();
    history.flush().await.unwrap();
    town.history = history;
    assert_eq!(count(&town).await, (2, vec![]));
    let file = folder.path().join(first_file(&town));
    let mut bytes = std::fs::read(&file).unwrap();
    let (middle, size) = (bytes.len() / 2, bytes.len());
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    std::fs::write(folder.path().join("scans/left-behind.parquet"), "not mine").unwrap();
    town.history.look_for_strangers().await.unwrap();
    let (rows, warnings) = count(&town).await;
    assert_eq!(rows, 0);
    let others = format!("select count(seq) from scans where district = {}", id(district(1).as_bytes()));
    assert_eq!(town.query(&others).await.1.len(), 1, "a damaged file of another district is nobody else's business");
    let codes: Vec<&str> = warnings.iter().map(Warning::code).collect();
    assert_eq!(codes, ["history_file_foreign", "history_file_damaged"], "{warnings:?}");
    bytes[middle] ^= 0xff;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(bytes.len(), size);
    town.history.0.look_again_at_damaged().await.unwrap();
    let (rows, warnings) = count(&town).await;
    assert_eq!((rows, warnings[0].code()), (2, "history_file_foreign"));
    assert!(folder.path().join("scans/left-behind.parquet").exists());
}

#[tokio::test]
async fn a_lost_store_leaves_what_is_hot_and_says_so() {
    let town = town_on(Arc::new(InMemory::new())).await;
    town.store.kill();
    let (rows, warnings) = count(&town).await;
    assert_eq!(rows, 1);
    assert!(matches!(&warnings[..], [Warning::Away { rows_before: 4, .. }]), "{warnings:?}");
    assert!(town.history.flush().await.is_err());
    assert_eq!(town.log.oldest(), Offset(4), "the log keeps the row that could not be written");
    town.store.revive();
    assert_eq!(count(&town).await, (5, vec![]));
    assert!(town.history.flush().await.unwrap());
    assert_eq!(count(&town).await, (5, vec![]));
}

#[tokio::test]
async fn before_history_is_open_the_log_answers() {
    let mut town = Town::new();
    town.append(Kind::Scan, 0, &[(1, 10)], 0);
    assert_eq!(count(&town).await, (1, vec![]), "nothing has become hot yet");
    town.move_window(0);
    assert_eq!(count(&town).await, (1, vec![]));
    town.move_window(100);
    assert_eq!(count(&town).await, (1, vec![]), "read from the log");
}

#[tokio::test]
async fn a_manifest_that_lost_its_middle_is_refused() {
    let store = Arc::new(InMemory::new());
    let mut town = town_on(store.clone()).await;
    store.put(&Path::from("history/manifest/00000000000000000002.json"), "x".into()).await.unwrap();
    town.restart();
    assert!(matches!(town.history.open().await, Err(HistoryError::Manifest(_))));
    for version in 1..=3 {
        store.delete(&Path::from(format!("history/manifest/{version:020}.json"))).await.unwrap();
    }
    assert!(matches!(town.history.open().await, Err(HistoryError::Manifest(_))), "files without a manifest are not taken for orphans");
}

/// An edit that was confirmed, so that the log was trimmed, and is damaged later: going back would lose rows in silence.
#[tokio::test]
async fn a_confirmed_edit_that_rots_is_refused() {
    let store = Arc::new(InMemory::new());
    let mut town = town_on(store.clone()).await;
    store.put(&Path::from("history/manifest/00000000000000000003.json"), "x".into()).await.unwrap();
    town.restart();
    assert!(matches!(town.history.open().await, Err(HistoryError::Manifest(_))));
}

#[tokio::test]
async fn whoever_opens_later_takes_over() {
    let mut town = town_on(Arc::new(InMemory::new())).await;
    let earlier = town.history.clone();
    town.restart();
    town.history.open().await.unwrap();
    assert!(matches!(earlier.flush().await, Err(HistoryError::Fenced { .. })));
    town.history.flush().await.unwrap();
    assert_eq!(count(&town).await, (5, vec![]));
}

#[tokio::test]
async fn another_log_is_refused() {
    let town = town_on(Arc::new(InMemory::new())).await;
    let other = Arc::new(TrimmedLog(MemoryLog::new(), Mutex::default()));
    let place = Place::on(Arc::new(town.store.clone()), "mem://town", Path::from("history")).unwrap();
    let history = History::new(place, other, Clock::stepped(START), config(), &prometheus::Registry::new()).unwrap();
    assert!(matches!(history.open().await, Err(HistoryError::Ahead { .. })));
}

/// Rows that the log gave up before history had them are in no answer, and every answer says so.
#[tokio::test]
async fn a_gap_is_said_with_every_result() {
    let mut town = town_on(Arc::new(InMemory::new())).await;
    town.append(Kind::Scan, 0, &[(4, 40)], 0);
    town.log.0.commit(crate::history::READER, Offset(5));
    town.restart();
    town.history.flush().await.unwrap();
    let (rows, warnings) = count(&town).await;
    assert_eq!((rows, warnings), (5, vec![Warning::Gap { from: 4, to: 5 }]));
}

#[tokio::test]
async fn old_days_are_given_up_and_their_files_deleted() {
    let store = Arc::new(InMemory::new());
    let mut town = town_on(store).await;
    town.config.keep_days.insert(Kind::Scan, 1);
    town.restart();
    town.clock.set(START.plus_ms(2 * DAY_MS));
    assert_eq!(town.history.retain().await.unwrap(), 1);
    assert_eq!(town.history.sweep().await.unwrap(), 1);
    town.move_window(0);
    assert_eq!(count(&town).await, (3, vec![]));
}

/// A tombstone that is durable is enough: rows in the log do not come back, and the files are rewritten by the next start.
#[tokio::test]
async fn an_erasure_survives_a_crash_in_its_middle() {
    let mut town = town_on(Arc::new(InMemory::new())).await;
    town.append(Kind::Scan, 0, &[(1, 40)], 0);
    town.store.die_at(1, Death::Before);
    assert!(town.history.erase(district(0), person(1)).await.is_err());
    town.restart();
    town.history.finish_erasures().await.unwrap();
    town.history.flush().await.unwrap();
    assert_eq!(count(&town).await, (3, vec![]));
    town.append(Kind::Scan, 0, &[(1, 50)], 0);
    town.history.flush().await.unwrap();
    assert_eq!(count(&town).await, (4, vec![]), "what comes after the erasure is kept");
    assert_eq!(town.history.state().unwrap().tombstones, vec![], "a tombstone goes when the log has no row before it");
}
