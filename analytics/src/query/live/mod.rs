//! Live queries: the result of a text as a topic, computed again when the tables that it reads have changed.
//!
//! # Promises
//! - A topic has two collections. `result`: `columns` (name and type, in order), `warnings`, and `order` (the keys of the rows
//!   in order) when the text itself asks for one. `rows`: one array a row. A row's key is the JSON array of the columns that
//!   the text groups by, `[]` for the one row of a text without groups, else a hash of the row; rows of equal keys get `#2`,
//!   `#3`. A change of a keyed row is one entry, of another one a removal and an addition.
//! - It is the caller's query with scope, limits and privacy like every other: [`QueryEngine::run`] computes it each time.
//! - Callers of the same scope with the same text share one computation and one topic.
//! - At most one computation of a query every [`LiveConfig::interval`], or [`LiveConfig::interval_groups`] for roles that see
//!   figures about groups only: each answer is another draw of the noise. Whatever its interval, a query computes a quarter of the time at
//!   most. Nothing is computed while nothing changes that can show in the result: rows of another kind, or of a school that the plan's
//!   filters leave out, wake nobody. A table that does not tell of its changes is read again every [`LiveConfig::reread`], and the
//!   result's `warnings` say so.
//! - Computations run in an engine of their own, few at a time. While boards are behind none runs and one that runs is
//!   cancelled; when that lasts for [`LiveConfig::patience`] the costliest query ends, then the next.
//! - A query ends with the error that its computation had, with the last of its followers, or by pressure. It is never
//!   behind for other reasons than its interval and its turn.

mod metrics;
mod query;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use rollcall_model::ids::AccountId;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::caller::Caller;
use super::engine::QueryEngine;
use super::error::QueryError;
use super::limits::{EngineConfig, Limits};
use crate::hub::{Hub, Publisher};
use metrics::Metrics;
use query::Live;

/// The last part of the names of these topics.
const VIEW: &str = "rows";

/// Bounds of the live queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveConfig {
    /// From the begin of one computation of a query to the begin of the next.
    pub interval: Duration,
    /// The same for roles without student-level rights; never less than [`LiveConfig::interval`].
    pub interval_groups: Duration,
    /// When tables are read again that do not tell of their changes.
    pub reread: Duration,
    /// Different queries altogether.
    pub queries_max: usize,
    /// Queries that one account follows.
    pub per_account_max: usize,
    /// Computations at a time; also the threads.
    pub concurrent_max: usize,
    /// What one computation may use.
    pub limits: Limits,
    /// How long boards may be behind before queries end.
    pub patience: Duration,
}

impl Default for LiveConfig {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            interval: Duration::from_secs(1),
            interval_groups: Duration::from_secs(10),
            reread: Duration::from_secs(30),
            queries_max: 64,
            per_account_max: 8,
            concurrent_max: 1,
            limits: Limits {
                time: Duration::from_secs(5),
                memory_bytes: 64 * MIB,
                spill_bytes: 64 * MIB as u64,
                rows: 1_000,
                result_bytes: 2 * MIB,
            },
            patience: Duration::from_secs(10),
        }
    }
}

/// All live queries. Cheap to clone.
#[derive(Clone)]
pub struct LiveQueries {
    shared: Arc<Shared>,
}

struct Shared {
    engine: QueryEngine,
    hub: Hub,
    publisher: Publisher,
    config: LiveConfig,
    turns: Semaphore,
    /// Whether boards are behind now.
    pressed: watch::Receiver<bool>,
    followed: Mutex<Followed>,
    metrics: Metrics,
}

#[derive(Default)]
struct Followed {
    /// By the name of the topic.
    queries: HashMap<Arc<str>, Entry>,
    by_account: HashMap<AccountId, usize>,
}

struct Entry {
    live: Arc<Live>,
    followers: usize,
}

/// One follower of a live query; dropping it makes room, and ends the query when it was the last.
pub struct Following {
    /// The topic in the hub.
    pub topic: Arc<str>,
    /// Rows of the result when the following began.
    pub rows: usize,
    live: Arc<Live>,
    account: AccountId,
    shared: Arc<Shared>,
}

