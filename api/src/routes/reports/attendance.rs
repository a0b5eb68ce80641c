//! Attendance, tardies, late arrivals and unexplained absences by school, grade, section or week.

use axum::Json;
use axum::extract::State;
use rollcall_analytics::facts::report::{self, Line, Report};
use rollcall_model::reports::suppress::{N_MIN, Totals, withhold};
use serde::Serialize;
use utoipa::ToSchema;

use super::withheld::{self, Withheld};
use super::{By, GroupName, Heading, ReportQuery, Scope, name, scope, turn};
use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::problem::{ApiError, Problem};
use crate::rights::{self, Reports};
use crate::state::ApiState;

/// The figures of one group. All of them are null when the group is too small to be shown to the caller. Half-days are
/// exact; in a report by section a meeting counts as two.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct AttendanceLine {
    #[serde(flatten)]
    pub group: GroupName,
    /// The group has fewer than 10 students, or is withheld to protect one that has.
    pub suppressed: bool,
    /// Students with at least one counted day.
    pub students: Option<u64>,
    /// Null also when the schools of the group were in session on different numbers of days.
    pub days_in_session: Option<u32>,
    pub enrolled_half_days: Option<u64>,
    /// Enrolled, less absent, less unknown.
    pub attended_half_days: Option<u64>,
    /// Excused, unexcused and unexplained together.
    pub absent_half_days: Option<u64>,
    pub excused_half_days: Option<u64>,
    pub unexcused_half_days: Option<u64>,
    pub unexplained_half_days: Option<u64>,
    /// Neither attended nor absent: the evidence is missing.
    pub unknown_half_days: Option<u64>,
    /// Days (by section: meetings) on which students came late.
    pub tardies: Option<u64>,
    /// Average daily membership: enrolled days by days in session, added up over schools.
    pub adm: Option<f64>,
    /// Average daily attendance.
    pub ada: Option<f64>,
    /// ADA by ADM; null when nobody was enrolled.
    pub rate: Option<f64>,
}

/// A report. `total` counts each student once, at the student's home school; by section there is none, because students
/// are in many.
#[derive(Serialize, ToSchema)]
pub struct AttendanceReport {
    #[serde(flatten)]
    pub heading: Heading,
    pub by: By,
    pub items: Vec<AttendanceLine>,
    pub total: Option<AttendanceLine>,
}

#[derive(Clone, Default, Serialize, ToSchema)]
pub struct TardyLine {
    #[serde(flatten)]
    pub group: GroupName,
    pub suppressed: bool,
    pub tardies: Option<u64>,
    /// Tardies by attended days, of a section by attended meetings; null when there are none.
    pub rate: Option<f64>,
}

#[derive(Serialize, ToSchema)]
pub struct TardyReport {
    #[serde(flatten)]
    pub heading: Heading,
    pub by: By,
    pub items: Vec<TardyLine>,
    pub total: Option<TardyLine>,
}

