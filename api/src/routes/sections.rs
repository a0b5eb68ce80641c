//! Sections: the list, one, its students, its board.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use rollcall_model::ids::{PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{self, Meeting};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::directory::SectionEntry;
use rollcall_store::query::names;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::{Id, Params};
use crate::page::{self, Page, PageQuery};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::people::{StudentName, display_name, student_names};
use crate::schema::Board;
use crate::state::ApiState;

/// How long a board that nobody has looked at yet may take to be made.
const BOARD_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Serialize, ToSchema)]
pub struct Teacher {
    #[schema(value_type = Uuid)]
    pub id: PersonId,
    pub name: String,
}

/// A section, and its meeting now, next or last today.
#[derive(Serialize, ToSchema)]
pub struct SectionInfo {
    #[schema(value_type = Uuid)]
    pub id: SectionId,
    pub title: String,
    pub room: Option<String>,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    pub school_name: String,
    pub teachers: Vec<Teacher>,
    pub meets_now: bool,
    #[schema(value_type = Option<Uuid>)]
    pub period: Option<PeriodId>,
    pub period_name: Option<String>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub starts: Option<UtcMillis>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends: Option<UtcMillis>,
}

/// All meetings of a section on its school's date.
pub fn meetings_on(caller: &Caller, section: &SectionEntry, date: chrono::NaiveDate) -> Vec<Meeting> {
    let Some(school) = caller.directory.school(section.school).filter(|_| section.runs_on(date)) else { return Vec::new() };
    let Some(day) = school.schedule_for(date) else { return Vec::new() };
    schedule::meetings_on(&section.meetings, day.bells, date, day.cycle, school.zone)
}

/// The meeting that a board shows: the one now, else the next one today, else the last one.
pub fn shown(meetings: &[Meeting], now: UtcMillis) -> Option<&Meeting> {
    let running = meetings.iter().rev().find(|meeting| meeting.span.contains(now));
    running.or_else(|| meetings.iter().find(|meeting| now < meeting.span.starts)).or(meetings.last())
}

fn info(caller: &Caller, section: &SectionEntry, names: &HashMap<PersonId, rollcall_store::vault::PersonName>) -> SectionInfo {
    let (date, now) = (caller.today_in(section.school), caller.now());
    let meetings = meetings_on(caller, section, date);
    let meeting = shown(&meetings, now);
    let school = caller.directory.school(section.school);
    let period = meeting.map(|meeting| meeting.period);
    let teachers = caller.directory.teachers_of(section.id, date);
    SectionInfo {
        id: section.id,
        title: section.title.clone(),
        room: section.room.clone(),
        school: section.school,
        school_name: school.map(|school| school.name.clone()).unwrap_or_default(),
        teachers: teachers.map(|id| Teacher { id, name: names.get(&id).map(display_name).unwrap_or_default() }).collect(),
        meets_now: meeting.is_some_and(|meeting| meeting.span.contains(now)),
        period,
        period_name: period.and_then(|period| Some(school?.periods.get(&period)?.name.clone())),
        starts: meeting.map(|meeting| meeting.span.starts),
        ends: meeting.map(|meeting| meeting.span.ends),
    }
}

async fn infos(state: &ApiState, caller: &Caller, sections: Vec<&SectionEntry>) -> Result<Vec<SectionInfo>, ApiError> {
    let teachers = sections.iter().flat_map(|section| caller.directory.teachers_of(section.id, caller.today_in(section.school)));
    let mut teachers: Vec<PersonId> = teachers.collect();
    teachers.sort_unstable();
    teachers.dedup();
    let mut tenant = caller.tenant(state).await?;
    let names = names::names(&mut tenant, &state.vault, caller.district, &teachers).await?;
    Ok(sections.into_iter().map(|section| info(caller, section, &names)).collect())
}

/// One page of the sections that the caller may see today, of one school or of all.
pub async fn page(state: &ApiState, caller: &Caller, school: Option<SchoolId>, query: &PageQuery) -> Result<Page<SectionInfo>, ApiError> {
    let visible = caller.directory.roster.sections.values().filter(|section| {
        let date = caller.today_in(section.school);
        school.is_none_or(|school| school == section.school)
            && section.runs_on(date)
            && rights::may_see_section(&caller.who, &caller.directory, section, date)
    });
    let rows = visible.map(|section| (page::title_key(&section.title, section.id), section)).collect();
    let (sections, next) = page::of_memory(rows, query)?;
    Ok(Page { items: infos(state, caller, sections).await?, next })
}

fn visible(caller: &Caller, id: SectionId) -> Result<&SectionEntry, ApiError> {
    let section = caller.section(id)?;
    let date = caller.today_in(section.school);
    require(rights::may_see_section(&caller.who, &caller.directory, section, date), "this account may not see this section")?;
    Ok(section)
}

/// The sections that the caller may see, by title: a teacher's own, an office's school.
#[utoipa::path(get, path = "/api/v1/sections", tag = "sections", operation_id = "list_sections", params(PageQuery), responses(
    (status = 200, body = Page<SectionInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<SectionInfo>>, ApiError> {
    require(rights::may_list_sections(&caller.who), "this account may not see sections")?;
    page(&state, &caller, None, &query).await.map(Json)
}

/// One section.
#[utoipa::path(get, path = "/api/v1/sections/{id}", tag = "sections", operation_id = "get_section", params(("id" = Uuid, Path)), responses(
    (status = 200, body = SectionInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(state): State<ApiState>, caller: Caller, Id(id): Id<SectionId>) -> Result<Json<SectionInfo>, ApiError> {
    let section = visible(&caller, id)?;
    let mut found = infos(&state, &caller, vec![section]).await?;
    found.pop().map(Json).ok_or(ApiError::NotFound("section"))
}

/// The students enrolled in a section today, by name.
#[utoipa::path(get, path = "/api/v1/sections/{id}/students", tag = "sections", operation_id = "list_section_students",
    params(("id" = Uuid, Path)), responses(
    (status = 200, body = Page<StudentName>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn students(State(state): State<ApiState>, caller: Caller, Id(id): Id<SectionId>) -> Result<Json<Page<StudentName>>, ApiError> {
    let section = visible(&caller, id)?;
    let date = caller.today_in(section.school);
    let students: Vec<PersonId> = caller.directory.students_of(id, date).collect();
    let items = student_names(&state, &caller, &students).await?;
    Ok(Json(Page { items, next: None }))
}

/// The section's board now: the data and version of its live topic.
#[utoipa::path(get, path = "/api/v1/sections/{id}/attendance", tag = "sections", operation_id = "get_section_attendance",
    params(("id" = Uuid, Path)), responses(
    (status = 200, body = Board),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`board_not_ready`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn attendance(State(state): State<ApiState>, caller: Caller, Id(id): Id<SectionId>) -> Result<Response, ApiError> {
    visible(&caller, id)?;
    let board = tokio::time::timeout(BOARD_WAIT_MAX, state.engine.section_board(id)).await.ok().flatten();
    let board = board.ok_or_else(|| ApiError::Unavailable {
        code: "board_not_ready",
        message: "the board of this section is not ready yet; try again".to_owned(),
    })?;
    // The data is spliced as it is encoded for the live topic.
    let mut body = Vec::with_capacity(board.data.len() + 40);
    body.extend_from_slice(format!("{{\"version\":{},\"data\":", board.version).as_bytes());
    body.extend_from_slice(&board.data);
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
