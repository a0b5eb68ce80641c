//! Admission: the one lock in which an event is checked against what was taken before and appended to the log.
//!
//! Promises: an event of a device with a given number enters the log at most once, whatever connections it comes through
//! and however often the process restarts; an event whose number was never seen is never dropped in silence; a failed
//! append leaves no trace. Numbers are remembered as runs ([`runs`]), in memory and in a file ([`snapshot`]).

mod buried;
mod runs;
mod snapshot;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::{Int64Type, UInt64Type};
use parking_lot::Mutex;
use rollcall_model::event::Kind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, SchoolId};
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::{AppendError, EventBatch, Log, LogError, schema};
use tokio_util::sync::CancellationToken;

use crate::config::AdmissionConfig;
use crate::decode::columns::{DeadLetters, Head, Heartbeat, Statuses};
use crate::decode::{Code, Finished, Refusal, Taken};
use crate::directory::DeviceIdentity;
use crate::metrics::Metrics;
use buried::Buried;
use runs::{Runs, Verdict};

/// The name under which admission holds back the log's trimming.
pub const READER: &str = "dedup";

/// Kept beyond the age at which events are refused, so that one decoded just before is still recognised.
const LATE_SLACK_MS: i64 = 60 * 60 * 1000;

/// Columns' bytes read at once during the replay.
const REPLAY_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    #[error("{path}: {source}")]
    Snapshot { path: PathBuf, source: std::io::Error },
    #[error("the log could not be replayed: {0}")]
    Log(#[from] LogError),
}

/// What is remembered. `connected` are the devices whose last word in the log is that they are connected.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) seen: HashMap<DeviceId, Runs>,
    pub(crate) connected: HashMap<DeviceId, (DistrictId, SchoolId)>,
    pub(crate) buried: Buried,
}

/// What became of an intake.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Acknowledge when this much of the log is durable. It covers duplicates too: it lies behind their first copies.
    pub offset: Offset,
    pub accepted: usize,
    pub duplicates: usize,
    /// Events of which nobody can say whether they were taken before; they are in the dead letters.
    pub uncertain: Vec<Refusal>,
    /// Refused payloads that were put into the dead letters; those that were there already are not counted.
    pub buried: usize,
}

