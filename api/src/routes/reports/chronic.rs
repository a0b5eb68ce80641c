//! Chronic absence: tiers by group, and for those who may see students, who is chronically absent.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use rollcall_analytics::facts::report::{self, Absences, Group, StudentTotals};
use rollcall_model::ids::{PersonId, SchoolId, SectionId};
use rollcall_model::reports::{Tier, Totals};
use serde::Serialize;
use utoipa::ToSchema;

use super::{By, GroupName, Heading, ReportQuery, Scope, name, question, scope, turn, withheld};
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
    by_tier: BTreeMap<Tier, Vec<PersonId>>,
    chronic: Vec<PersonId>,
}

impl Tiers {
    fn add(&mut self, student: PersonId, totals: &Totals, chronic: bool) {
        if let Some(tier) = totals.tier() {
            self.by_tier.entry(tier).or_default().push(student);
            if chronic {
                self.chronic.push(student);
            }
        }
    }

    fn students(&self) -> u64 {
        self.by_tier.values().map(|students| students.len() as u64).sum()
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
    found.by_student.iter().for_each(|(id, student)| total.add(*id, &student.totals, is_chronic(&caller, &scope, student)));
    let (items, total) = lines(&state, &caller, &scope, query.by, groups, total);
    let chronic_students = match &scope.groups {
        Some(_) => None,
        None => Some(students(&state, &caller, &scope, &found).await?),
    };
    let unknown_share = total.students.and_then(|_| unknown_share(&scope, &found));
    Ok(Json(ChronicReport { heading: scope.heading(), by: query.by, items, total, unknown_share, chronic_students }))
}

fn unknown_share(scope: &Scope, found: &Absences) -> Option<f64> {
    let of_each = |of: fn(&Totals) -> u64| found.by_student.iter().map(move |(id, student)| (*id, of(&student.totals)));
    let enrolled: u64 = of_each(|totals| totals.enrolled_half_days).map(|(_, half_days)| half_days).sum();
    let unknown = || of_each(|totals| totals.unknown_half_days);
    let exact = unknown().map(|(_, half_days)| half_days).sum::<u64>() as f64;
    let told = scope.groups.as_ref().map_or(exact, |figures| figures.settled(unknown(), [(question("unknown", enrolled), exact)])[0]);
    (enrolled > 0).then(|| (told / enrolled as f64).min(1.0))
}

pub(super) fn is_chronic(caller: &Caller, scope: &Scope, student: &StudentTotals) -> bool {
    caller.directory.school(student.school).is_some_and(|school| student.totals.is_chronic(school.policy_on(scope.asked.to)))
}

fn groups(caller: &Caller, scope: &Scope, by: By, found: &Absences) -> BTreeMap<Group, Tiers> {
    let mut groups: BTreeMap<Group, Tiers> = BTreeMap::new();
    let mut add = |group: Group, id: PersonId, student: &StudentTotals| {
        groups.entry(group).or_default().add(id, &student.totals, is_chronic(caller, scope, student));
    };
    match by {
        By::School => found.by_school.iter().for_each(|((school, id), student)| add(Group::School(*school), *id, student)),
        By::Grade | By::Week => found.by_student.iter().for_each(|(id, student)| add(Group::Grade(student.grade.clone()), *id, student)),
        By::Section => {
            let sections = caller.directory.roster.sections.values().filter(|section| scope.asked.schools.contains(&section.school));
            let wanted = |id| scope.asked.sections.as_ref().is_none_or(|sections| sections.contains(id));
            for section in sections.filter(|section| wanted(&section.id)) {
                for id in enrolled(caller, scope, section.id) {
                    if let Some(student) = found.by_school.get(&(section.school, id)) {
                        add(Group::Section(section.id), id, student);
                    }
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

/// The lines and the total, as the caller may see them. A student's tier is as sensitive as the student, so each count is a figure by itself.
fn lines(
    state: &ApiState,
    caller: &Caller,
    scope: &Scope,
    by: By,
    groups: BTreeMap<Group, Tiers>,
    total: Tiers,
) -> (Vec<ChronicLine>, ChronicLine) {
    let Some(figures) = &scope.groups else {
        let all = |tiers: &[PersonId]| Some(tiers.len() as u64);
        let items = groups.iter().map(|(group, tiers)| line(name(caller, group), tiers, Some(tiers.students()), all));
        return (items.collect(), line(GroupName::default(), &total, Some(total.students()), all));
    };
    let counts = groups.iter().map(|(group, tiers)| (group.clone(), tiers.students())).collect();
    let withheld = withheld::of(&state.store, scope, by, &counts);
    let shown = |students: &[PersonId]| figures.students(students.iter().copied());
    let cut = |group: GroupName, tiers: &Tiers, is_withheld: bool| match is_withheld {
        true => ChronicLine { group, suppressed: true, ..ChronicLine::default() },
        false => line(group, tiers, Some(tiers.students()), shown),
    };
    let items = groups.iter().map(|(group, tiers)| cut(name(caller, group), tiers, withheld.line(group)));
    (items.collect(), cut(GroupName::default(), &total, withheld.total()))
}

/// `count` says how many there are of a list of students, or nothing.
fn line(group: GroupName, tiers: &Tiers, students: Option<u64>, count: impl Fn(&[PersonId]) -> Option<u64>) -> ChronicLine {
    // Of no more students than there are, whatever noise says.
    let count = |of: &[PersonId]| count(of).map(|told| told.min(tiers.students()));
    let of = |tier: Tier| count(tiers.by_tier.get(&tier).map_or(&[], Vec::as_slice));
    let line = ChronicLine {
        group,
        suppressed: false,
        students,
        satisfactory: of(Tier::Satisfactory),
        at_risk: of(Tier::AtRisk),
        moderate: of(Tier::Moderate),
        severe: of(Tier::Severe),
        chronic: count(&tiers.chronic),
    };
    let counts = [line.satisfactory, line.at_risk, line.moderate, line.severe, line.chronic];
    ChronicLine { suppressed: counts.contains(&None), ..line }
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
