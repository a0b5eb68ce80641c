//! One student: who, and the days with the evidence for each status. Every read is audited.

use axum::Json;
use axum::extract::{Path, State};
use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_analytics::attendance::WindowToday;
use rollcall_model::attendance::{StatusDetail, explain};
use rollcall_model::ids::{PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::audit;
use rollcall_store::directory::{PersonEntry, PersonKind};
use rollcall_store::query::rollups::{self, EvidenceDay};
use rollcall_store::query::statuses::{self, StatusChange};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::dates;
use crate::extract::{Id, Params};
use crate::page::Page;
use crate::problem::{ApiError, Problem};
use crate::rights;
use crate::routes::people::student_names;
use crate::schema::{Detail, StatusName};
use crate::state::ApiState;

/// Longest range of days in one answer: a school year with its holidays.
const DAYS_MAX: i64 = 400;
/// Days before the last one that are shown when no range is asked for: two weeks.
const DAYS_BEFORE: u64 = 14;
/// Most changes of one student's day that are told; the newest ones.
const HISTORY_MAX: i64 = 500;

const MAY_NOT: &str = "this account may not see this student";

#[derive(Serialize, ToSchema)]
pub struct StudentSection {
    #[schema(value_type = Uuid)]
    pub id: SectionId,
    pub title: String,
}

#[derive(Serialize, ToSchema)]
pub struct StudentInfo {
    #[schema(value_type = Uuid)]
    pub id: PersonId,
    pub given: String,
    pub family: String,
    pub grade: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    /// The student's date now, in the zone of the school.
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    /// Today's sections; for a teacher the own ones.
    pub sections: Vec<StudentSection>,
}

/// A conclusion about the day or one period.
#[derive(Clone, Serialize, ToSchema)]
pub struct Conclusion {
    #[schema(value_type = StatusName)]
    pub status: Status,
    /// Arrival for present and tardy, departure for early departure.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<UtcMillis>,
    #[schema(value_type = String)]
    pub rule: Rule,
    #[schema(value_type = Detail)]
    pub detail: StatusDetail,
    /// One sentence for a person, in the school's local time.
    pub explanation: String,
    /// When it was concluded; null: it holds now and is not on record yet.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recorded: Option<UtcMillis>,
}

/// The day or one period, and how its conclusion came about.
#[derive(Serialize, ToSchema)]
pub struct WindowStatus {
    /// Null: the day.
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    pub section_title: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    pub period: Option<PeriodId>,
    pub period_name: Option<String>,
    #[serde(flatten)]
    pub conclusion: Conclusion,
    /// Every change of the conclusion on record, oldest first.
    pub history: Vec<Conclusion>,
}

#[derive(Serialize, ToSchema)]
pub struct StudentDay {
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    /// Null: nothing is concluded about the day.
    pub day: Option<WindowStatus>,
    /// In order of time; for a teacher only the own sections.
    pub periods: Vec<WindowStatus>,
}

/// A day in a list of days.
#[derive(Serialize, ToSchema)]
pub struct DayLine {
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    #[serde(flatten)]
    pub conclusion: Conclusion,
    /// All scans of the date in sum, until some ten seconds ago; empty without any. One for each school that has scanned.
    pub evidence: Vec<DayEvidence>,
}

/// The scans of one date at one school.
#[derive(Serialize, ToSchema)]
pub struct DayEvidence {
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    pub scans: i64,
    /// Scans of the directions in and out; others toggle.
    pub ins: i64,
    pub outs: i64,
    /// Scans that waited in a scanner's queue.
    pub offline: i64,
    /// Scans that came more than five minutes after they happened.
    pub late: i64,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub first_scan: UtcMillis,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub last_scan: UtcMillis,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_in: Option<UtcMillis>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_out: Option<UtcMillis>,
}

impl From<&EvidenceDay> for DayEvidence {
    fn from(day: &EvidenceDay) -> Self {
        let EvidenceDay { date: _, school, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out } = *day;
        Self { school, scans, ins, outs, offline, late, first_scan, last_scan, first_in, last_out }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DaysQuery {
    /// First date; two weeks before `to` unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub from: Option<NaiveDate>,
    /// Last date; today unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub to: Option<NaiveDate>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AsOfQuery {
    /// What was known at this instant (RFC 3339).
    #[serde(default, with = "rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub at: Option<UtcMillis>,
}

/// A student of the caller's district; anybody else is no student.
fn student(caller: &Caller, id: PersonId) -> Result<&PersonEntry, ApiError> {
    caller.directory.person(id).filter(|person| person.kind == PersonKind::Student).ok_or(ApiError::NotFound("student"))
}

fn zone_of(caller: &Caller, student: &PersonEntry) -> Tz {
    let school = caller.school_of(student).and_then(|school| caller.directory.school(school));
    school.map_or(Tz::UTC, |school| school.zone)
}

async fn audit_read(state: &ApiState, caller: &Caller, student: PersonId, what: serde_json::Value) -> Result<(), ApiError> {
    let mut tenant = caller.tenant(state).await?;
    audit::record(&mut tenant, caller.district, "student.read", Some(&student.to_string()), what).await?;
    Ok(tenant.commit().await?)
}

/// One student.
#[utoipa::path(get, path = "/api/v1/students/{id}", tag = "students", operation_id = "get_student", params(("id" = Uuid, Path)), responses(
    (status = 200, body = StudentInfo),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn get(State(state): State<ApiState>, caller: Caller, Id(id): Id<PersonId>) -> Result<Json<StudentInfo>, ApiError> {
    let entry = student(&caller, id)?;
    let date = caller.today_of(entry);
    require(rights::may_see_student(&caller.who, &caller.directory, id, date), MAY_NOT)?;
    audit_read(&state, &caller, id, json!({})).await?;
    let name = student_names(&state, &caller, &[id]).await?.pop().ok_or(ApiError::NotFound("student"))?;
    let attends = |section: &SectionId| {
        caller.directory.students_of(*section, date).any(|enrolled| enrolled == id)
            && rights::may_see_period(&caller.who, &caller.directory, Some(*section), date)
    };
    let sections = entry.sections.iter().filter(|section| attends(section)).filter_map(|id| caller.directory.section(*id));
    Ok(Json(StudentInfo {
        id,
        given: name.given,
        family: name.family,
        grade: name.grade,
        school: caller.school_of(entry),
        date,
        sections: sections.map(|section| StudentSection { id: section.id, title: section.title.clone() }).collect(),
    }))
}

/// The days of a student between two dates, newest first: those on record that the caller may see.
#[utoipa::path(get, path = "/api/v1/students/{id}/days", tag = "students", operation_id = "list_student_days",
    params(("id" = Uuid, Path), DaysQuery), responses(
    (status = 200, body = Page<DayLine>),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn days(
    State(state): State<ApiState>,
    caller: Caller,
    Id(id): Id<PersonId>,
    Params(query): Params<DaysQuery>,
) -> Result<Json<Page<DayLine>>, ApiError> {
    let entry = student(&caller, id)?;
    let (from, to) = dates::range((query.from, query.to), || caller.today_of(entry), DAYS_BEFORE, DAYS_MAX)?;
    let visible = |date: NaiveDate| rights::may_see_student(&caller.who, &caller.directory, id, date);
    require(from.iter_days().take_while(|date| *date <= to).any(visible), MAY_NOT)?;
    audit_read(&state, &caller, id, json!({"from": from, "to": to})).await?;
    let mut tenant = caller.tenant(&state).await?;
    let days = statuses::days(&mut tenant, caller.district, id, from, to).await?;
    let scanned = rollups::student_days(&mut tenant, id, from, to).await?;
    let zone = zone_of(&caller, entry);
    let line = |change: StatusChange| {
        let evidence = scanned.iter().filter(|day| day.date == change.date).map(DayEvidence::from).collect();
        DayLine { date: change.date, conclusion: recorded(change, zone), evidence }
    };
    let items = days.into_iter().filter(|change| visible(change.date)).map(line).collect();
    Ok(Json(Page { items, next: None }))
}

/// One day of a student: every status with its evidence, a sentence, and the history of its changes.
///
/// With `at`, as it was known at that instant.
#[utoipa::path(get, path = "/api/v1/students/{id}/days/{date}", tag = "students", operation_id = "get_student_day",
    params(("id" = Uuid, Path), ("date" = String, Path, format = Date), AsOfQuery), responses(
    (status = 200, body = StudentDay),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub async fn day(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, date)): Path<(String, String)>,
    Params(query): Params<AsOfQuery>,
) -> Result<Json<StudentDay>, ApiError> {
    let id: PersonId = id.parse().map_err(|_| ApiError::NotFound("student"))?;
    let date: NaiveDate = date.parse().map_err(|_| ApiError::NotFound("date"))?;
    let entry = student(&caller, id)?;
    require(rights::may_see_student(&caller.who, &caller.directory, id, date), MAY_NOT)?;
    audit_read(&state, &caller, id, json!({"date": date})).await?;
    let mut tenant = caller.tenant(&state).await?;
    let changes = statuses::history(&mut tenant, caller.district, id, date, query.at, HISTORY_MAX).await?;
    drop(tenant);
    let zone = zone_of(&caller, entry);
    let mut windows = windows_of(&caller, changes, zone);
    if query.at.is_none() && date == caller.today_of(entry) {
        // What holds now may be ahead of the record: periods that have not begun are not written yet.
        if let Some(today) = state.engine.student_day(caller.district, id).await.filter(|today| today.date == date) {
            for window in today.day.into_iter().chain(today.periods) {
                overlay(&caller, &mut windows, window, zone);
            }
        }
    }
    windows.retain(|window| rights::may_see_period(&caller.who, &caller.directory, window.section, date));
    let (day, mut periods): (Vec<_>, Vec<_>) = windows.into_iter().partition(|window| window.period.is_none());
    periods.sort_by_key(|window| (window.conclusion.detail.starts, window.section));
    Ok(Json(StudentDay { student: id, date, day: day.into_iter().next(), periods }))
}

fn recorded(change: StatusChange, zone: Tz) -> Conclusion {
    Conclusion {
        status: change.status,
        since: change.since,
        rule: change.rule,
        explanation: explain(change.status, change.rule, &change.detail, zone),
        detail: change.detail,
        recorded: Some(change.recorded),
    }
}

fn window(caller: &Caller, section: Option<SectionId>, period: Option<PeriodId>, conclusion: Conclusion) -> WindowStatus {
    let entry = section.and_then(|section| caller.directory.section(section));
    let school = entry.and_then(|entry| caller.directory.school(entry.school));
    WindowStatus {
        section,
        section_title: entry.map(|entry| entry.title.clone()),
        period,
        period_name: period.and_then(|period| Some(school?.periods.get(&period)?.name.clone())),
        conclusion,
        history: Vec::new(),
    }
}

/// One window for each section and period, with its changes in the order they were concluded.
fn windows_of(caller: &Caller, changes: Vec<StatusChange>, zone: Tz) -> Vec<WindowStatus> {
    let mut windows: Vec<WindowStatus> = Vec::new();
    for change in changes {
        let (section, period) = (change.section, change.period);
        let conclusion = recorded(change, zone);
        match windows.iter_mut().find(|window| (window.section, window.period) == (section, period)) {
            Some(known) => {
                known.history.push(conclusion.clone());
                known.conclusion = conclusion;
            }
            None => {
                let mut first = window(caller, section, period, conclusion.clone());
                first.history.push(conclusion);
                windows.push(first);
            }
        }
    }
    windows
}

/// Puts what holds now over what is on record.
fn overlay(caller: &Caller, windows: &mut Vec<WindowStatus>, now: WindowToday, zone: Tz) {
    let explanation = explain(now.status, now.rule, &now.detail, zone);
    let mut conclusion =
        Conclusion { status: now.status, since: now.since, rule: now.rule, detail: now.detail, explanation, recorded: None };
    match windows.iter_mut().find(|window| (window.section, window.period) == (now.section, now.period)) {
        Some(known) => {
            let same = (known.conclusion.status, known.conclusion.rule, known.conclusion.since)
                == (conclusion.status, conclusion.rule, conclusion.since);
            conclusion.recorded = known.conclusion.recorded.filter(|_| same);
            known.conclusion = conclusion;
        }
        None => windows.push(window(caller, now.section, now.period, conclusion)),
    }
}
