//! The task that runs engagement: follows the log, asks attendance who is there, calculates on the pool for queries,
//! publishes, and writes what has settled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge, Registry};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::{EventBatch, KindSet, Log, LogError, Tail};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::live::{Live, Place, Saving, WindowKey};
use super::meeting::MeetingPlan;
use super::seam::{ClassSource, ClassView, DayPresence, EngagementStore, MeetingCut, PresenceSource, WindowRecord};
use super::topics::Topics;
use crate::attendance::{DayKey, SeamError};
use crate::hub::Hub;

/// The name under which the log keeps rows for this reader.
pub const READER: &str = "engagement";

/// The shortest time from one turn to the next.
const TURN_MIN: Duration = Duration::from_secs(1);

/// A turn that cost more is followed by a longer pause, so that engagement takes at most one part in this many of a
/// processor.
const TURN_SHARE: u32 = 20;

/// Bytes of one read of the log, and most rows that wait for the next turn: then it comes at once.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
const WAITING_ROWS_MAX: usize = 200_000;

/// Meetings that are loaded at the same time; each holds a database connection.
const LOADS_AT_ONCE_MAX: usize = 4;

/// Most windows in one transaction.
const SAVE_WINDOWS_MAX: usize = 2_000;

/// How often the reader's position is written although no window was, and how often memory is looked after.
const COMMIT_EVERY: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Most questions that wait.
const QUESTIONS_MAX: usize = 64;

const KINDS: [Kind; 2] = [Kind::Activity, Kind::Telemetry];

/// Why engagement stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngagementError {
    #[error("engagement cannot read the log: {0}")]
    Log(#[from] LogError),
    #[error("engagement failed: {0}")]
    Panicked(String),
}

/// What engagement works with.
pub struct EngagementDeps {
    pub log: Arc<dyn Log>,
    pub store: Arc<dyn EngagementStore>,
    pub classes: Arc<dyn ClassSource>,
    pub presence: Arc<dyn PresenceSource>,
    pub hub: Hub,
    pub clock: Clock,
    pub metrics: Registry,
    /// Where calculations run: not where boards are served.
    pub pool: Handle,
}

/// Engagement before it runs.
pub struct Engagement {
    deps: EngagementDeps,
    questions: mpsc::Receiver<oneshot::Sender<()>>,
    topics: Topics,
}

/// The running engagement as others see it.
#[derive(Clone)]
pub struct EngagementHandle(mpsc::Sender<oneshot::Sender<()>>);

impl EngagementHandle {
    /// Makes a turn at once and waits for its end: what was durable and due before is calculated and published, but for
    /// meetings that are still being loaded. False when engagement has stopped.
    pub async fn turn(&self) -> bool {
        let (reply, done) = oneshot::channel();
        self.0.send(reply).await.is_ok() && done.await.is_ok()
    }
}

impl Engagement {
    /// Registers the reader with the log and claims the topics.
    pub fn new(deps: EngagementDeps) -> (Self, EngagementHandle) {
        deps.log.register(READER, deps.log.oldest());
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        let topics = Topics::new(deps.hub.clone());
        (Self { deps, questions, topics }, EngagementHandle(ask))
    }

    /// Runs until `shutdown`. What has not settled by then is calculated again at the next start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), EngagementError> {
        let Self { deps, questions, topics } = self;
        let starting = async {
            let next = retry("the position of engagement", || deps.store.next()).await;
            let view = retry("the classes", || deps.classes.load()).await;
            (next, view)
        };
        let Some((next, view)) = shutdown.run_until_cancelled(starting).await else { return Ok(()) };
        let from = next.unwrap_or(Offset(0)).max(deps.log.oldest());
        deps.log.commit(READER, from);
        let tail = Tail::new(deps.log.clone(), from).only(&KINDS);
        let now = deps.clock.now();
        let core = on_pool(&deps.pool, async move { Core { live: Live::new(view, now, from), topics } }).await?;
        let metrics = Metrics::new(&deps.metrics);
        let turns = Turns {
            core: Some(core),
            metrics,
            waiting: Vec::new(),
            waiting_rows: 0,
            jobs: JoinSet::new(),
            loads_queued: Vec::new(),
            loading: 0,
            is_saving: false,
            arrived: Vec::new(),
            saved: Vec::new(),
            view: None,
            committed: from,
            house_kept: Instant::now(),
            deps,
        };
        turns.run(tail, questions, shutdown).await
    }
}

