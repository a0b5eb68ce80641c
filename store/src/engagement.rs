//! What engagement reads and writes: consents, allowed resources, the stored events of a meeting, and the append-only
//! history of windows.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::attendance::StatusDetail;
use rollcall_model::ids::{DistrictId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::Span;
use rollcall_model::status::Status;
use rollcall_model::time::UtcMillis;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::attendance::SINK;
use crate::connection::{Store, Tenant};
use crate::erasure;
use crate::error::StoreError;

/// The reader of the log that computes engagement.
pub const READER: &str = "engagement";

/// Most resources that a section may name.
pub const RESOURCES_MAX: usize = 200;

/// What somebody may consent to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Events of learning apps.
    Activity,
    /// Readings of wearables, in every class.
    Wearable,
    /// Readings of wearables in physical education.
    WearablePe,
}

impl Purpose {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Wearable => "wearable",
            Self::WearablePe => "wearable_pe",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Activity, Self::Wearable, Self::WearablePe].into_iter().find(|purpose| purpose.as_str() == text)
    }
}

/// A consent as it was stated. Of one subject and purpose the newest whose dates cover the day holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consent {
    pub school: SchoolId,
    /// `None`: the school's, for all of its students.
    pub student: Option<PersonId>,
    pub purpose: Purpose,
    pub granted: bool,
    pub starts: Option<NaiveDate>,
    /// Exclusive.
    pub ends: Option<NaiveDate>,
}

impl Consent {
    pub fn holds_on(&self, date: NaiveDate) -> bool {
        crate::directory::holds_on(self.starts, self.ends, date)
    }
}

/// What a district has settled about engagement.
#[derive(Clone, Debug, Default)]
pub struct EngagementSettings {
    /// Oldest first.
    pub consents: Vec<Consent>,
    pub resources: HashMap<SectionId, Vec<String>>,
    /// Sections of physical education.
    pub physical: HashSet<SectionId>,
}

/// A stored event of a learning app.
#[derive(Clone, Debug)]
pub struct StoredActivity {
    pub device: Uuid,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub offline: bool,
    pub person: PersonId,
    pub kind: i16,
    pub resource: String,
    pub section: Option<SectionId>,
    pub dur_ms: Option<i64>,
}

/// A stored reading.
#[derive(Clone, Debug)]
pub struct StoredReading {
    pub device: Uuid,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub offline: bool,
    pub person: PersonId,
    pub metric: String,
    pub value: f64,
}

/// What attendance last wrote about a student in a meeting.
#[derive(Clone, Copy, Debug)]
pub struct StoredStatus {
    pub student: PersonId,
    pub status: Status,
    pub since: Option<UtcMillis>,
    pub arrival: Option<UtcMillis>,
}

/// The rows of one meeting at one instant: everything before `next`.
#[derive(Clone, Debug, Default)]
pub struct StoredMeeting {
    pub activity: Vec<StoredActivity>,
    pub readings: Vec<StoredReading>,
    pub statuses: Vec<StoredStatus>,
    pub next: Offset,
}

/// Which meeting is asked for.
#[derive(Clone, Debug)]
pub struct MeetingQuery {
    pub school: SchoolId,
    pub section: SectionId,
    pub period: PeriodId,
    pub date: NaiveDate,
    /// Event times.
    pub span: Span,
    pub people: Vec<PersonId>,
    /// Of whom readings are wanted.
    pub wearers: Vec<PersonId>,
}

/// One row of history. The names are those of the columns.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EngagementWindow {
    pub school: Uuid,
    pub section: Uuid,
    pub period: Uuid,
    pub date: NaiveDate,
    pub slot: DateTime<Utc>,
    pub definition: i16,
    /// Given by the database; ignored when it is written.
    pub revision: i32,
    pub starts: DateTime<Utc>,
    pub ends: DateTime<Utc>,
    pub parameters: Value,
    pub present: i32,
    pub with_data: i32,
    pub events: i64,
    pub late_events: i64,
    pub meaningful: i64,
    pub active_ms: i64,
    pub allowed_ms: i64,
    pub coverage: Option<f64>,
    pub active_min: Option<f64>,
    pub interaction_rate: Option<f64>,
    pub resource_alignment: Option<f64>,
    pub quiz_present: Option<i32>,
    pub quiz_responders: Option<i32>,
    pub quiz_participation: Option<f64>,
    pub quiz_latency_ms: Option<i64>,
    pub wearers: Option<i32>,
    pub worn_ratio: Option<f64>,
    pub steps: Option<f64>,
    pub movement_min: Option<i32>,
    pub students: Value,
    pub recorded_at: DateTime<Utc>,
}

