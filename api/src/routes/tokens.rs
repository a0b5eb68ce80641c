//! API tokens: how a program acts for an account, by `Authorization: Bearer`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::session::{self, SessionKind};
use rollcall_store::{audit, secret};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::extract::{Body, Id};
use crate::page::Page;
use crate::problem::{ApiError, Problem};
use crate::state::ApiState;

const TOKEN_PREFIX: &str = "rt_";
const DAYS_MAX: u32 = 366;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Most tokens of one account.
const TOKENS_MAX: usize = 50;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Days until it ends, 1 to 366.
    pub days: u32,
}

/// A new token. It is shown once.
#[derive(Serialize, ToSchema)]
pub struct IssuedToken {
    pub id: String,
    pub token: String,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires: UtcMillis,
}

/// A token of the caller's account, without its secret.
#[derive(Serialize, ToSchema)]
pub struct TokenInfo {
    pub id: String,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub created: UtcMillis,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires: UtcMillis,
}

/// The id by which a token is listed and revoked: the first half of its hash.
fn id_of(token_hash: &[u8]) -> String {
    token_hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The caller's API tokens.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "session", operation_id = "list_tokens", responses(
    (status = 200, body = Page<TokenInfo>),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<Page<TokenInfo>>, ApiError> {
    let mut tenant = caller.tenant(&state).await?;
    let tokens = session::api_tokens(&mut tenant, caller.who.account).await?;
    let info = |token: session::ApiTokenRow| TokenInfo { id: id_of(&token.token_hash), created: token.created, expires: token.expires };
    Ok(Json(Page { items: tokens.into_iter().map(info).collect(), next: None }))
}

/// Make an API token that acts as the caller's account.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "session", operation_id = "create_token", request_body = NewToken, responses(
    (status = 201, body = IssuedToken),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<NewToken>,
) -> Result<(StatusCode, Json<IssuedToken>), ApiError> {
    if !(1..=DAYS_MAX).contains(&request.days) {
        return Err(ApiError::field("days", "out_of_range", format!("a token lasts 1 to {DAYS_MAX} days")));
    }
    let token = secret::generate(TOKEN_PREFIX);
    let token_hash = secret::hash(&token);
    let expires = UtcMillis(caller.now().0 + i64::from(request.days) * DAY_MS);
    let mut tenant = caller.tenant(&state).await?;
    if session::api_tokens(&mut tenant, caller.who.account).await?.len() >= TOKENS_MAX {
        let message = format!("an account has at most {TOKENS_MAX} tokens; revoke one first");
        return Err(ApiError::Conflict { code: "too_many_tokens", message });
    }
    session::create(&mut tenant, caller.district, &token_hash, caller.who.account, SessionKind::Api, expires).await?;
    let id = id_of(&token_hash);
    audit::record(&mut tenant, caller.district, "token.create", Some(&id), json!({"days": request.days})).await?;
    tenant.commit().await?;
    Ok((StatusCode::CREATED, Json(IssuedToken { id, token, expires })))
}

/// Revoke one of the caller's API tokens.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "session", operation_id = "revoke_token",
    params(("id" = String, Path)), responses(
    (status = 204, description = "Revoked."),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn revoke(State(state): State<ApiState>, caller: Caller, Id(id): Id<String>) -> Result<StatusCode, ApiError> {
    let mut tenant = caller.tenant(&state).await?;
    let tokens = session::api_tokens(&mut tenant, caller.who.account).await?;
    let found = tokens.into_iter().find(|token| id_of(&token.token_hash) == id).ok_or(ApiError::NotFound("token"))?;
    let token_hash: secret::SecretHash = found.token_hash.as_slice().try_into().map_err(|_| ApiError::NotFound("token"))?;
    session::end(&mut tenant, &token_hash).await?;
    audit::record(&mut tenant, caller.district, "token.revoke", Some(&id), json!({})).await?;
    tenant.commit().await?;
    state.session_ended(token_hash);
    Ok(StatusCode::NO_CONTENT)
}
