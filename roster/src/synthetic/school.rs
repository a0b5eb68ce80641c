//! One synthetic school: its grades in groups of a section's size, which rotate through teachers and subjects.
//!
//! Every group has a section in every instructional period. In each period the groups are spread over the teachers
//! one to one, so nobody is in two rooms at once.

use std::io;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::bells::Ring;
use super::names::{FAMILY, GIVEN, PLACES, SUBJECTS};
use super::{Plan, Sheets, year};

/// Share of students who have an older sibling in the same school, and of those with a second guardian at home.
const SIBLING_SHARE: f64 = 0.15;
const SECOND_GUARDIAN_SHARE: f64 = 0.6;

/// Kind of school and its grades.
const LEVELS: [(&str, &[&str]); 3] = [
    ("Middle School", &["06", "07", "08"]),
    ("Elementary School", &["KG", "01", "02", "03", "04", "05"]),
    ("High School", &["09", "10", "11", "12"]),
];

struct School<'a> {
    plan: &'a Plan,
    id: String,
    number: usize,
    dates: (String, String),
}

/// The people at a student's home.
struct Household {
    family: &'static str,
    guardians: String,
}

pub(super) fn add(plan: &Plan, number: usize, rings: &[Ring], rng: &mut StdRng, sheets: &mut Sheets) -> io::Result<()> {
    let (level, grades) = LEVELS[number % LEVELS.len()];
    let place = PLACES[number % PLACES.len()];
    let round = number / PLACES.len();
    let name = if round == 0 { format!("{place} {level}") } else { format!("{place} {level} {}", round + 1) };
    let (first, last) = year(plan);
    let end = last.succ_opt().unwrap_or(last);
    let school = School { plan, id: format!("sch-{:04}", number + 1), number: number + 1, dates: (first.to_string(), end.to_string()) };
    sheets.orgs.row(&[&school.id, "", "", &name, "school", &format!("{}", 1000 + number), "district"])?;
    sheets.counts.schools += 1;

    let groups = groups(plan, grades);
    for teacher in 0..groups.len() {
        school.add_teacher(teacher, rng, sheets)?;
    }
    school.add_head(rng, sheets)?;
    let mut serial = 0;
    let mut household: Option<Household> = None;
    for (group, (grade, size)) in groups.iter().enumerate() {
        let students: Vec<String> = (0..*size)
            .map(|_| {
                serial += 1;
                school.add_student(serial, grade, &mut household, rng, sheets)
            })
            .collect::<io::Result<_>>()?;
        for (turn, ring) in rings.iter().filter(|r| r.instructional).enumerate() {
            school.add_section(group, grade, turn, ring, (group + turn) % groups.len(), &students, sheets)?;
        }
    }
    Ok(())
}

