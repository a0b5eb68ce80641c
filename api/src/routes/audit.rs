//! Who did what.

use axum::Json;
use axum::extract::State;
use rollcall_model::ids::AccountId;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::audit::{self, AuditFilter, AuditRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::page::{self, Page};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

#[derive(Serialize, ToSchema)]
pub struct AuditEntry {
    pub id: i64,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at: UtcMillis,
    /// Null: the command line or the program itself.
    #[schema(value_type = Option<Uuid>)]
    pub account: Option<AccountId>,
    /// `student.read`, `mark.create`, `device.change`, ...
    pub action: String,
    pub subject: Option<String>,
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self { id: row.id, at: row.at, account: row.account, action: row.action, subject: row.subject, detail: row.detail }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    #[param(value_type = Option<Uuid>)]
    pub account: Option<AccountId>,
    pub subject: Option<String>,
    pub action: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

/// The audit, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "accounts", operation_id = "list_audit", params(AuditQuery), responses(
    (status = 200, body = Page<AuditEntry>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    require(rights::may_read_audit(&caller.who), "this account may not read the audit")?;
    let limit = page::limit_of(query.limit)?;
    let before = page::parsed_key(query.cursor.as_deref())?;
    let filter = AuditFilter { account: query.account, subject: query.subject, action: query.action, before };
    let mut tenant = caller.tenant(&state).await?;
    let rows = audit::list(&mut tenant, &filter, limit as i64 + 1).await?;
    Ok(Json(page::of_rows(rows.into_iter().map(AuditEntry::from).collect(), limit, |row: &AuditEntry| row.id.to_string())))
}
