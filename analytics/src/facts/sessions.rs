//! When schools were in session and how often sections met, on closed days only: what averages are divided by.
//!
//! Nobody needs to have been there. A grade whose only student enters on a Thursday has that student for two of the five days of the week.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use rollcall_model::ids::{SchoolId, SectionId};
use rollcall_model::reports::day::week_of;
use rollcall_model::schedule::Meeting;
use rollcall_store::directory::SchoolEntry;

use super::plan;
use super::read::Asked;

const DAYS_A_WEEK: usize = 7;

impl Asked {
    /// The closed days in session of each school that was asked for, in order.
    pub(super) fn sessions(&self) -> BTreeMap<SchoolId, Vec<NaiveDate>> {
        let all = |school: &SchoolEntry| plan::session_dates(school, self.from, self.to);
        let of = |school: &SchoolEntry| all(school).into_iter().filter(|date| self.is_closed(school, *date)).collect();
        self.schools.iter().filter_map(|id| self.directory.school(*id)).map(|school| (school.id, of(school))).collect()
    }

    /// How often each section met on closed days.
    pub(super) fn meetings_held(&self) -> BTreeMap<SectionId, u32> {
        let mut held: BTreeMap<SectionId, u32> = BTreeMap::new();
        for (school, dates) in self.sessions() {
            let Some(school) = self.directory.school(school) else { continue };
            for section in dates.into_iter().flat_map(|date| self.meeting_on(school, date)) {
                *held.entry(section).or_default() += 1;
            }
        }
        held
    }

    /// Closed days in session of a school in a date's week, whatever dates are asked for.
    pub(super) fn days_of_week(&self, school: &SchoolEntry, date: NaiveDate) -> u32 {
        self.week(school, date).count() as u32
    }

    /// How often each section met on the closed days of a date's week, whatever dates are asked for.
    pub(super) fn meetings_of_week(&self, school: &SchoolEntry, date: NaiveDate) -> HashMap<SectionId, u32> {
        let mut held: HashMap<SectionId, u32> = HashMap::new();
        for section in self.week(school, date).flat_map(|date| self.meeting_on(school, date)) {
            *held.entry(section).or_default() += 1;
        }
        held
    }

    pub(super) fn wants_meeting(&self, meeting: &Meeting) -> bool {
        meeting.instructional && self.wants_section(&meeting.section)
    }

    pub(super) fn wants_section(&self, section: &SectionId) -> bool {
        self.sections.as_ref().is_none_or(|sections| sections.contains(section))
    }

    fn week<'a>(&'a self, school: &'a SchoolEntry, date: NaiveDate) -> impl Iterator<Item = NaiveDate> + 'a {
        week_of(date).iter_days().take(DAYS_A_WEEK).filter(move |date| self.is_closed(school, *date))
    }

    fn is_closed(&self, school: &SchoolEntry, date: NaiveDate) -> bool {
        plan::closes(school, date).is_some_and(|closes| closes <= self.as_of)
    }

    /// The section of each meeting of a date.
    fn meeting_on(&self, school: &SchoolEntry, date: NaiveDate) -> Vec<SectionId> {
        let meetings = plan::meetings(&self.directory, school, date).unwrap_or_default();
        meetings.iter().filter(|meeting| self.wants_meeting(meeting)).map(|meeting| meeting.section).collect()
    }
}
