//! Payloads that were acknowledged but refused, for IT staff.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rollcall_model::ids::{DeviceId, SchoolId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::query::dead_letters::{self, DeadLetterFilter, DeadLetterRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::page::{self, Page};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

/// Bytes of a payload that are shown.
const PAYLOAD_SHOWN_BYTES: i32 = 4096;

#[derive(Serialize, ToSchema)]
pub struct DeadLetterInfo {
    pub id: i64,
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    #[schema(value_type = Uuid)]
    pub device: DeviceId,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub received: UtcMillis,
    /// The MQTT topic, or `ws`, or `http`.
    pub topic: String,
    /// What the payload claimed.
    pub seq: Option<i64>,
    pub code: String,
    pub message: String,
    /// The first 4096 bytes of the payload, as text where they are UTF-8.
    pub payload_text: Option<String>,
    /// The same in base64 where they are not.
    pub payload_base64: Option<String>,
}

impl From<DeadLetterRow> for DeadLetterInfo {
    fn from(row: DeadLetterRow) -> Self {
        let (payload_text, payload_base64) = match String::from_utf8(row.payload) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
        };
        Self {
            id: row.id,
            school: row.school,
            device: row.device,
            received: row.received,
            topic: row.topic,
            seq: row.seq,
            code: row.code,
            message: row.message,
            payload_text,
            payload_base64,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersQuery {
    #[param(value_type = Option<Uuid>)]
    pub device: Option<DeviceId>,
    pub code: Option<String>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

/// Refused payloads, newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "devices", operation_id = "list_dead_letters", params(DeadLettersQuery), responses(
    (status = 200, body = Page<DeadLetterInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<DeadLettersQuery>,
) -> Result<Json<Page<DeadLetterInfo>>, ApiError> {
    require(rights::may_administer(&caller.who), "only IT staff may see dead letters")?;
    if let Some(device) = query.device {
        caller.directory.device(device).ok_or(ApiError::NotFound("device"))?;
    }
    let limit = page::limit_of(query.limit)?;
    let filter = DeadLetterFilter { device: query.device, code: query.code, before: page::parsed_key(query.cursor.as_deref())? };
    let mut tenant = caller.tenant(&state).await?;
    let rows = dead_letters::list(&mut tenant, &filter, PAYLOAD_SHOWN_BYTES, limit as i64 + 1).await?;
    let items = rows.into_iter().map(DeadLetterInfo::from).collect();
    Ok(Json(page::of_rows(items, limit, |row: &DeadLetterInfo| row.id.to_string())))
}
