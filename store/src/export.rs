//! Scheduled exports: when a saved question is written to the operator's object storage, and what came of it.
//!
//! A run holds the lock of its schedule's row from [`claim`] to [`Claim::finish`], which writes the outcome, the next
//! instant and the audit in the same transaction. Another server passes a locked row by; if the process dies, the lock
//! ends with its connection and the run is done again, for the same instant and hence into the same file. Whatever was
//! missed while no server ran is done once: the next instant is always after the present.

mod schedule;

use chrono::{DateTime, NaiveTime, Utc, Weekday};
use rollcall_model::ids::{AccountId, DistrictId, ExportId, PersonId, SavedQueryId, SchoolId};
use rollcall_model::time::UtcMillis;
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

pub use schedule::{Every, Schedule};

use crate::account::{AccountRow, Role};
use crate::audit;
use crate::connection::{Store, Tenant, set_tenant};
use crate::error::StoreError;
use crate::saved_query::Edited;

/// Most schedules of one account.
pub const PER_ACCOUNT_MAX: i64 = 50;
/// Longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 500;
/// Pauses before a run that failed for a passing reason is tried again; after the last it waits for its next instant.
const RETRY_AFTER_MS: [i64; 3] = [60_000, 5 * 60_000, 15 * 60_000];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileFormat {
    Csv,
    Parquet,
}

impl FileFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Csv, Self::Parquet].into_iter().find(|format| format.as_str() == text)
    }
}

/// How the last run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Failed,
    /// Its account is disabled or has lost the right.
    Skipped,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Done, Self::Failed, Self::Skipped].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// One schedule as its owner sees it.
#[derive(Clone, Debug)]
pub struct Export {
    pub id: ExportId,
    pub query: SavedQueryId,
    pub title: String,
    pub schedule: Schedule,
    pub format: FileFormat,
    pub enabled: bool,
    pub due: UtcMillis,
    pub not_before: UtcMillis,
    pub last_at: Option<UtcMillis>,
    pub last_outcome: Option<Outcome>,
    pub last_error: Option<String>,
    /// What the last file lacks.
    pub last_warning: Option<String>,
    pub last_file: Option<String>,
    pub last_rows: Option<i64>,
    pub last_bytes: Option<i64>,
    pub version: i64,
}

/// Parts of a schedule that change; `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub schedule: Option<Schedule>,
    pub format: Option<FileFormat>,
    pub enabled: Option<bool>,
}

const SELECT: &str =
    "select e.id, e.query, q.title, e.every, e.weekday, e.at, e.zone, e.format, e.enabled, e.due, e.not_before, e.attempts,
    e.last_at, e.last_outcome, e.last_error, e.last_warning, e.last_file, e.last_rows, e.last_bytes, e.version, q.sql, q.owner,
    a.email, a.role, a.person, a.school, a.disabled
    from rollcall.export_schedule e join rollcall.saved_query q on q.district = e.district and q.id = e.query
    join rollcall.account a on a.district = q.district and a.id = q.owner";

