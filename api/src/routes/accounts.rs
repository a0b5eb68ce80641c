//! Accounts, for IT staff: the list, disabling.

use axum::Json;
use axum::extract::State;
use rollcall_model::ids::{AccountId, PersonId, SchoolId};
use rollcall_store::account::{self, AccountRow};
use rollcall_store::audit;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::page::{self, Page, PageQuery};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::session::RoleName;
use crate::state::ApiState;

#[derive(Serialize, ToSchema)]
pub struct AccountInfo {
    #[schema(value_type = Uuid)]
    pub id: AccountId,
    pub email: String,
    pub role: RoleName,
    #[schema(value_type = Option<Uuid>)]
    pub person: Option<PersonId>,
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    pub disabled: bool,
}

impl From<AccountRow> for AccountInfo {
    fn from(row: AccountRow) -> Self {
        Self { id: row.id, email: row.email, role: row.role.into(), person: row.person, school: row.school, disabled: row.disabled }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountChange {
    pub disabled: bool,
}

/// Accounts by e-mail address.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", operation_id = "list_accounts", params(PageQuery), responses(
    (status = 200, body = Page<AccountInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<PageQuery>,
) -> Result<Json<Page<AccountInfo>>, ApiError> {
    require(rights::may_administer(&caller.who), "only IT staff may see accounts")?;
    let (limit, after) = (query.limit()?, page::key(query.cursor.as_deref())?.unwrap_or_default());
    let mut tenant = caller.tenant(&state).await?;
    let rows = account::list(&mut tenant, &after, limit as i64 + 1).await?;
    Ok(Json(page::of_rows(rows.into_iter().map(AccountInfo::from).collect(), limit, |row: &AccountInfo| row.email.clone())))
}

/// Disable an account, which ends its sessions and live connections, or enable it again.
#[utoipa::path(patch, path = "/api/v1/accounts/{id}", tag = "accounts", operation_id = "change_account", params(("id" = Uuid, Path)),
    request_body = AccountChange, responses(
    (status = 200, body = AccountInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<AccountId>,
    Body(request): Body<AccountChange>,
) -> Result<Json<AccountInfo>, ApiError> {
    require(rights::may_administer(&caller.who), "only IT staff may change accounts")?;
    if id == caller.who.account && request.disabled {
        return Err(ApiError::field("disabled", "own_account", "nobody disables the own account"));
    }
    let mut tenant = caller.tenant(&state).await?;
    let changed = account::set_disabled(&mut tenant, id, request.disabled).await?.ok_or(ApiError::NotFound("account"))?;
    audit::record(&mut tenant, caller.district, "account.change", Some(&id.to_string()), json!({"disabled": request.disabled})).await?;
    tenant.commit().await?;
    // The change of the table moves the directory's version, and every live connection looks at its session again.
    state.directory.refresh_district(caller.district).await?;
    Ok(Json(changed.into()))
}
