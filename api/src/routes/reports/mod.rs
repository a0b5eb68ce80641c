//! Reports over days and weeks, from the facts of `rollcall_analytics::facts`.
//!
//! Rights: an analyst gets sums of groups of the whole district, with small groups withheld; an office its school, a
//! district's office all, a teacher the own sections. Every report can be asked as it was known at a past instant.

pub mod attendance;
pub(super) mod behind;
pub mod chronic;
pub mod explain;
pub(super) mod explained;
mod part;
pub mod tiered;
pub(super) mod withheld;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_analytics::facts::report::{Grain, Group};
use rollcall_analytics::facts::{Asked, Reader};
use rollcall_analytics::query::GroupFigures;
use rollcall_model::ids::{PersonId, SchoolId, SectionId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::audit;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::SemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{Caller, require};
use crate::dates;
use crate::problem::ApiError;
use crate::query::query_caller;
use crate::rights::{self, Reports};
use crate::state::ApiState;

/// Longest range of a report: a school year with its holidays.
const DAYS_MAX: i64 = 400;
/// Days before the last one when no range is asked for.
const DAYS_BEFORE: u64 = 30;

const MAY_NOT: &str = "this account may not see this report";

/// By what a report is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    #[default]
    School,
    Grade,
    /// Counted in meetings of the section instead of days.
    Section,
    /// Weeks from Monday on.
    Week,
}

impl From<By> for Grain {
    fn from(by: By) -> Self {
        match by {
            By::School => Self::School,
            By::Grade => Self::Grade,
            By::Section => Self::Section,
            By::Week => Self::Week,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ReportQuery {
    /// First date; 30 days before `to` unless given.
    #[param(value_type = Option<String>, format = Date)]
    pub from: Option<NaiveDate>,
    /// Last date; today unless given. A day counts once the school's last bell has rung.
    #[param(value_type = Option<String>, format = Date)]
    pub to: Option<NaiveDate>,
    /// `school` unless given.
    #[param(inline)]
    pub by: By,
    /// As it was known at this instant (RFC 3339); now unless given.
    #[serde(with = "rfc3339::option")]
    #[param(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<UtcMillis>,
    /// Only this school.
    #[param(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    /// Only this section; with `by=section`.
    #[param(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
}

/// Which part of a report a line is about; what does not name it is null.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct GroupName {
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
    pub school_name: Option<String>,
    /// OneRoster grade code; null in a report by grade: the roster gives none.
    pub grade: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    pub section_title: Option<String>,
    /// The week's Monday.
    #[schema(value_type = Option<String>, format = Date)]
    pub week: Option<NaiveDate>,
}

/// What every report says about itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Heading {
    #[schema(value_type = String, format = Date)]
    pub from: NaiveDate,
    #[schema(value_type = String, format = Date)]
    pub to: NaiveDate,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub as_of: UtcMillis,
    /// Reasons of absence, tardies, classes of late arrivals and tiers are given with a small uncertainty that hides any single student, and
    /// withheld where about a dozen students or fewer stand behind them; nothing changes for what is asked again after
    /// fewer than ten students' days were corrected. The other figures are exact but for such corrections.
    pub approximate: bool,
}

/// What a caller may have of what was asked for.
struct Scope {
    asked: Asked,
    /// For who gets aggregates only: groups that are too small are withheld, nobody is named, and this makes the figures of few.
    groups: Option<GroupFigures>,
    /// One school out of several was asked for.
    one_of_many: bool,
}

impl Scope {
    fn heading(&self) -> Heading {
        Heading { from: self.asked.from, to: self.asked.to, as_of: self.asked.as_of, approximate: self.groups.is_some() }
    }


    /// That the caller may see single students.
    fn require_students(&self) -> Result<(), ApiError> {
        require(self.groups.is_none(), "this account may not see single students")
    }