/// Grade and size of each group; grades differ by at most one student.
fn groups(plan: &Plan, grades: &[&'static str]) -> Vec<(&'static str, usize)> {
    let section = plan.section_students.max(1);
    let mut groups = Vec::new();
    for (at, grade) in grades.iter().enumerate() {
        let mut left = plan.students_per_school / grades.len() + usize::from(at < plan.students_per_school % grades.len());
        while left > 0 {
            let size = left.min(section);
            groups.push((*grade, size));
            left -= size;
        }
    }
    groups
}

fn pick(list: &[&'static str], rng: &mut StdRng) -> &'static str {
    list.choose(rng).copied().unwrap_or("Sam")
}

impl School<'_> {
    fn teacher(&self, teacher: usize) -> String {
        format!("tch-{:04}-{:03}", self.number, teacher + 1)
    }

    fn add_teacher(&self, teacher: usize, rng: &mut StdRng, sheets: &mut Sheets) -> io::Result<()> {
        sheets.counts.staff += 1;
        self.add_user(&self.teacher(teacher), "teacher", pick(GIVEN, rng), pick(FAMILY, rng), "", "", sheets)
    }

    fn add_head(&self, rng: &mut StdRng, sheets: &mut Sheets) -> io::Result<()> {
        sheets.counts.staff += 1;
        self.add_user(&format!("hed-{:04}", self.number), "principal", pick(GIVEN, rng), pick(FAMILY, rng), "", "", sheets)
    }

    /// Returns the student's id.
    fn add_student(
        &self,
        serial: usize,
        grade: &str,
        household: &mut Option<Household>,
        rng: &mut StdRng,
        sheets: &mut Sheets,
    ) -> io::Result<String> {
        let sibling = household.is_some() && rng.random_bool(SIBLING_SHARE);
        if !sibling {
            *household = Some(self.add_household(serial, rng, sheets)?);
        }
        let (family, guardians) = household.as_ref().map_or(("", ""), |h| (h.family, h.guardians.as_str()));
        let id = format!("stu-{:04}-{serial:05}", self.number);
        sheets.counts.students += 1;
        sheets.counts.guardianships += guardians.split(',').count();
        self.add_user(&id, "student", pick(GIVEN, rng), family, guardians, grade, sheets)?;
        Ok(id)
    }

    fn add_household(&self, serial: usize, rng: &mut StdRng, sheets: &mut Sheets) -> io::Result<Household> {
        let family = pick(FAMILY, rng);
        let guardians = 1 + usize::from(rng.random_bool(SECOND_GUARDIAN_SHARE));
        let mut ids = Vec::new();
        for n in 1..=guardians {
            let id = format!("grd-{:04}-{serial:05}-{n}", self.number);
            // A second guardian often has another name.
            let own = if n == 1 || rng.random_bool(0.5) { family } else { pick(FAMILY, rng) };
            self.add_user(&id, "parent", pick(GIVEN, rng), own, "", "", sheets)?;
            ids.push(id);
        }
        sheets.counts.guardians += guardians;
        Ok(Household { family, guardians: ids.join(",") })
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of one row")]
    fn add_user(&self, id: &str, role: &str, given: &str, family: &str, agents: &str, grade: &str, sheets: &mut Sheets) -> io::Result<()> {
        let email = format!("{id}@example.org");
        sheets
            .users
            .row(&[id, "", "", "true", id, "", given, family, "", "", &email, "", "", agents, grade, "", "", "", "", "", &self.id, ""])?;
        let (begins, ends) = if role == "student" { (self.dates.0.as_str(), self.dates.1.as_str()) } else { ("", "") };
        sheets.roles.row(&[&format!("rol-{id}"), "", "", id, "primary", role, begins, ends, &self.id, ""])
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one section")]
    fn add_section(
        &self,
        group: usize,
        grade: &str,
        turn: usize,
        ring: &Ring,
        teacher: usize,
        students: &[String],
        sheets: &mut Sheets,
    ) -> io::Result<()> {
        let (code, subject) = SUBJECTS[(group + 3 * turn) % SUBJECTS.len()];
        let id = format!("cls-{:04}-{:03}-{}", self.number, group + 1, ring.period);
        let title = format!("{subject} {grade}-{} (period {})", group + 1, ring.period);
        let room = format!("Room {}", 101 + teacher);
        sheets.classes.row(&[
            &id,
            "",
            "",
            &title,
            grade,
            &format!("crs-{code}"),
            "",
            "scheduled",
            &room,
            &self.id,
            "year",
            subject,
            code,
            &ring.period,
        ])?;
        sheets.meetings.row(&[&id, &ring.period, "", "", "", ""])?;
        sheets.counts.sections += 1;
        sheets.counts.enrolments += 1 + students.len();
        let teacher = self.teacher(teacher);
        sheets.enrollments.row(&[&format!("enr-{id}-t"), "", "", &id, &self.id, &teacher, "teacher", "true", "", ""])?;
        for (n, student) in students.iter().enumerate() {
            let enrolment = format!("enr-{id}-{}", n + 1);
            sheets.enrollments.row(&[&enrolment, "", "", &id, &self.id, student, "student", "false", &self.dates.0, &self.dates.1])?;
        }
        debug_assert!(self.plan.section_students >= students.len());
        Ok(())
    }
}
