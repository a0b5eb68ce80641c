//! The directory in memory: who and what there is, for lookups that must not wait for the database.
//!
//! A [`Directory`] is an immutable snapshot of all districts. [`DirectoryCache`] keeps the newest one, reloads what
//! changed within [`cache::DEBOUNCE`] of a notice from the database, and says so on a watch. No name of a person is in it.
//! Dates are the school's local dates; `None` as a first or last date is "since ever" and "for ever".

mod cache;
mod load;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{self, Bell, BellSchedule, Meeting, MeetingRule};

use crate::secret::SecretHash;

pub use cache::{AuthenticateError, DirectoryCache};

/// All districts of this server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Grows with every reload.
    pub version: u64,
    pub districts: HashMap<DistrictId, Arc<DistrictDirectory>>,
}

impl Directory {
    pub fn district(&self, id: DistrictId) -> Option<&Arc<DistrictDirectory>> {
        self.districts.get(&id)
    }

    /// A device and its district. Disabled devices are found too.
    pub fn device(&self, id: DeviceId) -> Option<(&Arc<DistrictDirectory>, &DeviceEntry)> {
        self.districts.values().find_map(|district| Some((district, district.devices.get(&id)?)))
    }

    pub fn school(&self, id: SchoolId) -> Option<(&Arc<DistrictDirectory>, &SchoolEntry)> {
        self.districts.values().find_map(|district| Some((district, district.roster.schools.get(&id)?)))
    }

    pub fn section(&self, id: SectionId) -> Option<(&Arc<DistrictDirectory>, &SectionEntry)> {
        self.districts.values().find_map(|district| Some((district, district.roster.sections.get(&id)?)))
    }
}

/// One district. Its parts are shared with earlier snapshots when they did not change: a new device costs no reload of
/// half a million enrolments.
#[derive(Clone, Debug)]
pub struct DistrictDirectory {
    pub id: DistrictId,
    pub name: String,
    pub roster: Arc<Roster>,
    pub devices: Arc<HashMap<DeviceId, DeviceEntry>>,
    /// By the hash of their token; revoked badges are not here.
    pub badges: Arc<HashMap<SecretHash, BadgeEntry>>,
}

/// What comes from the roster and the timetable.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    pub schools: HashMap<SchoolId, SchoolEntry>,
    pub sections: HashMap<SectionId, SectionEntry>,
    pub people: HashMap<PersonId, PersonEntry>,
}

#[derive(Clone, Debug)]
pub struct SchoolEntry {
    pub id: SchoolId,
    pub source_id: Option<String>,
    pub name: String,
    pub zone: Tz,
    /// The district's policy with the school's on top, by first date, oldest first; never empty.
    pub policies: Vec<(Option<NaiveDate>, AttendancePolicy)>,
    pub periods: HashMap<PeriodId, PeriodEntry>,
    pub schedules: Vec<BellSchedule>,
    /// Days in session; a date that is not here is not in session.
    pub calendar: HashMap<NaiveDate, CalendarDay>,
    pub sections: Vec<SectionId>,
}

#[derive(Clone, Debug)]
pub struct PeriodEntry {
    pub id: PeriodId,
    pub name: String,
    pub ordinal: i32,
}

#[derive(Clone, Debug)]
pub struct CalendarDay {
    /// Name of the bell schedule in force.
    pub schedule: String,
    /// Rotation day.
    pub cycle: Option<String>,
}

/// The bells of one date in session.
#[derive(Clone, Copy, Debug)]
pub struct DaySchedule<'a> {
    pub name: &'a str,
    pub cycle: Option<&'a str>,
    pub bells: &'a [Bell],
}

#[derive(Clone, Debug)]
pub struct SectionEntry {
    pub id: SectionId,
    pub school: SchoolId,
    pub source_id: Option<String>,
    pub title: String,
    pub course: Option<String>,
    pub room: Option<String>,
    pub starts: Option<NaiveDate>,
    /// Exclusive.
    pub ends: Option<NaiveDate>,
    pub active: bool,
    pub meetings: Vec<MeetingRule>,
    pub students: Vec<Enrolment>,
    pub teachers: Vec<Enrolment>,
}

impl SectionEntry {
    pub fn runs_on(&self, date: NaiveDate) -> bool {
        self.active && holds_on(self.starts, self.ends, date)
    }
}

