//! OneRoster 1.1 and 1.2 CSV packages, bulk mode, read into a [`Roster`].
//!
//! Read are manifest, orgs, academicSessions, courses, classes, users, roles (1.2) and enrollments; everything else a
//! package may hold (demographics, results, resources, user profiles) is left alone, and passwords are never read.
//! Every file is streamed once, in the order in which later ones refer to earlier ones.
//!
//! Promises: all problems of all files are collected before anything is refused, and a package with one error yields
//! no roster. Dates are as OneRoster words them: the first day is in, the last day is out.

mod columns;
mod index;
mod manifest;
mod people;

use std::collections::HashMap;

use chrono::NaiveDate;
use chrono_tz::Tz;

use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::roster::{Enrolment, EnrolmentRole, Roster, School, Section, Timetable};
use crate::span;
use crate::table::{Row, scan};
use columns::{classes, courses, enrollments, orgs, sessions};
use index::Index;
use manifest::{Manifest, Version};
use people::People;

pub(crate) const CLASSES: &str = "classes.csv";
const ORGS: &str = "orgs.csv";
const SESSIONS: &str = "academicSessions.csv";
const COURSES: &str = "courses.csv";
const USERS: &str = "users.csv";
const ROLES: &str = "roles.csv";
const ENROLLMENTS: &str = "enrollments.csv";

/// Deepest nesting of organisations that is followed from a department to its school.
const ORG_DEPTH_MAX: usize = 16;

/// Reads a package. Whether the result may be used is told by `problems`: not when it holds an error.
/// `zone` is given to every school; the timetable may say otherwise.
pub(crate) fn read(package: &mut Package, zone: Tz, problems: &mut Problems) -> Result<Option<Roster>, PackageError> {
    let Some(manifest) = Manifest::read(package, problems)? else { return Ok(None) };
    let mut orgs = Orgs::read(package, &manifest, zone, problems)?;
    let terms = Terms::read(package, &manifest, problems)?;
    let courses = Courses::read(package, &manifest, problems)?;
    let sections = Sections::read(package, &manifest, &mut orgs, &terms, &courses, problems)?;
    let mut people = People::read(package, &manifest, &orgs, problems)?;
    let enrolments = read_enrolments(package, &manifest, &orgs, &sections, &mut people, problems)?;
    let (people, memberships, guardians, enrolments) = people.finish(enrolments, problems);
    Ok(Some(Roster {
        version: manifest.version.as_str(),
        schools: orgs.schools,
        people,
        memberships,
        guardians,
        sections: sections.sections,
        enrolments,
        timetable: Timetable::default(),
    }))
}

/// The interval of two date columns; `None` (reported) when it is empty.
fn interval(row: &Row<'_>, starts_at: usize, ends_at: usize, problems: &mut Problems) -> Option<span::Span> {
    let (starts, ends) = (row.date(starts_at), row.date(ends_at));
    match (starts, ends) {
        (Some(from), Some(to)) if from > to => {
            problems.error(row.place(ends_at), Code::EmptyInterval, format!("ends {to}, before it starts ({from})"));
            None
        }
        (Some(from), Some(to)) if from == to => {
            problems.warn(
                row.place(ends_at),
                Code::EmptyInterval,
                format!("starts and ends on {to}: the end is the first day out, so no day is left; left out"),
            );
            None
        }
        _ => Some((starts, ends)),
    }
}

/// Organisations: which are schools, and the school above each department.
struct Orgs {
    index: Index,
    schools: Vec<School>,
    /// By position of the organisation: its school.
    school_of: Vec<Option<usize>>,
    all: Vec<Org>,
    parents: Vec<Option<usize>>,
    /// Names given to schools, and to which.
    names: HashMap<String, String>,
    zone: Tz,
}

struct Org {
    source_id: String,
    name: String,
    kind: String,
    parent: Option<(String, u64)>,
}