impl LiveQueries {
    /// Starts the threads of the live queries beside those of `engine`, with its tables. `pressed` says whether boards are
    /// behind. Fails when the threads cannot be started or the registry has these metrics.
    pub fn new(
        engine: &QueryEngine,
        hub: Hub,
        config: LiveConfig,
        pressed: watch::Receiver<bool>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        const NICENESS: i32 = 15;
        let settings = EngineConfig {
            threads: config.concurrent_max,
            niceness: NICENESS,
            concurrent_max: config.concurrent_max,
            concurrent_per_account_max: config.concurrent_max,
            ..EngineConfig::default()
        };
        let engine = engine.beside(settings)?;
        let shared = Arc::new(Shared {
            publisher: hub.publisher(VIEW),
            turns: Semaphore::new(config.concurrent_max),
            metrics: Metrics::register(registry)?,
            followed: Mutex::default(),
            engine: engine.clone(),
            hub,
            config,
            pressed,
        });
        let supervised = Arc::downgrade(&shared);
        // The engine is new: it has its threads.
        let _ = engine.spawn(query::relieve(supervised, shared.pressed.clone(), shared.config.patience));
        Ok(Self { shared })
    }

    /// Follows a text for a caller: returns when its first result is in the topic, or why there is none. The caller is
    /// followed as it is now; when its rights change the door ends the following and begins another.
    pub async fn follow(&self, caller: &Caller, sql: &str) -> Result<Following, QueryError> {
        let shared = &self.shared;
        let text = shared.engine.normalised(caller, sql)?;
        let mut following = shared.enter(caller, sql, &text)?;
        following.rows = following.live.first().await?;
        Ok(following)
    }
}

impl Shared {
    fn enter(self: &Arc<Self>, caller: &Caller, sql: &str, text: &str) -> Result<Following, QueryError> {
        let topic = topic(caller, text);
        let mut followed = self.followed.lock();
        let own = followed.by_account.get(&caller.account).copied().unwrap_or(0);
        if own >= self.config.per_account_max {
            let message = format!("an account follows at most {} live queries; end one first", self.config.per_account_max);
            return Err(QueryError::refused(message));
        }
        let others = followed.queries.len();
        let live = match followed.queries.get_mut(&topic) {
            Some(entry) => {
                entry.followers += 1;
                entry.live.clone()
            }
            None if others >= self.config.queries_max => return Err(QueryError::Busy),
            None => {
                let interval =
                    if caller.has_student_rights() { self.config.interval } else { self.config.interval_groups.max(self.config.interval) };
                // The query holds its topic by a subscription of its own.
                let held = self.hub.subscribe(&topic, None);
                self.publisher.take_wanted();
                let live = Arc::new(Live::new(topic.clone(), caller.clone(), sql.to_owned(), interval));
                self.engine.spawn(live.clone().run(Arc::clone(self), held))?;
                followed.queries.insert(topic.clone(), Entry { live: live.clone(), followers: 1 });
                self.metrics.queries.inc();
                live
            }
        };
        *followed.by_account.entry(caller.account).or_default() += 1;
        Ok(Following { topic, rows: 0, live, account: caller.account, shared: Arc::clone(self) })
    }

    /// Takes a query out, so that a next follower begins it anew, and ends its topic. False when it is out already.
    fn remove(&self, live: &Arc<Live>) -> bool {
        self.take_out(&mut self.followed.lock(), live)
    }

    fn take_out(&self, followed: &mut Followed, live: &Arc<Live>) -> bool {
        let is_there = followed.queries.get(live.topic()).is_some_and(|entry| Arc::ptr_eq(&entry.live, live));
        if is_there {
            followed.queries.remove(live.topic());
            // Under the lock: whoever comes now gets a topic of the same name that is not this one.
            self.hub.close(live.topic());
            self.metrics.queries.dec();
        }
        is_there
    }
}

impl Following {
    /// Why the topic ended, when it did.
    pub fn ended(&self) -> Option<QueryError> {
        self.live.ended()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.shared.followed.lock();
        if let Some(own) = followed.by_account.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                followed.by_account.remove(&self.account);
            }
        }
        let entry = followed.queries.get_mut(&self.topic).filter(|entry| Arc::ptr_eq(&entry.live, &self.live));
        let is_last = entry.is_some_and(|entry| {
            entry.followers -= 1;
            entry.followers == 0
        });
        // Under the same lock: whoever comes after it begins the query anew.
        if is_last && self.shared.take_out(&mut followed, &self.live) {
            self.live.stop();
        }
    }
}

/// The name of a query's topic: equal for callers who would get the same rows for the same text, whoever they are.
fn topic(caller: &Caller, text: &str) -> Arc<str> {
    let Caller { district, account: _, role, schools, sections, students, privacy: _, group_min } = caller;
    let scope = format!("{district:?} {role:?} {schools:?} {sections:?} {students:?} {group_min}\n{text}");
    let digest: String = Sha256::digest(scope.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sql/{digest}/{VIEW}").into()
}
