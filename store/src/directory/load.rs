//! One query a table and district, all in one snapshot, so that the parts agree with one another.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use futures_util::TryStreamExt;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Bell, BellSchedule, MeetingRule};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BadgeEntry, CalendarDay, DeviceEntry, DistrictDirectory, Enrolment, Membership, PeriodEntry, PersonEntry, PersonKind, Roster,
    SchoolEntry, SectionEntry,
};
use crate::connection::Store;
use crate::error::StoreError;
use crate::secret::SecretHash;

/// Which parts of a district to load anew.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Parts {
    pub roster: bool,
    pub devices: bool,
    pub badges: bool,
}

impl Parts {
    pub const ALL: Self = Self { roster: true, devices: true, badges: true };

    /// What a notice about a table makes stale. Accounts and what engagement needs are not kept here; a notice about one only
    /// moves the version.
    pub fn of_table(table: &str) -> Self {
        match table {
            "device" => Self { devices: true, ..Self::default() },
            "badge" => Self { badges: true, ..Self::default() },
            "account" | "consent" | "section_resource" | "section_physical" => Self::default(),
            _ => Self { roster: true, ..Self::default() },
        }
    }

    pub fn with(self, other: Self) -> Self {
        Self { roster: self.roster || other.roster, devices: self.devices || other.devices, badges: self.badges || other.badges }
    }
}

/// All districts by id.
pub(super) async fn districts(store: &Store) -> Result<Vec<(DistrictId, String)>, StoreError> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as("select district, name from rollcall.districts()").fetch_all(store.pool()).await?;
    Ok(rows.into_iter().map(|(id, name)| (DistrictId(id), name)).collect())
}

/// The district with the given parts loaded anew and the others taken from `known`.
pub(super) async fn district(
    store: &Store,
    id: DistrictId,
    name: String,
    parts: Parts,
    known: Option<&DistrictDirectory>,
) -> Result<DistrictDirectory, StoreError> {
    let parts = if known.is_none() { Parts::ALL } else { parts };
    let mut tenant = store.snapshot(id).await?;
    let roster = match known {
        Some(known) if !parts.roster => Arc::clone(&known.roster),
        _ => Arc::new(roster(&mut tenant, id).await?),
    };
    let devices = match known {
        Some(known) if !parts.devices => Arc::clone(&known.devices),
        _ => Arc::new(devices(&mut tenant, id, None).await?),
    };
    let badges = match known {
        Some(known) if !parts.badges => Arc::clone(&known.badges),
        _ => Arc::new(badges(&mut tenant, id).await?),
    };
    tenant.commit().await?;
    Ok(DistrictDirectory { id, name, roster, devices, badges })
}

async fn roster(connection: &mut PgConnection, district: DistrictId) -> Result<Roster, StoreError> {
    let mut roster = Roster { schools: schools(connection, district).await?, ..Roster::default() };
    policies(connection, district, &mut roster).await?;
    timetable(connection, &mut roster).await?;
    people(connection, &mut roster).await?;
    sections(connection, &mut roster).await?;
    enrolments(connection, &mut roster).await?;
    Ok(roster)
}

async fn schools(connection: &mut PgConnection, district: DistrictId) -> Result<HashMap<SchoolId, SchoolEntry>, StoreError> {
    let rows: Vec<(Uuid, Option<String>, String, String)> =
        sqlx::query_as("select id, source_id, name, zone from rollcall.school").fetch_all(connection).await?;
    rows.into_iter()
        .map(|(id, source_id, name, zone)| {
            let zone: Tz = zone.parse().map_err(|_| StoreError::Unreadable {
                district,
                what: "time zone of a school",
                reason: format!("{zone:?} is no IANA time zone"),
            })?;
            let id = SchoolId(id);
            let entry = SchoolEntry {
                id,
                source_id,
                name,
                zone,
                policies: Vec::new(),
                periods: HashMap::new(),
                schedules: Vec::new(),
                calendar: HashMap::new(),
                sections: Vec::new(),
            };
            Ok((id, entry))
        })
        .collect()
}

/// The fields that a school states stand above those that its district states, field by field.
async fn policies(connection: &mut PgConnection, district: DistrictId, roster: &mut Roster) -> Result<(), StoreError> {
    let base: Option<Value> = sqlx::query_scalar("select policy from rollcall.district").fetch_optional(&mut *connection).await?;
    let base = base.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let district_policy = read_policy(district, &base)?;
    for school in roster.schools.values_mut() {
        school.policies.push((None, district_policy.clone()));
    }
    let rows: Vec<(Uuid, Option<NaiveDate>, Value)> =
        sqlx::query_as("select school, nullif(valid_from, '-infinity'), policy from rollcall.policy order by school, valid_from")
            .fetch_all(connection)
            .await?;
    for (school, from, policy) in rows {
        let Some(school) = roster.schools.get_mut(&SchoolId(school)) else { continue };
        let mut merged = base.clone();
        if let (Value::Object(merged), Value::Object(own)) = (&mut merged, policy) {
            merged.extend(own);
        }
        school.policies.push((from, read_policy(district, &merged)?));
    }
    Ok(())
}

