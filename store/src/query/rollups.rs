//! Look-ups in the rollups ([`crate::rollup`]): a device's week, the evidence of a student's year.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::{DeviceId, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use crate::error::StoreError;

/// Minutes of a stretch in which a device was heard or not.
pub const HEARD_MIN: u32 = 5;

/// What a device said on one date for one school. Columns are explained in the migration.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceDay {
    pub date: NaiveDate,
    pub school: SchoolId,
    pub scans: i64,
    pub readings: i64,
    pub activities: i64,
    pub heartbeats: i64,
    pub connects: i64,
    pub disconnects: i64,
    pub first_event: Option<UtcMillis>,
    pub last_event: Option<UtcMillis>,
    pub offline: i64,
    pub late: i64,
    pub late_ms_max: i64,
    /// 0 to 1.
    pub battery_min: Option<f64>,
    pub battery_max: Option<f64>,
    pub queued_max: Option<i64>,
    /// A `1` for each [`HEARD_MIN`] minutes since the date began in which it said something, else a `0`.
    pub heard: String,
}

impl DeviceDay {
    /// Minutes in which it was heard, by stretches.
    pub fn heard_min(&self) -> u32 {
        HEARD_MIN * self.heard.matches('1').count() as u32
    }

    /// The longest silence between its first and its last word, in minutes, by stretches.
    pub fn silent_min_max(&self) -> u32 {
        let between = self.heard.trim_matches('0');
        HEARD_MIN * between.split('1').map(|silence| silence.len() as u32).max().unwrap_or(0)
    }
}

/// The scans of one student on one date at one school.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceDay {
    pub date: NaiveDate,
    pub school: SchoolId,
    pub scans: i64,
    pub ins: i64,
    pub outs: i64,
    pub offline: i64,
    pub late: i64,
    pub first_scan: UtcMillis,
    pub last_scan: UtcMillis,
    pub first_in: Option<UtcMillis>,
    pub last_out: Option<UtcMillis>,
}

/// The days of a device between two dates, both inclusive, newest first.
pub async fn device_days(
    connection: &mut PgConnection,
    device: DeviceId,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<DeviceDay>, StoreError> {
    let rows = sqlx::query(
        "select date, school, scans, readings, activities, heartbeats, connects, disconnects, first_event, last_event, offline, late,
             late_ms_max, battery_min, battery_max, queued_max, heard::text
         from rollcall.device_day where device = $1 and date between $2 and $3 order by date desc, school",
    )
    .bind(device.0)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    let day = |row: &PgRow| -> Result<DeviceDay, sqlx::Error> {
        Ok(DeviceDay {
            date: row.try_get("date")?,
            school: SchoolId(row.try_get("school")?),
            scans: row.try_get("scans")?,
            readings: row.try_get("readings")?,
            activities: row.try_get("activities")?,
            heartbeats: row.try_get("heartbeats")?,
            connects: row.try_get("connects")?,
            disconnects: row.try_get("disconnects")?,
            first_event: instant(row, "first_event")?,
            last_event: instant(row, "last_event")?,
            offline: row.try_get("offline")?,
            late: row.try_get("late")?,
            late_ms_max: row.try_get("late_ms_max")?,
            battery_min: row.try_get("battery_min")?,
            battery_max: row.try_get("battery_max")?,
            queued_max: row.try_get("queued_max")?,
            heard: row.try_get("heard")?,
        })
    };
    rows.iter().map(|row| day(row).map_err(StoreError::from)).collect()
}

/// The days of a student with scans between two dates, both inclusive, newest first.
pub async fn student_days(
    connection: &mut PgConnection,
    student: PersonId,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<EvidenceDay>, StoreError> {
    let rows = sqlx::query(
        "select date, school, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out
         from rollcall.student_day where student = $1 and date between $2 and $3 order by date desc, school",
    )
    .bind(student.0)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    let day = |row: &PgRow| -> Result<EvidenceDay, sqlx::Error> {
        Ok(EvidenceDay {
            date: row.try_get("date")?,
            school: SchoolId(row.try_get("school")?),
            scans: row.try_get("scans")?,
            ins: row.try_get("ins")?,
            outs: row.try_get("outs")?,
            offline: row.try_get("offline")?,
            late: row.try_get("late")?,
            first_scan: UtcMillis::from_chrono(row.try_get("first_scan")?),
            last_scan: UtcMillis::from_chrono(row.try_get("last_scan")?),
            first_in: instant(row, "first_in")?,
            last_out: instant(row, "last_out")?,
        })
    };
    rows.iter().map(|row| day(row).map_err(StoreError::from)).collect()
}

fn instant(row: &PgRow, column: &str) -> Result<Option<UtcMillis>, sqlx::Error> {
    Ok(row.try_get::<Option<DateTime<Utc>>, _>(column)?.map(UtcMillis::from_chrono))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_between_words_only() {
        let day = |heard: &str| DeviceDay {
            date: NaiveDate::default(),
            school: SchoolId::from_bytes([1; 16]),
            scans: 0,
            readings: 0,
            activities: 0,
            heartbeats: 0,
            connects: 0,
            disconnects: 0,
            first_event: None,
            last_event: None,
            offline: 0,
            late: 0,
            late_ms_max: 0,
            battery_min: None,
            battery_max: None,
            queued_max: None,
            heard: heard.to_owned(),
        };
        let shown = |heard: &str| (day(heard).heard_min(), day(heard).silent_min_max());
        assert_eq!(shown("0000"), (0, 0));
        assert_eq!(shown("0100"), (5, 0));
        assert_eq!(shown("1101000100000"), (20, 15));
    }
}
