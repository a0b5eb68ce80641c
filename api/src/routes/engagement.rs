//! Engagement of a section's windows as history has it, what its teacher allows, and the consents that it rests on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, Utc};
use rollcall_analytics::engagement::definition::{SETTLE_MS, VERSION, WINDOW_MS, slot_of};
use rollcall_model::ids::{PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{Meeting, Span};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::audit;
use rollcall_store::engagement::{self, Consent, EngagementWindow, Purpose, RESOURCES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::page::Page;
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::sections::meetings_on;
use crate::state::ApiState;

/// As long as a resource may be in an event.
const RESOURCE_BYTES_MAX: usize = rollcall_model::limits::RESOURCE_BYTES_MAX;

/// The policy's numbers that values were computed with.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EngagementParameters {
    /// The longest step between two events of a student that counts as activity.
    pub theta_ms: i64,
    pub coverage_min_pct: i64,
    /// How long after its end a window waits before it settles.
    pub settle_ms: i64,
}

/// The values of a window. Without data (`with_data` is 0) every metric is null: that is no data, not a low value.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EngagementValue {
    /// Enrolled students who were present.
    pub present: i32,
    /// How many of them there is data of.
    pub with_data: i32,
    pub events: i64,
    /// Events that were received after the window had settled.
    pub late_events: i64,
    pub meaningful: i64,
    pub active_ms: i64,
    pub allowed_ms: i64,
    /// `with_data` / `present`; null when nobody is present.
    pub coverage: Option<f64>,
    /// Active minutes of a student, the mean over those with data.
    pub active_min: Option<f64>,
    /// Meaningful events per active minute.
    pub interaction_rate: Option<f64>,
    /// Share of active time in allowed resources; null below the coverage of the policy and when none are set.
    pub resource_alignment: Option<f64>,
    pub quiz_present: Option<i32>,
    pub quiz_responders: Option<i32>,
    pub quiz_participation: Option<f64>,
    /// Median time from the opening of a quiz to a student's first answer.
    pub quiz_latency_ms: Option<i64>,
    /// Present students with readings of a wearable and consent to it.
    pub wearers: Option<i32>,
    pub worn_ratio: Option<f64>,
    pub steps: Option<f64>,
    pub movement_min: Option<i32>,
}

/// One window of the topic `section/<id>/engagement`, by the instant at which it begins.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EngagementEntry {
    #[schema(format = DateTime)]
    pub starts: String,
    #[schema(format = DateTime)]
    pub ends: String,
    /// `open` until everything that is on its way has been waited for, then `settled`.
    pub state: String,
    /// False: no data.
    pub data: bool,
    /// How often what was settled has been corrected since.
    pub corrections: u32,
    pub definition: u16,
    #[serde(flatten)]
    pub value: EngagementValue,
}

/// The meeting that the topic `section/<id>/engagement` shows.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EngagementMeta {
    /// `before`, `running`, `over`, or `none`: the section does not meet today.
    pub state: String,
    pub definition: u16,
    pub window_min: i64,
    #[schema(format = Date)]
    pub date: Option<String>,
    pub period: Option<uuid::Uuid>,
    pub period_name: Option<String>,
    #[schema(format = DateTime)]
    pub starts: Option<String>,
    #[schema(format = DateTime)]
    pub ends: Option<String>,
    pub parameters: Option<EngagementParameters>,
    /// Enrolled students.
    pub students: Option<u32>,
    /// How many of them have consent on file for events of learning apps.
    pub consented: Option<u32>,
    /// The teacher has said which resources are allowed.
    pub is_restricted: Option<bool>,
}