/// The columns whose change makes a new revision, without those that are derived from them.
const COMPARED: &str = "starts, ends, parameters, present, with_data, events, late_events, meaningful, active_ms, allowed_ms, coverage, \
    active_min, interaction_rate, resource_alignment, quiz_present, quiz_responders, quiz_participation, quiz_latency_ms, wearers, \
    worn_ratio, steps, movement_min, students";

impl Store {
    /// Where the reader stands; `None`: it never wrote anything.
    pub async fn engagement_next(&self) -> Result<Option<Offset>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
            .bind(READER)
            .fetch_optional(self.pool())
            .await?;
        Ok(next.map(|next| Offset(next.cast_unsigned())))
    }

    /// Moves the reader forward, never back.
    pub async fn engagement_commit(&self, next: Offset) -> Result<(), StoreError> {
        sqlx::query(
            "insert into rollcall.consumer_offset (reader, next) values ($1, $2)
             on conflict (reader) do update set next = greatest(consumer_offset.next, excluded.next)",
        )
        .bind(READER)
        .bind(next.0.cast_signed())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    pub async fn engagement_settings(&self, district: DistrictId) -> Result<EngagementSettings, StoreError> {
        let mut tenant = self.snapshot(district).await?;
        let mut settings = EngagementSettings { consents: consents(&mut tenant, None).await?, ..EngagementSettings::default() };
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as("select section, resource from rollcall.section_resource order by section, resource")
                .fetch_all(&mut *tenant)
                .await?;
        for (section, resource) in rows {
            settings.resources.entry(SectionId(section)).or_default().push(resource);
        }
        let physical: Vec<Uuid> = sqlx::query_scalar("select section from rollcall.section_physical").fetch_all(&mut *tenant).await?;
        settings.physical = physical.into_iter().map(SectionId).collect();
        Ok(settings)
    }

    /// What is stored of one meeting, and up to where in the log that is.
    pub async fn load_meeting(&self, district: DistrictId, query: &MeetingQuery) -> Result<StoredMeeting, StoreError> {
        let mut tenant = self.snapshot(district).await?;
        let next: Option<i64> = sqlx::query_scalar("select next from rollcall.consumer_offset where reader = $1")
            .bind(SINK)
            .fetch_optional(&mut *tenant)
            .await?;
        let people: Vec<Uuid> = query.people.iter().map(|person| person.0).collect();
        let activity = sqlx::query(
            "select device, seq, ts, received, offline, person, kind, resource, section, dur_ms from rollcall.activity
             where school = $1 and ts >= $2 and ts < $3 and person = any($4)",
        )
        .bind(query.school.0)
        .bind(instant(query.span.starts))
        .bind(instant(query.span.ends))
        .bind(&people)
        .fetch_all(&mut *tenant)
        .await?;
        let wearers: Vec<Uuid> = query.wearers.iter().map(|person| person.0).collect();
        let readings = sqlx::query(
            "select device, seq, ts, received, offline, person, metric, value from rollcall.telemetry
             where school = $1 and ts >= $2 and ts < $3 and person = any($4) and metric in ('worn', 'steps')",
        )
        .bind(query.school.0)
        .bind(instant(query.span.starts))
        .bind(instant(query.span.ends))
        .bind(&wearers)
        .fetch_all(&mut *tenant)
        .await?;
        let statuses = sqlx::query(
            "select distinct on (student) student, status, since, detail from rollcall.attendance_status
             where school = $1 and date = $2 and section = $3 and period = $4 order by student, id desc",
        )
        .bind(query.school.0)
        .bind(query.date)
        .bind(query.section.0)
        .bind(query.period.0)
        .fetch_all(&mut *tenant)
        .await?;
        Ok(StoredMeeting {
            activity: activity.iter().map(activity_of).collect::<Result<_, _>>()?,
            readings: readings.iter().map(reading_of).collect::<Result<_, _>>()?,
            statuses: statuses.iter().map(|row| status_of(district, row)).collect::<Result<_, _>>()?,
            next: Offset(next.unwrap_or(0).cast_unsigned()),
        })
    }

    /// Appends each window of one district that differs from the newest revision of it, all or none. A window without
    /// data is written only where it takes one back. The same call may be made again: then nothing differs. Who was erased since a window
    /// began is not named in it.
    pub async fn append_windows(&self, district: DistrictId, windows: &[EngagementWindow]) -> Result<u64, StoreError> {
        let mut tenant = self.tenant(district).await?;
        erasure::hold(&mut tenant).await?;
        let windows = &unerased(&mut tenant, windows).await?;
        let qualified =
            |table: &str| COMPARED.split(", ").map(|column| format!("{table}.{}", column.trim())).collect::<Vec<_>>().join(", ");
        let statement = format!(
            "insert into rollcall.engagement_window (district, school, section, period, date, slot, definition, revision, recorded_at, {COMPARED})
             select $1, n.school, n.section, n.period, n.date, n.slot, n.definition, coalesce(e.revision, 0) + 1, n.recorded_at, {new}
             from jsonb_populate_recordset(null::rollcall.engagement_window, $2) n
             left join lateral (select * from rollcall.engagement_window w where w.section = n.section and w.period = n.period
                 and w.slot = n.slot and w.definition = n.definition order by w.revision desc limit 1) e on true
             where case when e.revision is null then n.with_data > 0 or n.wearers > 0 or n.quiz_present > 0
                 else row({new}) is distinct from row({old}) end",
            new = qualified("n"),
            old = qualified("e"),
        );
        // The text is made of constants above only.
        let written = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(district.0).bind(Json(windows)).execute(&mut *tenant).await?;
        tenant.commit().await?;
        Ok(written.rows_affected())
    }
}