fn read_policy(district: DistrictId, json: &Value) -> Result<AttendancePolicy, StoreError> {
    let unreadable = |reason: String| StoreError::Unreadable { district, what: "attendance policy", reason };
    let policy: AttendancePolicy = serde_json::from_value(json.clone()).map_err(|error| unreadable(error.to_string()))?;
    policy.validate().map_err(|error| unreadable(error.to_string()))?;
    Ok(policy)
}

async fn timetable(connection: &mut PgConnection, roster: &mut Roster) -> Result<(), StoreError> {
    let rows: Vec<(Uuid, Uuid, String, i32)> =
        sqlx::query_as("select school, id, name, ordinal from rollcall.period").fetch_all(&mut *connection).await?;
    for (school, id, name, ordinal) in rows {
        if let Some(school) = roster.schools.get_mut(&SchoolId(school)) {
            let id = PeriodId(id);
            school.periods.insert(id, PeriodEntry { id, name, ordinal });
        }
    }

    type BellRow = (Uuid, Uuid, NaiveTime, NaiveTime, bool);
    let rows: Vec<BellRow> =
        sqlx::query_as("select schedule, period, starts, ends, instructional from rollcall.bell order by schedule, starts")
            .fetch_all(&mut *connection)
            .await?;
    let mut bells: HashMap<Uuid, Vec<Bell>> = HashMap::new();
    for (schedule, period, starts, ends, instructional) in rows {
        bells.entry(schedule).or_default().push(Bell { period: PeriodId(period), starts, ends, instructional });
    }

    let rows: Vec<(Uuid, Uuid, String, Option<NaiveDate>)> =
        sqlx::query_as("select school, id, name, nullif(valid_from, '-infinity') from rollcall.bell_schedule")
            .fetch_all(&mut *connection)
            .await?;
    for (school, id, name, valid_from) in rows {
        if let Some(school) = roster.schools.get_mut(&SchoolId(school)) {
            let bells = bells.remove(&id).unwrap_or_default();
            school.schedules.push(BellSchedule { name, valid_from: valid_from.unwrap_or(NaiveDate::MIN), bells });
        }
    }

    let rows: Vec<(Uuid, NaiveDate, String, Option<String>)> =
        sqlx::query_as("select school, date, schedule, cycle from rollcall.calendar_day").fetch_all(connection).await?;
    for (school, date, schedule, cycle) in rows {
        if let Some(school) = roster.schools.get_mut(&SchoolId(school)) {
            school.calendar.insert(date, CalendarDay { schedule, cycle });
        }
    }
    Ok(())
}

async fn people(connection: &mut PgConnection, roster: &mut Roster) -> Result<(), StoreError> {
    let mut rows = sqlx::query_as::<_, (Uuid, String, bool, Option<String>)>("select id, kind, active, grade from rollcall.person")
        .fetch(&mut *connection);
    while let Some((id, kind, active, grade)) = rows.try_next().await? {
        let kind = match kind.as_str() {
            "student" => PersonKind::Student,
            "guardian" => PersonKind::Guardian,
            _ => PersonKind::Staff,
        };
        let id = PersonId(id);
        let entry = PersonEntry {
            id,
            kind,
            active,
            grade,
            memberships: Vec::new(),
            sections: Vec::new(),
            students: Vec::new(),
            guardians: Vec::new(),
        };
        roster.people.insert(id, entry);
    }
    drop(rows);

    let mut rows = sqlx::query_as::<_, (Uuid, Uuid, Option<NaiveDate>, Option<NaiveDate>)>(
        "select person, school, nullif(starts, '-infinity'), nullif(ends, 'infinity') from rollcall.membership",
    )
    .fetch(&mut *connection);
    while let Some((person, school, starts, ends)) = rows.try_next().await? {
        if let Some(person) = roster.people.get_mut(&PersonId(person)) {
            person.memberships.push(Membership { school: SchoolId(school), starts, ends });
        }
    }
    drop(rows);

    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as("select guardian, student from rollcall.guardian").fetch_all(connection).await?;
    for (guardian, student) in rows {
        let (guardian, student) = (PersonId(guardian), PersonId(student));
        if let Some(entry) = roster.people.get_mut(&guardian) {
            entry.students.push(student);
        }
        if let Some(entry) = roster.people.get_mut(&student) {
            entry.guardians.push(guardian);
        }
    }
    Ok(())
}

