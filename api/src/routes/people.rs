//! Names for those who may see them: a school's people, a guardian's children.

use axum::Json;
use axum::extract::State;
use rollcall_model::ids::{PersonId, SchoolId};
use rollcall_store::account::Role;
use rollcall_store::audit;
use rollcall_store::directory::PersonKind;
use rollcall_store::query::names;
use rollcall_store::vault::PersonName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::page::{self, Page};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

/// A student by name.
#[derive(Clone, Serialize, ToSchema)]
pub struct StudentName {
    #[schema(value_type = Uuid)]
    pub id: PersonId,
    pub given: String,
    pub family: String,
    /// OneRoster grade code.
    pub grade: Option<String>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PersonKindName {
    Student,
    Staff,
    Guardian,
}

impl From<PersonKind> for PersonKindName {
    fn from(kind: PersonKind) -> Self {
        match kind {
            PersonKind::Student => Self::Student,
            PersonKind::Staff => Self::Staff,
            PersonKind::Guardian => Self::Guardian,
        }
    }
}

/// A person of a school by name.
#[derive(Serialize, ToSchema)]
pub struct PersonInfo {
    #[schema(value_type = Uuid)]
    pub id: PersonId,
    pub given: String,
    pub family: String,
    pub kind: PersonKindName,
    pub grade: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PeopleQuery {
    #[param(value_type = Uuid)]
    pub school: SchoolId,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

/// How a person is called in lists of staff.
pub fn display_name(name: &PersonName) -> String {
    format!("{} {}", name.given, name.family).trim().to_owned()
}

/// Names of students the caller has been found to be allowed to see, in order of family and given name.
pub async fn student_names(state: &ApiState, caller: &Caller, students: &[PersonId]) -> Result<Vec<StudentName>, ApiError> {
    let mut tenant = caller.tenant(state).await?;
    let mut names = names::names(&mut tenant, &state.vault, caller.district, students).await?;
    let name = |id: &PersonId| {
        let name = names.remove(id).unwrap_or_default();
        let grade = caller.directory.person(*id).and_then(|person| person.grade.clone());
        StudentName { id: *id, given: name.given, family: name.family, grade }
    };
    let mut items: Vec<StudentName> = students.iter().map(name).collect();
    items.sort_by_cached_key(|item| (item.family.to_lowercase(), item.given.to_lowercase(), item.id));
    Ok(items)
}

/// The names behind the ids of a school's live topic, for its office.
#[utoipa::path(get, path = "/api/v1/people", tag = "people", operation_id = "list_people", params(PeopleQuery), responses(
    (status = 200, body = Page<PersonInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<PeopleQuery>,
) -> Result<Json<Page<PersonInfo>>, ApiError> {
    caller.school(query.school)?;
    require(rights::may_watch_school(&caller.who, query.school), "this account may not see this school's people")?;
    let limit = page::limit_of(query.limit)?;
    let after: Option<PersonId> = page::parsed_key(query.cursor.as_deref())?;
    let belongs = |person: &&rollcall_store::directory::PersonEntry| {
        after.is_none_or(|after| person.id > after)
            && (person.memberships.iter().any(|membership| membership.school == query.school)
                || person.sections.iter().filter_map(|id| caller.directory.section(*id)).any(|section| section.school == query.school))
    };
    let mut people: Vec<_> = caller.directory.roster.people.values().filter(belongs).collect();
    people.sort_unstable_by_key(|person| person.id);
    people.truncate(limit + 1);
    let ids: Vec<PersonId> = people.iter().map(|person| person.id).collect();
    let mut tenant = caller.tenant(&state).await?;
    let mut names = names::names(&mut tenant, &state.vault, caller.district, &ids).await?;
    audit::record(&mut tenant, caller.district, "people.read", Some(&query.school.to_string()), json!({"count": ids.len()})).await?;
    tenant.commit().await?;
    let items = people.iter().map(|person| {
        let name = names.remove(&person.id).unwrap_or_default();
        PersonInfo { id: person.id, given: name.given, family: name.family, kind: person.kind.into(), grade: person.grade.clone() }
    });
    Ok(Json(page::of_rows(items.collect(), limit, |item| item.id.to_string())))
}

/// A guardian's own children.
#[utoipa::path(get, path = "/api/v1/me/students", tag = "people", operation_id = "list_own_students", responses(
    (status = 200, body = Page<StudentName>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn own_students(State(state): State<ApiState>, caller: Caller) -> Result<Json<Page<StudentName>>, ApiError> {
    require(caller.who.role == Role::Guardian, "only a guardian has own students")?;
    let guardian = caller.who.person.and_then(|person| caller.directory.person(person));
    let students = guardian.map(|guardian| guardian.students.clone()).unwrap_or_default();
    Ok(Json(Page { items: student_names(&state, &caller, &students).await?, next: None }))
}
