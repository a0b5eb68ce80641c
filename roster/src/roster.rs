//! The roster as plain data: what a OneRoster package and its timetable say, checked and linked.
//!
//! References are positions in the vectors of [`Roster`] (`school`, `person`, `section`), which the readers checked,
//! so a `Roster` never dangles. Only active rows are in it. Date intervals include `starts` and exclude `ends`, as
//! OneRoster 1.2 words it; `None` is unbounded.

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;

/// Everything one import brings. The timetable's parts are empty when there was none.
#[derive(Clone, PartialEq, Debug)]
pub struct Roster {
    /// `1.1` or `1.2`.
    pub version: &'static str,
    pub schools: Vec<School>,
    pub people: Vec<Person>,
    pub memberships: Vec<Membership>,
    pub guardians: Vec<Guardianship>,
    pub sections: Vec<Section>,
    pub enrolments: Vec<Enrolment>,
    pub timetable: Timetable,
}

#[derive(Clone, PartialEq, Debug)]
pub struct School {
    pub source_id: String,
    /// Unique in the roster.
    pub name: String,
    /// Name of the district that is the school's nearest parent of that type.
    pub district: Option<String>,
    pub zone: Tz,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PersonKind {
    Student,
    Staff,
    Guardian,
}

impl PersonKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Staff => "staff",
            Self::Guardian => "guardian",
        }
    }
}

/// One user. A user of several roles is a student before a member of staff before a guardian.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    pub source_id: String,
    pub kind: PersonKind,
    /// The preferred name where OneRoster 1.2 gives one.
    pub given: String,
    pub family: String,
    pub contact: Contact,
    /// The first of the user's OneRoster grades; students only.
    pub grade: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Contact {
    pub email: Option<String>,
    pub phone: Option<String>,
    pub sms: Option<String>,
}

/// A student's or staff member's belonging to a school. Intervals of one person and school do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub person: usize,
    pub school: usize,
    pub starts: Option<NaiveDate>,
    pub ends: Option<NaiveDate>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Guardianship {
    pub guardian: usize,
    pub student: usize,
    /// The guardian's OneRoster role: guardian, parent or relative.
    pub relation: &'static str,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Section {
    pub source_id: String,
    pub school: usize,
    pub title: String,
    pub course: Option<String>,
    pub room: Option<String>,
    /// First day of the earliest of its terms.
    pub starts: Option<NaiveDate>,
    /// First day after the latest of its terms.
    pub ends: Option<NaiveDate>,
    /// The class's own `periods`, as written.
    pub periods: Vec<String>,
    /// Physical line in classes.csv, for later problems.
    pub line: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum EnrolmentRole {
    Student,
    Teacher,
}

impl EnrolmentRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Teacher => "teacher",
        }
    }
}

/// Intervals of one person, section and role do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolment {
    pub section: usize,
    pub person: usize,
    pub role: EnrolmentRole,
    pub starts: Option<NaiveDate>,
    pub ends: Option<NaiveDate>,
}

/// When schools are in session and when sections meet.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Timetable {
    pub periods: Vec<Period>,
    pub schedules: Vec<BellSchedule>,
    pub calendar: Vec<CalendarDay>,
    pub meetings: Vec<Meeting>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Period {
    pub school: usize,
    pub name: String,
    /// Order within the day, from 0.
    pub ordinal: i32,
}

/// A bell schedule as it holds from a date on; the newest with `valid_from` <= date holds.
#[derive(Clone, PartialEq, Debug)]
pub struct BellSchedule {
    pub school: usize,
    pub name: String,
    pub valid_from: NaiveDate,
    pub bells: Vec<Bell>,
}

/// Local wall-clock times; `starts` is before `ends`.
#[derive(Clone, PartialEq, Debug)]
pub struct Bell {
    pub period: String,
    pub starts: NaiveTime,
    pub ends: NaiveTime,
    /// Lunch and breaks are not.
    pub instructional: bool,
}

/// A day in session. A date without one is not in session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CalendarDay {
    pub school: usize,
    pub date: NaiveDate,
    pub schedule: String,
    pub cycle: Option<String>,
}

/// When a section meets. `weekdays` has bit 0 for Monday to bit 6 for Sunday; an empty `cycle` is every rotation day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meeting {
    pub section: usize,
    pub period: String,
    pub weekdays: u8,
    pub cycle: String,
    pub starts: Option<NaiveDate>,
    pub ends: Option<NaiveDate>,
}