/// A person in a section between two dates.
#[derive(Clone, Copy, Debug)]
pub struct Enrolment {
    pub person: PersonId,
    pub starts: Option<NaiveDate>,
    /// Exclusive.
    pub ends: Option<NaiveDate>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PersonKind {
    Student,
    Staff,
    Guardian,
}

/// A person without a name. `sections` is where a student is enrolled or a teacher teaches, at whatever dates.
#[derive(Clone, Debug)]
pub struct PersonEntry {
    pub id: PersonId,
    pub kind: PersonKind,
    pub active: bool,
    pub grade: Option<String>,
    pub memberships: Vec<Membership>,
    pub sections: Vec<SectionId>,
    /// Of a guardian.
    pub students: Vec<PersonId>,
    /// Of a student.
    pub guardians: Vec<PersonId>,
}

#[derive(Clone, Copy, Debug)]
pub struct Membership {
    pub school: SchoolId,
    pub starts: Option<NaiveDate>,
    /// Exclusive.
    pub ends: Option<NaiveDate>,
}

#[derive(Clone, Debug)]
pub struct DeviceEntry {
    pub id: DeviceId,
    pub district: DistrictId,
    pub school: SchoolId,
    pub kind: DeviceKind,
    pub name: String,
    pub token_hash: SecretHash,
    /// The gateway it is registered behind.
    pub gateway: Option<DeviceId>,
    /// The only person it speaks for.
    pub person: Option<PersonId>,
    pub section: Option<SectionId>,
    pub disabled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadgeEntry {
    pub id: BadgeId,
    pub person: PersonId,
}

pub(crate) fn holds_on(starts: Option<NaiveDate>, ends: Option<NaiveDate>, date: NaiveDate) -> bool {
    starts.is_none_or(|starts| starts <= date) && ends.is_none_or(|ends| date < ends)
}

impl SchoolEntry {
    /// The policy that holds on a date.
    pub fn policy_on(&self, date: NaiveDate) -> &AttendancePolicy {
        let newest = self.policies.iter().rev().find(|(from, _)| from.is_none_or(|from| from <= date));
        &newest.or(self.policies.first()).expect("a school always has a policy").1
    }

    /// The bells of a date; `None` when school is not in session or its schedule does not hold yet.
    pub fn schedule_for(&self, date: NaiveDate) -> Option<DaySchedule<'_>> {
        let day = self.calendar.get(&date)?;
        let schedule = schedule::schedule_on(&self.schedules, &day.schedule, date)?;
        Some(DaySchedule { name: &day.schedule, cycle: day.cycle.as_deref(), bells: &schedule.bells })
    }
}

impl DistrictDirectory {
    pub fn school(&self, id: SchoolId) -> Option<&SchoolEntry> {
        self.roster.schools.get(&id)
    }

    pub fn section(&self, id: SectionId) -> Option<&SectionEntry> {
        self.roster.sections.get(&id)
    }

    pub fn person(&self, id: PersonId) -> Option<&PersonEntry> {
        self.roster.people.get(&id)
    }

    pub fn device(&self, id: DeviceId) -> Option<&DeviceEntry> {
        self.devices.get(&id)
    }

    pub fn badge_by_hash(&self, hash: &SecretHash) -> Option<BadgeEntry> {
        self.badges.get(hash).copied()
    }

    pub fn schedule_for(&self, school: SchoolId, date: NaiveDate) -> Option<DaySchedule<'_>> {
        self.school(school)?.schedule_for(date)
    }

    /// All meetings of a school on a date, in order of time; empty when it is not in session.
    pub fn sections_meeting(&self, school: SchoolId, date: NaiveDate) -> Vec<Meeting> {
        let Some(entry) = self.school(school) else { return Vec::new() };
        let Some(day) = entry.schedule_for(date) else { return Vec::new() };
        let running = entry.sections.iter().filter_map(|id| self.section(*id)).filter(|section| section.runs_on(date));
        schedule::meetings_on(running.flat_map(|section| &section.meetings), day.bells, date, day.cycle, entry.zone)
    }

    pub fn students_of(&self, section: SectionId, date: NaiveDate) -> impl Iterator<Item = PersonId> + '_ {
        let enrolled = self.section(section).map(|section| section.students.as_slice()).unwrap_or_default();
        people_on(enrolled, date)
    }

    pub fn teachers_of(&self, section: SectionId, date: NaiveDate) -> impl Iterator<Item = PersonId> + '_ {
        let teaching = self.section(section).map(|section| section.teachers.as_slice()).unwrap_or_default();
        people_on(teaching, date)
    }

    /// Students who are members of a school on a date.
    pub fn students_in(&self, school: SchoolId, date: NaiveDate) -> impl Iterator<Item = &PersonEntry> + '_ {
        self.roster.people.values().filter(move |person| {
            person.kind == PersonKind::Student
                && person.active
                && person
                    .memberships
                    .iter()
                    .any(|membership| membership.school == school && holds_on(membership.starts, membership.ends, date))
        })
    }

    /// Devices of a school.
    pub fn devices_in(&self, school: SchoolId) -> impl Iterator<Item = &DeviceEntry> + '_ {
        self.devices.values().filter(move |device| device.school == school)
    }
}

fn people_on(enrolments: &[Enrolment], date: NaiveDate) -> impl Iterator<Item = PersonId> + '_ {
    enrolments.iter().filter(move |enrolment| holds_on(enrolment.starts, enrolment.ends, date)).map(|enrolment| enrolment.person)
}
