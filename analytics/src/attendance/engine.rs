//! The task that runs live attendance: reads the log, loads days, follows the directory and the clock.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::schedule::Span;
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::Clock;
use rollcall_stream::{KindSet, Log, LogError, ReadBatch, Tail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::board;
use super::boards::Boards;
use super::changes::Changes;
use super::handle::{EngineHandle, QUESTIONS_MAX, Question};
use super::live::{DayEvents, Live};
use super::metrics::Metrics;
use super::seam::{AttendanceStore, Cut, DayKey, DayPlan, DirectorySource, DirectoryView, SeamError};
use super::writer::Writer;
use crate::hub::Hub;

/// The name under which the log keeps rows for this reader.
pub const READER: &str = "attendance";

/// Bytes of one read of the log: about a thousand scans, so that one turn stays within tens of milliseconds.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Days that are loaded at the same time; each holds a database connection.
const LOADS_AT_ONCE_MAX: usize = 4;

/// Wait before a load that failed is tried again.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// Longest sleep: the system's clock may be stepped, and then deadlines come earlier than the sleep thought.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How often idle topics and old days are dropped and gauges are set.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// The kinds that attendance is made of.
const KINDS: [Kind; 3] = [Kind::Scan, Kind::Mark, Kind::Status];

/// Why live attendance stopped. The process is to end: boards that stand still must not look alive.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("live attendance cannot read the log: {0}")]
    Log(#[from] LogError),
    #[error("live attendance failed: {0}")]
    Panicked(String),
}

/// What live attendance works with.
pub struct EngineDeps {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn AttendanceStore>,
    pub directory: Arc<dyn DirectorySource>,
    pub hub: Hub,
    pub clock: Clock,
    pub metrics: prometheus::Registry,
    /// Connections of devices written before this offset were held by an earlier process and ended with it: the log's
    /// end when the process started.
    pub connections_since: Offset,
}

/// Live attendance before it runs.
pub struct Engine {
    deps: EngineDeps,
    metrics: Metrics,
    applied: watch::Sender<Offset>,
    changes: Changes,
    ready: watch::Sender<bool>,
    questions: mpsc::Receiver<Question>,
}

impl Engine {
    /// Registers the reader with the log. Questions asked of the handle before [`Engine::run`] wait for it.
    pub fn new(deps: EngineDeps) -> (Self, EngineHandle) {
        deps.log.register(READER, deps.log.oldest());
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let (applied, applied_seen) = watch::channel(Offset(0));
        let metrics = Metrics::new(&deps.metrics, &*deps.log, applied_seen.clone());
        let (ready, ready_seen) = watch::channel(false);
        let (changes, changes_seen) = Changes::new();
        let handle =
            EngineHandle { hub: deps.hub.clone(), applied: applied_seen, changes: changes_seen, ready: ready_seen, questions: ask };
        (Self { deps, metrics, applied, changes, ready, questions }, handle)
    }

    /// Runs until `shutdown`, then writes the transitions that wait, bounded in time. A panic of the task is returned
    /// as an error.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), EngineError> {
        let writer = Writer::new(self.metrics.transitions_waiting.clone());
        let stop_writer = CancellationToken::new();
        let _on_drop = stop_writer.clone().drop_guard();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (writer, store, stop) = (writer.clone(), self.deps.store.clone(), stop_writer.clone());
            async move {
                writer.run(store, stop).await;
                Ok(())
            }
        });
        tasks.spawn(self.run_boards(writer, shutdown));
        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.unwrap_or_else(|panic| Err(EngineError::Panicked(panic.to_string())));
            if outcome.is_ok() {
                outcome = ended;
            }
            stop_writer.cancel();
        }
        outcome
    }

    async fn run_boards(self, writer: Writer, shutdown: CancellationToken) -> Result<(), EngineError> {
        let Some((turns, tail)) = shutdown.run_until_cancelled(self.start(writer)).await else { return Ok(()) };
        turns.run(tail, shutdown).await
    }

    /// Loads what is needed for today and finds where to read on.
    async fn start(self, writer: Writer) -> (Turns, Tail) {
        let Self { deps, metrics, applied, changes, ready, questions } = self;
        let changed = deps.directory.changed();
        let view = deps.directory.current();
        let words = retry("the last words of devices", || deps.store.last_words()).await;
        let mut live = Live::new(view, deps.connections_since, deps.clock.now());
        let settle_at = *deps.log.durable().borrow();
        let mut next = settle_at;
        let mut loads = JoinSet::new();
        let mut waiting = live.take_loads();
        let mut loaded = Vec::new();
        loop {
            while loads.len() < LOADS_AT_ONCE_MAX
                && let Some(key) = waiting.pop()
            {
                let (store, view) = (deps.store.clone(), live.view.clone());
                loads.spawn(load(store, view, key));
            }
            match loads.join_next().await {
                Some(Ok(day)) => loaded.push(day),
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => break,
            }
        }
        let scans: Vec<ScanEvidence> = loaded.iter().flat_map(|day| day.cut.scans.iter().copied()).collect();
        live.remember(&words, &scans);
        for Loaded { key, plan, cut } in loaded {
            match plan {
                Some(plan) => {
                    next = next.min(cut.next_offset);
                    live.insert(key, plan, cut, DayEvents::default(), settle_at);
                }
                None => live.forget_load(&key),
            }
        }
        live.applied = next;
        let tail = Tail::new(deps.log.clone(), next).only(&KINDS);
        let boards = Boards::new(deps.hub.clone());
        let turns = Turns { live, boards, writer, metrics, applied, changes, ready, questions, changed, jobs: JoinSet::new(), deps };
        (turns, tail)
    }
}

