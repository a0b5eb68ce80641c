//! What live attendance reads and writes: a day's evidence at one consistent instant, the last words of devices, and
//! the append-only history of conclusions.

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::attendance::StatusDetail;
use rollcall_model::event::Direction;
use rollcall_model::ids::{AccountId, DeviceId, DistrictId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::Span;
use rollcall_model::status::{Authority, Mark, MarkStatus, Rule, ScanEvidence, Status};
use rollcall_model::time::UtcMillis;
use rollcall_stream::heartbeat::HeartbeatRow;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::connection::{Store, Tenant};
use crate::error::StoreError;

/// The reader of the log that fills the event tables and the marks.
pub const SINK: &str = "sink";

/// How far back a device's last words are looked for; a device that has been silent for longer says nothing.
const LAST_WORDS_DAYS: i32 = 30;

/// Everything the database knows of one school's day at one instant: all rows of the log before `next`, none after.
#[derive(Clone, Default, Debug)]
pub struct DayCut {
    pub scans: Vec<ScanEvidence>,
    pub marks: Vec<Mark>,
    /// The newest row of each student and window.
    pub statuses: Vec<StatusRow>,
    pub next: Offset,
}

/// One conclusion as it was recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusRow {
    pub school: SchoolId,
    pub student: PersonId,
    /// The school's local date.
    pub date: NaiveDate,
    /// Both `None`: the day.
    pub section: Option<SectionId>,
    pub period: Option<PeriodId>,
    pub status: Status,
    pub rule: Rule,
    pub since: Option<UtcMillis>,
    pub detail: StatusDetail,
    /// When it was concluded.
    pub recorded: UtcMillis,
}

impl Store {
    /// A day's evidence, marks and last conclusions. `span` is the date from midnight to midnight in the school's zone.
    pub async fn load_cut(&self, district: DistrictId, school: SchoolId, date: NaiveDate, span: Span) -> Result<DayCut, StoreError> {
        let mut tenant = self.snapshot(district).await?;
        let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
            .bind(SINK)
            .fetch_optional(&mut *tenant)
            .await?;
        let scans = sqlx::query(
            "select person, device, seq, ts, received, dir, offline, log_offset from rollcall.scan
             where school = $1 and ts >= $2 and ts < $3",
        )
        .bind(school.0)
        .bind(instant(span.starts))
        .bind(instant(span.ends))
        .fetch_all(&mut *tenant)
        .await?;
        let marks = sqlx::query(concat!(
            "select id, school, student, section, period, date, status, authority, author, reason, supersedes, at, recorded_at ",
            "from rollcall.mark where school = $1 and date = $2 order by log_offset"
        ))
        .bind(school.0)
        .bind(date)
        .fetch_all(&mut *tenant)
        .await?;
        let statuses = sqlx::query(concat!(
            "select distinct on (student, period, section) ",
            "school, student, date, section, period, status, since, rule, detail, recorded_at ",
            "from rollcall.attendance_status where school = $1 and date = $2 order by student, period, section, id desc"
        ))
        .bind(school.0)
        .bind(date)
        .fetch_all(&mut *tenant)
        .await?;
        let reading = Reading { district };
        Ok(DayCut {
            scans: scans.iter().map(|row| reading.scan(row)).collect::<Result<_, _>>()?,
            marks: marks.iter().map(|row| reading.mark(row)).collect::<Result<_, _>>()?,
            statuses: statuses.iter().map(|row| reading.status(row)).collect::<Result<_, _>>()?,
            next: Offset(next.unwrap_or(0).cast_unsigned()),
        })
    }

    /// The newest connect or disconnect and the newest heartbeat of each device of a district, oldest first.
    pub async fn last_words(&self, district: DistrictId) -> Result<Vec<HeartbeatRow>, StoreError> {
        let mut tenant = self.snapshot(district).await?;
        let rows = sqlx::query(
            "select * from (
                 select distinct on (device, connected is null)
                     school, device, seq, ts, received, battery, fw, queued, uptime_s, connected, log_offset
                 from rollcall.device_status where ts > now() - make_interval(days => $1)
                 order by device, connected is null, log_offset desc) newest
             order by log_offset",
        )
        .bind(LAST_WORDS_DAYS)
        .fetch_all(&mut *tenant)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(HeartbeatRow {
                    district,
                    school: SchoolId(row.try_get("school")?),
                    device: DeviceId(row.try_get("device")?),
                    seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
                    ts: millis(row.try_get("ts")?),
                    received: millis(row.try_get("received")?),
                    battery: row.try_get("battery")?,
                    fw: row.try_get("fw")?,
                    queued: row.try_get("queued")?,
                    uptime_s: row.try_get("uptime_s")?,
                    connected: row.try_get("connected")?,
                    offset: Offset(row.try_get::<i64, _>("log_offset")?.cast_unsigned()),
                })
            })
            .collect()
    }

    /// Appends conclusions of one district, all or none. Rows that are there already (same day, student, window and
    /// recorded instant) are left alone, so the same call may be made again after a failure.
    pub async fn append_statuses(&self, district: DistrictId, rows: &[StatusRow]) -> Result<(), StoreError> {
        let mut tenant = self.tenant(district).await?;
        let column = |of: fn(&StatusRow) -> Uuid| rows.iter().map(of).collect::<Vec<_>>();
        sqlx::query(
            "insert into rollcall.attendance_status (district, school, student, date, section, period, status, since, rule, detail, recorded_at)
             select $1, n.* from unnest($2::uuid[], $3::uuid[], $4::date[], $5::uuid[], $6::uuid[], $7::text[], $8::timestamptz[], $9::text[], $10::jsonb[], $11::timestamptz[])
                 as n (school, student, date, section, period, status, since, rule, detail, recorded_at)
             where not exists (select from rollcall.attendance_status s where s.student = n.student and s.date = n.date
                 and s.period is not distinct from n.period and s.section is not distinct from n.section and s.recorded_at = n.recorded_at)",
        )
        .bind(district.0)
        .bind(column(|row| row.school.0))
        .bind(column(|row| row.student.0))
        .bind(rows.iter().map(|row| row.date).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.section.map(|id| id.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.period.map(|id| id.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.since.map(instant)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.rule.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| Json(&row.detail)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| instant(row.recorded)).collect::<Vec<_>>())
        .execute(&mut *tenant)
        .await?;
        tenant.commit().await
    }
}