/// The schedules of an account, by title of their question.
pub async fn list(connection: &mut PgConnection, district: DistrictId, owner: AccountId) -> Result<Vec<Export>, StoreError> {
    let statement = format!("{SELECT} where q.owner = $1 order by lower(q.title), e.id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(owner.0).fetch_all(connection).await?;
    rows.iter().map(|row| export(district, row)).collect()
}

/// One schedule of an account.
pub async fn get(
    connection: &mut PgConnection,
    district: DistrictId,
    owner: AccountId,
    id: ExportId,
) -> Result<Option<Export>, StoreError> {
    let statement = format!("{SELECT} where e.id = $1 and q.owner = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).bind(owner.0).fetch_optional(connection).await?;
    row.as_ref().map(|row| export(district, row)).transpose()
}

/// Makes a schedule of the owner's question. `None`: the account has [`PER_ACCOUNT_MAX`] already, or no such question.
pub async fn create(
    connection: &mut PgConnection,
    district: DistrictId,
    owner: AccountId,
    (query, schedule, format): (SavedQueryId, &Schedule, FileFormat),
    now: UtcMillis,
) -> Result<Option<Export>, StoreError> {
    let id = ExportId::random();
    let done = sqlx::query(
        "insert into rollcall.export_schedule (district, id, query, every, weekday, at, zone, format, due, not_before)
         select $1, $2, q.id, $4, $5, $6, $7, $8, $9, $9 from rollcall.saved_query q where q.id = $3 and q.owner = $10
           and (select count(*) from rollcall.export_schedule e join rollcall.saved_query o on o.district = e.district and o.id = e.query
                where o.owner = $10) < $11",
    )
    .bind(district.0)
    .bind(id.0)
    .bind(query.0)
    .bind(schedule.every.as_str())
    .bind(weekday_number(schedule))
    .bind(schedule.at)
    .bind(schedule.zone.name())
    .bind(format.as_str())
    .bind(schedule.next_after(now).to_chrono())
    .bind(owner.0)
    .bind(PER_ACCOUNT_MAX)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    get(connection, district, owner, id).await
}

fn weekday_number(schedule: &Schedule) -> Option<i16> {
    schedule.weekday.map(|weekday| weekday.number_from_monday() as i16)
}

/// Changes a schedule of the owner's if it still has this version. One that runs at this moment is not changed.
pub async fn change(
    connection: &mut PgConnection,
    district: DistrictId,
    (owner, id, version): (AccountId, ExportId, i64),
    change: &Change,
    now: UtcMillis,
) -> Result<Edited<Export>, StoreError> {
    let current = match held(connection, district, owner, id).await? {
        Edited::Done(current) if current.version != version => return Ok(Edited::Stale(current.version)),
        Edited::Done(current) => current,
        other => return Ok(other),
    };
    let schedule = change.schedule.unwrap_or(current.schedule);
    // One that is switched on again does not make up for what it would have done.
    let next = schedule.next_after(now).to_chrono();
    sqlx::query(
        "update rollcall.export_schedule set every = $2, weekday = $3, at = $4, zone = $5, format = $6, enabled = $7, due = $8,
                not_before = $8, attempts = 0, version = version + 1 where id = $1",
    )
    .bind(id.0)
    .bind(schedule.every.as_str())
    .bind(weekday_number(&schedule))
    .bind(schedule.at)
    .bind(schedule.zone.name())
    .bind(change.format.unwrap_or(current.format).as_str())
    .bind(change.enabled.unwrap_or(current.enabled))
    .bind(next)
    .execute(&mut *connection)
    .await?;
    Ok(get(connection, district, owner, id).await?.map_or(Edited::NotFound, Edited::Done))
}

/// Makes a schedule of the owner's due at once, even one that is paused: it is switched on.
pub async fn run_now(
    connection: &mut PgConnection,
    district: DistrictId,
    owner: AccountId,
    id: ExportId,
    now: UtcMillis,
) -> Result<Edited<Export>, StoreError> {
    match held(connection, district, owner, id).await? {
        Edited::Done(_) => {}
        other => return Ok(other),
    }
    let due = UtcMillis(now.0.div_euclid(1_000) * 1_000).to_chrono();
    sqlx::query("update rollcall.export_schedule set enabled = true, due = $2, not_before = $2, attempts = 0 where id = $1")
        .bind(id.0)
        .bind(due)
        .execute(&mut *connection)
        .await?;
    Ok(get(connection, district, owner, id).await?.map_or(Edited::NotFound, Edited::Done))
}

/// Deletes a schedule of the owner's. Its files stay.
pub async fn delete(
    connection: &mut PgConnection,
    district: DistrictId,
    owner: AccountId,
    id: ExportId,
) -> Result<Edited<Export>, StoreError> {
    let found = held(connection, district, owner, id).await?;
    if let Edited::Done(_) = found {
        sqlx::query("delete from rollcall.export_schedule where id = $1").bind(id.0).execute(connection).await?;
    }
    Ok(found)
}

/// A schedule of the owner's with its row locked until the transaction ends, unless a run has it.
async fn held(connection: &mut PgConnection, district: DistrictId, owner: AccountId, id: ExportId) -> Result<Edited<Export>, StoreError> {
    let statement = format!("{SELECT} where e.id = $1 and q.owner = $2 for update of e skip locked");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).bind(owner.0).fetch_optional(&mut *connection).await?;
    match row {
        Some(row) => Ok(Edited::Done(export(district, &row)?)),
        None if get(connection, district, owner, id).await?.is_some() => Ok(Edited::Running),
        None => Ok(Edited::NotFound),
    }
}

/// Schedules of all districts that are due, the longest first.
pub async fn due(store: &Store, now: UtcMillis, most: i32) -> Result<Vec<(DistrictId, ExportId)>, StoreError> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("select district, id from rollcall.due_exports($1, $2)")
        .bind(now.to_chrono())
        .bind(most)
        .fetch_all(store.pool())
        .await?;
    Ok(rows.into_iter().map(|(district, id)| (DistrictId(district), ExportId(id))).collect())
}

/// A run that nobody else can begin. Dropping it gives it back unrun.
pub struct Claim {
    tenant: Tenant,
    pub export: Export,
    pub sql: String,
    /// The owner as the account is now; `None`: with a role of a newer program.
    pub owner: Option<AccountRow>,
    attempts: usize,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Ended {
    Done {
        file: String,
        rows: u64,
        bytes: u64,
        /// What the file lacks, in words.
        warning: Option<String>,
    },
    /// `passing`: the same run may succeed later.
    Failed {
        error: String,
        passing: bool,
    },
    Skipped {
        reason: String,
    },
}

/// Takes a run if it is still due and no other server has it. The transaction speaks for the owner from then on.
pub async fn claim(store: &Store, district: DistrictId, id: ExportId, now: UtcMillis) -> Result<Option<Claim>, StoreError> {
    let mut tenant = store.tenant(district).await?;
    let statement = format!("{SELECT} where e.id = $1 and e.enabled and e.not_before <= $2 for update of e skip locked");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).bind(now.to_chrono()).fetch_optional(&mut *tenant).await?;
    let Some(row) = row else { return Ok(None) };
    let owner = AccountId(row.try_get("owner")?);
    set_tenant(&mut tenant, district, Some(owner)).await?;
    let account = Role::from_text(row.try_get("role")?).map(|role| {
        Ok::<_, sqlx::Error>(AccountRow {
            id: owner,
            email: row.try_get("email")?,
            role,
            person: row.try_get::<Option<Uuid>, _>("person")?.map(PersonId),
            school: row.try_get::<Option<Uuid>, _>("school")?.map(SchoolId),
            disabled: row.try_get("disabled")?,
        })
    });
    let attempts = usize::try_from(row.try_get::<i16, _>("attempts")?).unwrap_or_default();
    Ok(Some(Claim { export: export(district, &row)?, sql: row.try_get("sql")?, owner: account.transpose()?, attempts, tenant }))
}

