//! Failing disks, full disks, budgets and queues.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rollcall_model::ids::Offset;

use super::faults::FaultyDisk;
use super::{append, assert_scans, config, heartbeats, open, scans, segment_files, wait_durable};
use crate::embedded::{EmbeddedLog, LogConfig};
use crate::{AppendError, Log, Tail};

fn open_faulty(dir: &Path, config: LogConfig) -> (Arc<EmbeddedLog>, FaultyDisk) {
    let disk = FaultyDisk::default();
    let log = EmbeddedLog::open_on(Arc::new(disk.clone()), dir, config, &Registry::new()).unwrap();
    (log, disk)
}

#[test]
fn nothing_is_acknowledged_after_a_failed_fsync_or_write() {
    for fsync in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (log, disk) = open_faulty(dir.path(), config());
        append(&log, scans(0..10));
        let synced = disk.0.lock().syncs;
        (disk.0.lock().fail_sync, disk.0.lock().fail_write) = (fsync, !fsync);
        let end = log.append(vec![scans(10..20)]).unwrap();
        assert!(!wait_durable(&log, end), "the watch must close");
        assert_eq!(*log.durable().borrow(), Offset(10));
        // The disk works again, but what the failed write left in the file cannot be trusted any more.
        (disk.0.lock().fail_sync, disk.0.lock().fail_write) = (false, false);
        let refused = log.append(vec![scans(10..20)]);
        assert!(matches!(refused, Err(AppendError::Stopped(reason)) if reason.contains("failed")));
        assert!(log.status().stopped.is_some());
        assert_scans(&log, 0, 10);
        log.close();
        assert_eq!(disk.0.lock().syncs, synced);
    }
}

#[test]
fn short_writes_are_continued() {
    let dir = tempfile::tempdir().unwrap();
    let (log, disk) = open_faulty(dir.path(), config());
    disk.0.lock().write_bytes_max = Some(37);
    append(&log, scans(0..100));
    log.close();
    drop(log);
    assert_scans(&open(dir.path(), config()).unwrap(), 0, 100);
}

#[test]
fn a_full_disk_refuses_until_there_is_space_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { full_retry: Duration::from_millis(1), ..config() };
    let (log, disk) = open_faulty(dir.path(), config.clone());
    append(&log, scans(0..10));
    disk.0.lock().space = Some(300);
    let end = log.append(vec![scans(10..20)]).unwrap();
    let refused = loop {
        match log.append(vec![heartbeats(0..1)]) {
            // Taken before the writer met the end of the disk.
            Ok(_) | Err(AppendError::Busy) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full));
    assert!(log.status().full);
    assert_eq!(*log.durable().borrow(), Offset(10));
    let segment = log.shared.segments.last();
    assert_eq!(segment.file.metadata().unwrap().len(), segment.durable_bytes(), "what did not fit is cut off");
    disk.0.lock().space = None;
    assert!(wait_durable(&log, log.end()));
    assert!(!log.status().full);
    let first = super::rows(&log, Offset(0), crate::KindSet::of(&[rollcall_model::event::Kind::Scan])).unwrap();
    assert_eq!(first.iter().map(|row| row.2).collect::<Vec<_>>(), (0..end.0).collect::<Vec<_>>());
    let (all, last) = (log.end(), append(&log, scans(0..1)));
    log.close();
    drop(log);
    let log = open(dir.path(), config).unwrap();
    assert_eq!((log.torn_bytes(), log.end(), last.0), (0, last, all.0 + 1));
}

#[test]
fn a_disk_smaller_than_the_budget_is_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    (disk.0.lock().space, disk.0.lock().total) = (Some(150_000), Some(160_000));
    let log = EmbeddedLog::open_on(Arc::new(disk.clone()), dir.path(), config(), &Registry::new()).unwrap();
    let (mut segments, mut last) = (0, Offset(u64::MAX));
    while log.status().disk_bytes < 100_000 {
        append(&log, scans(log.end().0..log.end().0 + 10));
        let status = log.status();
        let left = disk.0.lock().space.unwrap();
        assert_eq!(status.budget_bytes, status.disk_bytes + left, "what is there and what is left");
        segments += u64::from(std::mem::replace(&mut last, status.newest_segment) != status.newest_segment);
    }
    assert!(segments >= 8, "{segments} segments: their space could not be given back before the disk is full");
    disk.0.lock().space = None;
    assert_eq!(log.status().budget_bytes, config().budget_bytes);
}

#[test]
fn a_file_system_that_says_nothing_of_its_size_is_taken_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    disk.0.lock().mute = true;
    let log = EmbeddedLog::open_on(Arc::new(disk), dir.path(), config(), &Registry::new()).unwrap();
    append(&log, scans(0..10));
    let first = log.status().newest_segment;
    append(&log, scans(10..20));
    assert_eq!((log.status().budget_bytes, log.status().newest_segment), (config().budget_bytes, first));
}

