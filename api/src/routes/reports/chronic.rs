//! Chronic absence: tiers by group, and for those who may see students, who is chronically absent.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use rollcall_analytics::facts::report::{self, Absences, Group, StudentTotals};
use rollcall_model::ids::{PersonId, SchoolId, SectionId};
use rollcall_model::reports::suppress::{N_MIN, Totals as Shown, withhold};
use rollcall_model::reports::{Tier, Totals};
use serde::Serialize;
use utoipa::ToSchema;

use super::withheld::Table;
use super::{By, GroupName, Heading, ReportQuery, Scope, name, scope, turn};
use crate::caller::{Caller, require};
use crate::extract::Params;
use crate::problem::{ApiError, Problem};
use crate::rights::{self, Reports};
use crate::routes::people::student_names;
use crate::state::ApiState;

/// Most students that one answer names, those with the highest share of absence; `chronic` counts all.
const STUDENTS_MAX: usize = 1_000;

/// Students by the share of their enrolled days on which they were absent: below 5 %, 10 %, 20 %, and from 20 % on.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct ChronicLine {
    #[serde(flatten)]
    pub group: GroupName,
    /// Some figures are withheld, because fewer than 10 students stand behind them or to protect such ones.
    pub suppressed: bool,
    /// Students with an enrolled day.
    pub students: Option<u64>,
    pub satisfactory: Option<u64>,
    pub at_risk: Option<u64>,
    pub moderate: Option<u64>,
    pub severe: Option<u64>,
    /// Absent on at least a tenth of the enrolled days, with as many enrolled days as the policy asks for.
    pub chronic: Option<u64>,
}

#[derive(Clone, Serialize, ToSchema)]
pub struct ChronicStudent {
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    pub given: String,
    pub family: String,
    pub grade: Option<String>,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    pub enrolled_half_days: u64,
    pub absent_half_days: u64,
    pub excused_half_days: u64,
    pub unknown_half_days: u64,
    /// `satisfactory`, `at_risk`, `moderate` or `severe`; of the chronically absent one of the last two.
    pub tier: String,
}

#[derive(Serialize, ToSchema)]
pub struct ChronicReport {
    #[serde(flatten)]
    pub heading: Heading,
    pub by: By,
    pub items: Vec<ChronicLine>,
    /// Each student once, however many schools there were.
    pub total: ChronicLine,
    /// The share of the students' days of which nothing is known, 0 to 1: absences that may be among them do not count above. Null:
    /// withheld, or there were no days.
    pub unknown_share: Option<f64>,
    /// The chronically absent, the highest share first, at most 1000; null for those who may not see students.
    pub chronic_students: Option<Vec<ChronicStudent>>,
}

/// Students of one group by tier.
#[derive(Clone, Default)]
struct Tiers {
    by_tier: BTreeMap<Tier, u64>,
    chronic: u64,
}

impl Tiers {
    fn add(&mut self, totals: &Totals, chronic: bool) {
        if let Some(tier) = totals.tier() {
            *self.by_tier.entry(tier).or_default() += 1;
            self.chronic += u64::from(chronic);
        }
    }

    fn students(&self) -> u64 {
        self.by_tier.values().sum()
    }
}

