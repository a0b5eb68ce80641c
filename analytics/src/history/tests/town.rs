//! A small world for the tests of history: a log that is really trimmed, hot tables that forget, and a reference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::execution::config::SessionConfig;
use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use parking_lot::Mutex;
use rollcall_model::event::{Direction, Kind, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::log::{AppendError, KindSet, LogError, LogStatus, ReadBatch};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::ScanRow;
use rollcall_stream::{EventBatch, Log, schema::schema};
use tokio::sync::watch;

use super::faults::FaultStore;
use crate::history::{History, HistoryConfig, HistoryTable, Place, QueryWarnings, READER, Warning};
use crate::hot::table::{self, KINDS};
use crate::hot::{HotConfig, HotTables};

pub const DAY_MS: i64 = 86_400_000;
/// 2026-03-02, a Monday.
pub const START: UtcMillis = UtcMillis(1_772_409_600_000);

/// A log that refuses to read what history has said to be finished with.
pub struct TrimmedLog(pub MemoryLog, pub Mutex<Disk>);

/// What the log says of its files.
#[derive(Clone, Copy, Default)]
pub struct Disk {
    pub disk_bytes: u64,
    pub budget_bytes: u64,
    pub newest_segment: Offset,
}

impl TrimmedLog {
    fn kept(&self, from: Offset) -> Result<(), LogError> {
        let oldest = self.oldest();
        if from < oldest { Err(LogError::Trimmed { asked: from, oldest }) } else { Ok(()) }
    }
}

impl Log for TrimmedLog {
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError> {
        self.0.append(batches)
    }

    fn end(&self) -> Offset {
        self.0.end()
    }

    fn durable(&self) -> watch::Receiver<Offset> {
        self.0.durable()
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError> {
        self.read_kinds(from, bytes_max, KindSet::ALL)
    }

    fn read_kinds(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        self.kept(from)?;
        self.0.read_kinds(from, bytes_max, kinds)
    }

    fn status(&self) -> LogStatus {
        let Disk { disk_bytes, budget_bytes, newest_segment } = *self.1.lock();
        LogStatus { disk_bytes, budget_bytes, newest_segment, ..self.0.status() }
    }

    fn oldest(&self) -> Offset {
        self.0.committed(READER).unwrap_or_default()
    }

    fn commit(&self, reader: &str, offset: Offset) {
        self.0.commit(reader, offset);
    }

    fn register(&self, reader: &str, offset: Offset) {
        self.0.register(reader, offset);
    }
}

/// A row as the reference knows it.
#[derive(Clone, Debug)]
pub struct Row {
    pub kind: Kind,
    pub offset: u64,
    pub district: u8,
    pub person: u8,
    pub seq: u64,
    pub erased: bool,
}

/// Batches so small that a few rows close one, so that the seam runs through closed and open ones.
const HOT: HotConfig = HotConfig { keep: Duration::from_secs(3_600), bytes_max: usize::MAX, batch_rows: 16 };

pub struct Town {
    pub log: Arc<TrimmedLog>,
    pub store: FaultStore,
    pub hot: Arc<HotTables>,
    pub clock: Clock,
    pub history: History,
    pub rows: Vec<Row>,
    pub config: HistoryConfig,
}

pub fn district(n: u8) -> DistrictId {
    DistrictId::from_bytes([n + 1; 16])
}

pub fn person(n: u8) -> PersonId {
    PersonId::from_bytes([n + 101; 16])
}

pub fn config() -> HistoryConfig {
    HistoryConfig {
        file_rows_max: 200,
        compact_files_min: 3,
        delete_delay: Duration::ZERO,
        probe_interval: Duration::ZERO,
        ..HistoryConfig::default()
    }
}

impl Town {
    pub fn new() -> Self {
        Self::on(Arc::new(InMemory::new()), config())
    }

    pub fn on(inner: Arc<dyn ObjectStore>, config: HistoryConfig) -> Self {
        let (log, store) = (Arc::new(TrimmedLog(MemoryLog::new(), Mutex::default())), FaultStore::new(inner));
        let clock = Clock::stepped(START);
        let history = history(&store, &log, &clock, &config);
        Self { log, store, hot: HotTables::new(HOT), clock, history, rows: Vec::new(), config }
    }

    /// The process is killed and started again: everything in memory is gone, the store and the log stay.
    pub fn restart(&mut self) {
        self.store.revive();
        self.history = history(&self.store, &self.log, &self.clock, &self.config);
        let end = self.log.end().0;
        self.hot.begin_at(Offset(end));
    }

    /// Appends rows of one kind that are said to have happened `day` days after the start.
    pub fn append(&mut self, kind: Kind, district_number: u8, rows: &[(u8, u64)], day: i64) {
        let batch = batch(kind, district_number, rows, day);
        let end = self.log.append(vec![batch.clone()]).unwrap();
        let first = end.0 - rows.len() as u64;
        for (offset, (person, seq)) in (first..).zip(rows) {
            self.rows.push(Row { kind, offset, district: district_number, person: *person, seq: *seq, erased: false });
        }
    }

    /// The hot tables catch up with the log; the oldest batches of each may go.
    pub fn move_window(&self, forget: usize) {
        // The hot tables' own reader would begin again where the log was trimmed past it; here it just reads what is there.
        let from = *self.hot.changed().borrow();
        let read = self.log.0.read(from, usize::MAX).unwrap();
        self.hot.take(&read.batches, read.next, START);
        self.hot.forget(forget);
    }

    pub fn forget_person(&mut self, district_number: u8, person_number: u8) {
        for row in self.rows.iter_mut().filter(|row| row.district == district_number && row.person == person_number) {
            row.erased = true;
        }
    }

    pub fn context(&self) -> (SessionContext, Arc<QueryWarnings>) {
        let warnings = Arc::new(QueryWarnings::default());
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2).with_extension(Arc::clone(&warnings)));
        for kind in KINDS {
            let table = HistoryTable::new(self.history.clone(), Arc::clone(&self.hot), kind);
            context.register_table(table::name(kind), Arc::new(table)).unwrap();
        }
        (context, warnings)
    }

    pub async fn query(&self, sql: &str) -> (Vec<RecordBatch>, Vec<Warning>) {
        let (context, warnings) = self.context();
        let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
        (rows, warnings.all())
    }

    /// Count, sum of a value, sum of offsets and number of different offsets, of the rows of one kind and of one district or all.
    pub async fn totals(&self, kind: Kind, of: Option<u8>) -> (i64, u64, u64, i64) {
        let filter = of.map_or("true".to_owned(), |number| format!("district = {}", id(district(number).as_bytes())));
        let sql = format!(
            "select count(*), coalesce(sum(seq), arrow_cast(0, 'UInt64')), coalesce(sum(\"offset\"), arrow_cast(0, 'UInt64')),
                 count(distinct \"offset\") from {} where {filter}",
            table::name(kind),
        );
        let (rows, warnings) = self.query(&sql).await;
        assert_eq!(warnings, Vec::new());
        let count = |at: usize| rows[0].column(at).as_primitive::<Int64Type>().value(0);
        let sum = |at: usize| rows[0].column(at).as_primitive::<UInt64Type>().value(0);
        (count(0), sum(1), sum(2), count(3))
    }

    /// What [`Town::totals`] must be.
    pub fn expected(&self, kind: Kind, of: Option<u8>) -> (i64, u64, u64, i64) {
        let shown = self.rows.iter().filter(|row| row.kind == kind && of.is_none_or(|number| row.district == number) && !row.erased);
        let shown: Vec<&Row> = shown.collect();
        let different: BTreeSet<u64> = shown.iter().map(|row| row.offset).collect();
        (shown.len() as i64, shown.iter().map(|row| row.seq).sum(), shown.iter().map(|row| row.offset).sum(), different.len() as i64)
    }
}

/// An id as SQL, as the engine writes it.
pub fn id(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("arrow_cast(X'{hex}', 'FixedSizeBinary(16)')")
}

fn history(store: &FaultStore, log: &Arc<TrimmedLog>, clock: &Clock, config: &HistoryConfig) -> History {
    let place = Place::on(Arc::new(store.clone()), "mem://town", Path::from("history")).unwrap();
    History::new(place, log.clone(), clock.clone(), config.clone(), &prometheus::Registry::new()).unwrap()
}

fn batch(kind: Kind, district_number: u8, rows: &[(u8, u64)], day: i64) -> EventBatch {
    let scans: Vec<ScanRow> = rows
        .iter()
        .map(|(person_number, seq)| ScanRow {
            district: district(district_number),
            school: SchoolId::from_bytes([(seq % 3) as u8; 16]),
            badge: BadgeId::from_bytes([1; 16]),
            method: Method::Nfc,
            evidence: ScanEvidence {
                student: person(*person_number),
                device: DeviceId::from_bytes([(seq % 7) as u8; 16]),
                seq: *seq,
                ts: START.plus_ms(day * DAY_MS + (*seq as i64 % 86_400) * 1000),
                received: START,
                direction: Direction::In,
                offline: false,
                offset: Offset(0),
            },
        })
        .collect();
    let scans = rollcall_stream::scan::encode(&scans);
    match kind {
        Kind::Telemetry => telemetry(&scans, rows.len()),
        _ => scans,
    }
}

/// The common columns and the person of scans, with a metric.
fn telemetry(scans: &EventBatch, rows: usize) -> EventBatch {
    let mut columns = scans.rows.columns()[..8].to_vec();
    columns.push(Arc::new(StringArray::from(vec!["steps"; rows])));
    columns.push(Arc::new(Float64Array::from(vec![1.0; rows])));
    EventBatch::new(Kind::Telemetry, RecordBatch::try_new(schema(Kind::Telemetry).clone(), columns).unwrap())
}
