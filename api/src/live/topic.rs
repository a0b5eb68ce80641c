//! The topics that people may follow, and who may.

use std::borrow::Cow;

use chrono::NaiveDate;
use rollcall_analytics::attendance::groups_topic;
use rollcall_model::ids::{DistrictId, PersonId, SchoolId, SectionId};
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::DistrictDirectory;

use crate::caller::{require, today_in};
use crate::problem::ApiError;
use crate::rights::{self, Reports, Who};

/// Longest topic name that is looked at.
const NAME_BYTES_MAX: usize = 96;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    SectionAttendance(SectionId),
    SchoolAttendance(SchoolId),
    DistrictAttendance(DistrictId),
    StudentDay(PersonId),
    SectionEngagement(SectionId),
    DistrictDevices(DistrictId),
}

impl Topic {
    pub fn parse(name: &str) -> Option<Self> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut parts = name.split('/');
        let (kind, id, view) = (parts.next()?, parts.next()?, parts.next()?);
        // Only the canonical spelling of an id: others would be topics of their own that nobody publishes.
        let id = uuid::Uuid::parse_str(id).ok().filter(|parsed| parsed.to_string() == id)?;
        match (kind, view, parts.next()) {
            ("section", "attendance", None) => Some(Self::SectionAttendance(SectionId(id))),
            ("school", "attendance", None) => Some(Self::SchoolAttendance(SchoolId(id))),
            ("district", "attendance", None) => Some(Self::DistrictAttendance(DistrictId(id))),
            ("student", "day", None) => Some(Self::StudentDay(PersonId(id))),
            ("section", "engagement", None) => Some(Self::SectionEngagement(SectionId(id))),
            ("district", "devices", None) => Some(Self::DistrictDevices(DistrictId(id))),
            _ => None,
        }
    }

    /// Under which name the hub has what a caller is told of the topic: of a district, those who may see groups only get another than its office.
    pub fn told_as<'a>(self, name: &'a str, who: &Who) -> Cow<'a, str> {
        match self {
            Self::DistrictAttendance(id) if rights::reports(who) == Some(Reports::Aggregates) => groups_topic(id).into(),
            _ => name.into(),
        }
    }

    /// Refuses when the topic is not the caller's to follow now.
    pub fn check(self, who: &Who, directory: &DistrictDirectory, now: UtcMillis) -> Result<(), ApiError> {
        let section = |id: SectionId| directory.section(id).ok_or(ApiError::NotFound("section"));
        let today = |school: SchoolId| -> NaiveDate { today_in(directory, school, now) };
        match self {
            Self::SectionAttendance(id) => {
                let section = section(id)?;
                let allowed = rights::may_see_section(who, directory, section, today(section.school));
                require(allowed, "this account may not see this section")
            }
            Self::SchoolAttendance(id) => {
                directory.school(id).ok_or(ApiError::NotFound("school"))?;
                require(rights::may_watch_school(who, id), "this account may not see this school's attendance")
            }
            Self::DistrictAttendance(id) => {
                own_district(directory, id)?;
                require(rights::may_watch_district(who), "this account may not see the district's attendance")
            }
            Self::StudentDay(id) => {
                directory.person(id).ok_or(ApiError::NotFound("student"))?;
                require(rights::may_watch_student(who, directory, id), "only a student's guardians follow the day")
            }
            Self::SectionEngagement(id) => {
                let section = section(id)?;
                let allowed = rights::may_watch_engagement(who, directory, id, today(section.school));
                require(allowed, "only a section's teachers follow its engagement")
            }
            Self::DistrictDevices(id) => {
                own_district(directory, id)?;
                require(rights::may_administer(who), "only IT staff follow the devices")
            }
        }
    }
}

fn own_district(directory: &DistrictDirectory, id: DistrictId) -> Result<(), ApiError> {
    if directory.id == id { Ok(()) } else { Err(ApiError::NotFound("district")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_topics_in_their_one_spelling_are_parsed() {
        let id = uuid::Uuid::from_u128(7);
        assert_eq!(Topic::parse(&format!("section/{id}/attendance")), Some(Topic::SectionAttendance(SectionId(id))));
        assert_eq!(Topic::parse(&format!("student/{id}/day")), Some(Topic::StudentDay(PersonId(id))));
        let refused = [
            format!("section/{id}/day"),
            format!("section/{id}/attendance/x"),
            format!("section/{}/attendance", id.simple()),
            format!("section/{id}"),
            format!("section//{id}/attendance"),
            "section/x/attendance".to_owned(),
            String::new(),
            "x".repeat(10_000),
        ];
        for name in refused {
            assert_eq!(Topic::parse(&name), None, "{name}");
        }
    }
}
