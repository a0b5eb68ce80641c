//! What was concluded about students, as it is known now or was known at an instant.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::attendance::StatusDetail;
use rollcall_model::ids::{DistrictId, PeriodId, PersonId, SectionId};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::UtcMillis;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;

/// One change of a conclusion.
#[derive(Clone, Debug)]
pub struct StatusChange {
    pub date: NaiveDate,
    /// Both `None`: the day.
    pub section: Option<SectionId>,
    pub period: Option<PeriodId>,
    pub status: Status,
    pub since: Option<UtcMillis>,
    pub rule: Rule,
    pub detail: StatusDetail,
    pub recorded: UtcMillis,
}

type Columns = (NaiveDate, Option<Uuid>, Option<Uuid>, String, Option<DateTime<Utc>>, String, Value, DateTime<Utc>);

/// The newest conclusion about each day between two dates, both inclusive, newest day first.
pub async fn days(
    connection: &mut PgConnection,
    district: DistrictId,
    student: PersonId,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<StatusChange>, StoreError> {
    let rows: Vec<Columns> = sqlx::query_as(
        "select distinct on (date) date, section, period, status, since, rule, detail, recorded_at
         from rollcall.attendance_status
         where student = $1 and date between $2 and $3 and period is null
         order by date desc, id desc",
    )
    .bind(student.0)
    .bind(from)
    .bind(to)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| read(district, row)).collect()
}

/// All changes of one student's date in the order they were concluded, up to `at` when given.
pub async fn history(
    connection: &mut PgConnection,
    district: DistrictId,
    student: PersonId,
    date: NaiveDate,
    at: Option<UtcMillis>,
    limit: i64,
) -> Result<Vec<StatusChange>, StoreError> {
    let rows: Vec<Columns> = sqlx::query_as(
        "select date, section, period, status, since, rule, detail, recorded_at from (
             select * from rollcall.attendance_status
             where student = $1 and date = $2 and ($3::timestamptz is null or recorded_at <= $3)
             order by id desc limit $4
         ) newest order by id",
    )
    .bind(student.0)
    .bind(date)
    .bind(at.and_then(UtcMillis::to_chrono))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(|row| read(district, row)).collect()
}

fn read(district: DistrictId, row: Columns) -> Result<StatusChange, StoreError> {
    let (date, section, period, status, since, rule, detail, recorded) = row;
    let unreadable = |what, reason: String| StoreError::Unreadable { district, what, reason };
    Ok(StatusChange {
        date,
        section: section.map(SectionId),
        period: period.map(PeriodId),
        status: Status::from_text(&status).ok_or_else(|| unreadable("status", format!("{status:?} is none")))?,
        since: since.map(UtcMillis::from_chrono),
        rule: Rule::from_text(&rule).ok_or_else(|| unreadable("rule", format!("{rule:?} is none")))?,
        detail: serde_json::from_value(detail).map_err(|error| unreadable("detail of a status", error.to_string()))?,
        recorded: UtcMillis::from_chrono(recorded),
    })
}