async fn sections(connection: &mut PgConnection, roster: &mut Roster) -> Result<(), StoreError> {
    type SectionRow = (Uuid, Uuid, Option<String>, String, Option<String>, Option<String>, Option<NaiveDate>, Option<NaiveDate>, bool);
    let rows: Vec<SectionRow> = sqlx::query_as(
        "select school, id, source_id, title, course, room, nullif(starts, '-infinity'), nullif(ends, 'infinity'), active
         from rollcall.section order by title, id",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (school, id, source_id, title, course, room, starts, ends, active) in rows {
        let (id, school) = (SectionId(id), SchoolId(school));
        if let Some(school) = roster.schools.get_mut(&school) {
            school.sections.push(id);
        }
        let (meetings, students, teachers) = (Vec::new(), Vec::new(), Vec::new());
        let entry = SectionEntry { id, school, source_id, title, course, room, starts, ends, active, meetings, students, teachers };
        roster.sections.insert(id, entry);
    }

    type MeetingRow = (Uuid, Uuid, i16, String, Option<NaiveDate>, Option<NaiveDate>);
    let rows: Vec<MeetingRow> = sqlx::query_as(
        "select section, period, weekdays, cycle, nullif(valid_from, '-infinity'), nullif(valid_to, 'infinity') from rollcall.meeting",
    )
    .fetch_all(connection)
    .await?;
    for (section, period, weekdays, cycle, valid_from, valid_to) in rows {
        let section = SectionId(section);
        let Some(entry) = roster.sections.get_mut(&section) else { continue };
        // Seven bits; the sign bit of a smallint never matters.
        let weekdays = (weekdays & 0x7f) as u8;
        entry.meetings.push(MeetingRule { section, period: PeriodId(period), weekdays, cycle, valid_from, valid_to });
    }
    Ok(())
}

async fn enrolments(connection: &mut PgConnection, roster: &mut Roster) -> Result<(), StoreError> {
    let mut rows = sqlx::query_as::<_, (Uuid, Uuid, bool, Option<NaiveDate>, Option<NaiveDate>)>(
        "select section, person, role = 'teacher', nullif(starts, '-infinity'), nullif(ends, 'infinity') from rollcall.enrolment",
    )
    .fetch(connection);
    while let Some((section, person, teaches, starts, ends)) = rows.try_next().await? {
        let (section, person) = (SectionId(section), PersonId(person));
        let Some(entry) = roster.sections.get_mut(&section) else { continue };
        let enrolment = Enrolment { person, starts, ends };
        if teaches {
            entry.teachers.push(enrolment);
        } else {
            entry.students.push(enrolment);
        }
        if let Some(person) = roster.people.get_mut(&person)
            && !person.sections.contains(&section)
        {
            person.sections.push(section);
        }
    }
    Ok(())
}

/// The district's devices, or one of them.
pub(super) async fn devices(
    connection: &mut PgConnection,
    district: DistrictId,
    only: Option<DeviceId>,
) -> Result<HashMap<DeviceId, DeviceEntry>, StoreError> {
    type DeviceRow = (Uuid, Uuid, String, String, Vec<u8>, Option<Uuid>, Option<Uuid>, Option<Uuid>, bool);
    let mut rows = sqlx::query_as::<_, DeviceRow>(
        "select id, school, kind, name, token_hash, gateway, person, section, disabled
         from rollcall.device where $1::uuid is null or id = $1",
    )
    .bind(only.map(|id| id.0))
    .fetch(connection);
    let mut devices = HashMap::new();
    while let Some((id, school, kind, name, token_hash, gateway, person, section, disabled)) = rows.try_next().await? {
        let kind = DeviceKind::from_text(&kind).ok_or_else(|| StoreError::Unreadable {
            district,
            what: "kind of a device",
            reason: format!("{kind:?} is none"),
        })?;
        let id = DeviceId(id);
        let entry = DeviceEntry {
            id,
            district,
            school: SchoolId(school),
            kind,
            name,
            token_hash: secret_hash(district, &token_hash)?,
            gateway: gateway.map(DeviceId),
            person: person.map(PersonId),
            section: section.map(SectionId),
            disabled,
        };
        devices.insert(id, entry);
    }
    Ok(devices)
}

async fn badges(connection: &mut PgConnection, district: DistrictId) -> Result<HashMap<SecretHash, BadgeEntry>, StoreError> {
    let mut rows = sqlx::query_as::<_, (Uuid, Uuid, Vec<u8>)>("select id, person, token_hash from rollcall.badge where revoked_at is null")
        .fetch(connection);
    let mut badges = HashMap::new();
    while let Some((id, person, token_hash)) = rows.try_next().await? {
        badges.insert(secret_hash(district, &token_hash)?, BadgeEntry { id: BadgeId(id), person: PersonId(person) });
    }
    Ok(badges)
}

fn secret_hash(district: DistrictId, bytes: &[u8]) -> Result<SecretHash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Unreadable { district, what: "token hash", reason: format!("{} bytes", bytes.len()) })
}
