//! Erasing what devices said about a student who has left.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rollcall_model::ids::{AccountId, PersonId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::audit;
use rollcall_store::directory::{PersonEntry, PersonKind};
use rollcall_store::erasure::{self, Erasure};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::Id;
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

const MAY_NOT: &str = "only the district's office may erase a student";

/// An erasure. From its beginning on, boards, reports and students' days show nothing of what was erased, and within seconds SQL does not.
#[derive(Serialize, ToSchema)]
pub struct ErasureInfo {
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    /// When it was asked for last. What devices said later is not erased.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub asked: UtcMillis,
    /// The account that asked last.
    #[schema(value_type = Option<Uuid>)]
    pub asked_by: Option<AccountId>,
    /// When no file of history had the student's rows any more; null: not yet. Compressed rows in the database stay hidden until their
    /// retention ends.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub history: Option<UtcMillis>,
}

impl ErasureInfo {
    fn of(student: PersonId, erasure: Erasure) -> Self {
        Self { student, asked: erasure.asked, asked_by: erasure.asked_by, history: erasure.history }
    }
}

/// The student, for whom the caller may ask.
fn student(caller: &Caller, id: PersonId) -> Result<&PersonEntry, ApiError> {
    require(rights::may_erase(&caller.who), MAY_NOT)?;
    caller.directory.person(id).filter(|person| person.kind == PersonKind::Student).ok_or(ApiError::NotFound("student"))
}

/// Whether the student is or will be at a school. The boards conclude from what devices said, and would alarm without it.
fn attends(caller: &Caller, student: &PersonEntry) -> bool {
    let is_member = student.memberships.iter().any(|m| m.ends.is_none_or(|ends| caller.today_in(m.school) < ends));
    let is_enrolled = student.sections.iter().filter_map(|id| caller.directory.section(*id)).any(|section| {
        let today = caller.today_in(section.school);
        caller.directory.students_of(section.id, today).any(|enrolled| enrolled == student.id)
    });
    is_member || is_enrolled
}

/// Erase what devices said about a student: scans, readings and activity, and what is added up from them.
///
/// For the district's office, when the student is at no school any more. It cannot be taken back. Repeated, it erases what has come since
/// as well. The record of attendance (marks and statuses) and the directory stay as they are; `marks` in SQL are erased.
#[utoipa::path(put, path = "/api/v1/students/{id}/erasure", tag = "students", operation_id = "erase_student", params(("id" = Uuid, Path)), responses(
    (status = 202, body = ErasureInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub async fn erase(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<PersonId>,
) -> Result<(StatusCode, Json<ErasureInfo>), ApiError> {
    if attends(&caller, student(&caller, id)?) {
        let message = "the student is at a school; end that in the roster first".to_owned();
        return Err(ApiError::Conflict { code: "student_attends", message });
    }
    let mut tenant = caller.tenant(&state).await?;
    let rows = erasure::erase(&mut tenant, id, state.log.end()).await?;
    audit::record(&mut tenant, caller.district, "student.erase", Some(&id.to_string()), json!({"days": rows})).await?;
    let erasure = erasure::find(&mut tenant, id).await?.ok_or(ApiError::NotFound("erasure"))?;
    tenant.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(ErasureInfo::of(id, erasure))))
}

/// How far the erasure of a student is.
#[utoipa::path(get, path = "/api/v1/students/{id}/erasure", tag = "students", operation_id = "get_erasure", params(("id" = Uuid, Path)), responses(
    (status = 200, body = ErasureInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(state): State<ApiState>, caller: Caller, Id(id): Id<PersonId>) -> Result<Json<ErasureInfo>, ApiError> {
    student(&caller, id)?;
    let mut tenant = caller.tenant(&state).await?;
    let erasure = erasure::find(&mut tenant, id).await?.ok_or(ApiError::NotFound("erasure"))?;
    Ok(Json(ErasureInfo::of(id, erasure)))
}
