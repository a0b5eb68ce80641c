//! The rows behind one figure, each with the way to the student's day, its scans and its marks.

use axum::Json;
use axum::extract::State;
use chrono::NaiveDate;
use rollcall_model::ids::{PersonId, SchoolId, SectionId};
use rollcall_model::reports::day::{Absence, AttendanceDay, AttendancePeriod, DayValue, week_of};
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::behind;
use super::explained::ExplainedRow;
use super::part::{Grade, Late};
use super::{By, Heading, ReportQuery, scope, turn};
use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::page;
use crate::problem::{ApiError, Problem};
use crate::state::ApiState;

/// A figure of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    Enrolled,
    Attended,
    Absent,
    Excused,
    Unexcused,
    Unexplained,
    Unknown,
    Tardy,
}

impl Figure {
    /// What one row adds to the figure: half-days, of `tardy` days.
    fn of(self, value: &DayValue) -> u64 {
        let absence = |wanted| if value.absence == Some(wanted) { value.absent_half_days } else { 0 };
        u64::from(match self {
            Self::Enrolled => 2,
            Self::Attended => 2 - value.absent_half_days - value.unknown_half_days,
            Self::Absent => value.absent_half_days,
            Self::Excused => absence(Absence::Excused),
            Self::Unexcused => absence(Absence::Unexcused),
            Self::Unexplained => absence(Absence::Unexplained),
            Self::Unknown => value.unknown_half_days,
            Self::Tardy => u8::from(value.tardy),
        })
    }
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    #[param(inline)]
    pub figure: Figure,
    /// First date; 30 days before `to` unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub from: Option<NaiveDate>,
    /// Last date; today unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub to: Option<NaiveDate>,
    /// As it was known at this instant (RFC 3339); now unless given.
    #[serde(default, with = "rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<UtcMillis>,
    /// Only this school. Without it each student and day counts at the student's home school, as in a total.
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    /// Only this grade.
    pub grade: Option<String>,
    /// Only students whose directory entry has no grade; not together with `grade`.
    pub no_grade: Option<bool>,
    /// Only late arrivals of the class of the distribution that begins at this minute after the bell: 0, 5, 10, 15, 20, 30, 45, 60, 120,
    /// or `unknown` for those whose time is not known. With `figure=tardy`.
    pub late_from: Option<String>,
    /// Only this section, in meetings instead of days.
    #[param(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    /// Only the week of this Monday.
    #[param(value_type = Option<String>, format = Date)]
    pub week: Option<NaiveDate>,
    /// Only this student.
    #[param(value_type = Option<Uuid>)]
    pub student: Option<PersonId>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct Explained {
    #[serde(flatten)]
    pub heading: Heading,
    pub figure: Figure,
    /// The figure: half-days, of `tardy` days or meetings; the sum of `adds` over all pages.
    pub sum: u64,
    pub items: Vec<ExplainedRow>,
    /// Give it as `cursor` to get the next page; null: this was the last.
    pub next: Option<String>,
}

/// The rows behind one figure of a report, for those who may see students.
#[utoipa::path(get, path = "/api/v1/reports/explain", tag = "reports", operation_id = "explain_report", params(ExplainQuery), responses(
    (status = 200, body = Explained),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn explain(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ExplainQuery>,
) -> Result<Json<Explained>, ApiError> {
    let limit = page::limit_of(query.limit)?;
    let skip: usize = page::parsed_key(query.cursor.as_deref())?.unwrap_or(0);
    let grade = Grade::asked(query.grade.as_deref(), query.no_grade)?;
    let late = Late::asked(query.late_from.as_deref(), query.figure)?;
    let report =
        ReportQuery { from: query.from, to: query.to, by: By::School, as_of: query.as_of, school: query.school, section: query.section };
    if let Some(student) = query.student {
        caller.person(student)?;
    }
    let mut scope = scope(&state, &caller, &report, "explain").await?;
    scope.require_students()?;
    if let Some(student) = query.student {
        let own = scope.asked.students.as_ref().is_none_or(|students| students.contains(&student));
        require(own, "this account may not see this student")?;
        scope.asked.students = Some(std::sync::Arc::new([student].into()));
    }
    let _turn = turn(&state).await?;
    let mut found = Found { figure: query.figure, late, as_of: scope.asked.as_of, sum: 0, seen: 0, skip, limit, rows: Vec::new() };
    let mut reader = scope.reader(&state);
    let in_week = |date: NaiveDate| query.week.is_none_or(|monday| week_of(date) == week_of(monday));
    let one_school = scope.asked.schools.len() == 1;
    if query.section.is_some() {
        while let Some(rows) = reader.periods().await? {
            let counted = rows.into_iter().filter(|row| row.closed && in_week(row.date) && grade.has(row.grade.as_deref()));
            counted.for_each(|row| found.add_period(&row));
        }
    } else {
        while let Some(rows) = reader.days().await? {
            let counted = rows.into_iter().filter(|row| row.closed && (one_school || row.home));
            counted.filter(|row| in_week(row.date) && grade.has(row.grade.as_deref())).for_each(|row| found.add_day(&row));
        }
    }
    behind::fill(&state, &caller, scope.asked.as_of, &mut found.rows).await?;
    let next = (found.seen > skip.saturating_add(limit)).then(|| page::cursor(&(skip + limit).to_string()));
    Ok(Json(Explained { heading: scope.heading(), figure: query.figure, sum: found.sum, items: found.rows, next }))
}

/// Rows that add something to the figure; those of one page are kept. The order of the facts is the same for the same
/// `as_of`, so a page is named by its place in it.
struct Found {
    figure: Figure,
    late: Late,
    as_of: UtcMillis,
    sum: u64,
    seen: usize,
    skip: usize,
    limit: usize,
    rows: Vec<ExplainedRow>,
}

impl Found {
    /// What a row adds, and whether it stands on the page; `None`: nothing.
    fn count(&mut self, value: &DayValue, late_min: Option<u32>) -> Option<(u64, bool)> {
        let adds = self.figure.of(value);
        if adds == 0 || !self.late.has(late_min) {
            return None;
        }
        self.sum += adds;
        self.seen += 1;
        Some((adds, self.seen > self.skip && self.rows.len() < self.limit))
    }

    fn add_day(&mut self, row: &AttendanceDay) {
        if let Some((adds, true)) = self.count(&row.value, row.late_min) {
            self.rows.push(ExplainedRow::of_day(row, adds, self.as_of));
        }
    }

    fn add_period(&mut self, row: &AttendancePeriod) {
        if let Some((adds, true)) = self.count(&row.value, row.late_min) {
            self.rows.push(ExplainedRow::of_meeting(row, adds, self.as_of));
        }
    }
}