#[derive(Clone, Default, Serialize, ToSchema)]
pub struct UnexplainedLine {
    #[serde(flatten)]
    pub group: GroupName,
    pub suppressed: bool,
    pub absent_half_days: Option<u64>,
    /// Of these, nobody has given a reason and the office has not decided.
    pub unexplained_half_days: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct UnexplainedReport {
    #[serde(flatten)]
    pub heading: Heading,
    pub by: By,
    pub items: Vec<UnexplainedLine>,
    pub total: Option<UnexplainedLine>,
}

/// Arrivals from `from_min` to before `to_min` minutes after the bell.
#[derive(Clone, Serialize, ToSchema)]
pub struct LateClass {
    pub from_min: u32,
    /// Null: no end.
    pub to_min: Option<u32>,
    /// Null: fewer than 10 students, or withheld to protect such a class.
    pub arrivals: Option<u64>,
}

#[derive(Clone, Default, Serialize, ToSchema)]
pub struct LateLine {
    #[serde(flatten)]
    pub group: GroupName,
    pub suppressed: bool,
    pub classes: Vec<LateClass>,
    /// Late arrivals with a known time.
    pub arrivals: Option<u64>,
    /// Somebody stated that the student came late, but not when, and no scan tells.
    pub time_unknown: Option<u64>,
    /// Half of the late arrivals came at most this many minutes after the bell.
    pub median_min: Option<u32>,
    /// Nine of ten.
    pub p90_min: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub struct LateReport {
    #[serde(flatten)]
    pub heading: Heading,
    pub by: By,
    pub items: Vec<LateLine>,
    pub total: Option<LateLine>,
}

/// Reads a report and cuts it to what the caller may see, line by line.
async fn lines<T>(
    state: &ApiState,
    caller: &Caller,
    query: &ReportQuery,
    what: &'static str,
    shown: impl Fn(GroupName, &Line, &Scope) -> T,
    hidden: impl Fn(GroupName) -> T,
) -> Result<(Heading, Vec<T>, Option<T>), ApiError> {
    if query.section.is_some() && query.by != By::Section {
        return Err(ApiError::field("section", "not_with_by", "a section is reported with `by=section`"));
    }
    let teacher = rights::reports(&caller.who) == Some(Reports::OwnSections);
    let scope = scope(state, caller, query, what).await?;
    require(!teacher || matches!(query.by, By::Section | By::Week), "a teacher's reports are by section or week")?;
    let _turn = turn(state).await?;
    let found: Report = report::collect(&mut scope.reader(state), query.by.into()).await?;
    let withheld: Withheld = withheld::of(&state.store, &scope, query.by, &found);
    let items = found.lines.iter().map(|(group, line)| match withheld.line(group) {
        true => hidden(name(caller, group)),
        false => shown(name(caller, group), line, &scope),
    });
    let items = items.collect();
    let total = found.total.as_ref().map(|line| match withheld.total() {
        true => hidden(GroupName::default()),
        false => shown(GroupName::default(), line, &scope),
    });
    Ok((scope.heading(), items, total))
}

fn attendance_line(group: GroupName, line: &Line) -> AttendanceLine {
    let totals = line.figures.totals();
    AttendanceLine {
        group,
        suppressed: false,
        students: Some(line.figures.students() as u64),
        days_in_session: line.days_in_session,
        enrolled_half_days: Some(totals.enrolled_half_days),
        attended_half_days: Some(totals.attended_half_days()),
        absent_half_days: Some(totals.absent_half_days),
        excused_half_days: Some(totals.excused_half_days),
        unexcused_half_days: Some(totals.unexcused_half_days),
        unexplained_half_days: Some(totals.unexplained_half_days),
        unknown_half_days: Some(totals.unknown_half_days),
        tardies: Some(totals.tardies),
        adm: line.averages.adm,
        ada: line.averages.ada,
        rate: line.averages.rate,
    }
}

fn late_line(group: GroupName, line: &Line, scope: &Scope) -> LateLine {
    let classes = line.late.classes();
    let counts = classes.iter().map(|class| (((), class.from_min), class.students as u64)).collect();
    let hidden = withhold(&counts, N_MIN, Totals::Rows);
    let shown = |from_min: u32| !scope.aggregates || !hidden.cells.contains(&((), from_min));
    let known = Some(line.late.known()).filter(|_| !scope.aggregates || hidden.rows.is_empty());
    let percentile = |percent| line.late.percentile(percent).filter(|_| !scope.aggregates || hidden.cells.is_empty());
    LateLine {
        group,
        suppressed: false,
        arrivals: known,
        time_unknown: known.map(|_| line.late.unknown()),
        median_min: percentile(50),
        p90_min: percentile(90),
        classes: classes
            .iter()
            .map(|class| LateClass {
                from_min: class.from_min,
                to_min: class.to_min,
                arrivals: shown(class.from_min).then_some(class.arrivals),
            })
            .collect(),
    }
}

/// Membership, attendance and absence: ADM, ADA and rate, with the exact half-days that they come from.
#[utoipa::path(get, path = "/api/v1/reports/attendance", tag = "reports", operation_id = "report_attendance", params(ReportQuery), responses(
    (status = 200, body = AttendanceReport),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn attendance(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Json<AttendanceReport>, ApiError> {
    let shown = |group, line: &Line, _: &Scope| attendance_line(group, line);
    let hidden = |group| AttendanceLine { group, suppressed: true, ..AttendanceLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "attendance", shown, hidden).await?;
    Ok(Json(AttendanceReport { heading, by: query.by, items, total }))
}

/// How often students came late.
#[utoipa::path(get, path = "/api/v1/reports/tardies", tag = "reports", operation_id = "report_tardies", params(ReportQuery), responses(
    (status = 200, body = TardyReport),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn tardies(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Json<TardyReport>, ApiError> {
    let shown = |group, line: &Line, _: &Scope| {
        let totals = line.figures.totals();
        let attended = totals.attended_half_days();
        let rate = (attended > 0).then(|| 2.0 * totals.tardies as f64 / attended as f64);
        TardyLine { group, suppressed: false, tardies: Some(totals.tardies), rate }
    };
    let hidden = |group| TardyLine { group, suppressed: true, ..TardyLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "tardies", shown, hidden).await?;
    Ok(Json(TardyReport { heading, by: query.by, items, total }))
}

/// How late those came who came late.
#[utoipa::path(get, path = "/api/v1/reports/late-arrivals", tag = "reports", operation_id = "report_late_arrivals", params(ReportQuery), responses(
    (status = 200, body = LateReport),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn late_arrivals(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Json<LateReport>, ApiError> {
    let hidden = |group| LateLine { group, suppressed: true, ..LateLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "late_arrivals", late_line, hidden).await?;
    Ok(Json(LateReport { heading, by: query.by, items, total }))
}

/// Absences of which nobody has said why. `/reports/explain?figure=unexplained` names them one by one.
#[utoipa::path(get, path = "/api/v1/reports/unexplained-absences", tag = "reports", operation_id = "report_unexplained_absences",
    params(ReportQuery), responses(
    (status = 200, body = UnexplainedReport),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn unexplained(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Json<UnexplainedReport>, ApiError> {
    let shown = |group, line: &Line, _: &Scope| {
        let totals = line.figures.totals();
        let (absent, unexplained) = (Some(totals.absent_half_days), Some(totals.unexplained_half_days));
        UnexplainedLine { group, suppressed: false, absent_half_days: absent, unexplained_half_days: unexplained }
    };
    let hidden = |group| UnexplainedLine { group, suppressed: true, ..UnexplainedLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "unexplained_absences", shown, hidden).await?;
    Ok(Json(UnexplainedReport { heading, by: query.by, items, total }))
}
