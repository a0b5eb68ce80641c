//! Every durable row comes into the database exactly once, whatever happens on the way.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt64Array,
};
use chrono::NaiveDate;
use rollcall_model::event::{Direction, Kind, Method};
use rollcall_model::ids::{AccountId, BadgeId, DeviceId, MarkId, Offset};
use rollcall_model::schedule::date_span;
use rollcall_model::status::{Authority, Mark, MarkStatus, ScanEvidence};
use rollcall_model::time::UtcMillis;
use rollcall_store::Engine;
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_store::sink::{Sink, SinkError, SinkStatus};
use rollcall_stream::heartbeat::{self, HeartbeatRow};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::{self, ScanRow};
use rollcall_stream::{EventBatch, Log, mark, schema::schema};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Database, District, PATIENCE, ZONE};

/// 2026-11-20T14:00:00Z, eight o'clock in Chicago.
const MORNING: i64 = 1_795_183_200_000;

pub struct Running {
    status: watch::Receiver<SinkStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SinkError>>,
}

impl Running {
    pub fn start(database: &Database, log: &Arc<MemoryLog>) -> Self {
        let log: Arc<dyn Log> = log.clone();
        let sink = Sink::new(log, database.store.clone(), &prometheus::Registry::new()).unwrap();
        let (status, shutdown) = (sink.status(), CancellationToken::new());
        let task = tokio::spawn(sink.run(shutdown.clone()));
        Self { status, shutdown, task }
    }

    pub async fn until(&mut self, is: impl FnMut(&SinkStatus) -> bool) -> SinkStatus {
        tokio::time::timeout(PATIENCE, self.status.wait_for(is)).await.expect("the sink gets there").unwrap().clone()
    }

    pub async fn drained(&mut self, log: &MemoryLog) {
        let end = log.end();
        let status = self.until(|status| status.next >= end).await;
        assert_eq!(status.error, None);
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub fn scans(district: &District, first_seq: u64, count: u64) -> EventBatch {
    let rows: Vec<ScanRow> = (first_seq..first_seq + count)
        .map(|seq| ScanRow {
            district: district.id,
            school: district.school,
            badge: BadgeId::from_bytes([9; 16]),
            method: Method::Qr,
            evidence: ScanEvidence {
                student: district.student,
                device: DeviceId::from_bytes([3; 16]),
                seq,
                // A row a minute crosses days.
                ts: UtcMillis(MORNING + seq.cast_signed() * 60_000),
                received: UtcMillis(MORNING + seq.cast_signed() * 60_000 + 5),
                direction: Direction::In,
                offline: seq % 2 == 0,
                offset: Offset(0),
            },
        })
        .collect();
    scan::encode(&rows)
}

fn ids(ids: &[Option<Uuid>]) -> ArrayRef {
    let values = ids.iter().map(|id| id.as_ref().map(|id| id.as_bytes().as_slice()));
    Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).unwrap())
}

/// The common columns of two rows.
fn common(district: &District) -> Vec<ArrayRef> {
    let both = |id: Uuid| ids(&[Some(id), Some(id)]);
    vec![
        both(district.id.0),
        both(district.school.0),
        both(Uuid::from_bytes([3; 16])),
        Arc::new(UInt64Array::from(vec![7, u64::MAX])),
        Arc::new(Int64Array::from(vec![MORNING, MORNING + 1])),
        Arc::new(Int64Array::from(vec![MORNING + 10, MORNING + 11])),
        Arc::new(BooleanArray::from(vec![false, true])),
    ]
}

fn batch(kind: Kind, district: &District, own: Vec<ArrayRef>) -> EventBatch {
    let mut columns = common(district);
    columns.extend(own);
    EventBatch::new(kind, RecordBatch::try_new(schema(kind).clone(), columns).unwrap())
}

fn telemetry(district: &District) -> EventBatch {
    let metrics = StringArray::from(vec!["steps", "bad\0name"]);
    let own: Vec<ArrayRef> =
        vec![ids(&[Some(district.student.0), None]), Arc::new(metrics), Arc::new(Float64Array::from(vec![14.5, -0.25]))];
    batch(Kind::Telemetry, district, own)
}

fn activity(district: &District) -> EventBatch {
    let student = Some(district.student.0);
    let own: Vec<ArrayRef> = vec![
        ids(&[student, student]),
        Arc::new(UInt8Array::from(vec![3, 1])),
        Arc::new(StringArray::from(vec!["quiz:brüche-3", "video:1"])),
        ids(&[Some(Uuid::from_bytes([4; 16])), None]),
        Arc::new(Int64Array::from(vec![Some(5200), None])),
    ];
    batch(Kind::Activity, district, own)
}

fn dead_letters(district: &District) -> EventBatch {
    let own: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["v1/scan", "ws"])),
        Arc::new(StringArray::from(vec!["unknown_badge", "not_json"])),
        Arc::new(StringArray::from(vec!["no such badge", "a \0 in it"])),
        Arc::new(BinaryArray::from_vec(vec![b"{}", b"\x00\xff"])),
    ];
    batch(Kind::DeadLetter, district, own)
}

