//! What stands behind the rows of an explanation: each scan and mark of the student's day, whether the day's conclusion is on record or
//! was made of them for the report.

use chrono::NaiveDate;
use rollcall_model::event::Direction;
use rollcall_model::ids::{DeviceId, Offset, PersonId};
use rollcall_model::schedule::date_span;
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::query::{marks, reports};
use serde::Serialize;
use utoipa::ToSchema;

use super::explain::ExplainedRow;
use crate::caller::Caller;
use crate::problem::ApiError;
use crate::rights;
use crate::schema::DirectionName;
use crate::state::ApiState;

/// Scans of one student's day that are listed: the first. A gate that is walked through more often says nothing new.
const SCANS_MAX: i64 = 50;
/// Marks of one page.
const MARKS_MAX: i64 = 5_000;

/// One scan of the day.
#[derive(Clone, Serialize, ToSchema)]
pub struct ScanBehind {
    #[schema(value_type = Uuid)]
    pub device: DeviceId,
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

impl From<ScanEvidence> for ScanBehind {
    fn from(scan: ScanEvidence) -> Self {
        let ScanEvidence { device, seq, ts, received, direction, offline, offset, .. } = scan;
        Self { device, seq, ts, received, dir: direction, offline, offset }
    }
}

/// Puts scans and marks to the rows of a page, as they were known at an instant.
pub async fn fill(state: &ApiState, caller: &Caller, as_of: UtcMillis, rows: &mut [ExplainedRow]) -> Result<(), ApiError> {
    if rows.is_empty() {
        return Ok(());
    }
    let days: Vec<(PersonId, NaiveDate)> = rows.iter().map(|row| (row.student, row.date)).collect();
    let zone = |row: &ExplainedRow| caller.directory.school(row.school).map_or(chrono_tz::UTC, |school| school.zone);
    let spans: Vec<_> = rows.iter().map(|row| (row.student, date_span(row.date, zone(row)))).collect();
    let mut tenant = caller.tenant(state).await?;
    for (place, scan) in reports::scans_of(&mut tenant, caller.district, &spans, as_of, SCANS_MAX).await? {
        rows[place].scans.push(scan.into());
    }
    for (place, mark) in marks::of_students(&mut tenant, &days, as_of, MARKS_MAX).await? {
        // A teacher's own classes and whole days, as in the list of marks.
        if rights::may_see_period(&caller.who, &caller.directory, mark.section, mark.date) {
            rows[place].marks.push(mark.into());
        }
    }
    Ok(())
}
