//! Erasing what devices said about a student who has left.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{Days, NaiveDate};
use rollcall_model::ids::{AccountId, PersonId, SchoolId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::directory::{Membership, PersonEntry, PersonKind};
use rollcall_store::erasure::{self, Erasure};
use rollcall_store::query::names;
use rollcall_store::{Retention, audit};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::{Id, Params};
use crate::page::{self, Page, PageQuery};
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
    /// From about this date (UTC) on retention has deleted the database's hidden rows too. It deletes whole days or weeks, so that it may
    /// be some days later. Null: beyond what a calendar knows.
    #[schema(value_type = Option<String>, format = Date)]
    pub rows_until: Option<NaiveDate>,
}

impl ErasureInfo {
    fn of(state: &ApiState, student: PersonId, erasure: Erasure) -> Self {
        let Retention { scan_days, telemetry_days, activity_days, .. } = state.store.config().retention;
        let days = scan_days.max(telemetry_days).max(activity_days);
        let asked_on = erasure.asked.to_chrono().map(|asked| asked.date_naive());
        let rows_until = asked_on.and_then(|date| date.checked_add_days(Days::new(u64::from(days))));
        Self { student, asked: erasure.asked, asked_by: erasure.asked_by, history: erasure.history, rows_until }
    }
}

/// A student who is at no school any more, by name.
#[derive(Serialize, ToSchema)]
pub struct FormerStudent {
    #[schema(value_type = Uuid)]
    pub id: PersonId,
    pub given: String,
    pub family: String,
    /// OneRoster grade code.
    pub grade: Option<String>,
    /// The last school; null: the roster names none.
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    pub school_name: Option<String>,
    /// The first date on which the student was not there any more.
    #[schema(value_type = Option<String>, format = Date)]
    pub left: Option<NaiveDate>,
    /// Null: nobody has asked for it.
    pub erasure: Option<ErasureInfo>,
}

/// The student, for whom the caller may ask.
fn student(caller: &Caller, id: PersonId) -> Result<&PersonEntry, ApiError> {
    require(rights::may_erase(&caller.who), MAY_NOT)?;
    caller.directory.person(id).filter(|person| person.kind == PersonKind::Student).ok_or(ApiError::NotFound("student"))
}

/// Whether the student is or will be at a school. The boards conclude from what devices said, and would alarm without it.
fn attends(caller: &Caller, student: &PersonEntry) -> bool {
    let is_member = student.memberships.iter().any(|m| m.ends.is_none_or(|ends| caller.today_in(m.school) < ends));
    let is_enrolled = || {
        student.sections.iter().filter_map(|id| caller.directory.section(*id)).any(|section| {
            let today = caller.today_in(section.school);
            caller.directory.students_of(section.id, today).any(|enrolled| enrolled == student.id)
        })
    };
    is_member || is_enrolled()
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
    Ok((StatusCode::ACCEPTED, Json(ErasureInfo::of(&state, id, erasure))))
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
    Ok(Json(ErasureInfo::of(&state, id, erasure)))
}

/// The students who are at no school any more, with how far their erasure is, in order of their ids.
#[utoipa::path(get, path = "/api/v1/former-students", tag = "students", operation_id = "list_former_students", params(PageQuery), responses(
    (status = 200, body = Page<FormerStudent>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn former(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<FormerStudent>>, ApiError> {
    require(rights::may_erase(&caller.who), MAY_NOT)?;
    let limit = query.limit()?;
    let after: Option<PersonId> = page::parsed_key(query.cursor.as_deref())?;
    let asked = |person: &&PersonEntry| person.kind == PersonKind::Student && after.is_none_or(|after| person.id > after);
    let mut students: Vec<_> = caller.directory.roster.people.values().filter(asked).filter(|student| !attends(&caller, student)).collect();
    students.sort_unstable_by_key(|student| student.id);
    students.truncate(limit + 1);
    let ids: Vec<PersonId> = students.iter().map(|student| student.id).collect();
    let mut tenant = caller.tenant(&state).await?;
    let mut names = names::names(&mut tenant, &state.vault, caller.district, &ids).await?;
    let mut erasures = erasure::of(&mut tenant, &ids).await?;
    audit::record(&mut tenant, caller.district, "people.read", None, json!({"former": true, "count": ids.len()})).await?;
    tenant.commit().await?;
    let items = students.into_iter().map(|student| {
        let name = names.remove(&student.id).unwrap_or_default();
        let last = student.memberships.iter().max_by_key(|Membership { ends, .. }| ends.unwrap_or(NaiveDate::MAX));
        FormerStudent {
            id: student.id,
            given: name.given,
            family: name.family,
            grade: student.grade.clone(),
            school: last.map(|last| last.school),
            school_name: last.and_then(|last| Some(caller.directory.school(last.school)?.name.clone())),
            left: last.and_then(|last| last.ends),
            erasure: erasures.remove(&student.id).map(|erasure| ErasureInfo::of(&state, student.id, erasure)),
        }
    });
    Ok(Json(page::of_rows(items.collect(), limit, |item| item.id.to_string())))
}
