//! The statements of the rollups: where the reader stands, making everything anew, and adding a stretch.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::{DistrictId, Offset};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::READER;
use super::gather::{DeviceDay, Gathered, Key, Range, StudentDay};
use crate::admin;
use crate::attendance::SINK;
use crate::connection::{Store, set_tenant};
use crate::error::StoreError;
use crate::sink::columns::instant;

/// Rows of one statement.
const ROWS_MAX: usize = 5_000;

/// Where the rollups stand. Without that, or when the log no longer goes back so far, they are made anew.
pub async fn open(connection: &mut PgConnection, store: &Store, oldest: Offset) -> Result<Offset, StoreError> {
    let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
        .bind(READER)
        .fetch_optional(&mut *connection)
        .await?;
    match next.map(|next| Offset(next.cast_unsigned())) {
        Some(next) if next >= oldest => Ok(next),
        next => {
            tracing::info!(?next, %oldest, "rollups are made from the event tables");
            rebuild(connection, store).await
        }
    }
}

/// Fills the rollups from the event tables and returns up to where those have the log, all as of one instant.
async fn rebuild(connection: &mut PgConnection, store: &Store) -> Result<Offset, StoreError> {
    let mut transaction = connection.begin_with("begin isolation level repeatable read").await?;
    let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
        .bind(SINK)
        .fetch_optional(&mut *transaction)
        .await?;
    let next = next.unwrap_or(0);
    for (district, _) in admin::districts(store).await? {
        set_tenant(&mut transaction, district, None).await?;
        for statement in [
            "delete from rollcall.device_day",
            "delete from rollcall.student_day",
            include_str!("rebuild_devices.sql"),
            include_str!("rebuild_students.sql"),
        ] {
            transaction.execute(statement).await?;
        }
    }
    sqlx::query(
        "insert into rollcall.consumer_offset (reader, next) values ($1, $2) on conflict (reader) do update set next = excluded.next",
    )
    .bind(READER)
    .bind(next)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Offset(next.cast_unsigned()))
}

/// Adds what was gathered from `expected` to `next`, or nothing.
pub async fn write(connection: &mut PgConnection, gathered: &Gathered, (expected, next): (Offset, Offset)) -> Result<(), StoreError> {
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
    for (district, (devices, students)) in by_district(gathered) {
        set_tenant(&mut transaction, district, None).await?;
        for rows in devices.chunks(ROWS_MAX) {
            upsert_devices(&mut transaction, district, rows).await?;
        }
        for rows in students.chunks(ROWS_MAX) {
            upsert_students(&mut transaction, district, rows).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
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

fn keys<T>(rows: &[(&Key, &T)]) -> (Vec<Uuid>, Vec<Uuid>, Vec<NaiveDate>) {
    (column(rows, |key, _| key.school), column(rows, |key, _| key.id), column(rows, |key, _| key.date))
}

fn first(range: Range) -> Option<DateTime<Utc>> {
    range.0.map(|(first, _)| instant(first))
}

fn last(range: Range) -> Option<DateTime<Utc>> {
    range.0.map(|(_, last)| instant(last))
}

async fn upsert_devices(connection: &mut PgConnection, district: DistrictId, rows: &[(&Key, &DeviceDay)]) -> Result<(), StoreError> {
    let (schools, devices, dates) = keys(rows);
    sqlx::query(include_str!("upsert_devices.sql"))
        .bind(district.0)
        .bind(schools)
        .bind(devices)
        .bind(dates)
        .bind(column(rows, |_, day| day.scans))
        .bind(column(rows, |_, day| day.readings))
        .bind(column(rows, |_, day| day.activities))
        .bind(column(rows, |_, day| day.heartbeats))
        .bind(column(rows, |_, day| day.connects))
        .bind(column(rows, |_, day| day.disconnects))
        .bind(column(rows, |_, day| first(day.events)))
        .bind(column(rows, |_, day| last(day.events)))
        .bind(column(rows, |_, day| day.offline))
        .bind(column(rows, |_, day| day.late))
        .bind(column(rows, |_, day| day.late_ms_max))
        .bind(column(rows, |_, day| day.battery.map(|(least, _)| least)))
        .bind(column(rows, |_, day| day.battery.map(|(_, most)| most)))
        .bind(column(rows, |_, day| day.queued_max))
        .bind(column(rows, |_, day| day.heard()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn upsert_students(connection: &mut PgConnection, district: DistrictId, rows: &[(&Key, &StudentDay)]) -> Result<(), StoreError> {
    let (schools, students, dates) = keys(rows);
    sqlx::query(include_str!("upsert_students.sql"))
        .bind(district.0)
        .bind(schools)
        .bind(students)
        .bind(dates)
        .bind(column(rows, |_, day| day.scans))
        .bind(column(rows, |_, day| day.ins))
        .bind(column(rows, |_, day| day.outs))
        .bind(column(rows, |_, day| day.offline))
        .bind(column(rows, |_, day| day.late))
        .bind(column(rows, |_, day| first(day.seen)))
        .bind(column(rows, |_, day| last(day.seen)))
        .bind(column(rows, |_, day| day.first_in.map(instant)))
        .bind(column(rows, |_, day| day.last_out.map(instant)))
        .execute(connection)
        .await?;
    Ok(())
}
