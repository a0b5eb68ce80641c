//! users.csv and roles.csv: who is a student, who works where, and who is whose guardian.
//!
//! A relationship may be written on either side: on the student's row (its guardians) or on the guardian's (their
//! children). Only somebody with a guardian's role becomes a guardian: OneRoster's agents may be anybody.

use std::collections::HashSet;

use super::columns::{SOURCED_ID, roles, users};
use super::index::Index;
use super::{Manifest, Orgs, ROLES, USERS, Version, interval};
use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::roster::{Contact, Enrolment, EnrolmentRole, Guardianship, Membership, Person, PersonKind};
use crate::span;
use crate::table::{Row, scan};

/// What a user was seen as, over all rows.
#[derive(Clone, Copy, Default)]
struct Seen {
    student: bool,
    staff: bool,
    guardian: Option<&'static str>,
    line: u64,
}

impl Seen {
    fn role(&mut self, role: &str) {
        match role {
            "student" => self.student = true,
            "guardian" => self.guardian = Some("guardian"),
            "parent" => self.guardian = Some("parent"),
            "relative" => self.guardian = Some("relative"),
            _ => self.staff = true,
        }
    }

    fn kind(&self) -> Option<PersonKind> {
        if self.student {
            Some(PersonKind::Student)
        } else if self.staff {
            Some(PersonKind::Staff)
        } else {
            self.guardian.map(|_| PersonKind::Guardian)
        }
    }
}

struct Agent {
    person: usize,
    agent: Box<str>,
    line: u64,
}

pub(super) struct People {
    pub index: Index,
    people: Vec<Person>,
    seen: Vec<Seen>,
    memberships: Vec<Membership>,
    agents: Vec<Agent>,
}

impl People {
    pub fn read(package: &mut Package, manifest: &Manifest, orgs: &Orgs, problems: &mut Problems) -> Result<Self, PackageError> {
        let mut all = Self { index: Index::new(USERS), people: Vec::new(), seen: Vec::new(), memberships: Vec::new(), agents: Vec::new() };
        let with_roles = manifest.version == Version::V1_1;
        let columns = if with_roles { users::COLUMNS_1_1 } else { users::COLUMNS_1_2 };
        if manifest.has("users") {
            let mut index = Index::new(USERS);
            index.present = scan(package, USERS, columns, problems, |row, problems| {
                if index.admit(row, all.people.len(), problems) {
                    all.add(row);
                    if with_roles {
                        all.add_role_1_1(row, orgs, problems);
                    }
                }
            })?;
            all.index = index;
        }
        if manifest.has("roles") {
            let mut index = Index::new(ROLES);
            let mut rows = 0;
            index.present = scan(package, ROLES, roles::COLUMNS, problems, |row, problems| {
                rows += 1;
                if index.admit(row, rows, problems) {
                    all.add_role_1_2(row, orgs, problems);
                }
            })?;
        }
        Ok(all)
    }

    fn add(&mut self, row: &Row<'_>) {
        let person = self.people.len();
        let line = row.place(users::AGENTS).line;
        self.agents.extend(row.list(users::AGENTS).map(|agent| Agent { person, agent: agent.into(), line }));
        self.seen.push(Seen { line: row.line, ..Seen::default() });
        self.people.push(Person {
            source_id: row.text(SOURCED_ID).to_owned(),
            kind: PersonKind::Guardian,
            given: row.some(users::PREFERRED_GIVEN).unwrap_or(row.text(users::GIVEN)).to_owned(),
            family: row.some(users::PREFERRED_FAMILY).unwrap_or(row.text(users::FAMILY)).to_owned(),
            contact: Contact { email: row.owned(users::EMAIL), phone: row.owned(users::PHONE), sms: row.owned(users::SMS) },
            grade: row.list(users::GRADES).next().map(str::to_owned),
        });
    }

    fn add_role_1_1(&mut self, row: &Row<'_>, orgs: &Orgs, problems: &mut Problems) {
        let person = self.people.len() - 1;
        let role = row.choice(users::ROLE);
        self.seen[person].role(role);
        for org in row.list(users::ORGS) {
            self.belong(person, role, org, row.place(users::ORGS), (None, None), orgs, problems);
        }
    }