/// Conclusions about one student between two dates, both inclusive, as they were known at an instant: the newest row
/// of each date and window that had been recorded by then. `as_of` `None`: as they are known now.
pub async fn statuses_of(
    tenant: &mut Tenant,
    student: PersonId,
    from: NaiveDate,
    to: NaiveDate,
    as_of: Option<UtcMillis>,
) -> Result<Vec<StatusRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "select distinct on (date, period, section) ",
        "school, student, date, section, period, status, since, rule, detail, recorded_at ",
        "from rollcall.attendance_status where student = $1 and date between $2 and $3 and ($4::timestamptz is null or recorded_at <= $4) ",
        "order by date, period, section, id desc"
    ))
    .bind(student.0)
    .bind(from)
    .bind(to)
    .bind(as_of.map(instant))
    .fetch_all(&mut **tenant)
    .await?;
    let reading = Reading { district: tenant.district() };
    rows.iter().map(|row| reading.status(row)).collect()
}

/// Every conclusion about one student and date in the order in which they were recorded.
pub async fn changes_of(tenant: &mut Tenant, student: PersonId, date: NaiveDate) -> Result<Vec<StatusRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "select school, student, date, section, period, status, since, rule, detail, recorded_at ",
        "from rollcall.attendance_status where student = $1 and date = $2 order by id"
    ))
    .bind(student.0)
    .bind(date)
    .fetch_all(&mut **tenant)
    .await?;
    let reading = Reading { district: tenant.district() };
    rows.iter().map(|row| reading.status(row)).collect()
}

/// Turns rows into the model's types; a word that the model does not know was written by a newer program.
struct Reading {
    district: DistrictId,
}

impl Reading {
    fn unknown(&self, what: &'static str, word: impl std::fmt::Display) -> StoreError {
        StoreError::Unreadable { district: self.district, what, reason: format!("{word} is not known to this version") }
    }

    fn scan(&self, row: &PgRow) -> Result<ScanEvidence, StoreError> {
        let code: i16 = row.try_get("dir")?;
        let direction =
            u8::try_from(code).ok().and_then(Direction::from_code).ok_or_else(|| self.unknown("the direction of a scan", code))?;
        Ok(ScanEvidence {
            student: PersonId(row.try_get("person")?),
            device: DeviceId(row.try_get("device")?),
            seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
            ts: millis(row.try_get("ts")?),
            received: millis(row.try_get("received")?),
            direction,
            offline: row.try_get("offline")?,
            offset: Offset(row.try_get::<i64, _>("log_offset")?.cast_unsigned()),
        })
    }

    fn mark(&self, row: &PgRow) -> Result<Mark, StoreError> {
        let (status, authority): (&str, &str) = (row.try_get("status")?, row.try_get("authority")?);
        Ok(Mark {
            id: MarkId(row.try_get("id")?),
            school: SchoolId(row.try_get("school")?),
            student: PersonId(row.try_get("student")?),
            section: row.try_get::<Option<Uuid>, _>("section")?.map(SectionId),
            period: row.try_get::<Option<Uuid>, _>("period")?.map(PeriodId),
            date: row.try_get("date")?,
            status: MarkStatus::from_text(status).ok_or_else(|| self.unknown("the status of a mark", status))?,
            authority: Authority::from_text(authority).ok_or_else(|| self.unknown("the authority of a mark", authority))?,
            author: AccountId(row.try_get("author")?),
            reason: row.try_get("reason")?,
            supersedes: row.try_get::<Option<Uuid>, _>("supersedes")?.map(MarkId),
            recorded: millis(row.try_get("recorded_at")?),
            at: row.try_get::<Option<DateTime<Utc>>, _>("at")?.map(millis),
        })
    }

    fn status(&self, row: &PgRow) -> Result<StatusRow, StoreError> {
        let (status, rule): (&str, &str) = (row.try_get("status")?, row.try_get("rule")?);
        Ok(StatusRow {
            school: SchoolId(row.try_get("school")?),
            student: PersonId(row.try_get("student")?),
            date: row.try_get("date")?,
            section: row.try_get::<Option<Uuid>, _>("section")?.map(SectionId),
            period: row.try_get::<Option<Uuid>, _>("period")?.map(PeriodId),
            status: Status::from_text(status).ok_or_else(|| self.unknown("a status", status))?,
            rule: Rule::from_text(rule).ok_or_else(|| self.unknown("the rule of a status", rule))?,
            since: row.try_get::<Option<DateTime<Utc>>, _>("since")?.map(millis),
            detail: row.try_get::<Json<StatusDetail>, _>("detail")?.0,
            recorded: millis(row.try_get("recorded_at")?),
        })
    }
}

fn millis(instant: DateTime<Utc>) -> UtcMillis {
    UtcMillis::from_chrono(instant)
}

/// Instants of the product lie within policy of now, far inside what the database can hold.
fn instant(instant: UtcMillis) -> DateTime<Utc> {
    instant.to_chrono().unwrap_or_default()
}