/// What moves to the pool and back.
struct Core {
    live: Live,
    topics: Topics,
}

/// What one turn works on.
struct Work {
    now: UtcMillis,
    applied: Offset,
    /// Everything that was durable has been read.
    is_caught_up: bool,
    batches: Vec<EventBatch>,
    view: Option<Arc<dyn ClassView>>,
    loads: Vec<Loaded>,
    presences: Vec<(DayKey, DayPresence)>,
    saved: Vec<(WindowKey, Option<u64>)>,
    may_save: bool,
    keep_house: bool,
}

struct Outcome {
    loads: Vec<(Place, Arc<MeetingPlan>)>,
    saving: Vec<Saving>,
    commit: Offset,
    took: Duration,
}

struct Loaded {
    place: Place,
    plan: Arc<MeetingPlan>,
    cut: Option<MeetingCut>,
}

/// What a task beside the loop brings back.
enum Job {
    Loaded(Loaded),
    Saved { windows: Vec<(WindowKey, Option<u64>)>, commit: Offset },
    NotSaved,
    View(Arc<dyn ClassView>),
}

impl Core {
    async fn turn(&mut self, work: Work) -> Outcome {
        let begun = Instant::now();
        let Self { live, topics } = self;
        live.advance(work.now);
        if let Some(view) = work.view {
            live.take_view(view);
        }
        live.saved(work.saved.into_iter());
        work.batches.iter().for_each(|batch| live.apply(batch));
        live.applied = work.applied;
        if work.is_caught_up {
            live.received_until = live.received_until.max(work.now);
        }
        work.loads.into_iter().for_each(|Loaded { place, plan, cut }| live.take_load(place, &plan, cut));
        work.presences.into_iter().for_each(|(day, said)| live.take_presence(day, said));
        if let Err(error) = live.calculate().await {
            // The SQL is the program's own and was tested: this is a fault of it, not of the data.
            tracing::error!(%error, "engagement could not be calculated");
        }
        topics.publish(live);
        if work.keep_house {
            live.keep_house();
            topics.forget_dropped();
        }
        let saving = if work.may_save { live.to_save(SAVE_WINDOWS_MAX) } else { Vec::new() };
        let commit = live.committable(&saving);
        Outcome { loads: live.take_loads(), saving, commit, took: begun.elapsed() }
    }
}

struct Turns {
    /// Away only while a turn is on the pool.
    core: Option<Core>,
    deps: EngagementDeps,
    metrics: Metrics,
    waiting: Vec<EventBatch>,
    waiting_rows: usize,
    jobs: JoinSet<Result<Job, LogError>>,
    loads_queued: Vec<(Place, Arc<MeetingPlan>)>,
    loading: usize,
    is_saving: bool,
    arrived: Vec<Loaded>,
    saved: Vec<(WindowKey, Option<u64>)>,
    view: Option<Arc<dyn ClassView>>,
    committed: Offset,
    house_kept: Instant,
}