    fn add_role_1_2(&mut self, row: &Row<'_>, orgs: &Orgs, problems: &mut Problems) {
        let person = self.index.find(row.text(roles::USER), row.place(roles::USER), true, problems);
        let span = interval(row, roles::STARTS, roles::ENDS, problems);
        let (Some(person), Some(span)) = (person, span) else { return };
        let role = row.choice(roles::ROLE);
        self.seen[person].role(role);
        self.belong(person, role, row.text(roles::ORG), row.place(roles::ORG), span, orgs, problems);
    }

    /// Students and staff belong to schools; a role at the district or as a guardian is no membership.
    #[expect(clippy::too_many_arguments, reason = "the row's parts, once for each version of the standard")]
    fn belong(&mut self, person: usize, role: &str, org: &str, place: Place<'_>, span: span::Span, orgs: &Orgs, problems: &mut Problems) {
        let Some(org) = orgs.index.find(org, place, true, problems) else { return };
        let guardian = matches!(role, "guardian" | "parent" | "relative");
        if let (Some(school), false) = (orgs.school_of[org], guardian) {
            self.memberships.push(Membership { person, school, starts: span.0, ends: span.1 });
        }
    }

    /// An enrolment says what a user without a role is.
    pub fn saw_enrolment(&mut self, person: usize, role: EnrolmentRole) {
        let seen = &mut self.seen[person];
        if seen.kind().is_none() {
            seen.student = role == EnrolmentRole::Student;
            seen.staff = role == EnrolmentRole::Teacher;
        }
    }

    /// Settles kinds and relationships, and leaves out users whom nothing says what they are.
    pub fn finish(
        mut self,
        mut enrolments: Vec<Enrolment>,
        problems: &mut Problems,
    ) -> (Vec<Person>, Vec<Membership>, Vec<Guardianship>, Vec<Enrolment>) {
        let mut guardians = self.guardianships(problems);
        let mut position = vec![usize::MAX; self.people.len()];
        let mut people = Vec::with_capacity(self.people.len());
        for (at, mut person) in std::mem::take(&mut self.people).into_iter().enumerate() {
            let Some(kind) = self.seen[at].kind() else {
                let message = format!("user {} has no active role and no enrolment; left out", quoted(&person.source_id));
                problems.warn(Place::line(USERS, self.seen[at].line), Code::NoRole, message);
                continue;
            };
            position[at] = people.len();
            person.kind = kind;
            if kind != PersonKind::Student {
                person.grade = None;
            }
            people.push(person);
        }
        let mut memberships = merge_memberships(self.memberships);
        memberships.iter_mut().for_each(|m| m.person = position[m.person]);
        guardians.iter_mut().for_each(|g| (g.guardian, g.student) = (position[g.guardian], position[g.student]));
        enrolments.iter_mut().for_each(|e| e.person = position[e.person]);
        (people, memberships, guardians, enrolments)
    }

    fn guardianships(&mut self, problems: &mut Problems) -> Vec<Guardianship> {
        let mut pairs = HashSet::new();
        let mut guardians = Vec::new();
        for Agent { person, agent, line } in std::mem::take(&mut self.agents) {
            let place = Place { file: USERS, line, column: "agentSourcedIds" };
            let Some(other) = self.index.find(&agent, place, false, problems) else { continue };
            let (a, b) = (self.seen[person], self.seen[other]);
            let (student, guardian) = if a.student && !b.student { (person, other) } else { (other, person) };
            let relation = self.seen[guardian].guardian;
            match relation {
                Some(relation) if self.seen[student].student && student != guardian => {
                    if pairs.insert((guardian, student)) {
                        guardians.push(Guardianship { guardian, student, relation });
                    }
                }
                _ => problems.warn(
                    place,
                    Code::NotAGuardian,
                    format!("{} is not taken as a guardian: a relationship is between a student and a user with the role guardian, parent or relative", quoted(&agent)),
                ),
            }
        }
        guardians
    }
}

/// Joins memberships of one person and school whose dates overlap or touch.
fn merge_memberships(mut all: Vec<Membership>) -> Vec<Membership> {
    all.sort_by_key(|m| (m.person, m.school, m.starts));
    all.dedup_by(|next, kept| {
        (next.person, next.school) == (kept.person, kept.school) && span::join(&mut kept.starts, &mut kept.ends, (next.starts, next.ends))
    });
    all
}