pub fn a_mark(district: &District, status: MarkStatus) -> Mark {
    Mark {
        id: MarkId::random(),
        school: district.school,
        student: district.student,
        section: None,
        period: None,
        date: "2026-11-20".parse().unwrap(),
        status,
        authority: Authority::Office,
        author: AccountId::random(),
        reason: Some("dentist".into()),
        supersedes: None,
        recorded: UtcMillis(MORNING + 77),
        at: Some(UtcMillis(MORNING)),
    }
}

fn words(district: &District) -> EventBatch {
    let word = |seq, connected| HeartbeatRow {
        district: district.id,
        school: district.school,
        device: DeviceId::from_bytes([3; 16]),
        seq,
        ts: UtcMillis(MORNING),
        received: UtcMillis(MORNING),
        battery: Some(0.61),
        fw: Some("2.4.1".into()),
        queued: None,
        uptime_s: Some(86_120),
        connected,
        offset: Offset(0),
    };
    heartbeat::encode(&[word(1, None), word(2, Some(true))])
}

/// Each offset of the log's scans is there once.
async fn assert_scans_once(database: &Database, expected: i64) {
    assert_eq!(database.count("event.scan").await, expected);
    assert_eq!(database.count("(select distinct log_offset from event.scan) offsets").await, expected);
}

#[tokio::test]
async fn all_kinds_and_districts_arrive_as_they_were_said() {
    let database = Database::start().await;
    let (one, other) = (database.district("One").await, database.district("Other").await);
    let log = Arc::new(MemoryLog::new());
    let (marked, other_marked) = (a_mark(&one, MarkStatus::Tardy), a_mark(&other, MarkStatus::AbsentExcused));
    log.append(vec![scans(&one, 1, 3), telemetry(&one), activity(&one), words(&one)]).unwrap();
    log.append(vec![
        mark::encode(one.id, &[marked.clone()]),
        mark::encode(other.id, &[other_marked]),
        dead_letters(&one),
        dead_letters(&other),
    ])
    .unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    assert_eq!(log.committed("sink"), Some(log.end()));

    let is = |relation: &'static str, condition: &'static str| database.count_where(relation, condition);
    assert_eq!(is("event.scan", "seq = 2 and ts = '2026-11-20T14:02Z' and received = '2026-11-20T14:02:00.005Z' and offline and dir = 1 and method = 1 and log_offset = 1").await, 1);
    assert_eq!(is("event.telemetry", "metric = 'steps' and value = 14.5 and person is not null and log_offset = 3").await, 1);
    assert_eq!(is("event.telemetry", "metric = U&'bad\\FFFDname' and value = -0.25 and person is null and seq = -1").await, 1);
    assert_eq!(is("event.activity", "kind = 3 and resource = 'quiz:brüche-3' and section is not null and dur_ms = 5200").await, 1);
    assert_eq!(is("event.activity", "kind = 1 and section is null and dur_ms is null and offline").await, 1);
    assert_eq!(is("event.device_status", "battery = 0.61 and fw = '2.4.1' and queued is null and uptime_s = 86120 and connected").await, 1);
    assert_eq!(
        is(
            "rollcall.mark",
            "status = 'tardy' and authority = 'office' and reason = 'dentist' and date = '2026-11-20' and at = '2026-11-20T14:00Z'"
        )
        .await,
        1
    );
    assert_eq!(database.count("rollcall.dead_letter").await, 4);
    assert_eq!(is("rollcall.dead_letter", "payload = '\\x00ff' and message = U&'a \\FFFD in it' and topic = 'ws'").await, 2);

    let date: NaiveDate = "2026-11-20".parse().unwrap();
    let cut = database.store.load_cut(one.id, one.school, date, date_span(date, ZONE)).await.unwrap();
    assert_eq!((cut.scans.len(), cut.next), (3, log.end()));
    assert_eq!(cut.marks, [marked]);
    running.stop().await;
}

#[tokio::test]
async fn interrupted_and_replayed_writes_leave_each_row_once() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let mut seq = 0;
    // Kill the program at ever later moments of its work, in the middle of whatever it does.
    for round in 0..20 {
        log.append(vec![scans(&district, seq, 400)]).unwrap();
        seq += 400;
        let running = Running::start(&database, &log);
        tokio::time::sleep(Duration::from_millis(round * 2)).await;
        running.task.abort();
        assert!(running.task.await.is_err_and(|ended| ended.is_cancelled()));
    }
    // Kill its connection, with a commit whose outcome it does not learn.
    let mut running = Running::start(&database, &log);
    for _ in 0..20 {
        log.append(vec![scans(&district, seq, 400)]).unwrap();
        seq += 400;
        database
            .as_owner(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rollcall' and pid <> pg_backend_pid()",
            )
            .await;
    }
    running.drained(&log).await;
    assert_scans_once(&database, seq.cast_signed()).await;
    running.stop().await;
}

