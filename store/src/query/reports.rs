//! What reports are made of: the newest conclusions about a school's days and periods, and the evidence of one date, as
//! they were known at an instant. Reads only; every range is bounded by its caller.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::event::Direction;
use rollcall_model::ids::{DeviceId, DistrictId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::reports::day::DecidingMark;
use rollcall_model::schedule::Span;
use rollcall_model::status::{Authority, Mark, MarkStatus, Rule, ScanEvidence, Status};
use rollcall_model::time::UtcMillis;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::StoreError;
use crate::query::{Listed, marks};

/// The newest conclusion about one student and one day or period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConclusionRow {
    pub student: PersonId,
    pub date: NaiveDate,
    /// `None`: the day.
    pub meeting: Option<(SectionId, PeriodId)>,
    pub status: Status,
    pub rule: Rule,
    pub since: Option<UtcMillis>,
    /// By evidence.
    pub arrival: Option<UtcMillis>,
    pub starts: Option<UtcMillis>,
    pub ends: Option<UtcMillis>,
    pub present_min: u32,
    pub scheduled_min: u32,
    /// Of a day that was over when this was concluded.
    pub absent_half_days: Option<u32>,
    pub mark: Option<DecidingMark>,
    pub recorded: UtcMillis,
}

/// Scans and marks of one school and date.
#[derive(Clone, Default, Debug)]
pub struct Evidence {
    pub scans: Vec<ScanEvidence>,
    pub marks: Vec<Mark>,
}

/// What is asked for. Both dates are inclusive.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub district: DistrictId,
    pub school: SchoolId,
    pub from: NaiveDate,
    pub to: NaiveDate,
    pub as_of: UtcMillis,
}

/// What is taken out of the explanation that was stored with a conclusion.
const FIELDS: &str = "student, date, section, period, status, rule, since, recorded_at,
    (detail->>'arrival')::timestamptz as arrival, (detail->>'starts')::timestamptz as starts, (detail->>'ends')::timestamptz as ends,
    (detail->>'present_min')::int as present_min, (detail->>'scheduled_min')::int as scheduled_min,
    (detail->>'absent_half_days')::int as absent_half_days,
    (detail->'mark'->>'id')::uuid as mark, detail->'mark'->>'status' as mark_status, detail->'mark'->>'authority' as mark_authority,
    coalesce(btrim(detail->'mark'->>'reason'), '') <> '' as mark_reason";

/// The newest conclusion about each student's day that had been recorded by `as_of`, in order of date and student.
pub async fn days(connection: &mut PgConnection, asked: &Asked) -> Result<Vec<ConclusionRow>, StoreError> {
    let statement = format!(
        "select {FIELDS} from (
             select distinct on (date, student) * from rollcall.attendance_status
             where school = $1 and date between $2 and $3 and period is null and recorded_at <= $4
             order by date, student, id desc
         ) newest"
    );
    read(connection, statement, asked).await
}

/// The same about each student's meetings, in order of date, student, period and section.
pub async fn periods(connection: &mut PgConnection, asked: &Asked) -> Result<Vec<ConclusionRow>, StoreError> {
    let statement = format!(
        "select {FIELDS} from (
             select distinct on (date, student, period, section) * from rollcall.attendance_status
             where school = $1 and date between $2 and $3 and period is not null and recorded_at <= $4
             order by date, student, period, section, id desc
         ) newest"
    );
    read(connection, statement, asked).await
}

async fn read(connection: &mut PgConnection, statement: String, asked: &Asked) -> Result<Vec<ConclusionRow>, StoreError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(asked.school.0)
        .bind(asked.from)
        .bind(asked.to)
        .bind(asked.as_of.to_chrono())
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| conclusion(asked.district, row)).collect()
}

/// The scans of a date (`span` is it from midnight to midnight) and the marks about it that the server had by `as_of`.
pub async fn evidence(connection: &mut PgConnection, asked: &Asked, span: Span) -> Result<Evidence, StoreError> {
    let scans = sqlx::query(
        "select person, device, seq, ts, received, dir, offline, log_offset from rollcall.scan
         where school = $1 and ts >= $2 and ts < $3 and received <= $4",
    )
    .bind(asked.school.0)
    .bind(span.starts.to_chrono())
    .bind(span.ends.to_chrono())
    .bind(asked.as_of.to_chrono())
    .fetch_all(&mut *connection)
    .await?;
    let scans = scans.iter().map(|row| scan(asked.district, row)).collect::<Result<_, _>>()?;
    let marks = marks::of_day(connection, asked.school, asked.from, asked.as_of).await?;
    Ok(Evidence { scans, marks })
}

