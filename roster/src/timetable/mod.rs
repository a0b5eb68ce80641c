//! The timetable that OneRoster does not carry: zones, bells, the calendar, and when classes meet.
//!
//! Four CSV files, each optional, beside the package or inside it:
//!
//! | file | columns |
//! | --- | --- |
//! | schools.csv | school, zone |
//! | bells.csv | school, schedule, valid_from, period, starts, ends, instructional |
//! | calendar.csv | school, date *or* from, to, weekdays; schedule, cycle |
//! | meetings.csv | class, period, weekdays, cycle, from, to |
//!
//! `school` is a sourcedId, a name, or `*` for every school; what is said of one school stands above what is said of
//! all. Without rows in meetings.csv a class meets in the `periods` of its OneRoster row on every day in session.
//! In this module `to` is the last day that is in, as people write calendars; in a [`Roster`] it is the first day out.

mod bells;
mod calendar;
mod meetings;
mod weekdays;

use std::collections::HashMap;

use chrono_tz::Tz;

use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::roster::{Roster, School};
use crate::table::Kind::Text;
use crate::table::{Column, Row, filled, scan};

const SCHOOLS: &str = "schools.csv";
const EVERY_SCHOOL: &str = "*";

/// Fills the roster's timetable and its schools' zones from the files that are there.
pub(crate) fn read(
    package: &mut Package,
    roster: &mut Roster,
    default_zone: Option<Tz>,
    problems: &mut Problems,
) -> Result<(), PackageError> {
    let names = SchoolNames::new(&roster.schools);
    read_zones(package, roster, &names, default_zone, problems)?;
    let (schedules, periods) = bells::read(package, roster.schools.len(), &names, problems)?;
    roster.timetable.schedules = schedules;
    roster.timetable.periods = periods;
    roster.timetable.calendar = calendar::read(package, &roster.timetable.schedules, &names, roster.schools.len(), problems)?;
    roster.timetable.meetings = meetings::read(package, roster, problems)?;
    warn_of_gaps(roster, problems);
    Ok(())
}

/// How a timetable names schools.
struct SchoolNames(HashMap<String, usize>);

/// One school, or all of them.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Every,
    One(usize),
}

impl SchoolNames {
    fn new(schools: &[School]) -> Self {
        let mut names = HashMap::new();
        // Ids last, so that an id stands above a name that happens to equal it.
        names.extend(schools.iter().enumerate().map(|(at, school)| (school.name.clone(), at)));
        names.extend(schools.iter().enumerate().map(|(at, school)| (school.source_id.clone(), at)));
        Self(names)
    }

    fn find(&self, row: &Row<'_>, column: usize, problems: &mut Problems) -> Option<Whose> {
        let text = row.text(column);
        if text == EVERY_SCHOOL {
            return Some(Whose::Every);
        }
        let found = self.0.get(text).copied().map(Whose::One);
        if found.is_none() {
            let message = format!("no school has the sourcedId or name {}; use one of orgs.csv, or * for every school", quoted(text));
            problems.error(row.place(column), Code::UnknownReference, message);
        }
        found
    }
}

fn read_zones(
    package: &mut Package,
    roster: &mut Roster,
    names: &SchoolNames,
    default_zone: Option<Tz>,
    problems: &mut Problems,
) -> Result<(), PackageError> {
    const COLUMNS: &[Column] = &[filled("school", Text), filled("zone", Text)];
    let mut every = default_zone;
    let mut own: Vec<Option<Tz>> = vec![None; roster.schools.len()];
    let mut sound = true;
    scan(package, SCHOOLS, COLUMNS, problems, |row, problems| {
        let whose = if row.sound { names.find(row, 0, problems) } else { None };
        let zone: Option<Tz> = row.some(1).and_then(|text| {
            let zone = text.parse().ok();
            if zone.is_none() {
                problems.error(row.place(1), Code::BadValue, format!("{} is not an IANA time zone, such as America/Chicago", quoted(text)));
            }
            zone
        });
        match (whose, zone) {
            (Some(Whose::Every), Some(_)) => every = zone,
            (Some(Whose::One(school)), Some(_)) if own[school].is_some() => {
                problems.error(row.place(0), Code::DuplicateRow, format!("school {} has a zone already", quoted(row.text(0))));
            }
            (Some(Whose::One(school)), Some(_)) => own[school] = zone,
            _ => sound = false,
        }
    })?;
    for (school, own) in roster.schools.iter_mut().zip(own) {
        match own.or(every) {
            Some(zone) => school.zone = zone,
            // After an error in the file a missing zone is only its consequence.
            None if !sound => {}
            None => {
                let message = format!("school {} has no time zone; say it in schools.csv, or give a default zone", quoted(&school.name));
                problems.error(Place { file: SCHOOLS, line: 0, column: "zone" }, Code::MissingZone, message);
            }
        }
    }
    Ok(())
}

/// What will not work for want of a timetable, said once.
fn warn_of_gaps(roster: &Roster, problems: &mut Problems) {
    let timetable = &roster.timetable;
    let mut without_bells = vec![true; roster.schools.len()];
    let mut without_days = vec![true; roster.schools.len()];
    timetable.schedules.iter().for_each(|s| without_bells[s.school] = false);
    timetable.calendar.iter().for_each(|d| without_days[d.school] = false);
    let list = |missing: &[bool]| {
        let names: Vec<_> = roster.schools.iter().zip(missing).filter(|(_, m)| **m).map(|(s, _)| s.name.as_str()).collect();
        let more = names.len().saturating_sub(3);
        let shown = names.into_iter().take(3).collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    if without_bells.contains(&true) {
        let message = format!(
            "no bell schedule for {}: classes there are imported, but have no times, so no attendance by period",
            list(&without_bells)
        );
        problems.warn(Place::file(bells::FILE), Code::MissingTimetable, message);
    }
    if without_days.contains(&true) {
        let message = format!("no calendar for {}: no day there is in session, so nobody is expected", list(&without_days));
        problems.warn(Place::file(calendar::FILE), Code::MissingTimetable, message);
    }
    let mut meets = vec![false; roster.sections.len()];
    timetable.meetings.iter().for_each(|m| meets[m.section] = true);
    let idle = roster.sections.iter().zip(&meets).filter(|(section, meets)| !**meets && !without_bells[section.school]).count();
    if idle > 0 {
        let message = format!("{idle} classes never meet: they have no row here and no usable periods in classes.csv");
        problems.warn(Place::file(meetings::FILE), Code::MissingTimetable, message);
    }
}