impl Orgs {
    fn read(package: &mut Package, manifest: &Manifest, zone: Tz, problems: &mut Problems) -> Result<Self, PackageError> {
        let mut index = Index::new(ORGS);
        let mut all: Vec<Org> = Vec::new();
        if manifest.has("orgs") {
            index.present = scan(package, ORGS, orgs::COLUMNS, problems, |row, problems| {
                if index.admit(row, all.len(), problems) {
                    all.push(Org {
                        source_id: row.text(columns::SOURCED_ID).to_owned(),
                        name: row.text(orgs::NAME).to_owned(),
                        kind: row.choice(orgs::TYPE).to_owned(),
                        parent: row.owned(orgs::PARENT).map(|id| (id, row.place(orgs::PARENT).line)),
                    });
                }
            })?;
        }
        let parents: Vec<Option<usize>> = all
            .iter()
            .map(|org| {
                let (id, line) = org.parent.as_ref()?;
                index.find(id, Place { file: ORGS, line: *line, column: "parentSourcedId" }, false, problems)
            })
            .collect();
        let mut schools = Vec::new();
        let mut names: HashMap<String, String> = HashMap::new();
        let mut school_at = vec![None; all.len()];
        for (at, org) in all.iter().enumerate().filter(|(_, org)| org.kind == "school") {
            school_at[at] = Some(schools.len());
            let district = ancestor(at, &parents, |a| all[a].kind == "district").map(|a| all[a].name.clone());
            schools.push(School { source_id: org.source_id.clone(), name: unique_name(org, &mut names, problems), district, zone });
        }
        let school_of = (0..all.len()).map(|at| ancestor(at, &parents, |a| school_at[a].is_some()).and_then(|a| school_at[a])).collect();
        Ok(Self { index, schools, school_of, all, parents, names, zone })
    }

    /// The school of a class: what its organisation is or belongs to.
    fn school(&mut self, id: &str, place: Place<'_>, problems: &mut Problems) -> Option<usize> {
        let org = self.index.find(id, place, true, problems)?;
        if self.school_of[org].is_none() && self.all[org].kind == "department" {
            self.take_as_school(org, place, problems);
        }
        let school = self.school_of[org];
        if school.is_none() {
            problems.error(place, Code::NotASchool, format!("{} is neither a school nor below one", quoted(id)));
        }
        school
    }

    /// A department in which classes meet although the package has no school above it: it is the nearest to a school
    /// that the exporting system knows, and without one nobody of the district could be imported.
    fn take_as_school(&mut self, org: usize, place: Place<'_>, problems: &mut Problems) {
        let department = &self.all[org];
        let message =
            format!("department {} stands below no school of the package; it was taken as a school", quoted(&department.source_id));
        problems.warn(place, Code::NotASchool, message);
        let district = ancestor(org, &self.parents, |a| self.all[a].kind == "district").map(|a| self.all[a].name.clone());
        let name = unique_name(department, &mut self.names, problems);
        self.school_of[org] = Some(self.schools.len());
        self.schools.push(School { source_id: department.source_id.clone(), name, district, zone: self.zone });
    }
}

/// The first of `at` and its parents that fits.
fn ancestor(at: usize, parents: &[Option<usize>], fits: impl Fn(usize) -> bool) -> Option<usize> {
    std::iter::successors(Some(at), |&a| parents[a]).take(ORG_DEPTH_MAX).find(|&a| fits(a))
}

/// Two schools of one name could not be told apart on any page, so the second carries its id.
fn unique_name(org: &Org, names: &mut HashMap<String, String>, problems: &mut Problems) -> String {
    let Some(first) = names.insert(org.name.clone(), org.source_id.clone()) else { return org.name.clone() };
    let name = format!("{} ({})", org.name, org.source_id);
    let message = format!(
        "schools {} and {} are both named {}; the second is shown as {}",
        quoted(&first),
        quoted(&org.source_id),
        quoted(&org.name),
        quoted(&name)
    );
    problems.warn(Place { file: ORGS, line: 0, column: "name" }, Code::DuplicateName, message);
    name
}

struct Terms {
    index: Index,
    spans: Vec<(NaiveDate, NaiveDate)>,
}

impl Terms {
    fn read(package: &mut Package, manifest: &Manifest, problems: &mut Problems) -> Result<Self, PackageError> {
        let mut index = Index::new(SESSIONS);
        let mut spans = Vec::new();
        let mut parents = Vec::new();
        if manifest.has("academicSessions") {
            index.present = scan(package, SESSIONS, sessions::COLUMNS, problems, |row, problems| {
                if !index.admit(row, spans.len(), problems) {
                    return;
                }
                parents.extend(row.owned(sessions::PARENT).map(|id| (id, row.place(sessions::PARENT).line)));
                let (Some(starts), Some(ends)) = (row.date(sessions::STARTS), row.date(sessions::ENDS)) else { return };
                if starts >= ends {
                    problems.error(
                        row.place(sessions::ENDS),
                        Code::EmptyInterval,
                        format!("ends {ends}, which is not after its start {starts}"),
                    );
                }
                spans.push((starts, ends));
            })?;
        }
        for (id, line) in parents {
            index.find(&id, Place { file: SESSIONS, line, column: "parentSourcedId" }, false, problems);
        }
        Ok(Self { index, spans })
    }
}

