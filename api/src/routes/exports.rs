//! Schedules by which saved questions are written to the operator's object storage; `crate::exporting` runs them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{NaiveTime, Timelike, Weekday};
use chrono_tz::Tz;
use rollcall_model::ids::{ExportId, SavedQueryId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::export::{self, Every, Export, FileFormat, PER_ACCOUNT_MAX, Schedule};
use rollcall_store::saved_query;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::overview::zone_of;
use super::saved_queries::refused;
use crate::caller::{Caller, require};
use crate::extract::{Body, Id};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::state::ApiState;

pub(crate) const MAY_NOT: &str = "only analysts and the district's office export";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportEvery {
    Hourly,
    Daily,
    Weekly,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    Csv,
    Parquet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportOutcome {
    Done,
    Failed,
    /// The account is disabled or may not export any more.
    Skipped,
}

impl From<FileFormat> for ExportFormat {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Csv => Self::Csv,
            FileFormat::Parquet => Self::Parquet,
        }
    }
}

impl From<ExportFormat> for FileFormat {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::Csv => Self::Csv,
            ExportFormat::Parquet => Self::Parquet,
        }
    }
}

/// When an export runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRhythm {
    pub every: ExportEvery,
    /// Of weekly: 1 Monday to 7 Sunday.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 7)]
    pub weekday: Option<u8>,
    /// Local time, `HH:MM`; of hourly only the minute counts.
    pub at: String,
}

impl ExportRhythm {
    fn schedule(&self, zone: Tz) -> Result<Schedule, ApiError> {
        let every = match self.every {
            ExportEvery::Hourly => Every::Hourly,
            ExportEvery::Daily => Every::Daily,
            ExportEvery::Weekly => Every::Weekly,
        };
        let weekday = self.weekday.map(|day| day.checked_sub(1).and_then(|day| Weekday::try_from(day).ok()));
        let weekday = match (every, weekday) {
            (Every::Weekly, Some(Some(day))) => Some(day),
            (Every::Weekly, _) => {
                return Err(ApiError::field("rhythm.weekday", "out_of_range", "a week's day is 1 (Monday) to 7 (Sunday)"));
            }
            (_, None) => None,
            (_, Some(_)) => return Err(ApiError::field("rhythm.weekday", "not_with_every", "only a weekly export has a weekday")),
        };
        let at = NaiveTime::parse_from_str(&self.at, "%H:%M");
        let at = at.map_err(|_| ApiError::field("rhythm.at", "out_of_range", "give a time of day such as 06:30"))?;
        Ok(Schedule { every, weekday, at, zone })
    }