impl Turns {
    async fn run(
        mut self,
        mut tail: Tail,
        mut questions: mpsc::Receiver<oneshot::Sender<()>>,
        shutdown: CancellationToken,
    ) -> Result<(), EngagementError> {
        let mut due = tokio::time::Instant::now();
        let mut changed = self.deps.classes.changed();
        let wanted = Topics::publisher(&self.deps.hub);
        let mut is_open = true;
        loop {
            let mut asked = None;
            let mut is_due = false;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(due) => is_due = true,
                read = tail.next(READ_BYTES_MAX), if self.waiting_rows < WAITING_ROWS_MAX => self.wait(read?.batches),
                Some(question) = questions.recv() => asked = Some(question),
                () = wanted.wanted() => is_due = true,
                Some(job) = self.jobs.join_next() => {
                    self.take(job.map_err(|panic| EngagementError::Panicked(panic.to_string()))??);
                }
                moved = changed.changed(), if is_open => match moved {
                    Ok(()) => self.reload(),
                    Err(_) => is_open = false,
                },
            }
            if asked.is_some() {
                self.catch_up(&mut tail).await?;
            }
            if is_due || asked.is_some() || self.waiting_rows >= WAITING_ROWS_MAX {
                let Some(took) = shutdown.run_until_cancelled(self.turn(&tail)).await.transpose()? else { return Ok(()) };
                due = tokio::time::Instant::now() + TURN_MIN.max(took * TURN_SHARE);
            }
            if let Some(reply) = asked {
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
        }
    }

    fn wait(&mut self, batches: Vec<EventBatch>) {
        self.waiting_rows += batches.iter().map(EventBatch::len).sum::<usize>();
        self.waiting.extend(batches);
    }

    /// Reads what is durable now.
    async fn catch_up(&mut self, tail: &mut Tail) -> Result<(), EngagementError> {
        let durable = *self.deps.log.durable().borrow();
        while tail.position() < durable {
            let read = tail.next(READ_BYTES_MAX).await?;
            self.wait(read.batches);
        }
        Ok(())
    }

    async fn turn(&mut self, tail: &Tail) -> Result<Duration, EngagementError> {
        let Some(mut core) = self.core.take() else { return Err(EngagementError::Panicked("a turn was lost".into())) };
        let asked = core.live.presence_wanted(&core.topics.days());
        let answers = asked.into_iter().map(|(day, known)| {
            let presence = self.deps.presence.clone();
            async move { Some((day, presence.presence(day, known).await?)) }
        });
        let presences = futures_util::future::join_all(answers).await.into_iter().flatten().collect();
        let keep_house = self.house_kept.elapsed() >= COMMIT_EVERY;
        let work = Work {
            now: self.deps.clock.now(),
            applied: tail.position(),
            is_caught_up: tail.position() >= *self.deps.log.durable().borrow(),
            batches: std::mem::take(&mut self.waiting),
            view: self.view.take(),
            loads: std::mem::take(&mut self.arrived),
            presences,
            saved: std::mem::take(&mut self.saved),
            may_save: !self.is_saving,
            keep_house,
        };
        self.waiting_rows = 0;
        let (core, outcome) = on_pool(&self.deps.pool, async move {
            let outcome = core.turn(work).await;
            (core, outcome)
        })
        .await?;
        self.metrics.note(&core, &outcome);
        self.core = Some(core);
        if keep_house {
            self.house_kept = Instant::now();
        }
        self.loads_queued.extend(outcome.loads);
        self.load(tail.position());
        if !self.is_saving && (!outcome.saving.is_empty() || (keep_house && outcome.commit > self.committed)) {
            self.save(outcome.saving, outcome.commit);
        }
        Ok(outcome.took)
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Loaded(loaded) => {
                self.loading -= 1;
                self.arrived.push(loaded);
            }
            Job::Saved { windows, commit } => {
                self.is_saving = false;
                self.metrics.saved.inc_by(windows.len() as u64);
                self.saved.extend(windows);
                self.committed = commit;
                self.deps.log.commit(READER, commit);
            }
            Job::NotSaved => self.is_saving = false,
            Job::View(view) => self.view = Some(view),
        }
    }

    fn reload(&mut self) {
        let classes = self.deps.classes.clone();
        self.jobs.spawn(async move { Ok(Job::View(retry("the classes", || classes.load()).await)) });
    }

    /// Starts to load meetings: what is stored, and the rows of the log from there to what has been read.
    fn load(&mut self, upto: Offset) {
        while self.loading < LOADS_AT_ONCE_MAX
            && let Some((place, plan)) = self.loads_queued.pop()
        {
            self.loading += 1;
            let (store, log) = (self.deps.store.clone(), self.deps.log.clone());
            self.jobs.spawn(async move {
                let cut = match store.load(place.0, plan.clone()).await {
                    Ok(cut) => replayed(log, plan.clone(), cut, upto).await?,
                    Err(error) => {
                        tracing::warn!(%error, "a meeting could not be loaded, trying again");
                        tokio::time::sleep(RETRY).await;
                        None
                    }
                };
                Ok(Job::Loaded(Loaded { place, plan, cut }))
            });
        }
    }

    fn save(&mut self, saving: Vec<Saving>, commit: Offset) {
        self.is_saving = true;
        let windows: Vec<(WindowKey, Option<u64>)> = saving.iter().map(|saving| (saving.key, saving.version)).collect();
        let records: Arc<Vec<WindowRecord>> = Arc::new(saving.into_iter().map(|saving| saving.record).collect());
        let store = self.deps.store.clone();
        self.jobs.spawn(async move {
            match store.save(records, commit).await {
                Ok(()) => Ok(Job::Saved { windows, commit }),
                Err(error) => {
                    tracing::warn!(%error, windows = windows.len(), "engagement windows could not be written, trying again");
                    tokio::time::sleep(RETRY).await;
                    Ok(Job::NotSaved)
                }
            }
        });
    }
}

