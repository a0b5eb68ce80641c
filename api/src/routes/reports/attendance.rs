//! Attendance, tardies, late arrivals and unexplained absences by school, grade, section or week.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use rollcall_analytics::facts::report::{self, Line, Report};
use rollcall_analytics::query::GroupFigures;
use rollcall_model::ids::PersonId;
use rollcall_model::reports::Totals;
use rollcall_model::reports::late::Class;
use serde::Serialize;
use utoipa::ToSchema;

use super::withheld::{self, Withheld};
use super::{By, GroupName, Heading, ReportQuery, Scope, name, question, scope, turn};
use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::problem::{ApiError, Problem};
use crate::rights::{self, Reports};
use crate::state::ApiState;

/// The figures of one group. All of them are null when the group is too small to be shown to the caller, and those of reasons and tardies when
/// too few students stand behind them. In a report by section a meeting counts as two half-days.
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
    /// Null: too few students.
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
    /// Half of the late arrivals came at most this many minutes after the bell. It is one student's, so null where the report is approximate.
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
    shown: impl Fn(GroupName, &Shown<'_>) -> T,
    hidden: impl Fn(GroupName) -> T,
) -> Result<(Heading, Vec<T>, Option<T>), ApiError> {
    if query.section.is_some() && query.by != By::Section {
        return Err(ApiError::field("section", "not_with_by", "a section is reported with `by=section`"));
    }
    let teacher = rights::reports(&caller.who) == Some(Reports::OwnSections);
    let scope = scope(state, caller, query, what).await?;
    require(!teacher || matches!(query.by, By::Section | By::Week), "a teacher's reports are by section or week")?;
    let _turn = turn(state).await?;
    let found: Report = report::collect(&mut scope.reader(state), query.by.into(), scope.groups.is_some()).await?;
    let counts = found.lines.iter().map(|(group, line)| (group.clone(), line.fewest())).collect();
    let withheld: Withheld = withheld::of(&state.store, &scope, query.by, &counts);
    let items = found.lines.iter().map(|(group, line)| match withheld.line(group) {
        true => hidden(name(caller, group)),
        false => shown(name(caller, group), &Shown::new(line, &scope)),
    });
    let items = items.collect();
    let total = found.total.as_ref().map(|line| match withheld.total() {
        true => hidden(GroupName::default()),
        false => shown(GroupName::default(), &Shown::new(line, &scope)),
    });
    Ok((scope.heading(), items, total))
}

/// A line as the caller sees it.
struct Shown<'a> {
    line: &'a Line,
    groups: Option<&'a GroupFigures>,
    totals: Totals,
    attended_half_days: u64,
    ada: Option<f64>,
    rate: Option<f64>,
}

impl<'a> Shown<'a> {
    fn new(line: &'a Line, scope: &'a Scope) -> Self {
        let mut totals = line.figures.totals();
        let (mut ada, mut rate) = (line.averages.ada, line.averages.rate);
        let groups = scope.groups.as_ref();
        if let Some(figures) = groups {
            // All turn with the same contributions, so that they are of one instant.
            let of_student = |student| line.by_student.get(&student).map_or(0, |of| of.absent_half_days << 20 | of.unknown_half_days);
            let values = line.figures.persons().map(|student| (student, of_student(student)));
            let exact = [
                ("absent", totals.absent_half_days as f64),
                ("unknown", totals.unknown_half_days as f64),
                ("ada", ada.unwrap_or_default()),
                ("rate", rate.unwrap_or_default()),
            ];
            let told = figures.settled(values, exact.map(|(of, exact)| (question(of, totals.enrolled_half_days), exact)));
            (totals.absent_half_days, totals.unknown_half_days) = (told[0] as u64, told[1] as u64);
            (ada, rate) = (ada.map(|_| told[2]), rate.map(|_| told[3]));
        }
        let attended_half_days = totals.enrolled_half_days.saturating_sub(totals.absent_half_days + totals.unknown_half_days);
        Self { line, groups, totals, attended_half_days, ada, rate }
    }

    /// A figure of reasons or tardies.
    fn few(&self, of: fn(&Totals) -> u64) -> Option<u64> {
        let Some(figures) = self.groups else { return Some(of(&self.totals)) };
        figures.total(self.line.by_student.iter().map(|(student, totals)| (*student, of(totals))))
    }

    /// A number of late arrivals, exact or by those of each student.
    fn late<I: Iterator<Item = (PersonId, u64)>>(&self, exact: u64, of_each: impl FnOnce() -> I) -> Option<u64> {
        self.groups.map_or(Some(exact), |figures| figures.total(of_each()))
    }
}

fn attendance_line(group: GroupName, shown: &Shown<'_>) -> AttendanceLine {
    let Shown { line, totals, .. } = shown;
    AttendanceLine {
        group,
        suppressed: false,
        students: Some(line.figures.students() as u64),
        days_in_session: line.days_in_session,
        enrolled_half_days: Some(totals.enrolled_half_days),
        attended_half_days: Some(shown.attended_half_days),
        absent_half_days: Some(totals.absent_half_days),
        excused_half_days: shown.few(|totals| totals.excused_half_days),
        unexcused_half_days: shown.few(|totals| totals.unexcused_half_days),
        unexplained_half_days: shown.few(|totals| totals.unexplained_half_days),
        unknown_half_days: Some(totals.unknown_half_days),
        tardies: shown.few(|totals| totals.tardies),
        adm: line.averages.adm,
        ada: shown.ada,
        rate: shown.rate,
    }
}

fn late_line(group: GroupName, shown: &Shown<'_>) -> LateLine {
    let late = &shown.line.late;
    let classes = late.classes();
    let all = || classes.iter().flat_map(|class| late.of_each(Some(class.from_min))).fold(HashMap::new(), sum_up).into_iter();
    let percentile = |percent| late.percentile(percent).filter(|_| shown.groups.is_none());
    let class = |class: &Class| LateClass {
        from_min: class.from_min,
        to_min: class.to_min,
        arrivals: shown.late(class.arrivals, || late.of_each(Some(class.from_min))),
    };
    LateLine {
        group,
        suppressed: false,
        arrivals: shown.late(late.known(), all),
        time_unknown: shown.late(late.unknown(), || late.of_each(None)),
        median_min: percentile(50),
        p90_min: percentile(90),
        classes: classes.iter().map(class).collect(),
    }
}

fn sum_up(mut sums: HashMap<PersonId, u64>, (student, arrivals): (PersonId, u64)) -> HashMap<PersonId, u64> {
    *sums.entry(student).or_default() += arrivals;
    sums
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
    let hidden = |group| AttendanceLine { group, suppressed: true, ..AttendanceLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "attendance", attendance_line, hidden).await?;
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
    let shown = |group, shown: &Shown<'_>| {
        let (tardies, attended) = (shown.few(|totals| totals.tardies), shown.attended_half_days);
        let rate = tardies.filter(|_| attended > 0).map(|tardies| 2.0 * tardies as f64 / attended as f64);
        TardyLine { group, suppressed: false, tardies, rate }
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
    let shown = |group, shown: &Shown<'_>| {
        let (absent, unexplained) = (Some(shown.totals.absent_half_days), shown.few(|totals| totals.unexplained_half_days));
        UnexplainedLine { group, suppressed: false, absent_half_days: absent, unexplained_half_days: unexplained }
    };
    let hidden = |group| UnexplainedLine { group, suppressed: true, ..UnexplainedLine::default() };
    let (heading, items, total) = lines(&state, &caller, &query, "unexplained_absences", shown, hidden).await?;
    Ok(Json(UnexplainedReport { heading, by: query.by, items, total }))
}