    fn reader(&self, state: &ApiState) -> Reader {
        Reader::new(state.store.clone(), self.asked.clone())
    }
}

/// Finds out what may be read, and writes the reading down in the audit.
async fn scope(state: &ApiState, caller: &Caller, query: &ReportQuery, report: &'static str) -> Result<Scope, ApiError> {
    let may = rights::reports(&caller.who).ok_or(ApiError::Forbidden(MAY_NOT))?;
    let (from, to, as_of) = range(caller, query)?;
    let directory = &caller.directory;
    if let Some(school) = query.school {
        caller.school(school)?;
        let allowed = !matches!(may, Reports::Office(Some(own)) if own != school);
        require(allowed, "this account may not see reports of this school")?;
    }
    if let Some(section) = query.section {
        let entry = caller.section(section)?;
        let today = caller.today_in(entry.school);
        let allowed = may == Reports::Aggregates || rights::may_see_section(&caller.who, directory, entry, today);
        require(allowed, "this account may not see this section")?;
    }
    let mut asked = Asked { directory: Arc::clone(directory), schools: Vec::new(), from, to, as_of, students: None, sections: None };
    match may {
        Reports::Aggregates | Reports::Office(None) => asked.schools = directory.roster.schools.keys().copied().collect(),
        Reports::Office(Some(school)) => asked.schools = vec![school],
        Reports::OwnSections => {
            let own = own_sections(caller);
            let students: HashSet<PersonId> = own.iter().flat_map(|(id, date)| directory.students_of(*id, *date)).collect();
            let schools: HashSet<SchoolId> =
                own.iter().filter_map(|(id, _)| directory.section(*id)).map(|section| section.school).collect();
            (asked.schools, asked.students) = (schools.into_iter().collect(), Some(Arc::new(students)));
            asked.sections = Some(Arc::new(own.into_iter().map(|(id, _)| id).collect()));
        }
    }
    let of_many = asked.schools.len() > 1;
    if let Some(section) = query.section {
        asked.sections = Some(Arc::new(HashSet::from([section])));
        asked.schools = directory.section(section).map(|section| section.school).into_iter().collect();
    }
    if let Some(school) = query.school {
        asked.schools.retain(|id| *id == school);
    }
    asked.schools.sort_unstable();
    let mut tenant = caller.tenant(state).await?;
    let detail = json!({"from": from, "to": to, "by": query.by, "school": query.school, "section": query.section});
    audit::record(&mut tenant, caller.district, "report.read", Some(report), detail).await?;
    tenant.commit().await?;
    let one_of_many = of_many && asked.schools.len() == 1;
    let groups = (may == Reports::Aggregates).then(|| state.queries.group_figures(&query_caller(state, caller)));
    Ok(Scope { asked, groups, one_of_many })
}

/// The sections that a teacher teaches today, with the date on which that is asked.
fn own_sections(caller: &Caller) -> Vec<(SectionId, NaiveDate)> {
    let person = caller.who.person.and_then(|person| caller.directory.person(person));
    let sections =
        person.map(|person| person.sections.as_slice()).unwrap_or_default().iter().filter_map(|id| caller.directory.section(*id));
    sections
        .map(|section| (section, caller.today_in(section.school)))
        .filter(|(section, date)| rights::may_see_section(&caller.who, &caller.directory, section, *date))
        .map(|(section, date)| (section.id, date))
        .collect()
}

fn range(caller: &Caller, query: &ReportQuery) -> Result<(NaiveDate, NaiveDate, UtcMillis), ApiError> {
    let as_of = query.as_of.unwrap_or(caller.now());
    if as_of > caller.now() {
        return Err(ApiError::field("as_of", "out_of_range", "nothing is known of the future"));
    }
    let today = || caller.directory.roster.schools.keys().map(|school| caller.today_in(*school)).max().unwrap_or_default();
    let (from, to) = dates::range((query.from, query.to), today, DAYS_BEFORE, DAYS_MAX)?;
    Ok((from, to, as_of))
}

/// By what an exact figure is told apart from others: what it is, and of how many enrolled half-days, whichever way they are asked for.
fn question(of: &str, enrolled_half_days: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (of, enrolled_half_days).hash(&mut hasher);
    hasher.finish()
}

/// Waits for one's turn to compute a report.
async fn turn(state: &ApiState) -> Result<SemaphorePermit<'_>, ApiError> {
    state.reports.acquire().await.map_err(ApiError::internal)
}

fn name(caller: &Caller, group: &Group) -> GroupName {
    let school_name = |id: SchoolId| caller.directory.school(id).map(|school| school.name.clone());
    match group {
        Group::School(id) => GroupName { school: Some(*id), school_name: school_name(*id), ..GroupName::default() },
        Group::Grade(grade) => GroupName { grade: grade.as_deref().map(str::to_owned), ..GroupName::default() },
        Group::Week(monday) => GroupName { week: Some(*monday), ..GroupName::default() },
        Group::Section(id) => {
            let section = caller.directory.section(*id);
            let school = section.map(|section| section.school);
            GroupName {
                school,
                school_name: school.and_then(school_name),
                section: Some(*id),
                section_title: section.map(|section| section.title.clone()),
                ..GroupName::default()
            }
        }
    }
}