/// The windows without the students who were erased since they began; nearly always the same ones.
async fn unerased<'a>(tenant: &mut Tenant, windows: &'a [EngagementWindow]) -> Result<Cow<'a, [EngagementWindow]>, StoreError> {
    let student = |entry: &Value| entry["student"].as_str().and_then(|id| id.parse::<Uuid>().ok());
    let named = windows.iter().flat_map(|window| window.students.as_array().into_iter().flatten().filter_map(student));
    let people: Vec<Uuid> = named.collect::<HashSet<_>>().into_iter().collect();
    let erased = erasure::erased_at(tenant, &people).await?;
    if erased.is_empty() {
        return Ok(Cow::Borrowed(windows));
    }
    let mut windows = windows.to_vec();
    for window in &mut windows {
        let starts = window.starts;
        let is_erased = |entry: &Value| student(entry).and_then(|id| erased.get(&id)).is_some_and(|at| *at >= starts);
        if let Some(students) = window.students.as_array_mut() {
            students.retain(|entry| !is_erased(entry));
        }
    }
    Ok(Cow::Owned(windows))
}

/// Consents of a school, or of the district, oldest first.
pub async fn consents(tenant: &mut Tenant, school: Option<SchoolId>) -> Result<Vec<Consent>, StoreError> {
    type ConsentRow = (Uuid, Option<Uuid>, String, bool, Option<NaiveDate>, Option<NaiveDate>);
    let rows: Vec<ConsentRow> = sqlx::query_as(
        "select school, student, purpose, granted, nullif(starts, '-infinity'), nullif(ends, 'infinity')
         from rollcall.consent where $1::uuid is null or school = $1 order by recorded_at, id",
    )
    .bind(school.map(|school| school.0))
    .fetch_all(&mut **tenant)
    .await?;
    let district = tenant.district();
    rows.into_iter()
        .map(|(school, student, purpose, granted, starts, ends)| {
            let unknown = || StoreError::Unreadable {
                district,
                what: "the purpose of a consent",
                reason: format!("{purpose} is not known to this version"),
            };
            let purpose = Purpose::from_text(&purpose).ok_or_else(unknown)?;
            Ok(Consent { school: SchoolId(school), student: student.map(PersonId), purpose, granted, starts, ends })
        })
        .collect()
}

/// Puts a consent, or its refusal, on file.
pub async fn record_consent(tenant: &mut Tenant, consent: &Consent) -> Result<(), StoreError> {
    sqlx::query(
        "insert into rollcall.consent (district, id, school, student, purpose, granted, starts, ends)
         values ($1, $2, $3, $4, $5, $6, coalesce($7, '-infinity'), coalesce($8, 'infinity'))",
    )
    .bind(tenant.district().0)
    .bind(Uuid::new_v4())
    .bind(consent.school.0)
    .bind(consent.student.map(|student| student.0))
    .bind(consent.purpose.as_str())
    .bind(consent.granted)
    .bind(consent.starts)
    .bind(consent.ends)
    .execute(&mut **tenant)
    .await?;
    Ok(())
}

/// The resources that a section's teacher allows, and whether it is physical education.
pub async fn section_settings(tenant: &mut Tenant, section: SectionId) -> Result<(Vec<String>, bool), StoreError> {
    let resources = sqlx::query_scalar("select resource from rollcall.section_resource where section = $1 order by resource")
        .bind(section.0)
        .fetch_all(&mut **tenant)
        .await?;
    let physical = sqlx::query_scalar("select exists (select from rollcall.section_physical where section = $1)")
        .bind(section.0)
        .fetch_one(&mut **tenant)
        .await?;
    Ok((resources, physical))
}