    fn of(schedule: &Schedule) -> Self {
        Self {
            every: match schedule.every {
                Every::Hourly => ExportEvery::Hourly,
                Every::Daily => ExportEvery::Daily,
                Every::Weekly => ExportEvery::Weekly,
            },
            weekday: schedule.weekday.and_then(|day| u8::try_from(day.number_from_monday()).ok()),
            at: format!("{:02}:{:02}", schedule.at.hour(), schedule.at.minute()),
        }
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ExportInfo {
    #[schema(value_type = Uuid)]
    pub id: ExportId,
    #[schema(value_type = Uuid)]
    pub query: SavedQueryId,
    /// Of the question.
    pub title: String,
    pub rhythm: ExportRhythm,
    /// IANA zone of `rhythm.at`.
    pub zone: String,
    pub format: ExportFormat,
    pub enabled: bool,
    /// When it runs next, or should have begun when that has passed; null while it is paused.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next: Option<UtcMillis>,
    /// When the last run ended.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<UtcMillis>,
    pub last_outcome: Option<ExportOutcome>,
    /// Why it failed or was skipped.
    pub last_error: Option<String>,
    /// What the newest file lacks, such as rows of a file of history that is damaged; null: nothing.
    pub last_warning: Option<String>,
    /// The newest file, below the place that the operator has named.
    pub last_file: Option<String>,
    pub last_rows: Option<i64>,
    pub last_bytes: Option<i64>,
    pub version: i64,
}

impl From<Export> for ExportInfo {
    fn from(export: Export) -> Self {
        Self {
            id: export.id,
            query: export.query,
            title: export.title,
            rhythm: ExportRhythm::of(&export.schedule),
            zone: export.schedule.zone.name().to_owned(),
            format: export.format.into(),
            enabled: export.enabled,
            next: export.enabled.then_some(export.not_before),
            last_at: export.last_at,
            last_outcome: export.last_outcome.map(|outcome| match outcome {
                export::Outcome::Done => ExportOutcome::Done,
                export::Outcome::Failed => ExportOutcome::Failed,
                export::Outcome::Skipped => ExportOutcome::Skipped,
            }),
            last_error: export.last_error,
            last_warning: export.last_warning,
            last_file: export.last_file,
            last_rows: export.last_rows,
            last_bytes: export.last_bytes,
            version: export.version,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ExportList {
    pub items: Vec<ExportInfo>,
    /// Whether the operator has named a place for exports; without one none runs.
    pub available: bool,
    /// IANA zone of the district, in which new rhythms are: that of most of its schools.
    pub zone: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExport {
    /// A saved question of one's own.
    #[schema(value_type = Uuid)]
    pub query: SavedQueryId,
    pub rhythm: ExportRhythm,
    pub format: ExportFormat,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportChange {
    /// The version that the change was made of; 409 `changed_meanwhile` when there is a newer one.
    pub version: i64,
    pub rhythm: Option<ExportRhythm>,
    pub format: Option<ExportFormat>,
    /// False pauses it. What a paused export would have done is not made up for.
    pub enabled: Option<bool>,
}

/// Refuses when no export can run, so that nobody waits for one.
fn require_place(state: &ApiState) -> Result<(), ApiError> {
    if state.config.exports_available {
        return Ok(());
    }
    Err(ApiError::Conflict {
        code: "exports_off",
        message: "exports are switched off: the operator names their place in [exports]".to_owned(),
    })
}

/// The caller's exports, by title of their question.
#[utoipa::path(get, path = "/api/v1/exports", tag = "sql", operation_id = "list_exports", responses(
    (status = 200, body = ExportList),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<ExportList>, ApiError> {
    require(rights::may_export(&caller.who), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    let items = export::list(&mut tenant, caller.district, caller.who.account).await?.into_iter().map(ExportInfo::from).collect();
    let zone = zone_of(&caller.directory).name().to_owned();
    Ok(Json(ExportList { items, available: state.config.exports_available, zone }))
}

/// Export a saved question by a rhythm. It runs with the owner's rights at that time.
#[utoipa::path(post, path = "/api/v1/exports", tag = "sql", operation_id = "create_export", request_body = NewExport, responses(
    (status = 201, body = ExportInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`exports_off`, `too_many_exports`", body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<NewExport>,
) -> Result<(StatusCode, Json<ExportInfo>), ApiError> {
    require(rights::may_export(&caller.who), MAY_NOT)?;
    let schedule = request.rhythm.schedule(zone_of(&caller.directory))?;
    let mut tenant = caller.tenant(&state).await?;
    let query = saved_query::get(&mut tenant, caller.who.account, request.query).await?.ok_or(ApiError::NotFound("saved question"))?;
    require(query.owner == caller.who.account, "only one's own questions are exported; save a copy")?;
    require_place(&state)?;
    let wished = (request.query, &schedule, request.format.into());
    let made = export::create(&mut tenant, caller.district, caller.who.account, wished, caller.now()).await?;
    let made = made.ok_or_else(|| ApiError::Conflict {
        code: "too_many_exports",
        message: format!("an account has at most {PER_ACCOUNT_MAX} exports; delete one first"),
    })?;
    let detail = json!({"query": made.query, "every": schedule.every.as_str(), "format": made.format.as_str()});
    caller.commit(tenant, "export.create", made.id, detail).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Change, pause or resume an export.
#[utoipa::path(patch, path = "/api/v1/exports/{id}", tag = "sql", operation_id = "change_export", params(("id" = Uuid, Path)),
    request_body = ExportChange, responses(
    (status = 200, body = ExportInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`changed_meanwhile`, `export_running`", body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn change(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<ExportId>,
    Body(request): Body<ExportChange>,
) -> Result<Json<ExportInfo>, ApiError> {
    require(rights::may_export(&caller.who), MAY_NOT)?;
    let schedule = request.rhythm.map(|rhythm| rhythm.schedule(zone_of(&caller.directory))).transpose()?;
    let wished = export::Change { schedule, format: request.format.map(FileFormat::from), enabled: request.enabled };
    let mut tenant = caller.tenant(&state).await?;
    let named = (caller.who.account, id, request.version);
    let changed = refused(export::change(&mut tenant, caller.district, named, &wished, caller.now()).await?, "export")?;
    let detail = json!({"every": changed.schedule.every.as_str(), "format": changed.format.as_str(), "enabled": changed.enabled});
    caller.commit(tenant, "export.change", id, detail).await?;
    Ok(Json(changed.into()))
}

/// Delete an export. Its files stay.
#[utoipa::path(delete, path = "/api/v1/exports/{id}", tag = "sql", operation_id = "delete_export", params(("id" = Uuid, Path)), responses(
    (status = 204, description = "Deleted."),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`export_running`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn delete(State(state): State<ApiState>, caller: Caller, Id(id): Id<ExportId>) -> Result<StatusCode, ApiError> {
    require(rights::may_export(&caller.who), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    refused(export::delete(&mut tenant, caller.district, caller.who.account, id).await?, "export")?;
    caller.commit(tenant, "export.delete", id, json!({})).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Run an export within seconds, and then by its rhythm.
#[utoipa::path(post, path = "/api/v1/exports/{id}/run", tag = "sql", operation_id = "run_export", params(("id" = Uuid, Path)), responses(
    (status = 202, body = ExportInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`exports_off`, `export_running`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn run(State(state): State<ApiState>, caller: Caller, Id(id): Id<ExportId>) -> Result<(StatusCode, Json<ExportInfo>), ApiError> {
    require(rights::may_export(&caller.who), MAY_NOT)?;
    let mut tenant = caller.tenant(&state).await?;
    let wanted = refused(export::run_now(&mut tenant, caller.district, caller.who.account, id, caller.now()).await?, "export")?;
    require_place(&state)?;
    caller.commit(tenant, "export.run_now", id, json!({})).await?;
    Ok((StatusCode::ACCEPTED, Json(wanted.into())))
}
