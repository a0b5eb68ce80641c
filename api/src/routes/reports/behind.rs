//! What stands behind the rows of an explanation: each scan and mark of the student's day, whether the day's conclusion is on record or
//! was made of them for the report; and the names that a person reads them by.

use chrono::NaiveDate;
use rollcall_model::event::Direction;
use rollcall_model::ids::{DeviceId, Offset, PersonId};
use rollcall_model::schedule::date_span;
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::query::{Listed, marks, names, reports};
use serde::Serialize;
use utoipa::ToSchema;

use super::explained::ExplainedRow;
use crate::caller::Caller;
use crate::problem::ApiError;
use crate::rights;
use crate::routes::marks::MarkInfo;
use crate::schema::DirectionName;
use crate::state::ApiState;

/// Scans of one student's day that are listed: the first. A gate that is walked through more often says nothing new.
const SCANS_MAX: i64 = 50;
/// Marks about one student's day that are listed.
const MARKS_MAX: i64 = 50;

/// One scan of the day.
#[derive(Clone, Serialize, ToSchema)]
pub struct ScanBehind {
    #[schema(value_type = Uuid)]
    pub device: DeviceId,
    /// As it is called in the directory; null: it is not registered any more.
    pub device_name: Option<String>,
    pub seq: u64,
    /// Event time, by the device's clock.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub ts: UtcMillis,
    /// When the server accepted it.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub received: UtcMillis,
    #[schema(value_type = DirectionName)]
    pub dir: Direction,
    /// It waited in the device's queue.
    pub offline: bool,
    #[schema(value_type = u64)]
    pub offset: Offset,
}

impl ScanBehind {
    fn of(caller: &Caller, scan: ScanEvidence) -> Self {
        let ScanEvidence { device, seq, ts, received, direction, offline, offset, .. } = scan;
        let device_name = caller.directory.device(device).map(|device| device.name.clone());
        Self { device, device_name, seq, ts, received, dir: direction, offline, offset }
    }
}

/// One mark about the day, with the names of the lesson that it is about.
#[derive(Clone, Serialize, ToSchema)]
pub struct MarkBehind {
    #[serde(flatten)]
    pub mark: MarkInfo,
    /// Null, like the section: it is about the whole day.
    pub section_title: Option<String>,
    pub period_name: Option<String>,
}

impl MarkBehind {
    fn of(caller: &Caller, mark: MarkInfo) -> Self {
        let section = mark.section.and_then(|section| caller.directory.section(section));
        let school = caller.directory.school(mark.school);
        let period_name = mark.period.and_then(|period| Some(school?.periods.get(&period)?.name.clone()));
        Self { section_title: section.map(|section| section.title.clone()), period_name, mark }
    }
}

/// Puts names, scans and marks to the rows of a page, as they were known at an instant.
pub async fn fill(state: &ApiState, caller: &Caller, as_of: UtcMillis, rows: &mut [ExplainedRow]) -> Result<(), ApiError> {
    if rows.is_empty() {
        return Ok(());
    }
    let zone = |row: &ExplainedRow| caller.directory.school(row.school).map_or(chrono_tz::UTC, |school| school.zone);
    let days: Vec<(PersonId, NaiveDate)> = rows.iter().map(|row| (row.student, row.date)).collect();
    let spans: Vec<_> = rows.iter().map(|row| (row.student, date_span(row.date, zone(row)))).collect();
    let mut students: Vec<PersonId> = rows.iter().map(|row| row.student).collect();
    students.sort_unstable();
    students.dedup();
    let mut tenant = caller.tenant(state).await?;
    let names = names::names(&mut tenant, &state.vault, caller.district, &students).await?;
    for row in &mut *rows {
        row.zone = zone(row).name().to_owned();
        let school = caller.directory.school(row.school);
        row.period_name = row.period.and_then(|period| Some(school?.periods.get(&period)?.name.clone()));
        if let Some(name) = names.get(&row.student) {
            (row.given, row.family) = (name.given.clone(), name.family.clone());
        }
    }
    for Listed { place, all, row: scan } in reports::scans_of(&mut tenant, caller.district, &spans, as_of, SCANS_MAX).await? {
        rows[place].scans.push(ScanBehind::of(caller, scan));
        rows[place].scans_unlisted = all.saturating_sub(SCANS_MAX.cast_unsigned());
    }
    for Listed { place, all, row: mark } in marks::of_students(&mut tenant, &days, as_of, MARKS_MAX).await? {
        rows[place].marks_unlisted = all.saturating_sub(MARKS_MAX.cast_unsigned());
        // A teacher's own classes and whole days, as in the list of marks.
        if rights::may_see_period(&caller.who, &caller.directory, mark.section, mark.date) {
            rows[place].marks.push(MarkBehind::of(caller, mark.into()));
        }
    }
    Ok(())
}