#[test]
fn the_budget_refuses_until_the_slowest_reader_has_committed() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { budget_bytes: 40_000, readers: vec!["sink".to_owned()], ..config() };
    let log = open(dir.path(), config).unwrap();
    let fill = |log: &EmbeddedLog| {
        while log.status().disk_bytes < 1_000_000 {
            match log.append(vec![scans(log.end().0..log.end().0 + 10)]) {
                Ok(end) => assert!(wait_durable(log, end)),
                Err(error) => return error,
            }
        }
        panic!("the budget was not kept");
    };
    assert!(matches!(fill(&log), AppendError::Full));
    let status = log.status();
    assert!(status.full && status.disk_bytes <= 44_000, "{status:?}");
    // The sink has not said yet where it is, so the word of another reader is not enough.
    log.commit("attendance", log.end());
    assert!(log.status().full && log.oldest() == Offset(0));
    log.register("sink", Offset(0));
    log.commit("sink", Offset(log.end().0 / 2));
    assert!(!log.status().full);
    let oldest = log.oldest();
    assert!(oldest > Offset(0) && oldest.0 <= log.end().0 / 2);
    assert!(matches!(log.read(Offset(0), 1), Err(crate::LogError::Trimmed { asked: Offset(0), .. })));
    assert_scans(&log, oldest.0, log.end().0);
    assert!(matches!(fill(&log), AppendError::Full));
    log.commit("sink", log.end());
    let oldest = log.oldest();
    log.close();
    let first = super::super::segment::first_of(&segment_files(dir.path())[0]);
    assert_eq!(first, Some(oldest), "the files of trimmed segments are deleted");
}

#[test]
fn a_full_queue_is_busy_and_one_large_append_is_always_taken() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { queue_bytes_max: 10_000, queue_batches_max: 3, ..config() };
    let (log, disk) = open_faulty(dir.path(), config);
    // The writer is held in its first write for as long as the plan is locked.
    let plan = disk.0.lock();
    log.append(vec![scans(0..1_000)]).unwrap();
    assert!(matches!(log.append(vec![scans(1_000..1_001)]), Err(AppendError::Busy)));
    drop(plan);
    assert!(wait_durable(&log, Offset(1_000)));
    let plan = disk.0.lock();
    for row in 1_000..1_003 {
        log.append(vec![scans(row..row + 1)]).unwrap();
    }
    assert!(matches!(log.append(vec![scans(1_003..1_004)]), Err(AppendError::Busy)));
    drop(plan);
    log.close();
    assert!(matches!(log.append(vec![scans(0..1)]), Err(AppendError::Stopped(_))));
    assert_scans(&log, 0, 1_003);
}

#[test]
fn batches_of_many_connections_share_frames_and_fsyncs() {
    let dir = tempfile::tempdir().unwrap();
    let one_segment = LogConfig { segment_bytes_max: 64 * 1024 * 1024, ..config() };
    let (log, disk) = open_faulty(dir.path(), one_segment);
    append(&log, scans(0..1));
    let before = disk.0.lock().syncs;
    let plan = disk.0.lock();
    for batch in 0..200 {
        log.append(vec![scans(1 + batch * 100..101 + batch * 100)]).unwrap();
    }
    drop(plan);
    assert!(wait_durable(&log, Offset(20_001)));
    // The writer may have taken the first batches by themselves before it was held.
    assert!(disk.0.lock().syncs - before <= 2);
    let sizes: Vec<_> = log.read(Offset(0), usize::MAX).unwrap().batches.iter().map(|batch| batch.len()).collect();
    assert!(sizes.len() <= 7 && sizes.iter().all(|rows| *rows <= 8_192), "{sizes:?}");
    assert_scans(&log, 0, 20_001);
}

#[tokio::test]
async fn a_tail_says_that_the_log_has_stopped_once_it_has_read_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (log, disk) = open_faulty(dir.path(), config());
    append_async(&log, 10).await;
    disk.0.lock().fail_sync = true;
    log.append(vec![scans(10..11)]).unwrap();
    let mut tail = Tail::new(log.clone(), Offset(0));
    assert_eq!(tail.next(usize::MAX).await.unwrap().next, Offset(10));
    assert!(matches!(tail.next(usize::MAX).await, Err(crate::LogError::Stopped(_))));
}

async fn append_async(log: &EmbeddedLog, rows: u64) {
    let end = log.append(vec![scans(0..rows)]).unwrap();
    log.durable().wait_for(|durable| *durable >= end).await.unwrap();
}
