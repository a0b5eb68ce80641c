//! History behind the engine's tables: one name, the caller's scope, and what could not be read said with the result.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::util::display::array_value_to_string;
use futures_util::StreamExt;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use rollcall_model::event::Kind;
use rollcall_model::ids::{AccountId, PersonId, SchoolId};
use rollcall_store::account::Role;

use super::town::{DAY_MS, START, Town, config, district, person};
use crate::history::HistoryConfig;
use crate::query::tables::event_tables;
use crate::query::{Bound, Caller, EngineConfig, GROUP_MIN, Limits, PrivacyKey, QueryEngine, QueryError};

pub(super) fn engine(town: &Town) -> QueryEngine {
    let engine = QueryEngine::new(EngineConfig { threads: 2, ..EngineConfig::default() }).unwrap();
    event_tables(&town.hot, Some(&town.history)).into_iter().for_each(|table| engine.register(table));
    engine
}

pub(super) fn office(district_number: u8) -> Caller {
    Caller {
        district: district(district_number),
        account: AccountId::from_bytes([9; 16]),
        role: Role::Office,
        schools: None,
        sections: None,
        students: None,
        privacy: PrivacyKey([7; 32]),
        group_min: GROUP_MIN,
    }
}

/// The result's rows as text, and its warnings.
pub(super) async fn ask(engine: &QueryEngine, caller: &Caller, sql: &str) -> (Vec<String>, Vec<String>) {
    let mut stream = engine.run(caller, sql, &Limits::default()).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    let warnings = [stream.warnings.clone(), stream.later_warnings()].concat();
    let text = |batch: &arrow::array::RecordBatch, row: usize| {
        batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect::<Vec<_>>().join(" ")
    };
    (batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| text(batch, row))).collect(), warnings)
}

/// Two districts with two files of three rows each, three hot rows each, and one row of the first that is in the log only.
async fn town() -> Town {
    let mut town = Town::new();
    for day in 0..3 {
        for number in 0..2 {
            town.append(Kind::Scan, number, &[(1, 10), (2, 20), (3, 30)], day);
        }
        if day < 2 {
            town.history.flush().await.unwrap();
        }
    }
    town.move_window(0);
    town.append(Kind::Scan, 0, &[(1, 40)], 2);
    town
}

#[tokio::test]
async fn one_name_has_files_hot_rows_and_the_log_for_what_the_caller_may_see() {
    let town = town().await;
    let engine = engine(&town);
    let count = "select count(*), count(distinct \"offset\"), sum(seq), min(dir) from scans";
    let cases = [
        (office(0), "10 10 220 in"),
        (office(1), "9 9 180 in"),
        // Schools are numbered by `seq % 3`: 10 and 40 are at the second.
        (Caller { schools: Some(BTreeSet::from([SchoolId::from_bytes([1; 16])])), ..office(0) }, "4 4 70 in"),
        (
            Caller { role: Role::Teacher, students: Some(BTreeSet::from([person(2), PersonId::from_bytes([1; 16])])), ..office(0) },
            "3 3 60 in",
        ),
    ];
    for (caller, expected) in cases {
        assert_eq!(ask(&engine, &caller, count).await, (vec![expected.to_owned()], vec![]), "{caller:?}");
    }
    let days = "select date_trunc('day', ts) as day, count(*) from scans group by day order by day";
    let lines = ask(&engine, &office(1), days).await.0;
    assert_eq!(lines, ["2026-03-02T00:00:00Z 3", "2026-03-03T00:00:00Z 3", "2026-03-04T00:00:00Z 3"]);
}

