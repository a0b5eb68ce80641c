//! The hot tables against a log in memory: what is shared, what is kept, what is pruned.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use datafusion::prelude::{SessionConfig, SessionContext};
use rollcall_model::event::{ActivityKind, Direction, Kind, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId, SectionId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::{self, ScanRow};
use rollcall_stream::{EventBatch, Log};
use tokio_util::sync::CancellationToken;

use super::provider::batches_read;
use super::*;

fn id(kind: u8, number: u64) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes
}

/// Scan `n` happens at second `n`, by one of 300 students, at one of five schools.
fn row(n: u64) -> ScanRow {
    ScanRow {
        district: DistrictId::from_bytes([1; 16]),
        school: SchoolId::from_bytes(id(2, n % 5)),
        badge: BadgeId::from_bytes(id(5, n % 300)),
        method: Method::Qr,
        evidence: ScanEvidence {
            student: PersonId::from_bytes(id(4, n % 300)),
            device: DeviceId::from_bytes(id(3, n % 7)),
            seq: n,
            ts: UtcMillis(n as i64 * 1_000),
            received: UtcMillis(n as i64 * 1_000),
            direction: Direction::In,
            offline: false,
            offset: Offset(0),
        },
    }
}

fn scans(numbers: std::ops::Range<u64>, first: u64) -> EventBatch {
    let mut batch = scan::encode(&numbers.map(row).collect::<Vec<_>>());
    batch.first = Offset(first);
    batch
}

fn tables(batch_rows: usize, bytes_max: usize) -> Arc<HotTables> {
    HotTables::new(HotConfig { batch_rows, bytes_max, keep: Duration::from_secs(3_600) })
}

fn context(tables: &Arc<HotTables>) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_table("scans", Arc::new(HotTable::new(Arc::clone(tables), Kind::Scan))).unwrap();
    context
}

async fn count(context: &SessionContext, filter: &str) -> String {
    let frame = context.sql(&format!("select count(*) from scans where {filter}")).await.unwrap();
    let batches = frame.collect().await.unwrap();
    array_value_to_string(batches[0].column(0), 0).unwrap()
}

fn hex(id: [u8; 16]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("arrow_cast(x'{digits}', 'FixedSizeBinary(16)')")
}

#[tokio::test]
async fn a_large_batch_is_queried_in_the_logs_own_buffers() {
    let tables = tables(1_000, usize::MAX);
    let batch = scans(0..1_500, 0);
    tables.take(std::slice::from_ref(&batch), Offset(1_500), UtcMillis(0));
    let shown = context(&tables).sql("select seq, person, ts from scans").await.unwrap().collect().await.unwrap();
    assert_eq!(shown.len(), 1);
    for (place, column) in [(0, 3), (1, 7), (2, 4)] {
        let (shown, log) = (shown[0].column(place).to_data(), batch.rows.column(column).to_data());
        assert_eq!(shown.buffers()[0].as_ptr(), log.buffers()[0].as_ptr(), "column {column} was copied");
    }
}

#[test]
fn small_batches_are_put_together_once_and_in_order() {
    let tables = tables(1_000, usize::MAX);
    for n in 0..25 {
        tables.take(&[scans(n * 100..(n + 1) * 100, n * 100)], Offset((n + 1) * 100), UtcMillis(0));
    }
    let snapshot = tables.snapshot(Kind::Scan);
    let sizes: Vec<usize> = snapshot.batches.iter().map(|batch| batch.rows.num_rows()).collect();
    assert_eq!(sizes, [1_000, 1_000, 100, 100, 100, 100, 100]);
    assert_eq!((snapshot.first, snapshot.end, snapshot.rows()), (Offset(0), Offset(2_500), 2_500));
    let ends: Vec<(u64, u64)> = snapshot.batches.iter().map(|batch| (batch.first.0, batch.last.0)).collect();
    assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ends:?}");
    // What is queryable as a coalesced batch is not copied again by later batches.
    let before = Arc::clone(&snapshot.batches[0]);
    tables.take(&[scans(2_500..2_600, 2_500)], Offset(2_600), UtcMillis(0));
    assert!(Arc::ptr_eq(&before, &tables.snapshot(Kind::Scan).batches[0]));
}

#[test]
fn the_oldest_leaves_by_time_and_by_bytes() {
    let tables = tables(100, usize::MAX);
    for n in 0..10 {
        tables.take(&[scans(n * 100..(n + 1) * 100, n * 100)], Offset((n + 1) * 100), UtcMillis(0));
    }
    // Row 999 was received at second 999; an hour and 500 seconds later the first five batches are too old.
    tables.take(&[], Offset(1_000), UtcMillis((3_600 + 500) * 1_000));
    let snapshot = tables.snapshot(Kind::Scan);
    assert_eq!((snapshot.first, snapshot.rows()), (Offset(500), 500));

    let one = snapshot.batches[0].bytes;
    let tables = self::tables(100, 3 * one);
    for n in 0..10 {
        tables.take(&[scans(n * 100..(n + 1) * 100, n * 100)], Offset((n + 1) * 100), UtcMillis(0));
    }
    let snapshot = tables.snapshot(Kind::Scan);
    assert!(snapshot.bytes() <= 3 * one);
    assert_eq!((snapshot.first, snapshot.rows()), (Offset(700), 300));
}