/// Chronic absence by tier. By school and by section each school judges its own days; else every student counts once in the district.
/// `/reports/chronic-absence/students` names the students behind each count.
#[utoipa::path(get, path = "/api/v1/reports/chronic-absence", tag = "reports", operation_id = "report_chronic_absence",
    params(ReportQuery), responses(
    (status = 200, body = ChronicReport),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub async fn chronic_absence(
    State(state): State<ApiState>,
    caller: Caller,
    Params(query): Params<ReportQuery>,
) -> Result<Json<ChronicReport>, ApiError> {
    if query.by == By::Week || (query.section.is_some() && query.by != By::Section) {
        return Err(ApiError::field("by", "not_for_this_report", "chronic absence is reported by school, grade or section"));
    }
    let teacher = rights::reports(&caller.who) == Some(Reports::OwnSections);
    let scope = scope(&state, &caller, &query, "chronic_absence").await?;
    require(!teacher || query.by == By::Section, "a teacher's reports of chronic absence are by section")?;
    let found = {
        let _turn = turn(&state).await?;
        report::absences(&mut scope.reader(&state)).await?
    };
    let groups = groups(&caller, &scope, query.by, &found);
    let mut total = Tiers::default();
    found.by_student.values().for_each(|student| total.add(&student.totals, is_chronic(&caller, &scope, student)));
    let (items, total) = lines(&state, &caller, &scope, query.by, groups, total);
    let chronic_students = match scope.aggregates {
        true => None,
        false => Some(students(&state, &caller, &scope, &found).await?),
    };
    let unknown_share = total.students.and_then(|_| unknown_share(&found));
    Ok(Json(ChronicReport { heading: scope.heading(), by: query.by, items, total, unknown_share, chronic_students }))
}

fn unknown_share(found: &Absences) -> Option<f64> {
    let totals = || found.by_student.values().map(|student| &student.totals);
    let enrolled: u64 = totals().map(|totals| totals.enrolled_half_days).sum();
    let unknown: u64 = totals().map(|totals| totals.unknown_half_days).sum();
    (enrolled > 0).then(|| unknown as f64 / enrolled as f64)
}

pub(super) fn is_chronic(caller: &Caller, scope: &Scope, student: &StudentTotals) -> bool {
    caller.directory.school(student.school).is_some_and(|school| student.totals.is_chronic(school.policy_on(scope.asked.to)))
}

fn groups(caller: &Caller, scope: &Scope, by: By, found: &Absences) -> BTreeMap<Group, Tiers> {
    let mut groups: BTreeMap<Group, Tiers> = BTreeMap::new();
    let mut add =
        |group: Group, student: &StudentTotals| groups.entry(group).or_default().add(&student.totals, is_chronic(caller, scope, student));
    match by {
        By::School => found.by_school.iter().for_each(|((school, _), student)| add(Group::School(*school), student)),
        By::Grade | By::Week => found.by_student.values().for_each(|student| add(Group::Grade(student.grade.clone()), student)),
        By::Section => {
            let sections = caller.directory.roster.sections.values().filter(|section| scope.asked.schools.contains(&section.school));
            let wanted = |id| scope.asked.sections.as_ref().is_none_or(|sections| sections.contains(id));
            for section in sections.filter(|section| wanted(&section.id)) {
                for student in
                    enrolled(caller, scope, section.id).iter().filter_map(|student| found.by_school.get(&(section.school, *student)))
                {
                    add(Group::Section(section.id), student);
                }
            }
        }
    }
    groups
}

/// The students of a section on the last date.
pub(super) fn enrolled(caller: &Caller, scope: &Scope, section: SectionId) -> BTreeSet<PersonId> {
    caller.directory.students_of(section, scope.asked.to).collect()
}

/// The lines and the total, cut to what the caller may see. A student's tier is as sensitive as the student, so each cell
/// of the table of groups and tiers is a group of its own.
fn lines(
    state: &ApiState,
    caller: &Caller,
    scope: &Scope,
    by: By,
    groups: BTreeMap<Group, Tiers>,
    total: Tiers,
) -> (Vec<ChronicLine>, ChronicLine) {
    if !scope.aggregates {
        let items = groups.iter().map(|(group, tiers)| line(name(caller, group), tiers, None::<fn(Tier) -> bool>, true));
        return (items.collect(), line(GroupName::default(), &total, None::<fn(Tier) -> bool>, true));
    }
    let table = Table::of(&state.store, &scope.asked);
    let hides = |group: &Group| matches!(group, Group::School(school) if table.hides(*school));
    let everything = scope.one_of_many && scope.asked.schools.iter().any(|school| table.hides(*school));
    let cells = |tiers: &Tiers| Tier::ALL.map(|tier| (tier, tiers.by_tier.get(&tier).copied().unwrap_or(0)));
    let counts = groups.iter().flat_map(|(group, tiers)| cells(tiers).map(|(tier, n)| ((group.clone(), tier), n))).collect();
    let hidden = withhold(&counts, N_MIN, if by == By::Section { Shown::Rows } else { Shown::RowsAndColumns });
    let one_row = cells(&total).into_iter().map(|(tier, n)| (((), tier), n)).collect();
    let of_total = withhold(&one_row, N_MIN, Shown::Rows);
    let items = groups.iter().map(|(group, tiers)| {
        let gone = everything || hides(group);
        let shown = |tier| !gone && !hidden.cells.contains(&(group.clone(), tier));
        line(name(caller, group), tiers, Some(shown), !gone && !hidden.rows.contains(group))
    });
    let shown = |tier| !everything && !of_total.cells.contains(&((), tier)) && !hidden.columns.contains(&tier);
    (items.collect(), line(GroupName::default(), &total, Some(shown), !everything && of_total.rows.is_empty()))
}

/// `withheld` says which tiers are shown to somebody who has no right to single students; `None`: all is shown.
fn line(group: GroupName, tiers: &Tiers, withheld: Option<impl Fn(Tier) -> bool>, students_shown: bool) -> ChronicLine {
    let count = |tier: Tier| tiers.by_tier.get(&tier).copied().unwrap_or(0);
    let shown = |tier: Tier| withheld.as_ref().is_none_or(|shown| shown(tier));
    let of = |tier: Tier| shown(tier).then(|| count(tier));
    let all = Tier::ALL.iter().all(|tier| shown(*tier)) && students_shown;
    // With a minimum of enrolled days it is not the sum of two tiers, and could be subtracted from it.
    let aside = [tiers.chronic, tiers.students() - tiers.chronic, count(Tier::Moderate) + count(Tier::Severe) - tiers.chronic];
    let safe = withheld.is_none() || aside.iter().all(|n| !(1..N_MIN).contains(n));
    ChronicLine {
        group,
        suppressed: !all,
        students: students_shown.then(|| tiers.students()),
        satisfactory: of(Tier::Satisfactory),
        at_risk: of(Tier::AtRisk),
        moderate: of(Tier::Moderate),
        severe: of(Tier::Severe),
        chronic: (all && safe).then_some(tiers.chronic),
    }
}

async fn students(state: &ApiState, caller: &Caller, scope: &Scope, found: &Absences) -> Result<Vec<ChronicStudent>, ApiError> {
    let mut chronic: Vec<Counted<'_>> = found.by_student.iter().filter(|(_, student)| is_chronic(caller, scope, student)).collect();
    worst_first(&mut chronic);
    chronic.truncate(STUDENTS_MAX);
    named(state, caller, &chronic).await
}

/// A student that is counted, and the days by which.
pub(super) type Counted<'a> = (&'a PersonId, &'a StudentTotals);

/// Puts the highest share of absence first: the order of fractions, compared crosswise.
pub(super) fn worst_first(students: &mut [Counted<'_>]) {
    students.sort_unstable_by(|(a, x), (b, y)| {
        let (left, right) =
            (y.totals.absent_half_days * x.totals.enrolled_half_days, x.totals.absent_half_days * y.totals.enrolled_half_days);
        left.cmp(&right).then_with(|| a.cmp(b))
    });
}

/// The students with their names, in the same order.
pub(super) async fn named(state: &ApiState, caller: &Caller, students: &[Counted<'_>]) -> Result<Vec<ChronicStudent>, ApiError> {
    let ids: Vec<PersonId> = students.iter().map(|(id, _)| **id).collect();
    let mut names: BTreeMap<PersonId, _> = student_names(state, caller, &ids).await?.into_iter().map(|name| (name.id, name)).collect();
    let student = |(id, student): &Counted<'_>| {
        let name = names.remove(id)?;
        Some(ChronicStudent {
            student: **id,
            given: name.given,
            family: name.family,
            grade: name.grade,
            school: student.school,
            enrolled_half_days: student.totals.enrolled_half_days,
            absent_half_days: student.totals.absent_half_days,
            excused_half_days: student.totals.excused_half_days,
            unknown_half_days: student.totals.unknown_half_days,
            tier: student.totals.tier().map_or("", Tier::as_str).to_owned(),
        })
    };
    Ok(students.iter().filter_map(student).collect())
}