/// A window of a day.
#[derive(Serialize, ToSchema)]
pub struct EngagementWindowInfo {
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub starts: UtcMillis,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub ends: UtcMillis,
    /// True: it is over and settled, unless something comes late.
    pub settled: bool,
    /// Null: no data, or not settled yet.
    pub value: Option<EngagementValue>,
    /// 1 as it settled, more after corrections; 0 without data.
    pub revision: i32,
    /// Version of the definition of the metrics.
    pub definition: i16,
    #[schema(value_type = Option<EngagementParameters>)]
    pub parameters: Option<serde_json::Value>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recorded: Option<DateTime<Utc>>,
}

/// One meeting of a day with all of its windows.
#[derive(Serialize, ToSchema)]
pub struct EngagementMeeting {
    #[schema(value_type = Uuid)]
    pub period: PeriodId,
    pub period_name: String,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub starts: UtcMillis,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub ends: UtcMillis,
    pub windows: Vec<EngagementWindowInfo>,
}

/// The meetings of a section on a date.
#[derive(Serialize, ToSchema)]
pub struct EngagementDay {
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    pub meetings: Vec<EngagementMeeting>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EngagementQuery {
    /// The school's local date; today unless given.
    pub date: Option<NaiveDate>,
    /// As it was recorded at this instant.
    pub at: Option<DateTime<Utc>>,
}

/// What a section's teacher has said.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngagementSettings {
    /// Resources that count as on task: names, or beginnings of names before a final `*`. Empty: nobody has said, and
    /// resource alignment is null.
    pub resources: Vec<String>,
    /// Physical education: readings of wearables may be used with a student's consent for that.
    pub physical: bool,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PurposeName {
    /// Events of learning apps.
    Activity,
    /// Readings of wearables in every class.
    Wearable,
    /// Readings of wearables in physical education.
    WearablePe,
}

impl From<PurposeName> for Purpose {
    fn from(name: PurposeName) -> Self {
        match name {
            PurposeName::Activity => Self::Activity,
            PurposeName::Wearable => Self::Wearable,
            PurposeName::WearablePe => Self::WearablePe,
        }
    }
}

/// A consent as it was put on file. Of one subject and purpose the newest whose dates cover the day holds; a student's
/// own stands above the school's. Without any nothing is computed.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsentInfo {
    /// Null: the school's, for all of its students; only for `activity`.
    #[schema(value_type = Option<Uuid>)]
    pub student: Option<PersonId>,
    #[schema(value_type = PurposeName)]
    pub purpose: Purpose,
    /// False: refused or withdrawn.
    pub granted: bool,
    /// First day; null: since ever.
    pub starts: Option<NaiveDate>,
    /// First day no longer; null: for ever.
    pub ends: Option<NaiveDate>,
}