/// Replaces both.
pub async fn set_section_settings(tenant: &mut Tenant, section: SectionId, resources: &[String], physical: bool) -> Result<(), StoreError> {
    let district = tenant.district();
    sqlx::query("delete from rollcall.section_resource where section = $1 and resource <> all($2)")
        .bind(section.0)
        .bind(resources)
        .execute(&mut **tenant)
        .await?;
    sqlx::query(
        "insert into rollcall.section_resource (district, section, resource) select $1, $2, unnest($3::text[]) on conflict do nothing",
    )
    .bind(district.0)
    .bind(section.0)
    .bind(resources)
    .execute(&mut **tenant)
    .await?;
    let statement = if physical {
        "insert into rollcall.section_physical (district, section) values ($1, $2) on conflict do nothing"
    } else {
        "delete from rollcall.section_physical where district = $1 and section = $2"
    };
    sqlx::query(statement).bind(district.0).bind(section.0).execute(&mut **tenant).await?;
    Ok(())
}

/// The windows of a section's date in order of time, each in its newest revision, or in the newest recorded by `as_of`.
pub async fn windows_of(
    tenant: &mut Tenant,
    section: SectionId,
    date: NaiveDate,
    as_of: Option<UtcMillis>,
) -> Result<Vec<EngagementWindow>, StoreError> {
    let rows: Vec<Json<EngagementWindow>> = sqlx::query_scalar(
        "select to_jsonb(w) from (select distinct on (slot, period, definition) * from rollcall.engagement_window
             where section = $1 and date = $2 and ($3::timestamptz is null or recorded_at <= $3)
             order by slot, period, definition, revision desc) w",
    )
    .bind(section.0)
    .bind(date)
    .bind(as_of.map(instant))
    .fetch_all(&mut **tenant)
    .await?;
    Ok(rows.into_iter().map(|Json(row)| row).collect())
}

/// The windows of a school between two dates, both inclusive, each as it stands now: the newest revision by the newest
/// definition, in order of section and time. `sections`: only of these.
pub async fn windows_between(
    tenant: &mut Tenant,
    school: SchoolId,
    (from, to): (NaiveDate, NaiveDate),
    sections: Option<&[Uuid]>,
) -> Result<Vec<EngagementWindow>, StoreError> {
    let rows: Vec<Json<EngagementWindow>> = sqlx::query_scalar(
        "select to_jsonb(w) from (select distinct on (section, slot, period) * from rollcall.engagement_window
             where school = $1 and date between $2 and $3 and ($4::uuid[] is null or section = any($4))
             order by section, slot, period, definition desc, revision desc) w",
    )
    .bind(school.0)
    .bind(from)
    .bind(to)
    .bind(sections)
    .fetch_all(&mut **tenant)
    .await?;
    Ok(rows.into_iter().map(|Json(row)| row).collect())
}

fn activity_of(row: &PgRow) -> Result<StoredActivity, StoreError> {
    Ok(StoredActivity {
        device: row.try_get("device")?,
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        ts: millis(row.try_get("ts")?),
        received: millis(row.try_get("received")?),
        offline: row.try_get("offline")?,
        person: PersonId(row.try_get("person")?),
        kind: row.try_get("kind")?,
        resource: row.try_get("resource")?,
        section: row.try_get::<Option<Uuid>, _>("section")?.map(SectionId),
        dur_ms: row.try_get("dur_ms")?,
    })
}

fn reading_of(row: &PgRow) -> Result<StoredReading, StoreError> {
    Ok(StoredReading {
        device: row.try_get("device")?,
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        ts: millis(row.try_get("ts")?),
        received: millis(row.try_get("received")?),
        offline: row.try_get("offline")?,
        person: PersonId(row.try_get("person")?),
        metric: row.try_get("metric")?,
        value: row.try_get("value")?,
    })
}

fn status_of(district: DistrictId, row: &PgRow) -> Result<StoredStatus, StoreError> {
    let word: &str = row.try_get("status")?;
    let unknown = || StoreError::Unreadable { district, what: "a status", reason: format!("{word} is not known to this version") };
    Ok(StoredStatus {
        student: PersonId(row.try_get("student")?),
        status: Status::from_text(word).ok_or_else(unknown)?,
        since: row.try_get::<Option<DateTime<Utc>>, _>("since")?.map(millis),
        arrival: row.try_get::<Json<StatusDetail>, _>("detail")?.0.arrival,
    })
}

fn millis(instant: DateTime<Utc>) -> UtcMillis {
    UtcMillis::from_chrono(instant)
}

/// Instants of the product lie within policy of now, far inside what the database can hold.
fn instant(instant: UtcMillis) -> DateTime<Utc> {
    instant.to_chrono().unwrap_or_default()
}
