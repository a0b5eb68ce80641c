//! Badges: the list of a person or school, issuing, revoking.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rollcall_model::ids::{BadgeId, PersonId, SchoolId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::account::Role;
use rollcall_store::query::badges::{self, BadgeRow};
use rollcall_store::{admin, audit};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::page::{self, Page};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::devices::refused;
use crate::state::ApiState;

const MAY_NOT: &str = "only the person's office may see and change badges";

/// A badge without its secret.
#[derive(Serialize, ToSchema)]
pub struct BadgeInfo {
    #[schema(value_type = Uuid)]
    pub id: BadgeId,
    #[schema(value_type = Uuid)]
    pub person: PersonId,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub issued: UtcMillis,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked: Option<UtcMillis>,
}

impl From<BadgeRow> for BadgeInfo {
    fn from(row: BadgeRow) -> Self {
        Self { id: row.id, person: row.person, issued: row.issued, revoked: row.revoked }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BadgesQuery {
    #[param(value_type = Option<Uuid>)]
    pub person: Option<PersonId>,
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BadgeRequest {
    #[schema(value_type = Uuid)]
    pub person: PersonId,
}

/// A new badge. `badge` is what the scanner reads; it is shown once.
#[derive(Serialize, ToSchema)]
pub struct IssuedBadgeInfo {
    #[schema(value_type = Uuid)]
    pub id: BadgeId,
    #[schema(value_type = Uuid)]
    pub person: PersonId,
    pub badge: String,
}

/// The badges of a person or of a school's people. Give one of them.
#[utoipa::path(get, path = "/api/v1/badges", tag = "badges", operation_id = "list_badges", params(BadgesQuery), responses(
    (status = 200, body = Page<BadgeInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<BadgesQuery>,
) -> Result<Json<Page<BadgeInfo>>, ApiError> {
    require(caller.who.role == Role::Office, MAY_NOT)?;
    let people: Vec<PersonId> = match (query.person, query.school) {
        (Some(person), None) => {
            caller.person(person)?;
            require(rights::may_manage_badges(&caller.who, &caller.directory, person), MAY_NOT)?;
            vec![person]
        }
        (None, Some(school)) => {
            caller.school(school)?;
            require(rights::may_watch_school(&caller.who, school), MAY_NOT)?;
            let people = caller.directory.roster.people.values();
            people.filter(|person| person.memberships.iter().any(|m| m.school == school)).map(|person| person.id).collect()
        }
        _ => return Err(ApiError::field("person", "required", "give either a person or a school")),
    };
    let (limit, after) = (page::limit_of(query.limit)?, page::parsed_key::<BadgeId>(query.cursor.as_deref())?);
    let mut tenant = caller.tenant(&state).await?;
    let rows = badges::list(&mut tenant, &people, after, limit as i64 + 1).await?;
    let items = rows.into_iter().map(BadgeInfo::from).collect();
    Ok(Json(page::of_rows(items, limit, |badge: &BadgeInfo| badge.id.to_string())))
}

/// Issue a badge. Earlier badges of the person stay valid until they are revoked.
#[utoipa::path(post, path = "/api/v1/badges", tag = "badges", operation_id = "issue_badge", request_body = BadgeRequest, responses(
    (status = 201, body = IssuedBadgeInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn issue(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<BadgeRequest>,
) -> Result<(StatusCode, Json<IssuedBadgeInfo>), ApiError> {
    caller.person(request.person)?;
    require(rights::may_manage_badges(&caller.who, &caller.directory, request.person), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    let issued = admin::issue_badge(&mut tenant, request.person).await.map_err(|error| refused(error, "person"))?;
    tenant.commit().await?;
    state.directory.refresh_district(caller.district).await?;
    Ok((StatusCode::CREATED, Json(IssuedBadgeInfo { id: issued.id, person: issued.person, badge: issued.badge })))
}

/// Revoke a badge: scans of it are refused from now on.
#[utoipa::path(post, path = "/api/v1/badges/{id}/revoke", tag = "badges", operation_id = "revoke_badge", params(("id" = Uuid, Path)), responses(
    (status = 200, body = BadgeInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn revoke(State(state): State<ApiState>, caller: Caller, Id(id): Id<BadgeId>) -> Result<Json<BadgeInfo>, ApiError> {
    let mut tenant = caller.tenant(&state).await?;
    let known = badges::find(&mut tenant, id).await?.ok_or(ApiError::NotFound("badge"))?;
    require(rights::may_manage_badges(&caller.who, &caller.directory, known.person), MAY_NOT)?;
    let revoked = badges::revoke(&mut tenant, id).await?.ok_or(ApiError::NotFound("badge"))?;
    audit::record(&mut tenant, caller.district, "badge.revoke", Some(&id.to_string()), json!({"person": known.person})).await?;
    tenant.commit().await?;
    state.directory.refresh_district(caller.district).await?;
    Ok(Json(revoked.into()))
}
