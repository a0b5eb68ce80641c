//! Bringing a database to the schema of this program. Safe to run at every start and by several programs at once.

use sqlx::migrate::Migrator;
use sqlx::{Connection, Executor, PgConnection};

use crate::connection::{DatabaseConfig, Store};
use crate::error::StoreError;

static NUMBERED: Migrator = sqlx::migrate!("../migrations");
const EVENTS: &str = include_str!("../../migrations/events.sql");
const TIMESCALE: &str = include_str!("../../migrations/timescale.sql");

/// Key of the advisory lock that lets one program migrate at a time.
const LOCK: i64 = 0x0052_6f6c_6c63_616c;

impl Store {
    /// Creates or completes the schema as the URL's own role, which must be allowed to create roles and schemas.
    ///
    /// The engine is chosen once, when the event tables are made: TimescaleDB where the server offers the extension with
    /// its full licence and the role may create it, plain PostgreSQL otherwise.
    pub async fn migrate(config: &DatabaseConfig) -> Result<(), StoreError> {
        let mut connection = PgConnection::connect_with(&config.options()?).await?;
        sqlx::query("select pg_advisory_lock($1)").bind(LOCK).execute(&mut connection).await?;
        let outcome = migrate_locked(&mut connection, config).await;
        // The lock ends with the connection in any case.
        let _ = connection.close().await;
        outcome
    }
}

async fn migrate_locked(connection: &mut PgConnection, config: &DatabaseConfig) -> Result<(), StoreError> {
    // The owner may have the name of a schema that the migrations create, and the list of what has run would then be
    // looked for there at the next start. Notices that something is not there to be dropped would only puzzle a new user.
    connection.execute("set timezone to 'UTC'; set search_path to public; set client_min_messages to warning").await?;
    let made_for: Option<String> = sqlx::query_scalar("select relkind::text from pg_class where oid = to_regclass('event.scan')")
        .fetch_optional(&mut *connection)
        .await?;
    if made_for.is_none() {
        offer_timescale(connection).await?;
    }
    NUMBERED.run_direct(None, connection, false).await?;
    connection.execute(EVENTS).await?;
    if is_timescale(connection).await? {
        connection.execute(TIMESCALE).await?;
        for (table, days) in config.retention.tables() {
            let days = i32::try_from(days).map_err(|_| StoreError::Invalid(format!("retention of {table}: too many days")))?;
            sqlx::query("select rollcall.set_event_retention($1, $2)").bind(table).bind(days).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Creates the extension where that is possible. The community licence is needed for the columnstore and the policies.
async fn offer_timescale(connection: &mut PgConnection) -> Result<(), StoreError> {
    let available: bool = sqlx::query_scalar("select exists (select from pg_available_extensions where name = 'timescaledb')")
        .fetch_one(&mut *connection)
        .await?;
    if !available {
        return Ok(());
    }
    if let Err(error) = connection.execute("create extension if not exists timescaledb").await {
        tracing::warn!(%error, "the timescaledb extension is installed but cannot be created; event tables will be plain partitions");
    }
    Ok(())
}

/// Whether the event tables were made for TimescaleDB, or have just been.
async fn is_timescale(connection: &mut PgConnection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(
        "select c.relkind = 'r' and exists (select from pg_extension where extname = 'timescaledb')
         from pg_class c where c.oid = 'event.scan'::regclass",
    )
    .fetch_one(connection)
    .await?)
}