/// A backlog is written by transactions side by side: at every moment the rows are those before the offset.
#[tokio::test]
async fn side_by_side_transactions_are_seen_one_after_another() {
    const ROWS: u64 = 200_000;
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    for part in 0..ROWS / 10_000 {
        // A row a minute would be months, and a partition a day: all of one day instead.
        log.append(vec![scans(&district, part * 10_000 % 1000, 500); 20]).unwrap();
    }
    let mut running = Running::start(&database, &log);
    let mut cuts = 0;
    while running.status.borrow().next < log.end() {
        // Not for ever: a transaction needs time to succeed.
        if cuts % 3 == 2 && cuts < 12 {
            database
                .as_owner(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rollcall' and query like 'copy %'",
                )
                .await;
        }
        let wrong = "(select count(*) as rows, coalesce(max(log_offset) + 1, 0) as past from event.scan) s,
            (select coalesce(max(next), 0) as next from rollcall.consumer_offset where reader = 'sink') o";
        assert_eq!(database.count_where(wrong, "rows <> next or past <> next").await, 0);
        cuts += 1;
    }
    assert!(cuts > 3, "looked while it was written");
    running.drained(&log).await;
    assert_scans_once(&database, ROWS.cast_signed()).await;
    running.stop().await;
}

#[tokio::test]
async fn two_sinks_at_once_do_not_double_anything() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let (mut first, mut second) = (Running::start(&database, &log), Running::start(&database, &log));
    for part in 0..50 {
        log.append(vec![scans(&district, part * 20, 20)]).unwrap();
        tokio::task::yield_now().await;
    }
    first.drained(&log).await;
    second.drained(&log).await;
    assert_scans_once(&database, 1000).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_database_that_refuses_or_is_away_is_waited_for() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let mut running = Running::start(&database, &log);
    log.append(vec![scans(&district, 0, 10)]).unwrap();
    running.drained(&log).await;

    database.as_owner("revoke usage on schema event from rollcall_app").await;
    log.append(vec![mark::encode(district.id, &[a_mark(&district, MarkStatus::Present)]), scans(&district, 10, 10)]).unwrap();
    let status = running.until(|status| status.error.is_some()).await;
    assert!(status.error.is_some_and(|error| error.contains("permission denied")));
    assert_eq!(database.count("rollcall.mark").await, 0, "nothing of a transaction that failed stays");
    database.as_owner("grant usage on schema event to rollcall_app").await;
    running.drained(&log).await;

    let Database { store, config, postgres, dir } = database;
    postgres.stop().await;
    log.append(vec![scans(&district, 20, 10)]).unwrap();
    running.until(|status| status.error.is_some()).await;
    let postgres = EmbeddedPostgres::start(dir.path()).await.unwrap();
    let database = Database { store, config, postgres, dir };
    running.drained(&log).await;
    assert_scans_once(&database, 30).await;
    assert_eq!(database.count("rollcall.mark").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_is_not_this_databases_is_refused() {
    let database = Database::start().await;
    database.as_owner("insert into rollcall.consumer_offset values ('sink', 100)").await;
    let running = Running::start(&database, &Arc::new(MemoryLog::new()));
    let ended = tokio::time::timeout(PATIENCE, running.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(SinkError::Ahead { database: Offset(100), log: Offset(0) })));
}

#[tokio::test]
async fn a_cut_is_of_one_moment_while_the_sink_writes() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let mut running = Running::start(&database, &log);
    let date: NaiveDate = "2026-11-20".parse().unwrap();
    let mut last = Offset(0);
    for part in 0..60 {
        // All of one day: ten hours of a row a minute.
        log.append(vec![scans(&district, part * 10, 10)]).unwrap();
        let cut = database.store.load_cut(district.id, district.school, date, date_span(date, ZONE)).await.unwrap();
        assert_eq!(cut.scans.len() as u64, cut.next.0, "the rows are those before the offset");
        assert!(cut.next >= last);
        last = cut.next;
        if part == 30 {
            running.drained(&log).await;
        }
    }
    assert!(last >= Offset(310), "the sink wrote meanwhile");
    running.stop().await;
}

#[tokio::test]
async fn days_of_any_age_find_their_partition() {
    let database = Database::start().await;
    if *database.store.engine() != Engine::Plain {
        return;
    }
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    // A row a minute for 3,000 minutes: three days.
    log.append(vec![scans(&district, 0, 3000)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    assert_eq!(database.count("pg_inherits where inhparent = 'event.scan'::regclass").await, 3);
    // Somebody drops one that is needed again.
    database.as_owner("drop table event.scan_20261120").await;
    log.append(vec![scans(&district, 0, 10)]).unwrap();
    running.until(|status| status.error.is_some()).await;
    running.drained(&log).await;
    assert_eq!(database.count("event.scan_20261120").await, 10);
    running.stop().await;
}
