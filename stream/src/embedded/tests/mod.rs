//! The log against every kind of failure that a disk, a crash or a slow reader brings.

mod damage;
mod faults;
mod limits;
mod model;
mod packing;
mod readers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use prometheus::Registry;
use rollcall_model::event::{Direction, Kind, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::UtcMillis;

use super::{EmbeddedLog, LogConfig};
use crate::heartbeat::{self, HeartbeatRow};
use crate::scan::{self, ScanRow};
use crate::schema::SEQ;
use crate::{EventBatch, KindSet, Log, LogError};

fn config() -> LogConfig {
    LogConfig {
        readers: Vec::new(),
        segment_bytes_max: 1024 * 1024,
        // Tests that want a seal close the log; none depends on how long a step takes.
        seal_after: std::time::Duration::from_secs(3_600),
        ..LogConfig::default()
    }
}

fn open(dir: &Path, config: LogConfig) -> Result<Arc<EmbeddedLog>, LogError> {
    EmbeddedLog::open(dir, config, &Registry::new())
}

/// Scans whose sequence numbers say which row each is.
fn scans(seqs: std::ops::Range<u64>) -> EventBatch {
    let rows: Vec<_> = seqs
        .map(|seq| ScanRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            badge: BadgeId::from_bytes([3; 16]),
            method: Method::Qr,
            evidence: ScanEvidence {
                student: PersonId::from_bytes([4; 16]),
                device: DeviceId::from_bytes([5; 16]),
                seq,
                ts: UtcMillis(1_000 + seq as i64),
                received: UtcMillis(2_000 + seq as i64),
                direction: Direction::In,
                offline: seq % 3 == 0,
                offset: Offset(seq),
            },
        })
        .collect();
    scan::encode(&rows)
}

fn heartbeats(seqs: std::ops::Range<u64>) -> EventBatch {
    let rows: Vec<_> = seqs
        .map(|seq| HeartbeatRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([5; 16]),
            seq,
            ts: UtcMillis(0),
            received: UtcMillis(0),
            battery: seq.is_multiple_of(2).then_some(0.5),
            fw: (!seq.is_multiple_of(2)).then(|| format!("firmware {seq}")),
            queued: None,
            uptime_s: Some(seq as i64),
            connected: None,
            offset: Offset(seq),
        })
        .collect();
    heartbeat::encode(&rows)
}

fn batch(kind: Kind, seqs: std::ops::Range<u64>) -> EventBatch {
    if kind == Kind::Scan { scans(seqs) } else { heartbeats(seqs) }
}

fn seqs(batch: &EventBatch) -> Vec<u64> {
    batch.rows.column(SEQ).as_primitive::<UInt64Type>().values().to_vec()
}

/// Blocks until a row is durable; false when the log stops before.
fn wait_durable(log: &EmbeddedLog, offset: Offset) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { log.durable().wait_for(|durable| *durable >= offset).await.is_ok() })
}

/// Appends and waits; the row after the last.
fn append(log: &EmbeddedLog, batch: EventBatch) -> Offset {
    let end = log.append(vec![batch]).unwrap();
    assert!(wait_durable(log, end));
    end
}

/// All rows from `from` on as (offset, kind, sequence number), read in small portions.
fn rows(log: &EmbeddedLog, from: Offset, kinds: KindSet) -> Result<Vec<(u64, Kind, u64)>, LogError> {
    let (mut rows, mut next) = (Vec::new(), from);
    let durable = *log.durable().borrow();
    while next < durable {
        let read = log.read_kinds(next, 1_000, kinds)?;
        assert!(read.next > next, "a read that does not move");
        for batch in &read.batches {
            assert!(batch.first >= next && batch.next() <= read.next);
            rows.extend(seqs(batch).into_iter().zip(batch.first.0..).map(|(seq, offset)| (offset, batch.kind, seq)));
        }
        next = read.next;
    }
    Ok(rows)
}

/// Expects that the rows from `from` to `end` are scans whose sequence numbers are their offsets.
fn assert_scans(log: &EmbeddedLog, from: u64, end: u64) {
    let expected: Vec<_> = (from..end).map(|row| (row, Kind::Scan, row)).collect();
    assert_eq!(rows(log, Offset(from), KindSet::ALL).unwrap(), expected);
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    files.sort();
    files
}
