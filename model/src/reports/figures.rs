//! Averages of groups of students, by school and added up over schools.
//!
//! A school's ADM and ADA are its enrolled and attended days over its own days in session. A group that spans several
//! schools (the district, a grade) has the sums of theirs, so that the figures of the schools add up to the district's
//! even when their calendars differ.

use std::collections::{BTreeMap, HashSet};

use super::Totals;
use super::day::DayValue;
use crate::ids::{PersonId, SchoolId};

/// What is summed up of one group. Feed it each student and day at most once: for the district and grades across
/// schools only the rows of a student's home.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    by_school: BTreeMap<SchoolId, Totals>,
    students: HashSet<PersonId>,
}

/// The quotients of one group; `None` where nothing was in session or nobody was enrolled.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Averages {
    pub adm: Option<f64>,
    pub ada: Option<f64>,
    pub rate: Option<f64>,
}

impl Figures {
    pub fn add(&mut self, school: SchoolId, student: PersonId, value: DayValue) {
        self.by_school.entry(school).or_default().add_day(value);
        self.students.insert(student);
    }

    pub fn totals(&self) -> Totals {
        let mut all = Totals::default();
        self.by_school.values().for_each(|totals| all += *totals);
        all
    }

    /// Distinct students with at least one counted day.
    pub fn students(&self) -> usize {
        self.students.len()
    }

    pub fn persons(&self) -> impl Iterator<Item = PersonId> {
        self.students.iter().copied()
    }

    /// `days_in_session` of each school that the group spans, also of those without a student in it.
    pub fn averages(&self, days_in_session: &BTreeMap<SchoolId, u32>) -> Averages {
        let totals = |school: &SchoolId| self.by_school.get(school).copied().unwrap_or_default();
        averages(days_in_session.iter().map(|(school, days)| (totals(school), *days)))
    }
}

/// The averages of parts that each have days in session of their own. Parts with equal days are put together first, so
/// that schools with one calendar make one exact division.
pub fn averages(parts: impl IntoIterator<Item = (Totals, u32)>) -> Averages {
    let mut by_days: BTreeMap<u32, Totals> = BTreeMap::new();
    for (totals, days) in parts {
        if days > 0 {
            *by_days.entry(days).or_default() += totals;
        }
    }
    // A calendar under which nobody of the group is enrolled adds nothing and must not cost the exact division.
    if by_days.values().any(|totals| totals.enrolled_half_days > 0) {
        by_days.retain(|_, totals| totals.enrolled_half_days > 0);
    }
    if by_days.is_empty() {
        return Averages::default();
    }
    let sum = |of: fn(&Totals) -> u64| by_days.iter().map(|(days, totals)| of(totals) as f64 / 2.0 / f64::from(*days)).sum::<f64>();
    let (adm, ada) = (sum(|totals| totals.enrolled_half_days), sum(Totals::attended_half_days));
    let rate = match by_days.values().next() {
        Some(only) if by_days.len() == 1 => only.rate(),
        _ => (adm > 0.0).then(|| ada / adm),
    };
    Averages { adm: Some(adm), ada: Some(ada), rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schools_with_different_calendars_add_up() {
        let totals = |enrolled, absent| Totals { enrolled_half_days: enrolled, absent_half_days: absent, ..Totals::default() };
        let both = averages([(totals(80, 8), 10), (totals(32, 0), 8)]);
        // 40 days of 10 and 16 days of 8: 4 + 2 students; 36 of 10 and 16 of 8: 3.6 + 2.
        assert_eq!((both.adm, both.ada), (Some(6.0), Some(5.6)));
        assert_eq!(both.rate, Some(5.6 / 6.0));
        assert_eq!(averages([(totals(0, 0), 0)]), Averages::default());
        let empty = averages([(totals(0, 0), 5)]);
        assert_eq!((empty.adm, empty.rate), (Some(0.0), None));
    }
}
