//! The connection pool and tenancy.
//!
//! Every connection acts as `rollcall_app`, which owns nothing and is bound by row-level security. Whoever reads or writes
//! rows of a district does so in a [`Tenant`], a transaction that has said which district it is about. A statement
//! outside one sees no rows. Dropping a `Tenant` rolls back.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rollcall_model::ids::{AccountId, DistrictId};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, PgPool, Postgres, Transaction};

use crate::error::StoreError;

/// Most connections of the pool, unless configured. The sink and the listener have their own.
const CONNECTIONS_MAX: u32 = 16;

/// How long a caller waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What every new connection says first. Statements of the API are short; compiling them costs more than it saves.
const PREPARE: &str = "set role rollcall_app; set timezone to 'UTC'; set jit to off";

/// Days that events and the rollups of them are kept. At least seven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    pub scan_days: u32,
    pub telemetry_days: u32,
    pub activity_days: u32,
    pub device_status_days: u32,
    /// Rows of `device_day` and `student_day`, by their date.
    pub rollup_days: u32,
}

impl Retention {
    /// Table of schema `event` and the days it keeps.
    pub(crate) fn tables(&self) -> [(&'static str, u32); 4] {
        [
            ("scan", self.scan_days),
            ("telemetry", self.telemetry_days),
            ("activity", self.activity_days),
            ("device_status", self.device_status_days),
        ]
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { scan_days: 400, telemetry_days: 90, activity_days: 400, device_status_days: 30, rollup_days: 1461 }
    }
}

/// Where the database is. The URL may hold a password, so it is never printed.
#[derive(Clone)]
pub struct DatabaseConfig {
    pub url: String,
    pub connections_max: u32,
    pub acquire_timeout: Duration,
    pub retention: Retention,
}

impl DatabaseConfig {
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), connections_max: CONNECTIONS_MAX, acquire_timeout: ACQUIRE_TIMEOUT, retention: Retention::default() }
    }

    pub(crate) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = PgConnectOptions::from_str(&self.url)
            .map_err(|_| StoreError::Invalid("the database URL is not of the form postgres://user:password@host:port/name".into()))?;
        Ok(options.application_name("rollcall"))
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &"[redacted]")
            .field("connections_max", &self.connections_max)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

/// What keeps the event tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Engine {
    /// Compressed hypertables with retention policies.
    Timescale { version: String },
    /// Partitions a day, kept by [`crate::maintenance`].
    Plain,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timescale { version } => write!(f, "TimescaleDB {version}"),
            Self::Plain => f.write_str("plain PostgreSQL"),
        }
    }
}

/// The database, as the program's own role. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: DatabaseConfig,
    pool: PgPool,
    engine: Engine,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.inner.engine).finish_non_exhaustive()
    }
}

impl Store {
    /// Connects as `rollcall_app`; the URL's role must be it or a member of it. [`Store::migrate`] comes first.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let options = config.options()?;
        let mut first = connect_as_app(&options).await?;
        let engine = engine_of(&mut first).await?;
        // Already useful as it is; closing it politely spares the server a line in its log.
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(config.connections_max.max(1))
            .acquire_timeout(config.acquire_timeout)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(PREPARE).await.map(drop) }))
            .connect_lazy_with(options);
        Ok(Self { inner: Arc::new(Inner { config: config.clone(), pool, engine }) })
    }

    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub fn config(&self) -> &DatabaseConfig {
        &self.inner.config
    }

    /// For what belongs to no tenant: lookups before sign-in, readers' offsets. Rows of districts are invisible here.
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// A transaction on one district, on behalf of the program itself.
    pub async fn tenant(&self, district: DistrictId) -> Result<Tenant, StoreError> {
        self.begin("begin", district, None).await
    }

    /// A transaction on one district, on behalf of an account, which audit rows then name.
    pub async fn tenant_as(&self, district: DistrictId, caller: AccountId) -> Result<Tenant, StoreError> {
        self.begin("begin", district, Some(caller)).await
    }

    /// A transaction that sees one state of the district through all its statements and writes nothing.
    pub async fn snapshot(&self, district: DistrictId) -> Result<Tenant, StoreError> {
        self.begin("begin isolation level repeatable read read only", district, None).await
    }

    async fn begin(&self, how: &'static str, district: DistrictId, caller: Option<AccountId>) -> Result<Tenant, StoreError> {
        // A caller may go away at any await, as a request whose browser left does. A BEGIN that was sent and not heard of is not known to
        // be one, so nobody would end that transaction and the pool would lend it to the next caller. This task hears of it in any case.
        let pool = self.inner.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(how).await }).await;
        let mut transaction = match begun {
            Ok(begun) => begun?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The program ends.
            Err(_) => return Err(sqlx::Error::PoolClosed.into()),
        };
        set_tenant(&mut transaction, district, caller).await?;
        Ok(Tenant { transaction, district })
    }

    /// Closes the pool; bounded by the statements that are running.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// A connection of one's own outside the pool, for a reader that must be able to drop it in the middle of a COPY.
    pub(crate) async fn dedicated(&self) -> Result<PgConnection, StoreError> {
        connect_as_app(&self.inner.config.options()?).await
    }
}

async fn connect_as_app(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    let mut connection = PgConnection::connect_with(options).await?;
    connection.execute(PREPARE).await.map_err(|error| match &error {
        // 22023: the role does not exist.
        sqlx::Error::Database(cause) if cause.code().as_deref() == Some("22023") => StoreError::NotMigrated,
        _ => error.into(),
    })?;
    Ok(connection)
}

/// What the event tables are now, which is what counts: the extension may have been added after they were made.
async fn engine_of(connection: &mut PgConnection) -> Result<Engine, StoreError> {
    let found: Option<(String, Option<String>)> = sqlx::query_as(
        "select c.relkind::text, (select extversion from pg_extension where extname = 'timescaledb')
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'event' and c.relname = 'scan'",
    )
    .fetch_optional(connection)
    .await?;
    match found {
        None => Err(StoreError::NotMigrated),
        Some((kind, Some(version))) if kind == "r" => Ok(Engine::Timescale { version }),
        Some(_) => Ok(Engine::Plain),
    }
}

/// Says for the rest of the transaction which district it is about and for whom. May be said again for another.
pub(crate) async fn set_tenant(connection: &mut PgConnection, district: DistrictId, caller: Option<AccountId>) -> Result<(), StoreError> {
    sqlx::query("select set_config('rollcall.district', $1, true), set_config('rollcall.caller', $2, true)")
        .bind(district.to_string())
        .bind(caller.map(|caller| caller.to_string()).unwrap_or_default())
        .execute(connection)
        .await?;
    Ok(())
}

/// A transaction in which exactly one district is visible. Use it as a connection; dropping it rolls back.
pub struct Tenant {
    transaction: Transaction<'static, Postgres>,
    district: DistrictId,
}

impl Tenant {
    pub fn district(&self) -> DistrictId {
        self.district
    }

    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Tenant {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for Tenant {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
