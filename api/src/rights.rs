//! Who may do what: one function a right, pure, from the directory as it is now.
//!
//! Rights hold on a date: a teacher sees the students of the sections that he or she teaches on that date. What lies in
//! another district is not found before a right is asked for, so these functions see one district only.

use chrono::NaiveDate;
use rollcall_model::ids::{AccountId, PersonId, SchoolId, SectionId};
use rollcall_store::account::Role;
use rollcall_store::directory::{DistrictDirectory, SectionEntry};

/// Whose rights are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    pub account: AccountId,
    pub role: Role,
    /// Whose account it is; of a teacher and a guardian always.
    pub person: Option<PersonId>,
    /// Of an office account its school; `None`: all of the district.
    pub school: Option<SchoolId>,
}

impl Who {
    fn is_office_of(&self, school: SchoolId) -> bool {
        self.role == Role::Office && self.school.is_none_or(|own| own == school)
    }

    fn teaches(&self, directory: &DistrictDirectory, section: SectionId, date: NaiveDate) -> bool {
        self.role == Role::Teacher && self.person.is_some_and(|person| directory.teachers_of(section, date).any(|id| id == person))
    }

    fn is_guardian_of(&self, directory: &DistrictDirectory, student: PersonId) -> bool {
        let children = self.person.filter(|_| self.role == Role::Guardian).and_then(|person| directory.person(person));
        children.is_some_and(|guardian| guardian.students.contains(&student))
    }
}

/// Its students, board and marks.
pub fn may_see_section(who: &Who, directory: &DistrictDirectory, section: &SectionEntry, date: NaiveDate) -> bool {
    who.is_office_of(section.school) || who.teaches(directory, section.id, date)
}

/// Marks in the section's meetings of a date.
pub fn may_mark(who: &Who, directory: &DistrictDirectory, section: &SectionEntry, date: NaiveDate) -> bool {
    may_see_section(who, directory, section, date)
}

/// Marks about whole days.
pub fn may_mark_day(who: &Who, school: SchoolId) -> bool {
    who.is_office_of(school)
}

/// That the school exists, its name and zone.
pub fn may_know_school(who: &Who, directory: &DistrictDirectory, school: SchoolId) -> bool {
    match who.role {
        Role::Office => who.is_office_of(school),
        Role::It | Role::Analyst => true,
        Role::Teacher | Role::Guardian => who.person.and_then(|person| directory.person(person)).is_some_and(|person| {
            let own = person.memberships.iter().any(|membership| membership.school == school);
            let taught = person.sections.iter().filter_map(|id| directory.section(*id)).any(|section| section.school == school);
            let children = || {
                let students = person.students.iter().filter_map(|id| directory.person(*id));
                students.flat_map(|student| &student.memberships).any(|membership| membership.school == school)
            };
            own || taught || children()
        }),
    }
}

/// Its sections' counts, gate feed and building list, and the names that go with them.
pub fn may_watch_school(who: &Who, school: SchoolId) -> bool {
    who.is_office_of(school)
}

/// Its list of sections; a teacher gets the own ones of it.
pub fn may_list_sections(who: &Who) -> bool {
    matches!(who.role, Role::Teacher | Role::Office)
}

/// Counts by school.
pub fn may_watch_district(who: &Who) -> bool {
    who.role == Role::Analyst || (who.role == Role::Office && who.school.is_none())
}

/// What reports a caller gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reports {
    /// Sums of groups of the whole district, small groups withheld, nobody by id.
    Aggregates,
    /// Of one school, or of the whole district, down to the student.
    Office(Option<SchoolId>),
    /// Of the sections that a teacher teaches, down to the student.
    OwnSections,
}

/// Attendance reports over days and weeks; `None`: none at all.
pub fn reports(who: &Who) -> Option<Reports> {
    match who.role {
        Role::Analyst => Some(Reports::Aggregates),
        Role::Office => Some(Reports::Office(who.school)),
        Role::Teacher => Some(Reports::OwnSections),
        Role::Guardian | Role::It => None,
    }
}

/// A student's record on a date.
pub fn may_see_student(who: &Who, directory: &DistrictDirectory, student: PersonId, date: NaiveDate) -> bool {
    match who.role {
        Role::Guardian => who.is_guardian_of(directory, student),
        Role::Office => directory.person(student).is_some_and(|entry| {
            entry.memberships.iter().any(|membership| who.is_office_of(membership.school))
                || entry.sections.iter().filter_map(|id| directory.section(*id)).any(|section| who.is_office_of(section.school))
        }),
        Role::Teacher => shared_sections(who, directory, student, date).next().is_some(),
        Role::Analyst | Role::It => false,
    }
}

/// The sections in which a teacher teaches a student on a date.
pub fn shared_sections<'a>(
    who: &'a Who,
    directory: &'a DistrictDirectory,
    student: PersonId,
    date: NaiveDate,
) -> impl Iterator<Item = SectionId> + 'a {
    let taught = who.person.and_then(|person| directory.person(person)).map(|person| person.sections.as_slice()).unwrap_or_default();
    taught
        .iter()
        .copied()
        .filter(move |section| who.teaches(directory, *section, date) && directory.students_of(*section, date).any(|id| id == student))
}

/// What of a student's day may be shown: a teacher sees the own sections and the day, others all.
pub fn may_see_period(who: &Who, directory: &DistrictDirectory, section: Option<SectionId>, date: NaiveDate) -> bool {
    match (who.role, section) {
        (Role::Teacher, Some(section)) => who.teaches(directory, section, date),
        _ => true,
    }
}

/// The live day of a student: the student's guardians.
pub fn may_watch_student(who: &Who, directory: &DistrictDirectory, student: PersonId) -> bool {
    who.is_guardian_of(directory, student)
}

/// The last windows of engagement of a section: its teachers.
pub fn may_watch_engagement(who: &Who, directory: &DistrictDirectory, section: SectionId, date: NaiveDate) -> bool {
    who.teaches(directory, section, date)
}

/// Devices, dead letters, accounts, the audit.
pub fn may_administer(who: &Who) -> bool {
    who.role == Role::It
}

/// Erasing what devices said about a student: the district's office.
pub fn may_erase(who: &Who) -> bool {
    who.role == Role::Office && who.school.is_none()
}

/// The devices of a school as a list: IT staff, and its office to see which are offline.
pub fn may_see_devices(who: &Who, school: SchoolId) -> bool {
    may_administer(who) || who.is_office_of(school)
}

/// Badges of the people of these schools: its office.
pub fn may_manage_badges(who: &Who, directory: &DistrictDirectory, person: PersonId) -> bool {
    who.role == Role::Office
        && directory
            .person(person)
            .is_some_and(|entry| who.school.is_none() || entry.memberships.iter().any(|membership| who.is_office_of(membership.school)))
}

/// Questions in SQL, and saving them. What a question may read is decided by the engine.
pub fn may_query(who: &Who) -> bool {
    who.role != Role::Guardian
}

/// Having saved questions written to the operator's object storage.
pub fn may_export(who: &Who) -> bool {
    may_watch_district(who)
}

/// The audit: IT staff, and an office of the whole district.
pub fn may_read_audit(who: &Who) -> bool {
    who.role == Role::It || (who.role == Role::Office && who.school.is_none())
}