/// Shared by every way in. See the module for what it promises.
pub struct Admission {
    log: Arc<dyn Log>,
    state: Mutex<State>,
    path: PathBuf,
    config: AdmissionConfig,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Reads the snapshot in `folder` and replays the log from it. Blocking; call it before anything is accepted.
    ///
    /// A snapshot that is damaged is set aside and the whole log is replayed: what the log no longer holds is then
    /// forgotten, which the log line says.
    pub fn open(
        log: Arc<dyn Log>,
        folder: &Path,
        config: AdmissionConfig,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, AdmissionError> {
        let path = folder.join("seen");
        let io = |source| AdmissionError::Snapshot { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        let (mut state, from) = match snapshot::read(&path) {
            Ok(Some(found)) => found,
            Ok(None) => (State::default(), log.oldest()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::error!(path = %path.display(), "the memory of taken events is damaged; rebuilt from the log");
                std::fs::rename(&path, path.with_extension("damaged")).map_err(io)?;
                (State::default(), log.oldest())
            }
            Err(error) => return Err(io(error)),
        };
        log.register(READER, from.min(log.end()));
        let end = *log.durable().borrow();
        let mut next = from.max(log.oldest());
        while next < end {
            let read = log.read(next, REPLAY_BYTES_MAX)?;
            read.batches.iter().for_each(|batch| replay(&mut state, batch));
            next = read.next;
        }
        tracing::info!(devices = state.seen.len(), replayed = end.0.saturating_sub(from.0), "admission is ready");
        Ok(Arc::new(Self { log, state: Mutex::new(state), path, config, clock, metrics }))
    }

    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn now(&self) -> UtcMillis {
        self.clock.now()
    }

    /// Checks and appends as one step. On an error nothing was taken, and the same intake can be tried again.
    pub fn admit(&self, intake: &Finished) -> Result<Admitted, AppendError> {
        let keys = intake.dead.as_ref().map(buried::keys).unwrap_or_default();
        let mut state = self.state.lock();
        let verdicts = state.check(&intake.events, self.config.runs_per_device_max);
        let mut admitted = Admitted { accepted: intake.events.len(), ..Admitted::default() };
        let (mut batches, uncertain) = match &verdicts {
            None => (intake.batches.clone(), None),
            Some(verdicts) => self.without_repeats(intake, verdicts, &mut admitted),
        };
        let mut laid_down = Vec::new();
        if intake.dead.is_some() || uncertain.is_some() {
            let now = self.clock.now().0;
            let uncertain = uncertain.map(|dead| (buried::keys(&dead), dead));
            let refused = intake.dead.iter().map(|dead| (&keys, dead));
            for (keys, dead) in uncertain.iter().map(|(keys, dead)| (keys, dead)).chain(refused) {
                batches.extend(state.buried.keep_new(dead, keys, now, &mut laid_down));
            }
            admitted.buried = laid_down.len();
        }
        if batches.is_empty() {
            admitted.offset = self.log.end();
        } else {
            match self.log.append(batches) {
                Ok(offset) => admitted.offset = offset,
                Err(error) => {
                    state.give_back(&intake.events, verdicts.as_deref());
                    laid_down.into_iter().for_each(|key| state.buried.remove(key));
                    return Err(error);
                }
            }
        }
        drop(state);
        let is_new = |i: usize| verdicts.as_ref().is_none_or(|v| v[i] == Verdict::New);
        self.metrics.admitted(intake, &admitted, is_new);
        Ok(admitted)
    }

    /// Appends the gateway's own word on whether devices are connected.
    pub fn admit_presence(&self, changes: &[(DeviceIdentity, bool)]) -> Result<Offset, AppendError> {
        let now = self.clock.now().0;
        let mut rows = Statuses::default();
        for (who, connected) in changes {
            let head = Head { seq: 0, ts: now, received: now, offline: false };
            rows.push(who, head, Heartbeat { connected: Some(*connected), ..Heartbeat::default() });
        }
        let mut state = self.state.lock();
        let offset = self.log.append(vec![EventBatch::new(Kind::Status, rows.finish())])?;
        for (who, connected) in changes {
            state.presence(who.device, who.district, who.school, *connected);
        }
        Ok(offset)
    }

    /// Devices that the log calls connected. Right after [`Admission::open`] these are the ones whose connection an
    /// earlier process did not see end.
    pub fn connected(&self) -> Vec<(DeviceId, DistrictId, SchoolId)> {
        self.state.lock().connected.iter().map(|(device, (district, school))| (*device, *district, *school)).collect()
    }

    /// Keeps only the rows of new events and writes a dead letter for each uncertain one.
    fn without_repeats(&self, intake: &Finished, verdicts: &[Verdict], admitted: &mut Admitted) -> (Vec<EventBatch>, Option<EventBatch>) {
        let now = self.clock.now().0;
        let mut dead = DeadLetters::default();
        let mut kept = Vec::with_capacity(intake.batches.len());
        for batch in &intake.batches {
            let mut mask = Vec::with_capacity(batch.len());
            for (event, verdict) in intake.events.iter().zip(verdicts).filter(|(event, _)| event.kind == batch.kind) {
                if *verdict == Verdict::Uncertain {
                    admitted.uncertain.push(bury(event, batch, mask.len(), now, &mut dead));
                }
                mask.extend(std::iter::repeat_n(*verdict == Verdict::New, event.rows as usize));
            }
            let rows = arrow::compute::filter_record_batch(&batch.rows, &BooleanArray::from(mask));
            let rows = rows.expect("the mask has one entry a row");
            if rows.num_rows() > 0 {
                kept.push(EventBatch::new(batch.kind, rows));
            }
        }
        admitted.accepted = verdicts.iter().filter(|v| **v == Verdict::New).count();
        admitted.duplicates = verdicts.iter().filter(|v| **v == Verdict::Duplicate).count();
        let dead = (dead.len() > 0).then(|| EventBatch::new(Kind::DeadLetter, dead.finish()));
        (kept, dead)
    }

    /// Writes the snapshot now. Waits until everything it knows is durable: a snapshot that remembers an event which the
    /// log then loses would drop the device's second attempt.
    pub async fn snapshot(&self) -> Result<Offset, AdmissionError> {
        let (bytes, offset) = {
            let mut state = self.state.lock();
            let horizon = self.clock.now().0.saturating_sub(self.config.late_max_ms).saturating_sub(LATE_SLACK_MS);
            state.forget(horizon, self.config.runs_per_device_max);
            let offset = self.log.end();
            (snapshot::encode(&state, offset), offset)
        };
        let mut durable = self.log.durable();
        let stopped = |_| LogError::Stopped("while the snapshot waited for it".into());
        durable.wait_for(|reached| *reached >= offset).await.map_err(stopped)?;
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || snapshot::write(&path, &bytes)).await;
        let written = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        written.map_err(|source| AdmissionError::Snapshot { path: self.path.clone(), source })?;
        self.log.commit(READER, offset);
        Ok(offset)
    }

    /// Writes snapshots until shutdown, and one at the end. A failed one is reported and tried again at the next turn.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut written = None;
        loop {
            let pause = Duration::from_millis(self.config.snapshot_interval_ms.max(1));
            let stop = tokio::time::timeout(pause, shutdown.cancelled()).await.is_ok();
            if written != Some(self.log.end()) {
                match self.snapshot().await {
                    Ok(offset) => written = Some(offset),
                    Err(error) => tracing::error!(%error, "the memory of taken events could not be written"),
                }
            }
            if stop {
                return;
            }
        }
    }
}

