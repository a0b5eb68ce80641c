//! The whole district now: the counts that analysts and a district's office follow live.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use rollcall_model::ids::DistrictId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::caller::{Caller, require};
use crate::extract::Id;
use crate::live::Topic;
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

/// How long a request waits for the first rendering of the counts.
const COUNTS_WAIT_MAX: Duration = Duration::from_secs(5);

/// One school today.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchoolCounts {
    pub name: String,
    /// The school's date now.
    #[schema(format = Date)]
    pub date: String,
    /// Students by the status of their day.
    pub counts: HashMap<String, u64>,
    /// Null: withheld from who may see groups only, because the school has fewer than 10 students.
    pub in_building: Option<u64>,
    /// The numbers are the nearest multiples of it: 1, and 10 for who may see groups only.
    pub rounded_to: u64,
}

/// The data of the topic `district/<id>/attendance`.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DistrictCounts {
    /// By school.
    pub schools: HashMap<Uuid, SchoolCounts>,
}

/// Counts at a version of their topic; subscribe with `since` = `version` to follow them.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct DistrictBoard {
    pub version: u64,
    pub data: DistrictCounts,
}

/// Today's counts by school, the data and version of the district's live topic.
#[utoipa::path(get, path = "/api/v1/districts/{id}/attendance", tag = "reports", operation_id = "get_district_attendance",
    params(("id" = Uuid, Path)), responses(
    (status = 200, body = DistrictBoard),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`counts_not_ready`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn attendance(State(state): State<ApiState>, caller: Caller, Id(id): Id<DistrictId>) -> Result<Response, ApiError> {
    if id != caller.district {
        return Err(ApiError::NotFound("district"));
    }
    require(rights::may_watch_district(&caller.who), "this account may not see the district's counts")?;
    let name = format!("district/{id}/attendance");
    let topic = Topic::DistrictAttendance(id).told_as(&name, &caller.who);
    let counts = tokio::time::timeout(COUNTS_WAIT_MAX, state.hub.snapshot(&topic)).await.ok().flatten();
    let counts = counts.ok_or_else(|| ApiError::Unavailable {
        code: "counts_not_ready",
        message: "the district's counts are not ready yet; try again".to_owned(),
    })?;
    // The data is spliced as it is encoded for the live topic.
    let mut body = Vec::with_capacity(counts.data.len() + 40);
    body.extend_from_slice(format!("{{\"version\":{},\"data\":", counts.version).as_bytes());
    body.extend_from_slice(&counts.data);
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
