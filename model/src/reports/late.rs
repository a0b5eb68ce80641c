//! How late those come who come late.

use std::collections::{BTreeMap, HashMap};

use crate::ids::PersonId;

/// Where the classes of the distribution begin, in minutes after the bell; the last one has no end.
pub const CLASSES_MIN: [u32; 9] = [0, 5, 10, 15, 20, 30, 45, 60, 120];

/// Where the class begins in which a minute falls.
pub fn class_of(minute: u32) -> u32 {
    CLASSES_MIN[place_of(minute)]
}

fn place_of(minute: u32) -> usize {
    CLASSES_MIN.partition_point(|from| *from <= minute).saturating_sub(1)
}

/// A distribution of late arrivals.
#[derive(Clone, Default, Debug)]
pub struct LateArrivals {
    by_minute: BTreeMap<u32, u64>,
    /// Arrivals of each student, by class.
    students: [HashMap<PersonId, u64>; CLASSES_MIN.len()],
    unknown: HashMap<PersonId, u64>,
}

/// One class: arrivals from `from_min` to before `to_min` after the bell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    pub from_min: u32,
    /// Exclusive; `None`: no end.
    pub to_min: Option<u32>,
    pub arrivals: u64,
}

impl LateArrivals {
    /// Adds one late arrival; `None`: somebody stated it without the time.
    pub fn add(&mut self, student: PersonId, late_min: Option<u32>) {
        let Some(minute) = late_min else {
            *self.unknown.entry(student).or_default() += 1;
            return;
        };
        *self.by_minute.entry(minute).or_default() += 1;
        *self.students[place_of(minute)].entry(student).or_default() += 1;
    }

    /// All classes in order, empty ones too.
    pub fn classes(&self) -> Vec<Class> {
        let class = |(place, from_min): (usize, &u32)| {
            let to_min = CLASSES_MIN.get(place + 1).copied();
            let within = self.by_minute.range(from_min..).take_while(|(minute, _)| to_min.is_none_or(|to| **minute < to));
            Class { from_min: *from_min, to_min, arrivals: within.map(|(_, count)| count).sum() }
        };
        CLASSES_MIN.iter().enumerate().map(class).collect()
    }

    /// Late arrivals whose time is not known.
    pub fn unknown(&self) -> u64 {
        self.unknown.values().sum()
    }

    /// The arrivals of each student in the class of a minute; `None`: those whose time is not known.
    pub fn of_each(&self, minute: Option<u32>) -> impl Iterator<Item = (PersonId, u64)> {
        let students = minute.map_or(&self.unknown, |minute| &self.students[place_of(minute)]);
        students.iter().map(|(student, arrivals)| (*student, *arrivals))
    }

    /// Late arrivals whose time is known.
    pub fn known(&self) -> u64 {
        self.by_minute.values().sum()
    }

    /// The smallest minute that at least this share of the arrivals does not exceed (nearest rank); `None` without any.
    /// `percent` is 1 to 100.
    pub fn percentile(&self, percent: u32) -> Option<u32> {
        let rank = (self.known() * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        self.by_minute.iter().find_map(|(minute, count)| {
            seen += count;
            (seen >= rank).then_some(*minute)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_half_open_and_percentiles_are_values_that_occurred() {
        let mut late = LateArrivals::default();
        let student = PersonId::random();
        for minute in [5, 6, 9, 10, 19, 20, 200] {
            late.add(student, Some(minute));
        }
        late.add(PersonId::random(), None);
        let counts: Vec<u64> = late.classes().iter().map(|class| class.arrivals).collect();
        assert_eq!(counts, [0, 3, 1, 1, 1, 0, 0, 0, 1]);
        assert_eq!((late.known(), late.unknown()), (7, 1));
        assert_eq!(late.of_each(Some(7)).collect::<Vec<_>>(), [(student, 3)]);
        assert_eq!(late.of_each(None).count(), 1);
        assert_eq!((late.percentile(50), late.percentile(90), late.percentile(100)), (Some(10), Some(200), Some(200)));
        assert_eq!(LateArrivals::default().percentile(50), None);
        assert_eq!([0, 4, 5, 19, 20, 119, 120, 900].map(class_of), [0, 0, 5, 15, 20, 60, 120, 120]);
    }
}
