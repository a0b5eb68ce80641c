//! What every route shares: handles to the log, the live state and the database, and the limits of the API.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use rollcall_analytics::attendance::EngineHandle;
use rollcall_analytics::hub::Hub;
use rollcall_analytics::query::live::{LiveConfig, LiveQueries};
use rollcall_analytics::query::{Limits, QueryEngine};
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_store::directory::DirectoryCache;
use rollcall_store::password::Passwords;
use rollcall_store::secret::SecretHash;
use rollcall_store::vault::Vault;
use rollcall_stream::Log;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::live::{LiveSlots, watch_pressure};
use crate::marking::RecentMarks;
use crate::metrics::Metrics;
use crate::routes::overview::HeldArrivals;
use crate::throttle::SignInThrottle;

/// Ended sessions that a live connection may be behind; one that is further behind asks the database.
const ENDED_SESSIONS_KEPT: usize = 256;

/// Sessions of live connections that are looked up at a time.
const SESSION_LOOKS_MAX: usize = 4;

/// Reports that are computed at a time; further ones wait their turn, so that boards keep the database and the cores.
const REPORTS_MAX: usize = 4;

/// Settings of the API. Every default is stated here with its reason.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The page is served over TLS by something in front of the server: cookies are `Secure` in every case.
    pub cookie_secure: bool,
    /// Believe `X-Forwarded-For` and `X-Forwarded-Proto`; only behind a proxy that sets them itself.
    pub trust_forwarded: bool,
    /// A session ends after this long without a request: longer than a school day, shorter than a night and a day.
    pub session_idle: Duration,
    /// A session ends this long after sign-in whatever happens.
    pub session_max: Duration,
    /// A driver's session ends after this long without a question; its connection tells of its own end where the protocol has a word
    /// for that, and where it has not, no session is left behind for longer.
    pub driver_idle: Duration,
    /// Most bytes of a request's body. The largest real one, marks for a section, is about 20 kB.
    pub body_bytes_max: usize,
    /// How long a write waits for the log to be durable and the live state to have applied it.
    pub write_wait_max: Duration,
    /// Live connections of one account.
    pub live_connections_per_account_max: usize,
    /// Live connections altogether.
    pub live_connections_max: usize,
    /// A live reader that does not take one message within this time is too slow: it is disconnected with 1013.
    pub live_write_timeout: Duration,
    /// What one query of the doors may use.
    pub sql_limits: Limits,
    /// Bounds of the live queries.
    pub live_sql: LiveConfig,
    /// The operator has named a place for exports of saved questions.
    pub exports_available: bool,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            cookie_secure: false,
            trust_forwarded: false,
            session_idle: Duration::from_secs(14 * 3600),
            session_max: Duration::from_secs(14 * 24 * 3600),
            driver_idle: Duration::from_secs(3600),
            body_bytes_max: 256 * 1024,
            write_wait_max: Duration::from_secs(5),
            live_connections_per_account_max: 50,
            live_connections_max: 20_000,
            live_write_timeout: Duration::from_secs(10),
            sql_limits: Limits::default(),
            live_sql: LiveConfig::default(),
            exports_available: false,
        }
    }
}

/// One thing that must work before requests are sent here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Check {
    /// What is checked: `database`, `log`, `attendance`, ...
    pub name: String,
    pub ready: bool,
    /// What is not ready, or what runs ("TimescaleDB 2.23.1").
    pub detail: String,
}

/// Says what is ready. The binary gives one that knows its subsystems; it must answer without waiting.
pub type ReadyChecks = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

/// What the binary hands to the API.
pub struct ApiParts {
    pub config: ApiConfig,
    pub clock: Clock,
    pub store: Store,
    pub directory: Arc<DirectoryCache>,
    pub vault: Arc<Vault>,
    pub passwords: Passwords,
    pub log: Arc<dyn Log>,
    pub hub: Hub,
    pub engine: EngineHandle,
    pub queries: QueryEngine,
    pub registry: Registry,
    pub ready: ReadyChecks,
    /// Cancelled when the server stops: live connections are closed.
    pub shutdown: CancellationToken,
}

/// The shared state of all routes. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

/// The inside of [`ApiState`].
pub struct Shared {
    pub parts: ApiParts,
    pub(crate) metrics: Metrics,
    pub(crate) throttle: SignInThrottle,
    pub(crate) recent: RecentMarks,
    pub(crate) live: LiveSlots,
    pub(crate) live_sql: LiveQueries,
    pub(crate) session_looks: Semaphore,
    pub(crate) reports: Semaphore,
    pub(crate) arrivals: HeldArrivals,
    ended: broadcast::Sender<SecretHash>,
}

impl ApiState {
    /// Starts the live queries, on the runtime that this is called on until `parts.shutdown`. Fails when the registry already
    /// has the API's metrics, or threads cannot be started.
    pub fn new(parts: ApiParts) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(&parts.registry)?;
        let (pressed, is_pressed) = watch::channel(false);
        let live_sql = LiveQueries::new(&parts.queries, parts.hub.clone(), parts.config.live_sql.clone(), is_pressed, &parts.registry)?;
        let state = Self(Arc::new(Shared {
            parts,
            metrics,
            throttle: SignInThrottle::default(),
            recent: RecentMarks::default(),
            live: LiveSlots::default(),
            live_sql,
            session_looks: Semaphore::new(SESSION_LOOKS_MAX),
            reports: Semaphore::new(REPORTS_MAX),
            arrivals: HeldArrivals::default(),
            ended: broadcast::Sender::new(ENDED_SESSIONS_KEPT),
        }));
        tokio::spawn(watch_pressure(state.clone(), pressed));
        Ok(state)
    }

    /// Tells live connections that a session has ended.
    pub(crate) fn session_ended(&self, token_hash: SecretHash) {
        // Nobody may be listening.
        let _ = self.ended.send(token_hash);
    }

    pub(crate) fn ended_sessions(&self) -> broadcast::Receiver<SecretHash> {
        self.ended.subscribe()
    }
}

impl Deref for ApiState {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Deref for Shared {
    type Target = ApiParts;
    fn deref(&self) -> &ApiParts {
        &self.parts
    }
}