#[tokio::test]
async fn filters_prune_batches_and_give_what_a_full_scan_gives() {
    let tables = tables(2_000, usize::MAX);
    tables.take(&[scans(0..20_000, 0)], Offset(20_000), UtcMillis(0));
    let context = context(&tables);
    let cases = [
        (format!("person = {}", hex(id(4, 7))), (0..20_000).filter(|n| n % 300 == 7).count()),
        (format!("school = {} and person = {}", hex(id(2, 2)), hex(id(4, 7))), (0..20_000).filter(|n| n % 300 == 7 && n % 5 == 2).count()),
        (format!("school in ({}, {})", hex(id(2, 1)), hex(id(2, 3))), (0..20_000).filter(|n| n % 5 == 1 || n % 5 == 3).count()),
        (format!("device = {} or device = {}", hex(id(3, 0)), hex(id(3, 6))), (0..20_000).filter(|n| n % 7 == 0 || n % 7 == 6).count()),
        (format!("person = {}", hex(id(9, 9))), 0),
        ("ts >= to_timestamp_millis(6000000) and ts < to_timestamp_millis(6500000)".to_owned(), 500),
        ("\"offset\" between 19990 and 20010".to_owned(), 10),
        ("dir = 'in' and method = 'nfc'".to_owned(), 0),
    ];
    for (filter, expected) in cases {
        assert_eq!(count(&context, &filter).await, expected.to_string(), "{filter}");
    }
}

#[tokio::test]
async fn statistics_leave_batches_out() {
    let tables = tables(2_000, usize::MAX);
    tables.take(&[scans(0..20_000, 0)], Offset(20_000), UtcMillis(0));
    let read = async |filter: &str| {
        let frame = context(&tables).sql(&format!("select seq from scans where {filter}")).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let mut node = plan;
        while let Some(child) = node.children().first().map(|child| Arc::clone(child)) {
            node = child;
        }
        batches_read(node.as_ref())
    };
    assert_eq!(read("ts >= to_timestamp_millis(6000000) and ts < to_timestamp_millis(6500000)").await, Some((1, 10)));
    assert_eq!(read("\"offset\" >= 18000").await, Some((1, 10)));
    assert_eq!(read(&format!("school = {}", hex(id(2, 1)))).await, Some((10, 10)));
    assert_eq!(read(&format!("school = {}", hex(id(9, 1)))).await.map(|(read, _)| read).unwrap_or(0), 0);
}

/// How many batches of a table a question reads, of how many.
async fn read_of(tables: &Arc<HotTables>, kind: Kind, filter: &str) -> (usize, usize) {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_table("asked", Arc::new(HotTable::new(Arc::clone(tables), kind))).unwrap();
    let frame = context.sql(&format!("select seq from asked where {filter}")).await.unwrap();
    let mut node = frame.create_physical_plan().await.unwrap();
    while let Some(child) = node.children().first().map(|child| Arc::clone(child)) {
        node = child;
    }
    batches_read(node.as_ref()).unwrap()
}

#[tokio::test]
async fn batches_without_the_device_or_the_section_are_not_read() {
    let tables = tables(2_000, usize::MAX);
    // Ten thousand rows in five batches: each has one device and one section of its own.
    let mut rows: Vec<ScanRow> = (0..10_000).map(row).collect();
    rows.iter_mut().enumerate().for_each(|(n, row)| row.evidence.device = DeviceId::from_bytes(id(3, n as u64 / 2_000)));
    let acts = rows.iter().enumerate().map(|(n, row)| ActivityRow {
        district: row.district,
        school: row.school,
        device: row.evidence.device,
        seq: row.evidence.seq,
        ts: row.evidence.ts,
        received: row.evidence.received,
        offline: false,
        person: row.evidence.student,
        kind: ActivityKind::Answered,
        resource: "reader",
        section: Some(SectionId::from_bytes(id(6, n as u64 / 2_000))),
        dur_ms: None,
        offset: Offset(0),
    });
    let mut acts = activity::encode(&acts.collect::<Vec<_>>());
    acts.first = Offset(10_000);
    tables.take(&[scan::encode(&rows), acts], Offset(20_000), UtcMillis(0));
    let device = format!("device = {}", hex(id(3, 3)));
    assert_eq!(read_of(&tables, Kind::Scan, &device).await, (1, 5));
    assert_eq!(read_of(&tables, Kind::Activity, &device).await, (1, 5));
    assert_eq!(read_of(&tables, Kind::Activity, &format!("section = {}", hex(id(6, 1)))).await, (1, 5));
    assert_eq!(read_of(&tables, Kind::Activity, &format!("section = {}", hex(id(6, 9)))).await, (0, 5));
}