struct Courses {
    index: Index,
    titles: Vec<String>,
}

impl Courses {
    fn read(package: &mut Package, manifest: &Manifest, problems: &mut Problems) -> Result<Self, PackageError> {
        let mut index = Index::new(COURSES);
        let mut titles = Vec::new();
        if manifest.has("courses") {
            index.present = scan(package, COURSES, courses::COLUMNS, problems, |row, problems| {
                if index.admit(row, titles.len(), problems) {
                    titles.push(row.text(courses::TITLE).to_owned());
                }
            })?;
        }
        Ok(Self { index, titles })
    }
}

struct Sections {
    index: Index,
    sections: Vec<Section>,
}

impl Sections {
    fn read(
        package: &mut Package,
        manifest: &Manifest,
        orgs: &mut Orgs,
        terms: &Terms,
        courses: &Courses,
        problems: &mut Problems,
    ) -> Result<Self, PackageError> {
        let mut index = Index::new(CLASSES);
        let mut sections = Vec::new();
        if manifest.has("classes") {
            index.present = scan(package, CLASSES, classes::COLUMNS, problems, |row, problems| {
                if !index.admit(row, sections.len(), problems) {
                    return;
                }
                let school = orgs.school(row.text(classes::SCHOOL), row.place(classes::SCHOOL), problems);
                let course = courses.index.find(row.text(classes::COURSE), row.place(classes::COURSE), true, problems);
                let spans: Vec<_> = row
                    .list(classes::TERMS)
                    .filter_map(|id| terms.index.find(id, row.place(classes::TERMS), true, problems))
                    .filter_map(|at| terms.spans.get(at))
                    .collect();
                sections.push(Section {
                    source_id: row.text(columns::SOURCED_ID).to_owned(),
                    // Without its school there is an error and so no roster; the position only keeps the index whole.
                    school: school.unwrap_or(0),
                    title: row.text(classes::TITLE).to_owned(),
                    course: course.and_then(|at| courses.titles.get(at).cloned()),
                    room: row.owned(classes::LOCATION),
                    starts: spans.iter().map(|s| s.0).min(),
                    ends: spans.iter().map(|s| s.1).max(),
                    periods: row.list(classes::PERIODS).map(str::to_owned).collect(),
                    line: row.line,
                });
            })?;
        }
        Ok(Self { index, sections })
    }
}

fn read_enrolments(
    package: &mut Package,
    manifest: &Manifest,
    orgs: &Orgs,
    sections: &Sections,
    people: &mut People,
    problems: &mut Problems,
) -> Result<Vec<Enrolment>, PackageError> {
    let mut index = Index::new(ENROLLMENTS);
    let mut enrolments: Vec<Enrolment> = Vec::new();
    let mut rows = 0;
    if manifest.has("enrollments") {
        index.present = scan(package, ENROLLMENTS, enrollments::COLUMNS, problems, |row, problems| {
            rows += 1;
            if !index.admit(row, rows, problems) {
                return;
            }
            orgs.index.find(row.text(enrollments::SCHOOL), row.place(enrollments::SCHOOL), true, problems);
            let section = sections.index.find(row.text(enrollments::CLASS), row.place(enrollments::CLASS), true, problems);
            let person = people.index.find(row.text(enrollments::USER), row.place(enrollments::USER), true, problems);
            let span = interval(row, enrollments::STARTS, enrollments::ENDS, problems);
            // Administrators, aides and proctors of a class neither take roll nor are on it.
            let role = match row.choice(enrollments::ROLE) {
                "student" => EnrolmentRole::Student,
                "teacher" => EnrolmentRole::Teacher,
                _ => return,
            };
            if let (Some(section), Some(person), Some((starts, ends))) = (section, person, span) {
                people.saw_enrolment(person, role);
                enrolments.push(Enrolment { section, person, role, starts, ends });
            }
        })?;
    }
    Ok(merge_enrolments(enrolments))
}

/// Joins rows of one person, section and role whose dates overlap or touch.
fn merge_enrolments(mut all: Vec<Enrolment>) -> Vec<Enrolment> {
    all.sort_by_key(|e| (e.section, e.role, e.person, e.starts));
    all.dedup_by(|next, kept| {
        let same = (next.section, next.role, next.person) == (kept.section, kept.role, kept.person);
        same && span::join(&mut kept.starts, &mut kept.ends, (next.starts, next.ends))
    });
    all
}