#[tokio::test]
async fn an_erased_person_is_in_no_part() {
    let mut town = town().await;
    town.history.erase(district(0), person(1)).await.unwrap();
    town.forget_person(0, 1);
    let engine = engine(&town);
    let sql = "select count(*), coalesce(sum(seq), 0) from scans";
    assert_eq!(ask(&engine, &office(0), sql).await.0, ["6 150"], "four rows of person 1 are gone");
    assert_eq!(ask(&engine, &office(1), sql).await.0, ["9 180"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_the_result() {
    let town = town().await;
    let damaged = town.history.state().unwrap().files.keys().next().unwrap().clone();
    town.history.place().remove(&damaged).await.unwrap();
    let engine = engine(&town);
    let (rows, warnings) = ask(&engine, &office(0), "select count(seq) from scans").await;
    assert_eq!(rows, ["7"]);
    assert!(warnings.len() == 1 && warnings[0].contains(&damaged), "{warnings:?}");
    let (rows, warnings) = ask(&engine, &office(1), "select count(seq) from scans").await;
    assert_eq!((rows, warnings), (vec!["9".to_owned()], vec![]), "another district's file is nobody else's business");
    town.store.kill();
    let (rows, warnings) = ask(&engine, &office(1), "select count(seq) from scans").await;
    assert_eq!(rows, ["3"]);
    assert!(warnings.len() == 1 && warnings[0].contains("history cannot be read"), "{warnings:?}");
}

#[tokio::test]
async fn a_step_that_panics_on_a_changed_file_is_done_again_without_it() {
    let count = "select count(seq) from scans";
    // The second has steps in tasks of their own.
    for (sql, expected) in [(count, "7"), ("select dir, count(seq) from scans group by dir", "in 7")] {
        let town = town().await;
        let engine = engine(&town);
        let path = town.history.state().unwrap().files.keys().next().unwrap().clone();
        let place = town.history.place();
        let size = place.get(&path).await.unwrap().len();
        place.remove(&path).await.unwrap();
        place.put(&path, vec![0xa5; size].into()).await.unwrap();
        town.store.panic_once();
        let ended = engine.run(&office(1), count, &Limits::default()).await.unwrap().collect().await;
        assert!(matches!(ended, Err(QueryError::Failed(_))), "its files are right, so it is a fault of the engine: {ended:?}");
        // Nobody else is told to wait because of it.
        assert_eq!(ask(&engine, &office(1), count).await, (vec!["9".to_owned()], vec![]));
        town.store.panic_once();
        let (rows, warnings) = ask(&engine, &office(0), sql).await;
        assert_eq!(rows, [expected], "{warnings:?}");
        assert!(warnings.len() == 1 && warnings[0].contains(&path), "{warnings:?}");
    }
}

/// Both were looked at before the question, and were right.
#[tokio::test]
async fn a_file_that_is_lost_or_changed_later_is_left_out_by_name_too() {
    for is_deleted in [true, false] {
        let town = town().await;
        let engine = engine(&town);
        assert_eq!(ask(&engine, &office(0), "select count(seq) from scans").await, (vec!["10".to_owned()], vec![]));
        let path = town.history.state().unwrap().files.keys().next().unwrap().clone();
        let place = town.history.place();
        let bytes = place.get(&path).await.unwrap();
        place.remove(&path).await.unwrap();
        if !is_deleted {
            place.put(&path, vec![0xa5; bytes.len()].into()).await.unwrap();
        }
        for _ in 0..2 {
            let (rows, warnings) = ask(&engine, &office(0), "select count(seq), sum(seq) from scans").await;
            assert_eq!(rows, ["7 160"], "{warnings:?}");
            assert!(warnings.len() == 1 && warnings[0].contains(&path), "{warnings:?}");
        }
        // It is there again, as it was.
        place.put(&path, bytes).await.unwrap();
        town.history.0.look_again_at_damaged().await.unwrap();
        assert_eq!(ask(&engine, &office(0), "select count(seq) from scans").await, (vec!["10".to_owned()], vec![]));
    }
}

#[tokio::test]
async fn rows_that_were_sent_already_end_with_the_name_of_the_file_that_is_lost() {
    const ROWS: u64 = 300_000;
    let mut town = Town::on(Arc::new(InMemory::new()), HistoryConfig { file_rows_max: 1_000_000, ..config() });
    for day in 0..2 {
        let rows: Vec<(u8, u64)> = (0..ROWS).map(|seq| ((seq % 5) as u8, seq)).collect();
        town.append(Kind::Scan, 0, &rows, day * 10);
        town.history.flush().await.unwrap();
    }
    town.move_window(usize::MAX);
    let engine = QueryEngine::new(EngineConfig { threads: 1, ..EngineConfig::default() }).unwrap();
    event_tables(&town.hot, Some(&town.history)).into_iter().for_each(|table| engine.register(table));
    let mut stream = engine.run(&office(0), "select seq, person, device from scans", &Limits::default()).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    let lost = town.history.state().unwrap().files.keys().next_back().unwrap().clone();
    town.history.place().remove(&lost).await.unwrap();
    let error = loop {
        match stream.next().await.expect("the rows do not end as if they were all") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.code() == "sql_changed" && error.to_string().contains(&lost), "{error}");
    let (rows, warnings) = ask(&engine, &office(0), "select count(seq) from scans").await;
    assert_eq!(rows, [ROWS.to_string()]);
    assert!(warnings.len() == 1 && warnings[0].contains(&lost), "{warnings:?}");
}

#[tokio::test]
async fn footers_are_read_once_for_all_queries() {
    let town = town().await;
    let engine = engine(&town);
    let reads = || town.history.0.footers.list_entries().values().map(|entry| entry.hits).collect::<Vec<_>>();
    for _ in 0..3 {
        ask(&engine, &office(0), "select max(seq) from scans where seq > 5").await;
    }
    let hits = reads();
    assert!(hits.len() == 2 && hits.iter().all(|hits| *hits >= 2), "two files of the district, read once and found twice: {hits:?}");
}

/// What another program finds in a file: zstd, in order of school, device and time, its offsets, and filters of devices and people.
#[tokio::test]
async fn a_file_is_sorted_packed_and_says_which_rows_of_the_log_it_has() {
    let mut town = Town::new();
    let rows: Vec<(u8, u64)> = (0..500).map(|n| ((n * 7 % 5) as u8, n * 37 % 1_000)).collect();
    town.append(Kind::Scan, 0, &rows, 0);
    while town.history.flush().await.unwrap() {}
    let state = town.history.state().unwrap();
    let mut next = 0;
    let mut files: Vec<_> = state.files.values().collect();
    files.sort_unstable_by_key(|file| file.first);
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(town.history.place().get(&file.path).await.unwrap()).unwrap();
        let metadata = reader.metadata().clone();
        let said = |key: &str| {
            let pairs = metadata.file_metadata().key_value_metadata().unwrap().iter();
            pairs.filter(|pair| pair.key == key).find_map(|pair| pair.value.clone()).unwrap()
        };
        assert_eq!((said("rollcall.first"), said("rollcall.rows")), (next.to_string(), file.rows.to_string()));
        next = said("rollcall.end").parse().unwrap();
        for group in metadata.row_groups() {
            let sorted: Vec<&str> =
                group.sorting_columns().unwrap().iter().map(|by| group.column(by.column_idx as usize).column_descr().name()).collect();
            assert_eq!(sorted, ["school", "device", "ts"]);
            for column in group.columns() {
                assert!(matches!(column.compression(), Compression::ZSTD(_)), "{:?}", column.compression());
                let filtered = ["device", "person"].contains(&column.column_descr().name());
                assert_eq!(column.bloom_filter_offset().is_some(), filtered, "{}", column.column_descr().name());
            }
        }
        let mut keys = Vec::new();
        for rows in reader.build().unwrap() {
            let rows = rows.unwrap();
            let text = |name: &str, row| array_value_to_string(rows.column_by_name(name).unwrap(), row).unwrap();
            keys.extend((0..rows.num_rows()).map(|row| ["school", "device", "ts"].map(|name| text(name, row))));
        }
        assert!(keys.len() as u64 == file.rows && keys.is_sorted(), "{}", file.path);
    }
    assert_eq!(next, 500);
}

/// Files of many days are merged, and with them their dictionaries of words.
#[tokio::test]
async fn merged_files_keep_their_words() {
    let mut town = Town::new();
    for _ in 0..40 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], 0);
        town.history.flush().await.unwrap();
    }
    town.clock.set(START.plus_ms(DAY_MS));
    while town.history.compact().await.unwrap() {}
    assert_eq!(town.history.state().unwrap().files.len(), 1);
    town.hot.begin_at(rollcall_model::ids::Offset(80));
    let sql = "select dir, method, count(*) from scans group by dir, method";
    assert_eq!(ask(&engine(&town), &office(0), sql).await.0, ["in nfc 80"]);
}

/// The days of a school year, a file each, and a question that names none of them.
#[tokio::test]
async fn a_year_without_a_filter_is_admitted_and_a_limit_that_it_reaches_is_named() {
    let mut town = Town::new();
    for day in 0..180 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20), (3, 30)], day);
        town.history.flush().await.unwrap();
    }
    town.move_window(0);
    let engine = engine(&town);
    let sql = "select count(*), count(distinct date_trunc('day', ts)), sum(seq) from scans";
    assert_eq!(ask(&engine, &office(0), sql).await, (vec!["540 180 10800".to_owned()], vec![]));
    let few = Limits { rows: 100, ..Limits::default() };
    let stream = engine.run(&office(0), "select * from scans", &few).await.unwrap();
    let error = stream.collect().await.unwrap_err();
    assert!(matches!(error, QueryError::Limit { bound: Bound::Rows, .. }), "{error}");
}