/// A section's engagement on a date, in windows of five minutes. Windows without a value have no data.
#[utoipa::path(get, path = "/api/v1/sections/{id}/engagement", tag = "engagement", operation_id = "get_section_engagement",
    params(("id" = Uuid, Path), EngagementQuery), responses(
    (status = 200, body = EngagementDay),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn day(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<SectionId>,
    Params(query): Params<EngagementQuery>,
) -> Result<Json<EngagementDay>, ApiError> {
    let section = caller.section(id)?;
    let date = query.date.unwrap_or_else(|| caller.today_in(section.school));
    let allowed = rights::may_watch_engagement(&caller.who, &caller.directory, id, date);
    require(allowed, "only a section's teachers see its engagement")?;
    let mut tenant = caller.tenant(&state).await?;
    let rows = engagement::windows_of(&mut tenant, id, date, query.at.map(UtcMillis::from_chrono)).await?;
    audit::record(&mut tenant, caller.district, "engagement.read", Some(&id.to_string()), json!({"date": date})).await?;
    tenant.commit().await?;
    let school = caller.school(section.school)?;
    let meetings = meetings_on(&caller, section, date).into_iter().filter(|meeting| meeting.instructional).map(|meeting| {
        let period_name = school.periods.get(&meeting.period).map(|period| period.name.clone()).unwrap_or_default();
        let windows = windows(&meeting, &rows, caller.now());
        EngagementMeeting { period: meeting.period, period_name, starts: meeting.span.starts, ends: meeting.span.ends, windows }
    });
    Ok(Json(EngagementDay { date, meetings: meetings.collect() }))
}

/// Every window of a meeting, with its row where there is one.
fn windows(meeting: &Meeting, rows: &[EngagementWindow], now: UtcMillis) -> Vec<EngagementWindowInfo> {
    let first = slot_of(meeting.span.starts);
    let slots = (0..).map(|n| first.plus_ms(n * WINDOW_MS)).take_while(|slot| *slot < meeting.span.ends);
    slots
        .map(|slot| {
            let span = Span::new(slot.max(meeting.span.starts), slot.plus_ms(WINDOW_MS).min(meeting.span.ends));
            let is_row = |row: &&EngagementWindow| {
                row.period == meeting.period.0 && row.definition == VERSION as i16 && UtcMillis::from_chrono(row.slot) == slot
            };
            let row = rows.iter().find(is_row);
            EngagementWindowInfo {
                starts: span.starts,
                ends: span.ends,
                settled: span.ends.plus_ms(SETTLE_MS) <= now,
                value: row.filter(|row| has_data(row)).map(EngagementValue::from),
                revision: row.map_or(0, |row| row.revision),
                definition: VERSION as i16,
                parameters: row.map(|row| row.parameters.clone()),
                recorded: row.map(|row| row.recorded_at),
            }
        })
        .collect()
}

fn has_data(row: &EngagementWindow) -> bool {
    row.with_data > 0 || row.wearers.is_some() || row.quiz_present.is_some()
}

impl From<&EngagementWindow> for EngagementValue {
    fn from(row: &EngagementWindow) -> Self {
        Self {
            present: row.present,
            with_data: row.with_data,
            events: row.events,
            late_events: row.late_events,
            meaningful: row.meaningful,
            active_ms: row.active_ms,
            allowed_ms: row.allowed_ms,
            coverage: row.coverage,
            active_min: row.active_min,
            interaction_rate: row.interaction_rate,
            resource_alignment: row.resource_alignment,
            quiz_present: row.quiz_present,
            quiz_responders: row.quiz_responders,
            quiz_participation: row.quiz_participation,
            quiz_latency_ms: row.quiz_latency_ms,
            wearers: row.wearers,
            worn_ratio: row.worn_ratio,
            steps: row.steps,
            movement_min: row.movement_min,
        }
    }
}

/// What counts as on task in a section, and whether it is physical education.
#[utoipa::path(get, path = "/api/v1/sections/{id}/engagement/settings", tag = "engagement", operation_id = "get_engagement_settings",
    params(("id" = Uuid, Path)), responses(
    (status = 200, body = EngagementSettings),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn settings(State(state): State<ApiState>, caller: Caller, Id(id): Id<SectionId>) -> Result<Json<EngagementSettings>, ApiError> {
    may_settle(&caller, id)?;
    let mut tenant = caller.tenant(&state).await?;
    let (resources, physical) = engagement::section_settings(&mut tenant, id).await?;
    Ok(Json(EngagementSettings { resources, physical }))
}

/// Say what counts as on task in a section. The running meeting is calculated anew.
#[utoipa::path(put, path = "/api/v1/sections/{id}/engagement/settings", tag = "engagement", operation_id = "set_engagement_settings",
    params(("id" = Uuid, Path)), request_body = EngagementSettings, responses(
    (status = 200, body = EngagementSettings),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn set_settings(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<SectionId>,
    Body(request): Body<EngagementSettings>,
) -> Result<Json<EngagementSettings>, ApiError> {
    may_settle(&caller, id)?;
    let mut resources: Vec<String> = request.resources.iter().map(|resource| resource.trim().to_owned()).collect();
    resources.sort_unstable();
    resources.dedup();
    let is_name = |resource: &String| (1..=RESOURCE_BYTES_MAX).contains(&resource.len()) && !resource.chars().any(char::is_control);
    if resources.len() > RESOURCES_MAX || !resources.iter().all(is_name) {
        let message = format!("at most {RESOURCES_MAX} resources of 1 to {RESOURCE_BYTES_MAX} bytes each");
        return Err(ApiError::field("resources", "out_of_range", message));
    }
    let mut tenant = caller.tenant(&state).await?;
    engagement::set_section_settings(&mut tenant, id, &resources, request.physical).await?;
    let detail = json!({"resources": resources.len(), "physical": request.physical});
    audit::record(&mut tenant, caller.district, "engagement.settings", Some(&id.to_string()), detail).await?;
    tenant.commit().await?;
    Ok(Json(EngagementSettings { resources, physical: request.physical }))
}

fn may_settle(caller: &Caller, id: SectionId) -> Result<(), ApiError> {
    let section = caller.section(id)?;
    let date = caller.today_in(section.school);
    require(rights::may_see_section(&caller.who, &caller.directory, section, date), "this account may not settle this for the section")
}

/// The consents of a school's students, oldest first.
#[utoipa::path(get, path = "/api/v1/schools/{id}/consents", tag = "engagement", operation_id = "list_consents",
    params(("id" = Uuid, Path)), responses(
    (status = 200, body = Page<ConsentInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn consents(State(state): State<ApiState>, caller: Caller, Id(id): Id<SchoolId>) -> Result<Json<Page<ConsentInfo>>, ApiError> {
    may_keep_consents(&caller, id)?;
    let mut tenant = caller.tenant(&state).await?;
    let rows = engagement::consents(&mut tenant, Some(id)).await?;
    audit::record(&mut tenant, caller.district, "consent.read", Some(&id.to_string()), json!({})).await?;
    tenant.commit().await?;
    let info = |Consent { student, purpose, granted, starts, ends, .. }| ConsentInfo { student, purpose, granted, starts, ends };
    Ok(Json(Page { items: rows.into_iter().map(info).collect(), next: None }))
}

/// Put a consent or its refusal on file. It holds at once; windows of running and past meetings follow.
#[utoipa::path(post, path = "/api/v1/schools/{id}/consents", tag = "engagement", operation_id = "record_consent",
    params(("id" = Uuid, Path)), request_body = ConsentInfo, responses(
    (status = 201, body = ConsentInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn record_consent(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<SchoolId>,
    Body(request): Body<ConsentInfo>,
) -> Result<(StatusCode, Json<ConsentInfo>), ApiError> {
    may_keep_consents(&caller, id)?;
    if request.starts.zip(request.ends).is_some_and(|(starts, ends)| ends <= starts) {
        return Err(ApiError::field("ends", "before_start", "the first day no longer lies after the first day".to_owned()));
    }
    match request.student {
        Some(student) => {
            let entry = caller.person(student)?;
            let belongs = entry.memberships.iter().any(|membership| membership.school == id);
            if !belongs {
                return Err(ApiError::field("student", "unknown", "there is no such student in this school".to_owned()));
            }
        }
        None if request.purpose == Purpose::Activity => {}
        None => return Err(ApiError::field("student", "required", "what is worn on the body needs a student's own consent".to_owned())),
    }
    let ConsentInfo { student, purpose, granted, starts, ends } = request;
    let mut tenant = caller.tenant(&state).await?;
    engagement::record_consent(&mut tenant, &Consent { school: id, student, purpose, granted, starts, ends }).await?;
    let detail = json!({"student": student, "purpose": purpose, "granted": granted});
    audit::record(&mut tenant, caller.district, "consent.record", Some(&id.to_string()), detail).await?;
    tenant.commit().await?;
    Ok((StatusCode::CREATED, Json(request)))
}

fn may_keep_consents(caller: &Caller, school: SchoolId) -> Result<(), ApiError> {
    caller.school(school)?;
    require(rights::may_watch_school(&caller.who, school), "only the school's office keeps consents")
}
