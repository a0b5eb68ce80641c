//! Schools of the district, and the sections of one.

use axum::Json;
use axum::extract::State;
use rollcall_model::ids::SchoolId;
use rollcall_store::directory::SchoolEntry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::{Id, Params};
use crate::page::{self, Page, PageQuery};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::sections::{self, SectionInfo};
use crate::state::ApiState;

#[derive(Serialize, ToSchema)]
pub struct SchoolInfo {
    #[schema(value_type = Uuid)]
    pub id: SchoolId,
    pub name: String,
    /// IANA time zone.
    pub zone: String,
    /// The school's date now.
    #[schema(format = Date)]
    pub date: String,
    /// Whether that date is in session.
    pub in_session: bool,
}

fn info(caller: &Caller, school: &SchoolEntry) -> SchoolInfo {
    let date = caller.today_in(school.id);
    SchoolInfo {
        id: school.id,
        name: school.name.clone(),
        zone: school.zone.name().to_owned(),
        date: date.to_string(),
        in_session: school.schedule_for(date).is_some(),
    }
}

/// The schools that the caller has to do with, by name.
#[utoipa::path(get, path = "/api/v1/schools", tag = "schools", operation_id = "list_schools", params(PageQuery), responses(
    (status = 200, body = Page<SchoolInfo>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(caller: Caller, Params(query): Params<PageQuery>) -> Result<Json<Page<SchoolInfo>>, ApiError> {
    let known =
        caller.directory.roster.schools.values().filter(|school| rights::may_know_school(&caller.who, &caller.directory, school.id));
    let rows = known.map(|school| (page::title_key(&school.name, school.id), info(&caller, school))).collect();
    let (items, next) = page::of_memory(rows, &query)?;
    Ok(Json(Page { items, next }))
}

/// One school.
#[utoipa::path(get, path = "/api/v1/schools/{id}", tag = "schools", operation_id = "get_school", params(("id" = Uuid, Path)), responses(
    (status = 200, body = SchoolInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(caller: Caller, Id(id): Id<SchoolId>) -> Result<Json<SchoolInfo>, ApiError> {
    let school = caller.school(id)?;
    require(rights::may_know_school(&caller.who, &caller.directory, id), "this account has nothing to do with this school")?;
    Ok(Json(info(&caller, school)))
}

/// The sections of a school that the caller may see, by title.
#[utoipa::path(get, path = "/api/v1/schools/{id}/sections", tag = "schools", operation_id = "list_school_sections",
    params(("id" = Uuid, Path), PageQuery), responses(
    (status = 200, body = Page<SectionInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn sections(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<SchoolId>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<SectionInfo>>, ApiError> {
    caller.school(id)?;
    let allowed = rights::may_list_sections(&caller.who) && rights::may_know_school(&caller.who, &caller.directory, id);
    require(allowed, "this account may not see this school's sections")?;
    sections::page(&state, &caller, Some(id), &query).await.map(Json)
}
