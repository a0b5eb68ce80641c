//! Marks: what people state about students. Append-only; undo is a mark too.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::NaiveDate;
use rollcall_model::ids::{AccountId, MarkId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Authority, Mark, MarkStatus};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::account::Role;
use rollcall_store::audit;
use rollcall_store::query::marks::{self, MarkFilter};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::extract::{Body, Id, Params};
use crate::marking;
use crate::page::{self, Page};
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::schema::{AuthorityName, MarkStatusName};
use crate::state::ApiState;

/// What may be stated.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewMarkStatus {
    Present,
    Tardy,
    AbsentUnexcused,
    AbsentExcused,
    EarlyDeparture,
}

impl From<NewMarkStatus> for MarkStatus {
    fn from(status: NewMarkStatus) -> Self {
        match status {
            NewMarkStatus::Present => Self::Present,
            NewMarkStatus::Tardy => Self::Tardy,
            NewMarkStatus::AbsentUnexcused => Self::AbsentUnexcused,
            NewMarkStatus::AbsentExcused => Self::AbsentExcused,
            NewMarkStatus::EarlyDeparture => Self::EarlyDeparture,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMark {
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    pub status: NewMarkStatus,
    /// One line of at most 200 characters.
    pub reason: Option<String>,
    /// When a tardy student arrived or an early departure left, on the mark's date.
    #[serde(default, with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<UtcMillis>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WholeClass {
    Present,
}

/// Either `marks` or `whole_class`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MarkRequest {
    /// Left out: the marks are about whole days (office only).
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    /// The meeting that the board shows, unless given.
    #[schema(value_type = Option<Uuid>)]
    pub period: Option<PeriodId>,
    /// Today in the school's zone, unless given.
    #[schema(value_type = Option<String>, format = Date)]
    pub date: Option<NaiveDate>,
    /// 1 to 500.
    pub marks: Option<Vec<NewMark>>,
    pub whole_class: Option<WholeClass>,
}

#[derive(Clone, Serialize, ToSchema)]
pub struct MarkInfo {
    #[schema(value_type = Uuid)]
    pub id: MarkId,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    /// Null: about the whole day.
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    #[schema(value_type = Option<Uuid>)]
    pub period: Option<PeriodId>,
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    #[schema(value_type = MarkStatusName)]
    pub status: MarkStatus,
    #[schema(value_type = AuthorityName)]
    pub authority: Authority,
    #[schema(value_type = Uuid)]
    pub author: AccountId,
    pub reason: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    pub supersedes: Option<MarkId>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub recorded: UtcMillis,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<UtcMillis>,
}

impl From<Mark> for MarkInfo {
    fn from(mark: Mark) -> Self {
        Self {
            id: mark.id,
            school: mark.school,
            student: mark.student,
            section: mark.section,
            period: mark.period,
            date: mark.date,
            status: mark.status,
            authority: mark.authority,
            author: mark.author,
            reason: mark.reason,
            supersedes: mark.supersedes,
            recorded: mark.recorded,
            at: mark.at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MarksQuery {
    #[param(value_type = Option<Uuid>)]
    pub student: Option<PersonId>,
    #[param(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    #[param(value_type = Option<String>, format = Date)]
    pub date: Option<NaiveDate>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

/// Mark students, one or many, or the whole class as present.
///
/// The answer comes once the marks are durable and the board shows them. `whole_class` marks those enrolled in the meeting
/// that the board shows whom neither a scan nor a person has placed: `expected`, `unknown`, or `absent` without a mark. It
/// never overrides a mark, nor a scan that says present, tardy or early departure. A teacher may correct days within the
/// time in which late evidence is accepted (two weeks, unless the policy says otherwise); the office any past day.
#[utoipa::path(post, path = "/api/v1/marks", tag = "marks", operation_id = "create_marks", request_body = MarkRequest,
    params(("idempotency-key" = Option<String>, Header, description = "The same request sent again gets the first answer.")), responses(
    (status = 201, body = Page<MarkInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, description = "`invalid`, with the fields", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`log_full`, `log_busy`, `log_stopped`, `not_durable`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<MarkRequest>,
) -> Result<(StatusCode, Json<Page<MarkInfo>>), ApiError> {
    require(matches!(caller.who.role, Role::Teacher | Role::Office), "this account may not mark")?;
    let made = marking::prepare(&state, &caller, &request).await?;
    marking::append(&state, caller.district, &made).await?;
    let detail = json!({"count": made.len(), "date": request.date, "whole_class": request.whole_class.is_some()});
    audit_mark(&state, &caller, "mark.create", request.section.map(|id| id.to_string()), detail, &made).await;
    let items = made.into_iter().map(MarkInfo::from).collect();
    Ok((StatusCode::CREATED, Json(Page { items, next: None })))
}

/// The log already says durably who marked what; a row of the audit that cannot be written must not undo that.
async fn audit_mark(
    state: &ApiState,
    caller: &Caller,
    action: &str,
    subject: Option<String>,
    mut detail: serde_json::Value,
    marks: &[Mark],
) {
    detail["marks"] = marks.iter().map(|mark| mark.id.to_string()).collect();
    let written = async {
        let mut tenant = caller.tenant(state).await?;
        audit::record(&mut tenant, caller.district, action, subject.as_deref(), detail).await?;
        tenant.commit().await
    };
    if let Err(error) = written.await {
        tracing::error!(%error, action, "a mark could not be written to the audit; the log has it");
    }
}

/// Undo a mark: a `cleared` mark that supersedes it. What was stated before it holds again.
///
/// Teachers undo their own marks, the office any of its school. Undoing a `cleared` mark restores what it cleared.
#[utoipa::path(post, path = "/api/v1/marks/{id}/undo", tag = "marks", operation_id = "undo_mark", params(("id" = Uuid, Path)), responses(
    (status = 201, body = MarkInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`already_superseded`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn undo(State(state): State<ApiState>, caller: Caller, Id(id): Id<MarkId>) -> Result<(StatusCode, Json<MarkInfo>), ApiError> {
    require(matches!(caller.who.role, Role::Teacher | Role::Office), "this account may not mark")?;
    let mut tenant = caller.tenant(&state).await?;
    let known = match state.recent.find(caller.district, |mark| mark.id == id) {
        Some(mark) => mark,
        None => marks::find(&mut tenant, id).await?.ok_or(ApiError::NotFound("mark"))?.mark,
    };
    let own = known.author == caller.who.account && known.authority == marking::authority(&caller);
    let office = rights::may_mark_day(&caller.who, known.school);
    require(own || office, "a mark is undone by its author or the office")?;
    let superseded = state.recent.find(caller.district, |mark| mark.supersedes == Some(id)).is_some()
        || marks::is_superseded(&mut tenant, &known).await?;
    drop(tenant);
    if superseded {
        return Err(ApiError::Conflict {
            code: "already_superseded",
            message: "this mark has been undone or corrected already".to_owned(),
        });
    }
    let cleared = Mark {
        id: MarkId::random(),
        status: MarkStatus::Cleared,
        authority: marking::authority(&caller),
        author: caller.who.account,
        reason: None,
        supersedes: Some(id),
        recorded: state.recent.next_instant(caller.now()),
        at: None,
        ..known
    };
    marking::append(&state, caller.district, std::slice::from_ref(&cleared)).await?;
    audit_mark(&state, &caller, "mark.undo", Some(id.to_string()), json!({}), std::slice::from_ref(&cleared)).await;
    Ok((StatusCode::CREATED, Json(cleared.into())))
}

/// Marks, newest first. A teacher sees those of the own sections and about whole days of the own students; give a
/// student or a section.
#[utoipa::path(get, path = "/api/v1/marks", tag = "marks", operation_id = "list_marks", params(MarksQuery), responses(
    (status = 200, body = Page<MarkInfo>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<MarksQuery>,
) -> Result<Json<Page<MarkInfo>>, ApiError> {
    let filter = filter_of(&caller, &query)?;
    let limit = page::limit_of(query.limit)?;
    let subject = query.student.map(|id| id.to_string()).or(query.section.map(|id| id.to_string()));
    let mut tenant = caller.tenant(&state).await?;
    let rows = marks::list(&mut tenant, &filter, limit as i64 + 1).await?;
    audit::record(&mut tenant, caller.district, "mark.read", subject.as_deref(), json!({"date": query.date})).await?;
    tenant.commit().await?;
    let next = rows.get(limit - 1).filter(|_| rows.len() > limit).map(|row| page::cursor(&row.offset.to_string()));
    let mut items: Vec<MarkInfo> = Vec::new();
    if filter.before.is_none() {
        // What the sink has not stored yet: on the first page, before everything else.
        let unstored = |mark: &Mark| fits(&filter, mark) && !rows.iter().any(|row| row.mark.id == mark.id);
        let oldest = rows.last().filter(|_| rows.len() > limit).map_or(UtcMillis(i64::MIN), |row| row.mark.recorded);
        let recent = state.recent.list(caller.district, |mark| mark.recorded >= oldest && unstored(mark));
        items.extend(recent.into_iter().map(MarkInfo::from));
    }
    items.extend(rows.into_iter().take(limit).map(|row| MarkInfo::from(row.mark)));
    Ok(Json(Page { items, next }))
}

fn fits(filter: &MarkFilter, mark: &Mark) -> bool {
    filter.student.is_none_or(|id| mark.student == id)
        && filter.section.is_none_or(|id| mark.section == Some(id))
        && filter.date.is_none_or(|date| mark.date == date)
        && filter.school.is_none_or(|id| mark.school == id)
        && filter.sections.as_ref().is_none_or(|own| mark.section.is_none_or(|id| own.contains(&id)))
}

fn filter_of(caller: &Caller, query: &MarksQuery) -> Result<MarkFilter, ApiError> {
    require(matches!(caller.who.role, Role::Teacher | Role::Office), "this account may not see marks")?;
    let before = page::parsed_key(query.cursor.as_deref())?;
    let mut filter = MarkFilter { student: query.student, section: query.section, date: query.date, before, ..MarkFilter::default() };
    if let Some(section) = query.section {
        let section = caller.section(section)?;
        let date = query.date.unwrap_or_else(|| caller.today_in(section.school));
        let allowed = rights::may_see_section(&caller.who, &caller.directory, section, date);
        require(allowed, "this account may not see this section's marks")?;
    }
    if let Some(student) = query.student {
        let entry = caller.person(student)?;
        let date = query.date.unwrap_or_else(|| caller.today_of(entry));
        let allowed = rights::may_see_student(&caller.who, &caller.directory, student, date);
        require(allowed, "this account may not see this student's marks")?;
        if caller.who.role == Role::Teacher {
            filter.sections = Some(rights::shared_sections(&caller.who, &caller.directory, student, date).collect());
        }
    }
    if query.student.is_none() && query.section.is_none() {
        if caller.who.role == Role::Teacher {
            return Err(ApiError::field("section", "required", "give a section or a student"));
        }
        filter.school = caller.who.school;
    }
    if caller.who.role == Role::Office {
        filter.school = caller.who.school;
    }
    Ok(filter)
}
