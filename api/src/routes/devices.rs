//! Devices: the list, registration, renaming, disabling.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{DeviceId, PersonId, SchoolId, SectionId};
use rollcall_store::admin::{self, NewDevice};
use rollcall_store::directory::DeviceEntry;
use rollcall_store::query::devices;
use rollcall_store::{StoreError, audit};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::page::{self, Page, PageQuery};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

const NAME_CHARS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKindName {
    Gate,
    Room,
    Tablet,
    Wearable,
    Gateway,
}

impl From<DeviceKindName> for DeviceKind {
    fn from(kind: DeviceKindName) -> Self {
        match kind {
            DeviceKindName::Gate => Self::Gate,
            DeviceKindName::Room => Self::Room,
            DeviceKindName::Tablet => Self::Tablet,
            DeviceKindName::Wearable => Self::Wearable,
            DeviceKindName::Gateway => Self::Gateway,
        }
    }
}

/// A registered device. How it does now is in the live topics.
#[derive(Serialize, ToSchema)]
pub struct DeviceInfo {
    #[schema(value_type = Uuid)]
    pub id: DeviceId,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    #[schema(value_type = DeviceKindName)]
    pub kind: DeviceKind,
    pub name: String,
    /// The gateway it is registered behind.
    #[schema(value_type = Option<Uuid>)]
    pub gateway: Option<DeviceId>,
    /// The only person it speaks for.
    #[schema(value_type = Option<Uuid>)]
    pub person: Option<PersonId>,
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    pub disabled: bool,
}

impl From<&DeviceEntry> for DeviceInfo {
    fn from(device: &DeviceEntry) -> Self {
        Self {
            id: device.id,
            school: device.school,
            kind: device.kind,
            name: device.name.clone(),
            gateway: device.gateway,
            person: device.person,
            section: device.section,
            disabled: device.disabled,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DevicesQuery {
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    pub kind: Option<DeviceKindName>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    pub kind: DeviceKindName,
    pub name: String,
    #[schema(value_type = Option<Uuid>)]
    pub gateway: Option<DeviceId>,
    /// Only of a tablet or wearable.
    #[schema(value_type = Option<Uuid>)]
    pub person: Option<PersonId>,
    /// Only of a room scanner.
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
}

/// A new device. The token is shown once.
#[derive(Serialize, ToSchema)]
pub struct RegisteredDevice {
    #[schema(value_type = Uuid)]
    pub id: DeviceId,
    pub token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    pub name: Option<String>,
    pub disabled: Option<bool>,
}

/// Devices by name: all for IT staff, those of its school for an office.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", operation_id = "list_devices", params(DevicesQuery), responses(
    (status = 200, body = Page<DeviceInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(caller: Caller, Params(query): Params<DevicesQuery>) -> Result<Json<Page<DeviceInfo>>, ApiError> {
    let office = caller.who.role == rollcall_store::account::Role::Office;
    require(rights::may_administer(&caller.who) || office, "this account may not see devices")?;
    if let Some(school) = query.school {
        caller.school(school)?;
        require(rights::may_see_devices(&caller.who, school), "this account may not see this school's devices")?;
    }
    let kind = query.kind.map(DeviceKind::from);
    let shown = caller.directory.devices.values().filter(|device| {
        query.school.is_none_or(|school| device.school == school)
            && kind.is_none_or(|kind| device.kind == kind)
            && rights::may_see_devices(&caller.who, device.school)
    });
    let rows = shown.map(|device| (page::title_key(&device.name, device.id), DeviceInfo::from(device))).collect();
    let (items, next) = page::of_memory(rows, &PageQuery { cursor: query.cursor, limit: query.limit })?;
    Ok(Json(Page { items, next }))
}

/// What is wrong with what the caller gave is for the caller; everything else is not.
pub fn refused(error: StoreError, field: &str) -> ApiError {
    match error {
        StoreError::Invalid(message) => ApiError::field(field, "invalid", message),
        StoreError::NotFound { what, .. } => ApiError::field(field, "unknown", format!("there is no such {what}")),
        StoreError::Conflict { .. } => ApiError::Conflict { code: "exists", message: "it exists already".to_owned() },
        other => other.into(),
    }
}

/// Register a device. Its token is in the answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/devices", tag = "devices", operation_id = "create_device", request_body = DeviceRequest, responses(
    (status = 201, body = RegisteredDevice),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<DeviceRequest>,
) -> Result<(StatusCode, Json<RegisteredDevice>), ApiError> {
    require(rights::may_administer(&caller.who), "only IT staff may register devices")?;
    caller.school(request.school)?;
    if let Some(person) = request.person {
        caller.person(person)?;
    }
    if let Some(section) = request.section {
        caller.section(section)?;
    }
    let device = NewDevice {
        school: request.school,
        kind: request.kind.into(),
        name: request.name,
        gateway: request.gateway,
        person: request.person,
        section: request.section,
    };
    let mut tenant = caller.tenant(&state).await?;
    let (id, token) = admin::add_device(&mut tenant, &device).await.map_err(|error| refused(error, "name"))?;
    tenant.commit().await?;
    state.directory.refresh_district(caller.district).await?;
    Ok((StatusCode::CREATED, Json(RegisteredDevice { id, token })))
}

/// Rename a device, disable it or enable it again. A disabled device may not speak.
#[utoipa::path(patch, path = "/api/v1/devices/{id}", tag = "devices", operation_id = "change_device", params(("id" = Uuid, Path)),
    request_body = DeviceChange, responses(
    (status = 200, body = DeviceInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<DeviceId>,
    Body(request): Body<DeviceChange>,
) -> Result<Json<DeviceInfo>, ApiError> {
    caller.directory.device(id).ok_or(ApiError::NotFound("device"))?;
    require(rights::may_administer(&caller.who), "only IT staff may change devices")?;
    let name = request.name.as_deref().map(str::trim);
    if name.is_some_and(|name| name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control)) {
        return Err(ApiError::field("name", "not_a_line", format!("a device's name has 1 to {NAME_CHARS_MAX} characters")));
    }
    let mut tenant = caller.tenant(&state).await?;
    if !devices::change(&mut tenant, id, name, request.disabled).await? {
        return Err(ApiError::NotFound("device"));
    }
    let detail = json!({"renamed": name.is_some(), "disabled": request.disabled});
    audit::record(&mut tenant, caller.district, "device.change", Some(&id.to_string()), detail).await?;
    tenant.commit().await?;
    state.directory.refresh_district(caller.district).await?;
    let directory = state.directory.current();
    let device = directory.district(caller.district).and_then(|district| district.device(id)).ok_or(ApiError::NotFound("device"))?;
    Ok(Json(device.into()))
}