impl Claim {
    /// Writes down what came of the run, with its row in the audit, and when the next one is.
    pub async fn finish(mut self, ended: &Ended, now: UtcMillis) -> Result<(), StoreError> {
        let next = self.export.schedule.next_after(now);
        let retry = RETRY_AFTER_MS.get(self.attempts).map(|pause| UtcMillis(now.0 + pause)).filter(|retry| *retry < next);
        let again = retry.filter(|_| matches!(ended, Ended::Failed { passing: true, .. }));
        let (outcome, error) = match ended {
            Ended::Done { .. } => (Outcome::Done, None),
            Ended::Failed { error, .. } => (Outcome::Failed, Some(error)),
            Ended::Skipped { reason } => (Outcome::Skipped, Some(reason)),
        };
        let cut = |text: &String| text.chars().take(ERROR_CHARS_MAX).collect::<String>();
        let error = error.map(cut);
        let (file, rows, bytes, warning) = match ended {
            Ended::Done { file, rows, bytes, warning } => {
                (Some(file), i64::try_from(*rows).ok(), i64::try_from(*bytes).ok(), warning.as_ref().map(cut))
            }
            _ => (None, None, None, None),
        };
        sqlx::query(
            "update rollcall.export_schedule set due = $2, not_before = $3, attempts = $4, last_at = $5, last_outcome = $6, last_error = $7,
                    last_file = coalesce($8, last_file), last_rows = coalesce($9, last_rows), last_bytes = coalesce($10, last_bytes),
                    last_warning = case when $8 is null then last_warning else $11 end
             where id = $1",
        )
        .bind(self.export.id.0)
        .bind(if again.is_some() { self.export.due } else { next }.to_chrono())
        .bind(again.unwrap_or(next).to_chrono())
        .bind(if again.is_some() { self.attempts as i16 + 1 } else { 0 })
        .bind(now.to_chrono())
        .bind(outcome.as_str())
        .bind(&error)
        .bind(file)
        .bind(rows)
        .bind(bytes)
        .bind(&warning)
        .execute(&mut *self.tenant)
        .await?;
        let detail = json!({"query": self.export.query, "outcome": outcome.as_str(), "error": error, "warning": warning, "file": file, "rows": rows,
            "format": self.export.format.as_str()});
        let (district, subject) = (self.tenant.district(), self.export.id.to_string());
        audit::record(&mut self.tenant, district, "export.run", Some(&subject), detail).await?;
        self.tenant.commit().await
    }
}

fn export(district: DistrictId, row: &PgRow) -> Result<Export, StoreError> {
    let instant = |column: &str| row.try_get::<Option<DateTime<Utc>>, _>(column).map(|found| found.map(UtcMillis::from_chrono));
    let unreadable = |what, word: &str| StoreError::Unreadable { district, what, reason: format!("{word} is not known to this version") };
    let (every, zone, format): (&str, &str, &str) = (row.try_get("every")?, row.try_get("zone")?, row.try_get("format")?);
    let weekday: Option<i16> = row.try_get("weekday")?;
    Ok(Export {
        id: ExportId(row.try_get("id")?),
        query: SavedQueryId(row.try_get("query")?),
        title: row.try_get("title")?,
        schedule: Schedule {
            every: Every::from_text(every).ok_or_else(|| unreadable("the rhythm of an export", every))?,
            weekday: weekday.and_then(|day| Weekday::try_from(u8::try_from(day).ok()?.checked_sub(1)?).ok()),
            at: row.try_get::<NaiveTime, _>("at")?,
            zone: zone.parse().map_err(|_| unreadable("the zone of an export", zone))?,
        },
        format: FileFormat::from_text(format).ok_or_else(|| unreadable("the format of an export", format))?,
        enabled: row.try_get("enabled")?,
        due: instant("due")?.unwrap_or_default(),
        not_before: instant("not_before")?.unwrap_or_default(),
        last_at: instant("last_at")?,
        last_outcome: row.try_get::<Option<&str>, _>("last_outcome")?.and_then(Outcome::from_text),
        last_error: row.try_get("last_error")?,
        last_warning: row.try_get("last_warning")?,
        last_file: row.try_get("last_file")?,
        last_rows: row.try_get("last_rows")?,
        last_bytes: row.try_get("last_bytes")?,
        version: row.try_get("version")?,
    })
}