/// The cut with the log's rows of the meeting up to `upto`, on a thread that may block. `None`: the log has dropped them
/// meanwhile, because the database has them now.
async fn replayed(log: Arc<dyn Log>, plan: Arc<MeetingPlan>, mut cut: MeetingCut, upto: Offset) -> Result<Option<MeetingCut>, LogError> {
    if cut.next >= upto {
        return Ok(Some(cut));
    }
    let reading = tokio::task::spawn_blocking(move || {
        let mut next = cut.next;
        while next < upto {
            let read = log.read_kinds(next, READ_BYTES_MAX, KindSet::of(&KINDS))?;
            // What the database is behind by may be more than memory holds, and is of all districts.
            cut.events.extend(read.batches.iter().filter_map(|batch| plan.rows_in(batch)));
            next = read.next;
        }
        Ok(cut)
    });
    match reading.await {
        Ok(Ok(cut)) => Ok(Some(cut)),
        Ok(Err(LogError::Trimmed { .. })) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(LogError::Stopped(format!("a read failed: {panic}").into())),
    }
}

async fn on_pool<T: Send + 'static>(pool: &Handle, work: impl Future<Output = T> + Send + 'static) -> Result<T, EngagementError> {
    pool.spawn(work).await.map_err(|panic| EngagementError::Panicked(panic.to_string()))
}

/// Until it works: without the database there is nothing to start from.
async fn retry<T, F: Future<Output = Result<T, SeamError>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "{what} could not be loaded, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What operators see: `rollcall_engagement_*`.
struct Metrics {
    turn_us: IntGauge,
    windows: IntGauge,
    saved: IntCounter,
    topics: IntGauge,
    committed: IntGauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("the names of metrics are valid");
            let _already_there = registry.register(Box::new(gauge.clone()));
            gauge
        };
        let saved = IntCounter::new("rollcall_engagement_windows_saved_total", "Settled windows that were written to history")
            .expect("the names of metrics are valid");
        let _already_there = registry.register(Box::new(saved.clone()));
        Self {
            turn_us: gauge("rollcall_engagement_turn_us", "Microseconds that the last turn took"),
            windows: gauge("rollcall_engagement_windows_calculated", "Windows that were calculated since the start"),
            saved,
            topics: gauge("rollcall_engagement_topics", "Engagement topics that are kept"),
            committed: gauge("rollcall_engagement_committable_offset", "One past the last event whose windows are in history"),
        }
    }

    fn note(&self, core: &Core, outcome: &Outcome) {
        self.turn_us.set(outcome.took.as_micros() as i64);
        self.windows.set(core.live.calculated as i64);
        self.topics.set(core.topics.len() as i64);
        self.committed.set(outcome.commit.0 as i64);
    }
}
