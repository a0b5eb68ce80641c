//! meetings.csv: when each class meets; and the classes' own `periods` for those it does not mention.

use std::collections::{HashMap, HashSet};

use super::weekdays::{EVERY_DAY, parse};
use crate::oneroster::CLASSES;
use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::roster::{Meeting, Roster};
use crate::table::Kind::{Date, Text};
use crate::table::{Column, Row, filled, optional, scan};

pub const FILE: &str = "meetings.csv";

const CLASS: usize = 0;
const PERIOD: usize = 1;
const WEEKDAYS: usize = 2;
const CYCLE: usize = 3;
const FROM: usize = 4;
const TO: usize = 5;
const COLUMNS: &[Column] = &[
    filled("class", Text),
    filled("period", Text),
    optional("weekdays", Text),
    optional("cycle", Text),
    optional("from", Date),
    optional("to", Date),
];

pub fn read(package: &mut Package, roster: &Roster, problems: &mut Problems) -> Result<Vec<Meeting>, PackageError> {
    let sections: HashMap<&str, usize> = roster.sections.iter().enumerate().map(|(at, s)| (s.source_id.as_str(), at)).collect();
    let periods: HashSet<(usize, &str)> = roster.timetable.periods.iter().map(|p| (p.school, p.name.as_str())).collect();
    let mut meetings: Vec<Meeting> = Vec::new();
    let mut keys = HashSet::new();
    let mut mentioned = vec![false; roster.sections.len()];
    scan(package, FILE, COLUMNS, problems, |row, problems| {
        let Some(&section) = sections.get(row.text(CLASS)) else {
            if row.some(CLASS).is_some() {
                problems.error(
                    row.place(CLASS),
                    Code::UnknownReference,
                    format!("no active class of classes.csv has the sourcedId {}", quoted(row.text(CLASS))),
                );
            }
            return;
        };
        mentioned[section] = true;
        let Some(meeting) = meeting(row, section, problems) else { return };
        if !periods.contains(&(roster.sections[section].school, meeting.period.as_str())) {
            let message = format!("period {} is not in bells.csv for this class's school", quoted(&meeting.period));
            problems.error(row.place(PERIOD), Code::UnknownPeriod, message);
        } else if !keys.insert((section, meeting.period.clone(), meeting.cycle.clone(), meeting.starts)) {
            problems.error(
                Place::line(row.file, row.line),
                Code::DuplicateRow,
                "class, period, cycle and from stand together already; put all weekdays into one row",
            );
        } else {
            meetings.push(meeting);
        }
    })?;
    let with_bells: HashSet<usize> = roster.timetable.periods.iter().map(|p| p.school).collect();
    for (at, section) in roster.sections.iter().enumerate().filter(|(at, s)| !mentioned[*at] && with_bells.contains(&s.school)) {
        let mut seen = HashSet::new();
        for period in section.periods.iter().filter(|p| seen.insert(p.as_str())) {
            if periods.contains(&(section.school, period.as_str())) {
                meetings.push(Meeting {
                    section: at,
                    period: period.clone(),
                    weekdays: EVERY_DAY,
                    cycle: String::new(),
                    starts: None,
                    ends: None,
                });
            } else {
                let place = Place { file: CLASSES, line: section.line, column: "periods" };
                problems.warn(
                    place,
                    Code::UnknownPeriod,
                    format!("period {} is not in bells.csv for this class's school; the class does not meet then", quoted(period)),
                );
            }
        }
    }
    Ok(meetings)
}

fn meeting(row: &Row<'_>, section: usize, problems: &mut Problems) -> Option<Meeting> {
    let (starts, last) = (row.date(FROM), row.date(TO));
    if let (Some(starts), Some(last)) = (starts, last)
        && starts > last
    {
        problems.error(row.place(TO), Code::EmptyInterval, format!("ends {last}, before it starts ({starts})"));
        return None;
    }
    let weekdays = match row.some(WEEKDAYS) {
        None => EVERY_DAY,
        Some(text) => parse(text).or_else(|| {
            problems.error(row.place(WEEKDAYS), Code::BadValue, format!("{} are not weekdays, such as Mon-Fri or Mon Wed", quoted(text)));
            None
        })?,
    };
    row.sound.then(|| Meeting {
        section,
        period: row.text(PERIOD).to_owned(),
        weekdays,
        cycle: row.text(CYCLE).to_owned(),
        starts,
        ends: last.and_then(|day| day.succ_opt()),
    })
}
