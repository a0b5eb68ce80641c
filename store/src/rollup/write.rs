//! The statements of the reader: where it stands, and adding a stretch of the log.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::{DistrictId, Offset};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};
use uuid::Uuid;

use super::gather::{DeviceDay, Gathered, Key, Range, StudentDay};
use super::{READER, rebuild};
use crate::connection::{Store, set_tenant};
use crate::erasure::{self, Erased};
use crate::error::StoreError;
use crate::sink::columns::instant;

/// Rows of one statement.
const ROWS_MAX: usize = 5_000;

/// Where the reader goes on. Without that on record, or when the log no longer goes back so far, the rollups are to be made anew.
pub async fn open(connection: &mut PgConnection, store: &Store, oldest: Offset) -> Result<Offset, StoreError> {
    let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
        .bind(READER)
        .fetch_optional(&mut *connection)
        .await?;
    match next.map(|next| Offset(next.cast_unsigned())) {
        Some(next) if next >= oldest => Ok(next),
        next => {
            tracing::info!(?next, %oldest, "rollups are made anew from the event tables");
            rebuild::ask(connection, store).await
        }
    }
}

/// Adds what was gathered from `expected` to `next`, or nothing. `false`: somebody was erased after it was gathered, so it is to be
/// gathered again.
pub async fn write(connection: &mut PgConnection, gathered: &Gathered, (expected, next): (Offset, Offset)) -> Result<bool, StoreError> {
    let mut transaction = connection.begin().await?;
    let moved = sqlx::query("update rollcall.consumer_offset set next = $2 where reader = $1 and next = $3")
        .bind(READER)
        .bind(next.0.cast_signed())
        .bind(expected.0.cast_signed())
        .execute(&mut *transaction)
        .await?;
    if moved.rows_affected() != 1 {
        return Err(StoreError::Conflict { constraint: format!("the offset of the reader {READER} is not {expected}") });
    }
    erasure::hold(&mut transaction).await?;
    if Erased::since(&mut transaction, expected).await? != gathered.erased {
        return Ok(false);
    }
    for (district, (devices, students)) in by_district(gathered) {
        set_tenant(&mut transaction, district, None).await?;
        upsert(&mut transaction, district, &devices).await?;
        upsert(&mut transaction, district, &students).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

type Rows<'a, T> = Vec<(&'a Key, &'a T)>;

/// The rows of each district in the order of the tables' keys, in which neighbours lie on one page.
fn by_district(gathered: &Gathered) -> BTreeMap<DistrictId, (Rows<'_, DeviceDay>, Rows<'_, StudentDay>)> {
    let mut districts: BTreeMap<DistrictId, (Rows<'_, DeviceDay>, Rows<'_, StudentDay>)> = BTreeMap::new();
    for (key, day) in &gathered.devices {
        districts.entry(key.district).or_default().0.push((key, day));
    }
    for (key, day) in &gathered.students {
        districts.entry(key.district).or_default().1.push((key, day));
    }
    for (devices, students) in districts.values_mut() {
        devices.sort_unstable_by_key(|(key, _)| **key);
        students.sort_unstable_by_key(|(key, _)| **key);
    }
    districts
}

fn column<T, V>(rows: &[(&Key, &T)], of: impl Fn(&Key, &T) -> V) -> Vec<V> {
    rows.iter().map(|(key, day)| of(key, day)).collect()
}

fn values<T, V>(rows: &[(&Key, &T)], of: impl Fn(&T) -> V) -> Vec<V> {
    column(rows, |_, day| of(day))
}

fn first(range: Range) -> Option<DateTime<Utc>> {
    range.0.map(|(first, _)| instant(first))
}

fn last(range: Range) -> Option<DateTime<Utc>> {
    range.0.map(|(_, last)| instant(last))
}

type Statement = Query<'static, Postgres, PgArguments>;

/// A row of a rollup without its key.
trait Day: Sized {
    /// Takes the district, the columns of the key, and those of [`Day::bind`].
    const UPSERT: &'static str;

    fn bind(statement: Statement, rows: &[(&Key, &Self)]) -> Statement;
}

async fn upsert<T: Day>(connection: &mut PgConnection, district: DistrictId, rows: &[(&Key, &T)]) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS_MAX) {
        let schools: Vec<Uuid> = column(rows, |key, _| key.school);
        let ids: Vec<Uuid> = column(rows, |key, _| key.id);
        let dates: Vec<NaiveDate> = column(rows, |key, _| key.date);
        let statement = sqlx::query(T::UPSERT).bind(district.0).bind(schools).bind(ids).bind(dates);
        T::bind(statement, rows).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Day for DeviceDay {
    const UPSERT: &'static str = concat!(include_str!("upsert_devices.sql"), include_str!("merge_devices.sql"));

    fn bind(statement: Statement, rows: &[(&Key, &Self)]) -> Statement {
        statement
            .bind(values(rows, |day| day.scans))
            .bind(values(rows, |day| day.readings))
            .bind(values(rows, |day| day.activities))
            .bind(values(rows, |day| day.heartbeats))
            .bind(values(rows, |day| day.connects))
            .bind(values(rows, |day| day.disconnects))
            .bind(values(rows, |day| first(day.events)))
            .bind(values(rows, |day| last(day.events)))
            .bind(values(rows, |day| day.offline))
            .bind(values(rows, |day| day.late))
            .bind(values(rows, |day| day.late_ms_max))
            .bind(values(rows, |day| day.battery.map(|(least, _)| least)))
            .bind(values(rows, |day| day.battery.map(|(_, most)| most)))
            .bind(values(rows, |day| day.queued_max))
            .bind(values(rows, Self::heard))
    }
}

impl Day for StudentDay {
    const UPSERT: &'static str = concat!(include_str!("upsert_students.sql"), include_str!("merge_students.sql"));

    fn bind(statement: Statement, rows: &[(&Key, &Self)]) -> Statement {
        statement
            .bind(values(rows, |day| day.scans))
            .bind(values(rows, |day| day.ins))
            .bind(values(rows, |day| day.outs))
            .bind(values(rows, |day| day.offline))
            .bind(values(rows, |day| day.late))
            .bind(values(rows, |day| first(day.seen)))
            .bind(values(rows, |day| last(day.seen)))
            .bind(values(rows, |day| day.first_in.map(instant)))
            .bind(values(rows, |day| day.last_out.map(instant)))
    }
}