fn bury(event: &Taken, batch: &EventBatch, row: usize, now: i64, dead: &mut DeadLetters) -> Refusal {
    let message = format!("seq {} lies below what is remembered of this device", event.seq);
    let code = Code::SeqBelowWindow;
    let refusal = Refusal { device: event.device, seq: Some(event.seq), code, message };
    let id =
        |column: usize| -> [u8; 16] { batch.rows.column(column).as_fixed_size_binary().value(row).try_into().expect("ids have 16 bytes") };
    let (district, school) = (DistrictId::from_bytes(id(schema::DISTRICT)), SchoolId::from_bytes(id(schema::SCHOOL)));
    let who = DeviceIdentity::new(event.device, district, school, rollcall_model::event::DeviceKind::Gate);
    let payload = (row..row + event.rows as usize).map(|row| row_text(batch, row)).collect::<Vec<_>>().join("\n");
    let head = Head { seq: event.seq, ts: now, received: now, offline: false };
    dead.push(&who, head, "", code.as_str(), &refusal.message, payload.as_bytes());
    refusal
}

/// One row for a person to read: its columns by name.
fn row_text(batch: &EventBatch, row: usize) -> String {
    use arrow::util::display::array_value_to_string;
    let schema = batch.rows.schema();
    let cells = schema.fields().iter().zip(batch.rows.columns()).map(|(field, column)| {
        let text = array_value_to_string(column, row).unwrap_or_default();
        (field.name().clone(), serde_json::Value::String(text))
    });
    serde_json::Value::Object(cells.collect()).to_string()
}

impl State {
    /// Takes the numbers of the events. `None`: all were new.
    fn check(&mut self, events: &[Taken], runs_max: usize) -> Option<Vec<Verdict>> {
        let mut verdicts: Option<Vec<Verdict>> = None;
        let mut at = 0;
        while at < events.len() {
            let device = events[at].device;
            let runs = self.seen.entry(device).or_default();
            while let Some(event) = events.get(at).filter(|event| event.device == device) {
                let verdict = runs.insert(event.seq, event.ts);
                if verdict != Verdict::New || verdicts.is_some() {
                    verdicts.get_or_insert_with(|| vec![Verdict::New; at]).push(verdict);
                }
                at += 1;
            }
            // Twice the limit, so that a device at the limit is cut back rarely and not with every event; nothing that
            // this batch just took is cut as long as the limit exceeds a payload's runs.
            if runs.runs().len() > runs_max.saturating_mul(2) {
                runs.forget(i64::MIN, runs_max);
            }
        }
        verdicts
    }

    fn give_back(&mut self, events: &[Taken], verdicts: Option<&[Verdict]>) {
        for (i, event) in events.iter().enumerate() {
            if verdicts.is_none_or(|v| v[i] == Verdict::New) {
                if let Some(runs) = self.seen.get_mut(&event.device) {
                    runs.remove(event.seq);
                }
            }
        }
    }

    fn forget(&mut self, horizon: i64, runs_max: usize) {
        self.seen.retain(|_, runs| {
            runs.forget(horizon, runs_max);
            !runs.is_empty()
        });
        self.buried.forget(horizon);
    }

    fn presence(&mut self, device: DeviceId, district: DistrictId, school: SchoolId, connected: bool) {
        if connected {
            self.connected.insert(device, (district, school));
        } else {
            self.connected.remove(&device);
        }
    }
}

/// Puts the rows of a batch that is already in the log into the state.
fn replay(state: &mut State, batch: &EventBatch) {
    if batch.kind == Kind::DeadLetter {
        let received = batch.rows.column(schema::TS).as_primitive::<Int64Type>();
        for (row, key) in buried::keys(batch).into_iter().enumerate() {
            state.buried.insert(key, received.value(row));
        }
        return;
    }
    if !matches!(batch.kind, Kind::Scan | Kind::Telemetry | Kind::Activity | Kind::Status) {
        return;
    }
    let ids = |column: usize| batch.rows.column(column).as_fixed_size_binary();
    let id = |column: usize, row: usize| -> [u8; 16] { ids(column).value(row).try_into().expect("ids have 16 bytes") };
    let seq = batch.rows.column(schema::SEQ).as_primitive::<UInt64Type>();
    let ts = batch.rows.column(schema::TS).as_primitive::<Int64Type>();
    let own_word = (batch.kind == Kind::Status).then(|| batch.rows.column(schema::COMMON + 4).as_boolean());
    let mut row = 0;
    while row < batch.len() {
        let device = DeviceId::from_bytes(id(schema::DEVICE, row));
        if let Some(column) = own_word.filter(|column| column.is_valid(row)) {
            let district = DistrictId::from_bytes(id(schema::DISTRICT, row));
            let school = SchoolId::from_bytes(id(schema::SCHOOL, row));
            state.presence(device, district, school, column.value(row));
            row += 1;
            continue;
        }
        // Neighbours are mostly of one device, which is looked up once for all of them.
        let runs = state.seen.entry(device).or_default();
        while row < batch.len() && *device.as_bytes() == id(schema::DEVICE, row) && own_word.is_none_or(|column| column.is_null(row)) {
            runs.insert(seq.value(row), ts.value(row));
            row += 1;
        }
    }
}
