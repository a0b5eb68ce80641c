//! calendar.csv: which days are in session, under which schedule and rotation day.
//!
//! Ranges are laid first, in the file's order, single dates over them; what is said of one school over what is said
//! of all. A row without a schedule takes days out of session: holidays are written after the range they interrupt.

use std::collections::{BTreeMap, HashSet};

use chrono::{Datelike, NaiveDate};

use super::weekdays::{MONDAY_TO_FRIDAY, parse};
use super::{SchoolNames, Whose};
use crate::package::{Package, PackageError};
use crate::problem::{Code, Place, Problems, quoted};
use crate::roster::{BellSchedule, CalendarDay};
use crate::table::Kind::{Date, Text};
use crate::table::{Column, Row, filled, optional, scan};

pub const FILE: &str = "calendar.csv";

/// Longest range of one row, in days: three school years.
const RANGE_DAYS_MAX: i64 = 1_100;

const SCHOOL: usize = 0;
const DATE: usize = 1;
const FROM: usize = 2;
const TO: usize = 3;
const WEEKDAYS: usize = 4;
const SCHEDULE: usize = 5;
const CYCLE: usize = 6;
const COLUMNS: &[Column] = &[
    filled("school", Text),
    optional("date", Date),
    optional("from", Date),
    optional("to", Date),
    optional("weekdays", Text),
    optional("schedule", Text),
    optional("cycle", Text),
];

/// One row: its days, and what holds on them.
struct Entry {
    whose: Whose,
    single: bool,
    from: NaiveDate,
    to: NaiveDate,
    weekdays: u8,
    schedule: Option<String>,
    /// Rotation days, which follow each other on the row's days.
    cycle: Vec<String>,
    line: u64,
}

pub fn read(
    package: &mut Package,
    schedules: &[BellSchedule],
    names: &SchoolNames,
    schools: usize,
    problems: &mut Problems,
) -> Result<Vec<CalendarDay>, PackageError> {
    let mut entries = Vec::new();
    let mut singles = HashSet::new();
    scan(package, FILE, COLUMNS, problems, |row, problems| {
        let Some(entry) = entry(row, names, problems) else { return };
        let whose = match entry.whose {
            Whose::Every => None,
            Whose::One(school) => Some(school),
        };
        if entry.single && !singles.insert((whose, entry.from)) {
            problems.error(row.place(DATE), Code::DuplicateRow, format!("{} stands twice for {}", entry.from, quoted(row.text(SCHOOL))));
            return;
        }
        entries.push(entry);
    })?;
    // Stable, so that rows of one rank keep the file's order.
    entries.sort_by_key(|e| (e.single, e.whose != Whose::Every));
    let known: HashSet<(usize, &str)> = schedules.iter().map(|s| (s.school, s.name.as_str())).collect();
    let mut told = HashSet::new();
    let mut days = Vec::new();
    for school in 0..schools {
        let mut calendar: BTreeMap<NaiveDate, (Option<&str>, Option<&str>)> = BTreeMap::new();
        for entry in entries.iter().filter(|e| e.whose == Whose::Every || e.whose == Whose::One(school)) {
            if let Some(schedule) = entry.schedule.as_deref().filter(|name| !known.contains(&(school, name)))
                && told.insert(entry.line)
            {
                let place = Place { file: FILE, line: entry.line, column: "schedule" };
                problems.error(
                    place,
                    Code::UnknownSchedule,
                    format!("no bell schedule is named {} in bells.csv for this school", quoted(schedule)),
                );
            }
            lay(entry, &mut calendar);
        }
        days.extend(calendar.into_iter().filter_map(|(date, (schedule, cycle))| {
            schedule.map(|s| CalendarDay { school, date, schedule: s.to_owned(), cycle: cycle.map(str::to_owned) })
        }));
    }
    Ok(days)
}

fn entry(row: &Row<'_>, names: &SchoolNames, problems: &mut Problems) -> Option<Entry> {
    let whose = row.sound.then(|| names.find(row, SCHOOL, problems)).flatten()?;
    let single = row.some(DATE).is_some();
    let (from, to) = match (row.date(DATE), row.date(FROM), row.date(TO)) {
        (Some(date), None, None) => (date, date),
        (None, Some(from), Some(to)) => (from, to),
        _ => {
            problems.error(Place::line(row.file, row.line), Code::MissingValue, "fill either date, or both from and to");
            return None;
        }
    };
    if from > to || (to - from).num_days() > RANGE_DAYS_MAX {
        problems.error(
            row.place(TO),
            Code::EmptyInterval,
            format!("a range runs forward and for at most {RANGE_DAYS_MAX} days, not from {from} to {to}"),
        );
        return None;
    }
    let weekdays = match row.some(WEEKDAYS) {
        None if single => super::weekdays::EVERY_DAY,
        None => MONDAY_TO_FRIDAY,
        Some(text) => parse(text).or_else(|| {
            problems.error(row.place(WEEKDAYS), Code::BadValue, format!("{} are not weekdays, such as Mon-Fri or Mon Wed", quoted(text)));
            None
        })?,
    };
    let cycle = row.text(CYCLE).split('|').map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
    Some(Entry { whose, single, from, to, weekdays, schedule: row.owned(SCHEDULE), cycle, line: row.line })
}

fn lay<'a>(entry: &'a Entry, calendar: &mut BTreeMap<NaiveDate, (Option<&'a str>, Option<&'a str>)>) {
    let mut turn = 0;
    for date in entry.from.iter_days().take_while(|date| *date <= entry.to) {
        if entry.weekdays & (1 << date.weekday().num_days_from_monday()) == 0 {
            continue;
        }
        let cycle = (!entry.cycle.is_empty()).then(|| entry.cycle[turn % entry.cycle.len()].as_str());
        calendar.insert(date, (entry.schedule.as_deref(), cycle));
        turn += 1;
    }
}
