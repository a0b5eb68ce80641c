//! Several appenders and several readers at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

use super::{append, config, heartbeats, open, rows, scans};
use crate::embedded::LogConfig;
use crate::{EventBatch, KindSet, Log, Tail};

#[test]
fn a_filter_passes_over_other_kinds_in_memory_and_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogConfig { segment_bytes_max: 20_000, ..config() }).unwrap();
    for round in 0..30 {
        append(&log, heartbeats(round * 10..round * 10 + 7));
        append(&log, scans(round * 10 + 7..round * 10 + 10));
    }
    let expected: Vec<_> = (0..300).filter(|row| row % 10 >= 7).map(|row| (row, Kind::Scan, row)).collect();
    let only = KindSet::of(&[Kind::Scan, Kind::Mark]);
    assert_eq!(rows(&log, Offset(0), only).unwrap(), expected);
    assert_eq!(rows(&log, Offset(105), only).unwrap(), expected[30..]);
    assert!(rows(&log, Offset(0), KindSet::of(&[Kind::Mark])).unwrap().is_empty());
    log.close();
    drop(log);
    let log = open(dir.path(), config()).unwrap();
    assert!(log.read_cached(Offset(0), 1, only).is_none(), "nothing is in memory after a start");
    assert_eq!(rows(&log, Offset(0), only).unwrap(), expected);
    assert_eq!(rows(&log, Offset(108), only).unwrap(), expected[31..]);
}

#[test]
fn rows_read_from_files_are_the_rows_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config()).unwrap();
    let (scanned, beaten) = (scans(0..9_000), heartbeats(9_000..9_050));
    let end = log.append(vec![scanned.clone(), beaten.clone()]).unwrap();
    assert!(super::wait_durable(&log, end));
    log.close();
    drop(log);
    let log = open(dir.path(), config()).unwrap();
    let read = log.read(Offset(0), usize::MAX).unwrap();
    let sizes: Vec<_> = read.batches.iter().map(|batch| batch.len()).collect();
    assert_eq!(sizes, [8_192, 808, 50]);
    assert_eq!(*read.batches[0].rows, scanned.rows.slice(0, 8_192));
    assert_eq!(*read.batches[1].rows, scanned.rows.slice(8_192, 808));
    assert_eq!(read.batches[2].rows, beaten.rows);
    let middle = log.read(Offset(8_200), usize::MAX).unwrap();
    assert_eq!((middle.batches[0].first, middle.batches[0].len()), (Offset(8_200), 800));
}

#[test]
fn a_read_from_files_is_bounded_by_the_columns_it_brings_not_by_how_small_they_were_packed() {
    let dir = tempfile::tempdir().unwrap();
    let rows = 40_000;
    let log = open(dir.path(), config()).unwrap();
    let end = log.append(vec![scans(0..rows)]).unwrap();
    assert!(super::wait_durable(&log, end));
    log.close();
    drop(log);
    let log = open(dir.path(), config()).unwrap();
    let all: usize = log.read(Offset(0), usize::MAX).unwrap().batches.iter().map(EventBatch::bytes).sum();
    let on_disk = log.status().disk_bytes as usize;
    assert!(on_disk * 4 < all, "{on_disk} bytes in files of {all}: the test needs rows that pack well");
    let mut next = Offset(0);
    while next < Offset(rows) {
        let read = log.read(next, all / 8).unwrap();
        let bytes: Vec<usize> = read.batches.iter().map(EventBatch::bytes).collect();
        let before_last: usize = bytes[..bytes.len() - 1].iter().sum();
        assert!(before_last < all / 8, "{bytes:?}");
        next = read.next;
    }
}

#[test]
fn appenders_get_consecutive_offsets_in_their_own_order() {
    const APPENDERS: u64 = 8;
    const ROUNDS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), LogConfig { segment_bytes_max: 100_000, ..config() }).unwrap();
    let ends = std::thread::scope(|scope| {
        let appender = |me: u64| {
            let log = &log;
            // Two batches an append, which must not be torn apart by another appender.
            let rows = move |round: u64| me * 1_000_000 + round * 10..me * 1_000_000 + round * 10 + 5;
            let append = move |round| log.append(vec![scans(rows(round)), heartbeats(rows(round))]).unwrap();
            scope.spawn(move || (0..ROUNDS).map(append).map(|end| (end.0, me)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..APPENDERS).map(appender).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(super::wait_durable(&log, log.end()));
    let read = rows(&log, Offset(0), KindSet::ALL).unwrap();
    assert_eq!(read.iter().map(|row| row.0).collect::<Vec<_>>(), (0..APPENDERS * ROUNDS * 10).collect::<Vec<_>>());
    let mut rounds: BTreeMap<u64, u64> = BTreeMap::new();
    for (end, me) in ends.iter().copied().collect::<BTreeMap<u64, u64>>() {
        let round = rounds.entry(me).or_default();
        let first = me * 1_000_000 + *round * 10;
        *round += 1;
        let expected = [Kind::Scan, Kind::Status].map(|kind| (first..first + 5).map(move |seq| (kind, seq)));
        let got: Vec<_> = read[end as usize - 10..end as usize].iter().map(|row| (row.1, row.2)).collect();
        assert_eq!(got, expected.into_iter().flatten().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_follow_while_rows_are_appended_and_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    // Small groups, or one of them could hold all rows and there would be nothing to trim.
    let limits = LogConfig { segment_bytes_max: 30_000, group_bytes_max: 10_000, cache_bytes_max: 4_000, ..config() };
    let log = open(dir.path(), limits).unwrap();
    log.register("slow", Offset(0));
    log.register("fast", Offset(0));
    let follow = |name: &'static str, bytes_max: usize| {
        let (log, mut tail) = (Arc::clone(&log), Tail::new(log.clone(), Offset(0)));
        tokio::spawn(async move {
            let mut next = 0;
            while next < 10_000 {
                let read = tail.next(bytes_max).await.unwrap();
                for batch in &read.batches {
                    let expected: Vec<_> = (next..next + batch.len() as u64).collect();
                    assert_eq!((batch.first.0, super::seqs(batch)), (next, expected));
                    next = batch.next().0;
                }
                assert_eq!(tail.position(), read.next);
                log.commit(name, read.next);
            }
        })
    };
    let (slow, fast) = (follow("slow", 1), follow("fast", 1 << 20));
    for row in (0..10_000).step_by(50) {
        log.append(vec![scans(row..row + 50)]).unwrap();
        tokio::task::yield_now().await;
    }
    slow.await.unwrap();
    fast.await.unwrap();
    assert!(log.oldest() > Offset(0));
}
