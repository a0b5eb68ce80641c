//! Bell schedules of a synthetic school: an ordinary day, a half day, or a day laid around the present minute.

use chrono::{NaiveTime, Timelike};

/// How a synthetic day rings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum DayShape {
    /// Six periods between 08:00 and 15:00, with a break for lunch.
    Ordinary,
    /// Periods laid so that one has started `started_min` minutes before `now`, whatever the hour; negative: one will
    /// start that many minutes after. Near midnight there are fewer periods, because no period crosses it.
    Around { now: NaiveTime, started_min: i32 },
}

pub(super) struct Ring {
    pub period: String,
    pub starts_min: i32,
    pub ends_min: i32,
    pub instructional: bool,
}

const PERIOD_MIN: i32 = 50;
const PASSING_MIN: i32 = 5;
const HALF_PERIOD_MIN: i32 = 30;
const PERIODS: i32 = 6;
/// Minutes of a day; no bell rings later than its last.
const DAY_MIN: i32 = 24 * 60;
/// Periods before and after the present one: the day begins with it, so that a demo shows a first bell.
const AROUND_BEFORE: i32 = 0;
const AROUND_AFTER: i32 = 5;
/// Shortest period worth ringing for.
const SHORTEST_MIN: i32 = 5;

pub(super) fn regular(shape: DayShape) -> Vec<Ring> {
    match shape {
        DayShape::Ordinary => ordinary(),
        DayShape::Around { now, started_min } => {
            let now_min = (now.hour() * 60 + now.minute()) as i32;
            around((now_min - started_min).clamp(0, DAY_MIN - 1 - SHORTEST_MIN))
        }
    }
}

fn ordinary() -> Vec<Ring> {
    let mut rings = Vec::new();
    let mut at = 8 * 60;
    for number in 1..=PERIODS {
        rings.push(ring(number.to_string(), at, at + PERIOD_MIN, true));
        at += PERIOD_MIN + PASSING_MIN;
        if number == 4 {
            rings.push(ring("Lunch".to_owned(), at, at + 35, false));
            at += 35 + PASSING_MIN;
        }
    }
    rings
}

/// Periods before and after one that starts at `start`, numbered from 1 in the order of the day.
fn around(start: i32) -> Vec<Ring> {
    let step = PERIOD_MIN + PASSING_MIN;
    (-AROUND_BEFORE..=AROUND_AFTER)
        .map(|n| start + n * step)
        .map(|starts| (starts, (starts + PERIOD_MIN).min(DAY_MIN - 1)))
        .filter(|(starts, ends)| *starts >= 0 && ends - starts >= SHORTEST_MIN)
        .zip(1..)
        .map(|((starts, ends), number)| ring(number.to_string(), starts, ends, true))
        .collect()
}

/// The same instructional periods, shorter, from the first bell on.
pub(super) fn half_day(regular: &[Ring]) -> Vec<Ring> {
    let first = regular.first().map_or(0, |r| r.starts_min);
    let periods: Vec<_> = regular.iter().filter(|r| r.instructional).collect();
    let count = i32::try_from(periods.len().max(1)).unwrap_or(i32::MAX);
    let length = HALF_PERIOD_MIN.min((DAY_MIN - 1 - first) / count - PASSING_MIN).max(1);
    periods
        .iter()
        .zip(0..)
        .map(|(p, n)| ring(p.period.clone(), first + n * (length + PASSING_MIN), first + n * (length + PASSING_MIN) + length, true))
        .collect()
}

fn ring(period: String, starts_min: i32, ends_min: i32, instructional: bool) -> Ring {
    Ring { period, starts_min, ends_min, instructional }
}

pub(super) fn clock(minute: i32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_every_minute_of_the_day_a_period_has_just_started() {
        for minute in 0..DAY_MIN {
            let now = NaiveTime::from_hms_opt(minute as u32 / 60, minute as u32 % 60, 30).unwrap();
            let rings = regular(DayShape::Around { now, started_min: 4 });
            let running = rings.iter().find(|r| r.starts_min <= minute && minute < r.ends_min);
            // In the last minute of the day nothing can run any more.
            assert!(running.is_some() || minute == DAY_MIN - 1, "{now}");
            if let Some(running) = running {
                assert!(minute - running.starts_min <= 9, "{now}: started at {}", running.starts_min);
            }
            for shape in [&rings, &half_day(&rings)] {
                assert!(shape.windows(2).all(|w| w[0].ends_min <= w[1].starts_min), "{now}");
                assert!(shape.iter().all(|r| r.starts_min < r.ends_min && r.ends_min < DAY_MIN), "{now}");
            }
        }
    }

    #[test]
    fn a_period_can_be_made_to_begin_in_a_few_minutes() {
        let now = NaiveTime::from_hms_opt(14, 40, 0).unwrap();
        let rings = regular(DayShape::Around { now, started_min: -3 });
        assert!(rings.iter().any(|r| clock(r.starts_min) == "14:43"));
        assert_eq!(rings.len(), 6);
    }
}