/// A day as the database has it; without a plan when its school has vanished.
struct Loaded {
    key: DayKey,
    plan: Option<Arc<DayPlan>>,
    cut: Cut,
}

/// What a task beside the loop brings back.
enum Job {
    Day { loaded: Loaded, replayed: DayEvents, upto: Offset },
    Plans { view: Arc<dyn DirectoryView>, plans: Vec<(DayKey, Arc<DayPlan>)> },
}

/// The running engine: one turn a read, a question, a deadline or a change.
struct Turns {
    live: Live,
    boards: Boards,
    writer: Writer,
    metrics: Metrics,
    applied: watch::Sender<Offset>,
    changes: Changes,
    ready: watch::Sender<bool>,
    questions: mpsc::Receiver<Question>,
    changed: watch::Receiver<u64>,
    jobs: JoinSet<Result<Job, LogError>>,
    deps: EngineDeps,
}

impl Turns {
    async fn run(mut self, mut tail: Tail, shutdown: CancellationToken) -> Result<(), EngineError> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let hub = self.deps.hub.clone();
        let mut replanning = false;
        let mut directory_open = true;
        self.turn();
        loop {
            let sleep = self.sleep();
            let mut asked = None;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                read = tail.next(READ_BYTES_MAX) => self.live.apply(&read?),
                Some(question) = self.questions.recv() => asked = Some(question),
                () = hub.wanted() => {}
                Some(job) = self.jobs.join_next() => {
                    let job = job.map_err(|panic| EngineError::Panicked(panic.to_string()))?;
                    replanning &= !matches!(job, Ok(Job::Plans { .. }));
                    self.take(job?);
                }
                moved = self.changed.changed(), if directory_open && !replanning => match moved {
                    Ok(()) => { self.replan(); replanning = true; }
                    Err(_) => directory_open = false,
                },
                () = tokio::time::sleep(sleep) => {}
                _ = housekeeping.tick() => self.keep_house(),
            }
            self.turn();
            if let Some(question) = asked {
                self.answer(question);
            }
        }
    }

    /// Brings state, topics, transitions and positions in line with what is applied and with the clock.
    fn turn(&mut self) {
        self.live.advance(self.deps.clock.now());
        for key in self.live.take_loads() {
            self.load(key);
        }
        self.changes.look(&self.live);
        self.boards.publish(&mut self.live);
        let transitions = std::mem::take(&mut self.live.transitions);
        self.metrics.transitions.inc_by(transitions.len() as u64);
        self.writer.push(transitions);
        let applied = self.live.applied;
        if *self.applied.borrow() != applied {
            // Rows that a later load needs lie after the sink's position, which holds them in the log.
            self.deps.log.commit(READER, applied);
            self.metrics.applied.set(applied.0 as i64);
            self.applied.send_replace(applied);
        }
        if !*self.ready.borrow() && self.live.is_complete() {
            self.ready.send_replace(true);
        }
    }

    /// How long nothing is due. A stepped clock does not run: whoever steps it says so.
    fn sleep(&self) -> Duration {
        let boards = self.boards.next_due().unwrap_or(Duration::MAX);
        let Clock::System = self.deps.clock else { return Duration::from_secs(3600).min(boards) };
        let next = self.live.next_deadline().map_or(i64::MAX, |at| at.0.saturating_sub(self.deps.clock.now().0));
        Duration::from_millis(next.max(0) as u64).min(SLEEP_MAX).min(boards)
    }

    /// Starts to load a day at any cut; the rows between the cut and here are read from the log once more.
    fn load(&mut self, key: DayKey) {
        let (store, view, log) = (self.deps.store.clone(), self.live.view.clone(), self.deps.log.clone());
        let upto = self.live.applied;
        self.jobs.spawn(async move {
            let loaded = load(store, view, key).await;
            let from = loaded.cut.next_offset;
            let Some(span) = loaded.plan.as_ref().map(|plan| plan.span).filter(|_| from < upto) else {
                return Ok(Job::Day { loaded, replayed: DayEvents::default(), upto });
            };
            let reading = tokio::task::spawn_blocking(move || replay(&*log, from, upto, &key, span));
            match reading.await {
                Ok(replayed) => Ok(Job::Day { loaded, replayed: replayed?, upto }),
                Err(panic) => Err(LogError::Stopped(format!("a read failed: {panic}").into())),
            }
        });
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Day { loaded: Loaded { key, plan: Some(plan), cut }, replayed, upto } => {
                // Statuses that this process wrote came from events before `upto`, or from earlier ones.
                self.live.insert(key, plan, cut, replayed, upto);
            }
            Job::Day { loaded: Loaded { key, plan: None, .. }, .. } => self.live.forget_load(&key),
            Job::Plans { view, plans } => self.live.replan(view, plans),
        }
    }

    /// Plans all loaded days anew beside the loop and brings back those that differ.
    fn replan(&mut self) {
        let view = self.deps.directory.current();
        let days: Vec<_> = self.live.days.values().map(|day| (day.key, day.plan.clone())).collect();
        self.jobs.spawn(async move {
            let planning = tokio::task::spawn_blocking(move || {
                let differing =
                    |(key, old): (DayKey, Arc<DayPlan>)| view.plan(key).filter(|plan| *plan != *old).map(|plan| (key, Arc::new(plan)));
                let plans = days.into_iter().filter_map(differing).collect();
                Job::Plans { view, plans }
            });
            planning.await.map_err(|panic| LogError::Stopped(format!("planning failed: {panic}").into()))
        });
    }

    fn answer(&mut self, question: Question) {
        // Whoever asked may have gone; then nobody needs the answer.
        match question {
            Question::StudentToday { district, student, reply } => {
                let _gone = reply.send(board::student_today(&self.live, Some(district), student));
            }
            Question::Building { district, school, reply } => {
                let day = self.live.today_of(&(district, school)).filter(|day| day.settled);
                let inside = day.map(|day| {
                    let mut inside: Vec<_> = day.inside.values().cloned().collect();
                    inside.sort_unstable_by_key(|inside| (inside.since, inside.person));
                    inside
                });
                let _gone = reply.send(inside);
            }
            Question::Presence { day, known, reply } => {
                let day = self.live.days.get(&day).filter(|day| day.settled);
                let _gone = reply.send(day.map(|day| day.presence(known)));
            }
            Question::Statuses { district, school, known, reply } => {
                let day = self.live.today_of(&(district, school)).filter(|day| day.settled);
                let _gone = reply.send(day.map(|day| day.statuses(known)));
            }
            Question::Now { reply } => {
                let _gone = reply.send(());
            }
        }
    }

    fn keep_house(&mut self) {
        self.deps.hub.sweep(Instant::now());
        self.boards.forget_dropped();
        if self.writer.is_idle() {
            self.live.unload();
        }
        let size = self.deps.hub.size();
        self.metrics.days.set(self.live.days.len() as i64);
        self.metrics.topics.set(size.topics as i64);
        self.metrics.subscribers.set(size.subscribers as i64);
    }
}