#[tokio::test]
async fn a_limit_is_kept() {
    let tables = tables(2_000, usize::MAX);
    tables.take(&[scans(0..20_000, 0)], Offset(20_000), UtcMillis(0));
    let batches = context(&tables).sql("select seq from scans limit 2500").await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2_500);
}

#[test]
fn memory_stays_near_the_raw_columns() {
    let tables = tables(8_192, usize::MAX);
    let batch = scans(0..40_960, 0);
    let raw = batch.bytes();
    tables.take(&[batch], Offset(40_960), UtcMillis(0));
    let hot = tables.snapshot(Kind::Scan).bytes();
    assert!(hot as f64 <= 1.3 * raw as f64, "{hot} bytes for {raw} raw ones");

    // The same in batches of fifty, as a gate sends them.
    let small = self::tables(8_192, usize::MAX);
    (0..40_960).step_by(50).for_each(|n| small.take(&[scans(n..n + 50, n)], Offset(n + 50), UtcMillis(0)));
    let hot = small.snapshot(Kind::Scan).bytes();
    assert!(hot as f64 <= 1.3 * raw as f64, "{hot} bytes for {raw} raw ones, in small batches");
}

#[tokio::test]
async fn the_reader_starts_with_the_configured_hours_and_follows() {
    let log = Arc::new(MemoryLog::new());
    for n in 0..100 {
        log.append(vec![scans(n * 100..(n + 1) * 100, 0)]).unwrap();
    }
    // Row n was received at second n; at second 10,000 the last hour begins with row 6,400.
    let clock = Clock::stepped(UtcMillis(10_000 * 1_000));
    let tables = tables(1_000, usize::MAX);
    let stop = CancellationToken::new();
    let mut changed = tables.changed();
    let running = tokio::spawn(Arc::clone(&tables).run(log.clone(), clock, stop.clone()));
    changed.wait_for(|offset| offset.0 == 10_000).await.unwrap();
    let snapshot = tables.snapshot(Kind::Scan);
    assert!((6_300..=6_400).contains(&snapshot.first.0), "{}", snapshot.first);
    assert_eq!(snapshot.rows() as u64, 10_000 - snapshot.first.0);
    log.append(vec![scans(10_000..10_050, 0)]).unwrap();
    changed.wait_for(|offset| offset.0 == 10_050).await.unwrap();
    assert_eq!(tables.snapshot(Kind::Scan).batches.last().unwrap().last, Offset(10_049));
    assert!(log.status().readers.is_empty(), "the hot tables must not hold the log back");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn rows_that_came_one_by_one_stand_in_few_batches() {
    let tables = tables(8_192, usize::MAX);
    let most = (0..5_000).map(|n| {
        tables.take(&[scans(n..n + 1, n)], Offset(n + 1), UtcMillis(0));
        tables.snapshot(Kind::Scan).batches.len()
    });
    assert!(most.max().unwrap() <= 4 * FAN_IN, "at most so many of each of four sizes");
    let snapshot = tables.snapshot(Kind::Scan);
    assert!(snapshot.batches.windows(2).all(|pair| pair[0].last < pair[1].first), "in the order of the log");
    assert_eq!((snapshot.rows(), snapshot.first), (5_000, Offset(0)));
    assert_eq!(count(&context(&tables), "seq >= 2500").await, "2500");
}

/// A small school has a scan now and then, never enough for a batch of the usual size.
#[test]
fn rows_that_never_fill_a_batch_leave_when_they_are_too_old() {
    let tables = tables(32_768, usize::MAX);
    for n in 0..3 * 3_600 {
        tables.take(&[scans(n..n + 1, n)], Offset(n + 1), UtcMillis(n as i64 * 1_000));
        let snapshot = tables.snapshot(Kind::Scan);
        assert!(snapshot.batches.len() <= 8 * FAN_IN, "{} batches", snapshot.batches.len());
        assert_eq!(snapshot.rows() as u64, n + 1 - snapshot.first.0, "what is said to be there is there");
        assert!(n < 3_600 || snapshot.first.0 <= n - 3_600, "nothing leaves too early");
        assert!(snapshot.first.0 + 3_600 + 3_600 / u64::from(KEEP_PARTS) >= n, "row {} at {n}", snapshot.first);
    }
}

#[test]
fn small_batches_leave_when_there_are_too_many_bytes() {
    let tables = tables(32_768, 100_000);
    for n in 0..5_000 {
        tables.take(&[scans(n..n + 1, n)], Offset(n + 1), UtcMillis(0));
        assert!(tables.size().1 <= 100_000);
    }
    assert!(tables.size().0 > 0);
}
