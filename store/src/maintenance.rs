//! The hourly housekeeping: partitions ahead of time and past their days, old rollups, answers and sessions that nobody needs any more.
//!
//! On plain PostgreSQL the days just ahead get their partitions here, so that midnight costs the sink nothing; any
//! other day's partition the sink creates when a row of it comes. With TimescaleDB the database's own policies do
//! that. Everything here may be repeated, interrupted and run by several programs at once.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use rollcall_model::ids::DistrictId;
use rollcall_model::time::{Clock, UtcMillis};
use tokio_util::sync::CancellationToken;

use crate::connection::{Engine, Store};
use crate::error::StoreError;

const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// After a failure, such as a database that is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Days after today that get their partitions.
const DAYS_AHEAD: i64 = 3;

/// Fewest days that events and rollups are kept, whatever is configured: the database refuses to drop younger events.
const RETENTION_DAYS_MIN: u32 = 7;

/// Hours that the answer to a write with an Idempotency-Key is kept.
const IDEMPOTENCY_HOURS: i32 = 24;

/// What one round did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub partitions_created: u32,
    pub partitions_dropped: u32,
    pub rows_pruned: u64,
}

/// Runs a round at once and then every hour until shut down.
pub async fn run(store: Store, clock: Clock, shutdown: CancellationToken) {
    loop {
        let pause = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = run_once(&store, clock.now()) => match outcome {
                Ok(report) => {
                    tracing::debug!(?report, "housekeeping done");
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(%error, "housekeeping failed; trying again in a minute");
                    RETRY_INTERVAL
                }
            },
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One round.
pub async fn run_once(store: &Store, now: UtcMillis) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let today = now.to_chrono().unwrap_or_default().date_naive();
    if *store.engine() == Engine::Plain {
        for (table, days) in store.config().retention.tables() {
            report.partitions_created += create_ahead(store, table, today).await?;
            report.partitions_dropped += drop_past(store, table, today, days).await?;
        }
    }
    for (district, _) in crate::admin::districts(store).await? {
        report.rows_pruned += prune(store, district, now).await?;
        report.rows_pruned += crate::rollup::expire(store, district, first_kept(today, store.config().retention.rollup_days)).await?;
    }
    Ok(report)
}

async fn create_ahead(store: &Store, table: &str, today: NaiveDate) -> Result<u32, StoreError> {
    let mut created = 0;
    for ahead in 0..=DAYS_AHEAD {
        let made: bool = sqlx::query_scalar("select rollcall.create_event_partition($1, $2)")
            .bind(table)
            .bind(today + TimeDelta::days(ahead))
            .fetch_one(store.pool())
            .await?;
        created += u32::from(made);
    }
    Ok(created)
}

fn first_kept(today: NaiveDate, days: u32) -> NaiveDate {
    today - TimeDelta::days(days.max(RETENTION_DAYS_MIN).into())
}

async fn drop_past(store: &Store, table: &str, today: NaiveDate, days: u32) -> Result<u32, StoreError> {
    let before = first_kept(today, days);
    let dropped: i32 =
        sqlx::query_scalar("select rollcall.drop_event_partitions($1, $2)").bind(table).bind(before).fetch_one(store.pool()).await?;
    Ok(dropped.unsigned_abs())
}

async fn prune(store: &Store, district: DistrictId, now: UtcMillis) -> Result<u64, StoreError> {
    let now = now.to_chrono().unwrap_or_default();
    let dead_letter_days = store.config().retention.scan_days.max(RETENTION_DAYS_MIN);
    let mut tenant = store.tenant(district).await?;
    let answers = sqlx::query("delete from rollcall.idempotency where created_at < $1 - make_interval(hours => $2)")
        .bind(now)
        .bind(IDEMPOTENCY_HOURS)
        .execute(&mut *tenant)
        .await?;
    let sessions = sqlx::query("delete from rollcall.session where expires_at < $1").bind(now).execute(&mut *tenant).await?;
    let letters = sqlx::query("delete from rollcall.dead_letter where received < $1")
        .bind(now - TimeDelta::days(dead_letter_days.into()))
        .execute(&mut *tenant)
        .await?;
    tenant.commit().await?;
    Ok(answers.rows_affected() + sessions.rows_affected() + letters.rows_affected())
}