async fn load(store: Arc<dyn AttendanceStore>, view: Arc<dyn DirectoryView>, key: DayKey) -> Loaded {
    let Some(plan) = view.plan(key) else { return Loaded { key, plan: None, cut: Cut::default() } };
    let cut = retry("a day", || store.load_cut(key, plan.span)).await;
    Loaded { key, plan: Some(Arc::new(plan)), cut }
}

/// What the log says about one day in `[from, upto)`.
fn replay(log: &dyn Log, from: Offset, upto: Offset, key: &DayKey, span: Span) -> Result<DayEvents, LogError> {
    let mut events = DayEvents::default();
    let mut next = from;
    while next < upto {
        let ReadBatch { batches, next: read_to } = log.read_kinds(next, READ_BYTES_MAX, KindSet::of(&KINDS))?;
        for batch in batches.iter().filter(|batch| batch.first < upto) {
            let within = (upto.0 - batch.first.0).min(batch.len() as u64) as usize;
            events.gather(&batch.slice(0, within), key, span);
        }
        next = read_to;
    }
    Ok(events)
}

/// Until it works: without the database there is nothing to start from, and readiness says so meanwhile.
async fn retry<T, F: Future<Output = Result<T, SeamError>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "{what} could not be loaded, trying again"),
        }
        tokio::time::sleep(LOAD_RETRY).await;
    }
}
