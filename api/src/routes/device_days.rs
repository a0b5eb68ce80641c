//! A device's week: what it said on each date.

use axum::Json;
use axum::extract::State;
use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_model::ids::{DeviceId, SchoolId};
use rollcall_model::schedule::local_date;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::query::rollups::{self, DeviceDay};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::dates;
use crate::extract::{Id, Params};
use crate::page::Page;
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

/// Longest range of days in one answer.
const DAYS_MAX: i64 = 92;
/// Days before the last one that are shown when no range is asked for: a week.
const DAYS_BEFORE: u64 = 6;

/// One date of a device, by event time in the school's zone. It holds what was said until some ten seconds ago.
#[derive(Serialize, ToSchema)]
pub struct DeviceDayLine {
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    pub scans: i64,
    /// One a metric.
    pub readings: i64,
    /// Events of learning apps.
    pub activities: i64,
    pub heartbeats: i64,
    /// Connections and disconnections, by the gateway's word.
    pub connects: i64,
    pub disconnects: i64,
    /// The first and last of the device's own words.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_event: Option<UtcMillis>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_event: Option<UtcMillis>,
    /// Of its words those that waited in its queue.
    pub offline: i64,
    /// Of its words those that came more than five minutes after they happened.
    pub late: i64,
    /// How late at most, in milliseconds; 0 when none was.
    pub late_ms_max: i64,
    /// Charge, 0 to 1.
    pub battery_min: Option<f64>,
    pub battery_max: Option<f64>,
    /// Most events that it said to be waiting in it.
    pub queued_max: Option<i64>,
    /// Minutes in which it was heard, counted in stretches of five.
    pub heard_min: u32,
    /// The longest silence between its first and last word, in minutes, counted in stretches of five.
    pub silent_min_max: u32,
    /// A `1` or `0` for each five minutes since the date began: whether it said something then. The longest date has 300.
    pub heard: String,
}

impl From<DeviceDay> for DeviceDayLine {
    fn from(day: DeviceDay) -> Self {
        Self {
            heard_min: day.heard_min(),
            silent_min_max: day.silent_min_max(),
            date: day.date,
            school: day.school,
            scans: day.scans,
            readings: day.readings,
            activities: day.activities,
            heartbeats: day.heartbeats,
            connects: day.connects,
            disconnects: day.disconnects,
            first_event: day.first_event,
            last_event: day.last_event,
            offline: day.offline,
            late: day.late,
            late_ms_max: day.late_ms_max,
            battery_min: day.battery_min,
            battery_max: day.battery_max,
            queued_max: day.queued_max,
            heard: day.heard,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeviceDaysQuery {
    /// First date; six days before `to` unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub from: Option<NaiveDate>,
    /// Last date; today at the device's school unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub to: Option<NaiveDate>,
}

/// What a device said on each date, newest first; for IT staff. Dates on which it said nothing are left out.
#[utoipa::path(get, path = "/api/v1/devices/{id}/days", tag = "devices", operation_id = "list_device_days",
    params(("id" = Uuid, Path), DeviceDaysQuery), responses(
    (status = 200, body = Page<DeviceDayLine>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn days(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<DeviceId>,
    Params(query): Params<DeviceDaysQuery>,
) -> Result<Json<Page<DeviceDayLine>>, ApiError> {
    let device = caller.directory.device(id).ok_or(ApiError::NotFound("device"))?;
    require(rights::may_administer(&caller.who), "only IT staff may see what a device said")?;
    let zone = caller.directory.school(device.school).map_or(Tz::UTC, |school| school.zone);
    let today = || local_date(state.clock.now(), zone).unwrap_or_default();
    let (from, to) = dates::range((query.from, query.to), today, DAYS_BEFORE, DAYS_MAX)?;
    let mut tenant = caller.tenant(&state).await?;
    let days = rollups::device_days(&mut tenant, id, from, to).await?;
    Ok(Json(Page { items: days.into_iter().map(DeviceDayLine::from).collect(), next: None }))
}
