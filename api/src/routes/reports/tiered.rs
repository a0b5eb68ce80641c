//! The students behind one count of the report of chronic absence, each with the half-days by which the tier is reckoned.

use axum::Json;
use axum::extract::State;
use chrono::NaiveDate;
use rollcall_analytics::facts::report::{self, Absences};
use rollcall_model::ids::{SchoolId, SectionId};
use rollcall_model::reports::Tier;
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::chronic::{self, ChronicStudent, Counted};
use super::part::Grade;
use super::{By, Heading, ReportQuery, Scope, scope, turn};
use crate::caller::Caller;
use crate::extract::Params;
use crate::page;
use crate::problem::{ApiError, Problem};
use crate::state::ApiState;

/// A count of a line of the report of chronic absence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierCount {
    Satisfactory,
    AtRisk,
    Moderate,
    Severe,
    Chronic,
}

impl TierCount {
    fn has(self, tier: Tier, is_chronic: bool) -> bool {
        match self {
            Self::Satisfactory => tier == Tier::Satisfactory,
            Self::AtRisk => tier == Tier::AtRisk,
            Self::Moderate => tier == Tier::Moderate,
            Self::Severe => tier == Tier::Severe,
            Self::Chronic => is_chronic,
        }
    }
}

#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TierQuery {
    /// Which count of the line; all of its students unless given.
    #[param(inline)]
    pub tier: Option<TierCount>,
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
    /// Only the days at this school, as in its line of a report by school. Without it every student counts once, as in a total.
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    /// Only this grade.
    pub grade: Option<String>,
    /// Only students whose directory entry has no grade; not together with `grade`.
    pub no_grade: Option<bool>,
    /// Only who is in this section on the last date, by the days at its school.
    #[param(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Most items of the page, 1 to 1000; 200 unless given.
    pub limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub struct TierStudents {
    #[serde(flatten)]
    pub heading: Heading,
    pub tier: Option<TierCount>,
    /// Students on all pages: the count of the report.
    pub count: u64,
    /// The highest share of absence first.
    pub items: Vec<ChronicStudent>,
    /// Give it as `cursor` to get the next page; null: this was the last.
    pub next: Option<String>,
}

/// The students behind one count of the report of chronic absence, for those who may see students. `/reports/explain` with
/// `figure=absent` and the student has the days of each.
#[utoipa::path(get, path = "/api/v1/reports/chronic-absence/students", tag = "reports", operation_id = "list_chronic_absence_students",
    params(TierQuery), responses(
    (status = 200, body = TierStudents),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn students(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<TierQuery>,
) -> Result<Json<TierStudents>, ApiError> {
    let limit = page::limit_of(query.limit)?;
    let skip: usize = page::parsed_key(query.cursor.as_deref())?.unwrap_or(0);
    let grade = Grade::asked(query.grade.as_deref(), query.no_grade)?;
    let report =
        ReportQuery { from: query.from, to: query.to, by: By::School, as_of: query.as_of, school: query.school, section: query.section };
    let scope = scope(&state, &caller, &report, "chronic_absence_students").await?;
    scope.require_students()?;
    let found = {
        let _turn = turn(&state).await?;
        report::absences(&mut scope.reader(&state)).await?
    };
    let mut counted = counted(&caller, &scope, &query, &grade, &found);
    chronic::worst_first(&mut counted);
    let page = counted.get(skip..).unwrap_or_default();
    let items = chronic::named(&state, &caller, &page[..page.len().min(limit)]).await?;
    let next = (page.len() > limit).then(|| page::cursor(&(skip + limit).to_string()));
    Ok(Json(TierStudents { heading: scope.heading(), tier: query.tier, count: counted.len() as u64, items, next }))
}

/// One school is in the scope when a school or section is asked for, and then a student's days are those at that school: so the students of
/// any line are among those that the scope counts once.
fn counted<'a>(caller: &Caller, scope: &Scope, query: &TierQuery, grade: &Grade, found: &'a Absences) -> Vec<Counted<'a>> {
    let members = query.section.map(|section| chronic::enrolled(caller, scope, section));
    let is_wanted = |(id, student): &Counted<'a>| {
        let in_tier = |tier| query.tier.is_none_or(|wanted| wanted.has(tier, chronic::is_chronic(caller, scope, student)));
        let is_member = members.as_ref().is_none_or(|members| members.contains(id));
        is_member && grade.has(student.grade.as_deref()) && student.totals.tier().is_some_and(in_tier)
    };
    found.by_student.iter().filter(is_wanted).collect()
}
