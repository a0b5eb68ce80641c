//! bells.csv: which period rings when in which schedule, and the periods that follow from it.

use std::collections::{BTreeMap, HashMap};

use chrono::{NaiveDate, NaiveTime};

use super::{SchoolNames, Whose};
use crate::package::{Package, PackageError};
use crate::problem::{Code, Problems, quoted};
use crate::roster::{Bell, BellSchedule, Period};
use crate::table::Kind::{Bool, Date, Text, Time};
use crate::table::{Column, filled, optional, scan};

pub const FILE: &str = "bells.csv";

const SCHOOL: usize = 0;
const SCHEDULE: usize = 1;
const PERIOD: usize = 2;
const STARTS: usize = 3;
const ENDS: usize = 4;
const VALID_FROM: usize = 5;
const INSTRUCTIONAL: usize = 6;
const COLUMNS: &[Column] = &[
    filled("school", Text),
    filled("schedule", Text),
    filled("period", Text),
    filled("starts", Time),
    filled("ends", Time),
    optional("valid_from", Date),
    optional("instructional", Bool),
];

/// Schedules without `valid_from` hold from here on: before any day that a roster has.
const ALWAYS: NaiveDate = match NaiveDate::from_ymd_opt(1970, 1, 1) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

type Schedules = BTreeMap<(String, NaiveDate), Vec<Bell>>;

pub fn read(
    package: &mut Package,
    schools: usize,
    names: &SchoolNames,
    problems: &mut Problems,
) -> Result<(Vec<BellSchedule>, Vec<Period>), PackageError> {
    let mut every = Schedules::new();
    let mut own: Vec<Schedules> = vec![Schedules::new(); schools];
    scan(package, FILE, COLUMNS, problems, |row, problems| {
        let (Some(starts), Some(ends), true) = (row.time(STARTS), row.time(ENDS), row.sound) else { return };
        let Some(whose) = names.find(row, SCHOOL, problems) else { return };
        if starts >= ends {
            problems.error(row.place(ENDS), Code::BadBells, format!("ends at {ends}, which is not after its start {starts}"));
            return;
        }
        let schedules = match whose {
            Whose::Every => &mut every,
            Whose::One(school) => &mut own[school],
        };
        let bells = schedules.entry((row.text(SCHEDULE).to_owned(), row.date(VALID_FROM).unwrap_or(ALWAYS))).or_default();
        let period = row.text(PERIOD);
        if bells.iter().any(|bell| bell.period == period) {
            problems.error(
                row.place(PERIOD),
                Code::DuplicateRow,
                format!("period {} rings twice in schedule {}", quoted(period), quoted(row.text(SCHEDULE))),
            );
            return;
        }
        // Two lunch waves may overlap; a slip of the pen looks the same, so somebody should look at it.
        if let Some(other) = bells.iter().find(|bell| bell.starts < ends && starts < bell.ends) {
            let message =
                format!("period {} rings while {} is not over ({} to {})", quoted(period), quoted(&other.period), other.starts, other.ends);
            problems.warn(row.place(STARTS), Code::BadBells, message);
        }
        bells.push(Bell { period: period.to_owned(), starts, ends, instructional: row.is_true(INSTRUCTIONAL).unwrap_or(true) });
    })?;
    let mut schedules = Vec::new();
    let mut periods = Vec::new();
    for (school, own) in own.into_iter().enumerate() {
        let mut all = every.clone();
        all.extend(own);
        periods.extend(periods_of(school, &all));
        schedules.extend(all.into_iter().map(|((name, valid_from), mut bells)| {
            bells.sort_by_key(|bell| (bell.starts, bell.ends));
            BellSchedule { school, name, valid_from, bells }
        }));
    }
    Ok((schedules, periods))
}

/// A school's periods in the order of their earliest start; ties by name.
fn periods_of(school: usize, schedules: &Schedules) -> Vec<Period> {
    let mut first: HashMap<&str, NaiveTime> = HashMap::new();
    for bell in schedules.values().flatten() {
        let starts = first.entry(&bell.period).or_insert(bell.starts);
        *starts = bell.starts.min(*starts);
    }
    let mut order: Vec<_> = first.into_iter().map(|(name, starts)| (starts, name)).collect();
    order.sort_unstable();
    order.into_iter().zip(0..).map(|((_, name), ordinal)| Period { school, name: name.to_owned(), ordinal }).collect()
}
