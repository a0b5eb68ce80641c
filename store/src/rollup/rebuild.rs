//! Making the rollups anew from the event tables, a date at a time beside the reader, from the newest to the oldest.
//!
//! # How nothing is counted twice or left out
//! Each date of a district takes two transactions. The first deletes the date's rows and notes the offset at which the reader stands
//! (`cut`), which it holds in its place for that moment. From then on the reader adds what the log says from the cut on, and the second
//! adds what the event tables have from before it, and goes on to the next date. Both only add, in any order. A crash between them
//! leaves the cut on record, and the second is done again.
//!
//! # What is kept
//! A date without events stays as it is: it may be older than what event retention keeps. So do dates for which a kind of event is no
//! longer kept; unless there is nothing so old, as after an upgrade: then they are made of what there is.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::{DistrictId, Offset};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::READER;
use crate::admin;
use crate::attendance::SINK;
use crate::connection::{Retention, Store, set_tenant};
use crate::erasure;
use crate::error::StoreError;

/// Days within its retention that a date needs to be complete: zones, and a rebuild that takes a day.
const MARGIN_DAYS: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Table {
    Devices,
    Students,
}

impl Table {
    fn named(name: &str) -> Option<Self> {
        [Self::Devices, Self::Students].into_iter().find(|table| table.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Devices => "device_day",
            Self::Students => "student_day",
        }
    }

    /// Deletes the rows of a date of which there are events between two instants.
    fn clear(self) -> &'static str {
        match self {
            Self::Devices => {
                "delete from rollcall.device_day where date = $1 and (
                     exists (select from rollcall.scan where ts >= $2 and ts < $3)
                     or exists (select from rollcall.telemetry where ts >= $2 and ts < $3)
                     or exists (select from rollcall.activity where ts >= $2 and ts < $3)
                     or exists (select from rollcall.device_status where ts >= $2 and ts < $3))"
            }
            Self::Students => {
                "delete from rollcall.student_day where date = $1 and exists (select from rollcall.scan where ts >= $2 and ts < $3)"
            }
        }
    }

    fn fill(self) -> &'static str {
        match self {
            Self::Devices => concat!(include_str!("fill_devices.sql"), include_str!("merge_devices.sql")),
            Self::Students => concat!(include_str!("fill_students.sql"), include_str!("merge_students.sql")),
        }
    }

    /// Days for which all of its events are kept.
    fn complete_days(self, retention: &Retention) -> u32 {
        let of = |table: &str| self == Self::Devices || table == "scan";
        let days = retention.tables().into_iter().filter(|(table, _)| of(table)).map(|(_, days)| days).min();
        days.unwrap_or_default().saturating_sub(MARGIN_DAYS)
    }
}

/// What is left to be made of one rollup of one district.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rebuild {
    district: DistrictId,
    table: Table,
    date: NaiveDate,
    oldest: NaiveDate,
    cut: Option<Offset>,
}

impl Rebuild {
    /// Dates that are left.
    pub fn dates(&self) -> u64 {
        (self.date - self.oldest).num_days().max(0).cast_unsigned() + 1
    }
}

