//! Saved questions of the analyst's desk: kept by their owner, shown to the district when shared. What is shared is the
//! text; whoever runs it does so with the own rights.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rollcall_model::ids::SavedQueryId;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::saved_query::{
    self, Change, Content, Edited, PER_ACCOUNT_MAX, SQL_BYTES_MAX, SavedQuery, TITLE_CHARS_MAX, VIEW_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::page::{self, Page, PageQuery};
use crate::problem::{ApiError, FieldError, Problem};
use crate::rights;
use crate::state::ApiState;

const MAY_NOT: &str = "this account may not query";

/// A saved question in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SavedQueryLine {
    #[schema(value_type = Uuid)]
    pub id: SavedQueryId,
    pub title: String,
    /// The caller saved it and alone may change it.
    pub own: bool,
    /// E-mail address of who saved it.
    pub owner: String,
    /// Everybody of the district who may query sees it.
    pub shared: bool,
    /// Grows by one with every change.
    pub version: i64,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub updated: UtcMillis,
    #[serde(skip)]
    sort: String,
}

/// A saved question.
#[derive(Debug, Serialize, ToSchema)]
pub struct SavedQueryInfo {
    #[serde(flatten)]
    pub line: SavedQueryLine,
    pub sql: String,
    /// How the page shows the answer.
    #[schema(value_type = Object)]
    pub view: Value,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSavedQuery {
    /// 1 to 120 characters.
    pub title: String,
    /// At most 65,536 bytes. It need not run yet.
    pub sql: String,
    /// An object of the page's own, at most 4,096 bytes; empty unless given.
    #[serde(default = "empty")]
    #[schema(value_type = Object)]
    pub view: Value,
    #[serde(default)]
    pub shared: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedQueryChange {
    /// The version that the change was made of; 409 `changed_meanwhile` when there is a newer one.
    pub version: i64,
    pub title: Option<String>,
    pub sql: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub view: Option<Value>,
    pub shared: Option<bool>,
}

fn empty() -> Value {
    json!({})
}

fn line(caller: &Caller, query: &SavedQuery) -> SavedQueryLine {
    SavedQueryLine {
        id: query.id,
        title: query.title.clone(),
        own: query.owner == caller.who.account,
        owner: query.owner_email.clone(),
        shared: query.shared,
        version: query.version,
        updated: query.updated,
        sort: query.sort.clone(),
    }
}

fn info(caller: &Caller, query: SavedQuery) -> SavedQueryInfo {
    SavedQueryInfo { line: line(caller, &query), sql: query.sql, view: query.view }
}

/// Checks what is given and trims the title.
fn checked(title: Option<String>, sql: Option<&str>, view: Option<&Value>) -> Result<Option<String>, ApiError> {
    let title = title.map(|title| title.trim().to_owned());
    let mut wrong = Vec::new();
    if title.as_ref().is_some_and(|title| !(1..=TITLE_CHARS_MAX).contains(&title.chars().count()) || title.contains('\0')) {
        wrong.push(FieldError::new("title", "out_of_range", format!("a title has 1 to {TITLE_CHARS_MAX} characters")));
    }
    if sql.is_some_and(|sql| sql.trim().is_empty() || sql.len() > SQL_BYTES_MAX || sql.contains('\0')) {
        wrong.push(FieldError::new("sql", "out_of_range", format!("a question has 1 to {SQL_BYTES_MAX} bytes of text")));
    }
    if view.is_some_and(|view| !view.is_object() || view.to_string().len() > VIEW_BYTES_MAX || view.to_string().contains("\\u0000")) {
        wrong.push(FieldError::new("view", "out_of_range", format!("a view is an object of at most {VIEW_BYTES_MAX} bytes")));
    }
    if wrong.is_empty() { Ok(title) } else { Err(ApiError::Invalid(wrong)) }
}

/// What a client is told when its change was not done.
pub(super) fn refused<T>(edited: Edited<T>, what: &'static str) -> Result<T, ApiError> {
    match edited {
        Edited::Done(done) => Ok(done),
        Edited::NotFound => Err(ApiError::NotFound(what)),
        Edited::NotOwner => Err(ApiError::Forbidden("only its owner may change it; save a copy")),
        Edited::Stale(version) => Err(ApiError::Conflict {
            code: "changed_meanwhile",
            message: format!("it was changed meanwhile, to version {version}; read it again"),
        }),
        Edited::Running => {
            Err(ApiError::Conflict { code: "export_running", message: "its export runs at this moment; try again shortly".to_owned() })
        }
    }
}

/// The own questions and those shared in the district, by title.
#[utoipa::path(get, path = "/api/v1/saved-queries", tag = "sql", operation_id = "list_saved_queries", params(PageQuery), responses(
    (status = 200, body = Page<SavedQueryLine>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<SavedQueryLine>>, ApiError> {
    require(rights::may_query(&caller.who), MAY_NOT)?;
    let wrong = || ApiError::field("cursor", "unknown", "give `next` of the page before as it was");
    let after = page::key(query.cursor.as_deref())?.map(|key| {
        let (sort, id) = key.rsplit_once('\u{1}').ok_or_else(wrong)?;
        Ok::<_, ApiError>((sort.to_owned(), id.parse().map_err(|_| wrong())?))
    });
    let (limit, after) = (query.limit()?, after.transpose()?);
    let mut tenant = caller.tenant(&state).await?;
    let rows = saved_query::list(&mut tenant, caller.who.account, after.as_ref(), limit as i64 + 1).await?;
    let rows = rows.iter().map(|row| line(&caller, row)).collect();
    Ok(Json(page::of_rows(rows, limit, |row: &SavedQueryLine| format!("{}\u{1}{}", row.sort, row.id))))
}

/// Save a question.
#[utoipa::path(post, path = "/api/v1/saved-queries", tag = "sql", operation_id = "create_saved_query", request_body = NewSavedQuery, responses(
    (status = 201, body = SavedQueryInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`too_many_saved_queries`", body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<NewSavedQuery>,
) -> Result<(StatusCode, Json<SavedQueryInfo>), ApiError> {
    require(rights::may_query(&caller.who), MAY_NOT)?;
    let title = checked(Some(request.title), Some(&request.sql), Some(&request.view))?.unwrap_or_default();
    let content = Content { title, sql: request.sql, view: request.view, shared: request.shared };
    let mut tenant = caller.tenant(&state).await?;
    let saved = saved_query::create(&mut tenant, caller.district, caller.who.account, &content).await?;
    let saved = saved.ok_or_else(|| ApiError::Conflict {
        code: "too_many_saved_queries",
        message: format!("an account has at most {PER_ACCOUNT_MAX} saved questions; delete one first"),
    })?;
    caller.commit(tenant, "saved_query.create", saved.id, json!({"shared": saved.shared})).await?;
    Ok((StatusCode::CREATED, Json(info(&caller, saved))))
}

/// One question.
#[utoipa::path(get, path = "/api/v1/saved-queries/{id}", tag = "sql", operation_id = "get_saved_query", params(("id" = Uuid, Path)), responses(
    (status = 200, body = SavedQueryInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(state): State<ApiState>, caller: Caller, Id(id): Id<SavedQueryId>) -> Result<Json<SavedQueryInfo>, ApiError> {
    require(rights::may_query(&caller.who), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    let found = saved_query::get(&mut tenant, caller.who.account, id).await?.ok_or(ApiError::NotFound("saved question"))?;
    Ok(Json(info(&caller, found)))
}

/// Change a question of one's own: title, text, view, or whether it is shared. What is not given stays.
#[utoipa::path(patch, path = "/api/v1/saved-queries/{id}", tag = "sql", operation_id = "change_saved_query",
    params(("id" = Uuid, Path)), request_body = SavedQueryChange, responses(
    (status = 200, body = SavedQueryInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`changed_meanwhile`", body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<SavedQueryId>,
    Body(request): Body<SavedQueryChange>,
) -> Result<Json<SavedQueryInfo>, ApiError> {
    require(rights::may_query(&caller.who), MAY_NOT)?;
    let title = checked(request.title, request.sql.as_deref(), request.view.as_ref())?;
    let wished = Change { title, sql: request.sql, view: request.view, shared: request.shared };
    let mut tenant = caller.tenant(&state).await?;
    let changed = saved_query::change(&mut tenant, caller.who.account, id, request.version, &wished).await?;
    let changed = refused(changed, "saved question")?;
    let detail = json!({"shared": changed.shared, "version": changed.version});
    caller.commit(tenant, "saved_query.change", id, detail).await?;
    Ok(Json(info(&caller, changed)))
}

/// Delete a question of one's own with its exports. Files that were exported stay.
#[utoipa::path(delete, path = "/api/v1/saved-queries/{id}", tag = "sql", operation_id = "delete_saved_query", params(("id" = Uuid, Path)), responses(
    (status = 204, description = "Deleted."),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`export_running`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(State(state): State<ApiState>, caller: Caller, Id(id): Id<SavedQueryId>) -> Result<StatusCode, ApiError> {
    require(rights::may_query(&caller.who), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    refused(saved_query::delete(&mut tenant, caller.who.account, id).await?, "saved question")?;
    caller.commit(tenant, "saved_query.delete", id, json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}
