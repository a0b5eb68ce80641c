//! When students arrived, counted by the local time of day, from the newest conclusions about their days.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rollcall_model::ids::SchoolId;
use rollcall_model::time::UtcMillis;
use sqlx::PgConnection;

use crate::error::StoreError;

/// Arrivals at one school on one date.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Arrivals {
    /// Students who arrived within the step that begins at this minute after local midnight.
    pub by_minute: BTreeMap<u32, u64>,
    /// Students who were there that day, with or without a scan that tells when they came.
    pub attended: u64,
}

impl Arrivals {
    pub fn arrived(&self) -> u64 {
        self.by_minute.values().sum()
    }
}

/// Arrivals on each of the dates, in steps of minutes; a date of which nothing is known is missing.
pub async fn of_school(
    connection: &mut PgConnection,
    school: SchoolId,
    dates: &[NaiveDate],
    zone: &str,
    step_min: u32,
    as_of: UtcMillis,
) -> Result<BTreeMap<NaiveDate, Arrivals>, StoreError> {
    let rows: Vec<(NaiveDate, Option<i32>, i64, i64)> = sqlx::query_as(
        "select date, minute, count(*), count(*) filter (where status in ('present', 'tardy', 'early_departure')) from (
             select distinct on (date, student) date, student, status,
                 (extract(epoch from ((detail->>'arrival')::timestamptz at time zone $3)::time)::int / 60 / $4) * $4 as minute
             from rollcall.attendance_status
             where school = $1 and date = any ($2) and period is null and recorded_at <= $5
             order by date, student, id desc
         ) newest group by date, minute",
    )
    .bind(school.0)
    .bind(dates)
    .bind(zone)
    .bind(i32::try_from(step_min).unwrap_or(i32::MAX))
    .bind(as_of.to_chrono())
    .fetch_all(connection)
    .await?;
    let mut found: BTreeMap<NaiveDate, Arrivals> = BTreeMap::new();
    for (date, minute, students, attended) in rows {
        let day = found.entry(date).or_default();
        day.attended += attended.unsigned_abs();
        if let Some(minute) = minute.and_then(|minute| u32::try_from(minute).ok()) {
            *day.by_minute.entry(minute).or_default() += students.unsigned_abs();
        }
    }
    Ok(found)
}