/// The scans of students on their days that the server had by an instant, in order of time; of each day the first `most`.
pub async fn scans_of(
    connection: &mut PgConnection,
    district: DistrictId,
    days: &[(PersonId, Span)],
    as_of: UtcMillis,
    most: i64,
) -> Result<Vec<Listed<ScanEvidence>>, StoreError> {
    let students: Vec<Uuid> = days.iter().map(|(student, _)| student.0).collect();
    let bound = |of: fn(&Span) -> UtcMillis| days.iter().map(|(_, span)| of(span).to_chrono()).collect::<Vec<_>>();
    let rows = sqlx::query(
        "select w.place, s.* from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) with ordinality as w (student, starts, ends, place)
         cross join lateral (
             select person, device, seq, ts, received, dir, offline, log_offset, count(*) over () as rows_in_all from rollcall.scan
             where person = w.student and ts >= w.starts and ts < w.ends and received <= $4 order by ts, log_offset limit $5
         ) s order by w.place, s.ts, s.log_offset",
    )
    .bind(students)
    .bind(bound(|span| span.starts))
    .bind(bound(|span| span.ends))
    .bind(as_of.to_chrono())
    .bind(most)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(Listed { place: super::place(row)?, all: super::all(row)?, row: scan(district, row)? })).collect()
}

fn unknown(district: DistrictId, what: &'static str, word: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable { district, what, reason: format!("{word} is not known to this version") }
}

fn instant(row: &PgRow, column: &str) -> Result<Option<UtcMillis>, sqlx::Error> {
    Ok(row.try_get::<Option<DateTime<Utc>>, _>(column)?.map(UtcMillis::from_chrono))
}

fn count(row: &PgRow, column: &str) -> Result<Option<u32>, sqlx::Error> {
    Ok(row.try_get::<Option<i32>, _>(column)?.and_then(|value| u32::try_from(value).ok()))
}

fn conclusion(district: DistrictId, row: &PgRow) -> Result<ConclusionRow, StoreError> {
    let (status, rule): (&str, &str) = (row.try_get("status")?, row.try_get("rule")?);
    let section = row.try_get::<Option<Uuid>, _>("section")?.map(SectionId);
    let period = row.try_get::<Option<Uuid>, _>("period")?.map(PeriodId);
    Ok(ConclusionRow {
        student: PersonId(row.try_get("student")?),
        date: row.try_get("date")?,
        meeting: section.zip(period),
        status: Status::from_text(status).ok_or_else(|| unknown(district, "a status", status))?,
        rule: Rule::from_text(rule).ok_or_else(|| unknown(district, "the rule of a status", rule))?,
        since: instant(row, "since")?,
        arrival: instant(row, "arrival")?,
        starts: instant(row, "starts")?,
        ends: instant(row, "ends")?,
        present_min: count(row, "present_min")?.unwrap_or(0),
        scheduled_min: count(row, "scheduled_min")?.unwrap_or(0),
        absent_half_days: count(row, "absent_half_days")?,
        mark: deciding_mark(district, row)?,
        recorded: instant(row, "recorded_at")?.unwrap_or_default(),
    })
}

fn deciding_mark(district: DistrictId, row: &PgRow) -> Result<Option<DecidingMark>, StoreError> {
    let Some(id) = row.try_get::<Option<Uuid>, _>("mark")? else { return Ok(None) };
    let (status, authority): (&str, &str) = (row.try_get("mark_status")?, row.try_get("mark_authority")?);
    Ok(Some(DecidingMark {
        id: MarkId(id),
        status: MarkStatus::from_text(status).ok_or_else(|| unknown(district, "the status of a mark", status))?,
        authority: Authority::from_text(authority).ok_or_else(|| unknown(district, "the authority of a mark", authority))?,
        has_reason: row.try_get("mark_reason")?,
    }))
}

fn scan(district: DistrictId, row: &PgRow) -> Result<ScanEvidence, StoreError> {
    let code: i16 = row.try_get("dir")?;
    let direction = u8::try_from(code).ok().and_then(Direction::from_code);
    Ok(ScanEvidence {
        student: PersonId(row.try_get("person")?),
        device: DeviceId(row.try_get("device")?),
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        ts: instant(row, "ts")?.unwrap_or_default(),
        received: instant(row, "received")?.unwrap_or_default(),
        direction: direction.ok_or_else(|| unknown(district, "the direction of a scan", code))?,
        offline: row.try_get("offline")?,
        offset: Offset(row.try_get::<i64, _>("log_offset")?.cast_unsigned()),
    })
}