/// Asks for all rollups to be made anew, and returns where the reader goes on: where the sink stands.
pub async fn ask(connection: &mut PgConnection, store: &Store) -> Result<Offset, StoreError> {
    let districts = admin::districts(store).await?;
    let retention = store.config().retention;
    let mut transaction = connection.begin().await?;
    let next = offset_of(&mut transaction, SINK).await?.unwrap_or(Offset(0));
    sqlx::query(
        "insert into rollcall.consumer_offset (reader, next) values ($1, $2) on conflict (reader) do update set next = excluded.next",
    )
    .bind(READER)
    .bind(next.0.cast_signed())
    .execute(&mut *transaction)
    .await?;
    for (district, _) in districts {
        set_tenant(&mut transaction, district, None).await?;
        for table in [Table::Devices, Table::Students] {
            sqlx::query(include_str!("ask.sql"))
                .bind(table.name())
                .bind(i64::from(table.complete_days(&retention)))
                .bind(i64::from(retention.rollup_days))
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(next)
}

/// What is left of all districts, newest dates first.
pub async fn pending(connection: &mut PgConnection) -> Result<Vec<Rebuild>, StoreError> {
    type Columns = (Uuid, String, NaiveDate, NaiveDate, Option<i64>);
    let rows: Vec<Columns> =
        sqlx::query_as("select district, rollup, date, oldest, cut from rollcall.rollup_rebuilds()").fetch_all(connection).await?;
    let rebuild = |(district, rollup, date, oldest, cut): Columns| {
        let cut = cut.map(|cut| Offset(cut.cast_unsigned()));
        Table::named(&rollup).map(|table| Rebuild { district: DistrictId(district), table, date, oldest, cut })
    };
    Ok(rows.into_iter().filter_map(rebuild).collect())
}

/// Makes the next date. `false`: the sink has not written all that the reader has read before the cut; try again when it has.
pub async fn step(connection: &mut PgConnection, rebuild: &Rebuild) -> Result<bool, StoreError> {
    let span = span(connection, rebuild).await?;
    let cut = match rebuild.cut {
        Some(cut) => cut,
        None => clear(connection, rebuild, span).await?,
    };
    if offset_of(connection, SINK).await?.unwrap_or(Offset(0)) < cut {
        return Ok(false);
    }
    fill(connection, rebuild, span, cut).await?;
    Ok(true)
}

async fn offset_of(connection: &mut PgConnection, reader: &str) -> Result<Option<Offset>, StoreError> {
    let next: Option<i64> =
        sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1").bind(reader).fetch_optional(connection).await?;
    Ok(next.map(|next| Offset(next.cast_unsigned())))
}

/// Instants between which the date lies in every zone of the district, so that only few partitions are read. The two hours are for an
/// hour that a zone has twice.
async fn span(connection: &mut PgConnection, rebuild: &Rebuild) -> Result<(DateTime<Utc>, DateTime<Utc>), StoreError> {
    let mut transaction = connection.begin().await?;
    set_tenant(&mut transaction, rebuild.district, None).await?;
    let span = sqlx::query_as(
        "select min($1::date::timestamp at time zone zone) - interval '2 hours', max(($1::date + 1)::timestamp at time zone zone) + interval '2 hours'
         from (select zone from rollcall.school union select 'UTC') zones",
    )
    .bind(rebuild.date)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(span)
}

async fn clear(connection: &mut PgConnection, rebuild: &Rebuild, span: (DateTime<Utc>, DateTime<Utc>)) -> Result<Offset, StoreError> {
    let mut transaction = connection.begin().await?;
    set_tenant(&mut transaction, rebuild.district, None).await?;
    let cut: i64 = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1 for update")
        .bind(READER)
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| StoreError::not_found("offset of the reader", READER))?;
    sqlx::query(rebuild.table.clear()).bind(rebuild.date).bind(span.0).bind(span.1).execute(&mut *transaction).await?;
    let noted = sqlx::query("update rollcall.rollup_rebuild set cut = $3 where rollup = $1 and date = $2 and cut is null")
        .bind(rebuild.table.name())
        .bind(rebuild.date)
        .bind(cut)
        .execute(&mut *transaction)
        .await?;
    rebuild.require_one(noted.rows_affected())?;
    transaction.commit().await?;
    Ok(Offset(cut.cast_unsigned()))
}

async fn fill(
    connection: &mut PgConnection,
    rebuild: &Rebuild,
    span: (DateTime<Utc>, DateTime<Utc>),
    cut: Offset,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    set_tenant(&mut transaction, rebuild.district, None).await?;
    if rebuild.table == Table::Students {
        erasure::hold(&mut transaction).await?;
    }
    sqlx::query(rebuild.table.fill())
        .bind(rebuild.date)
        .bind(span.0)
        .bind(span.1)
        .bind(cut.0.cast_signed())
        .execute(&mut *transaction)
        .await?;
    let moved = sqlx::query("update rollcall.rollup_rebuild set date = date - 1, cut = null where rollup = $1 and date = $2 and cut = $3")
        .bind(rebuild.table.name())
        .bind(rebuild.date)
        .bind(cut.0.cast_signed())
        .execute(&mut *transaction)
        .await?;
    rebuild.require_one(moved.rows_affected())?;
    sqlx::query("delete from rollcall.rollup_rebuild where rollup = $1 and date < oldest")
        .bind(rebuild.table.name())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

impl Rebuild {
    /// The rebuild may have been asked for anew meanwhile, and then begins at the newest date.
    fn require_one(&self, rows: u64) -> Result<(), StoreError> {
        if rows == 1 {
            return Ok(());
        }
        Err(StoreError::Conflict { constraint: format!("the rebuild of {} is not at {}", self.table.name(), self.date) })
    }
}
