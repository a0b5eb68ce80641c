//! What gates kept of school days before this one: they have been without network and send it when they are first heard of.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{Plan, Scan};

/// Share of students who are away on an ordinary day.
const AWAY: f64 = 0.04;
/// Share of students who are away often, and how often.
const OFTEN: (f64, f64) = (0.12, 0.25);
/// Before the first bell, on average.
const EARLY_MIN: f64 = 10.0;
/// Share of those who come that oversleep, and come so long after the bell.
const LATE: f64 = 0.03;
const LATE_MIN: std::ops::Range<f64> = 6.0..25.0;
/// Everybody has left so long after the last bell.
const LEAVING_MIN: f64 = 10.0;

/// One school's day that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PastDay {
    pub school: String,
    pub first_bell_ms: i64,
    pub last_bell_ms: i64,
}

/// The scans that each gate, by its id, has kept, in the order in which they were made.
pub fn scans(plan: &Plan, seed: u64) -> HashMap<String, Vec<Scan>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut kept: HashMap<String, Vec<Scan>> = HashMap::new();
    for badge in &plan.badges {
        let gates: Vec<&str> = plan
            .devices
            .iter()
            .filter(|device| device.kind == "gate" && device.school == badge.school)
            .map(|gate| gate.id.as_str())
            .collect();
        let away = if random.random_bool(OFTEN.0) { OFTEN.1 } else { AWAY };
        for day in plan.past.iter().filter(|day| day.school == badge.school) {
            let Some(gate) = gates.choose(&mut random).filter(|_| !random.random_bool(away)) else { continue };
            // The sum of four is near enough to a bell curve, ten minutes wide on each side.
            let spread: f64 = (0..4).map(|_| random.random_range(-2.5..2.5)).sum();
            let after = if random.random_bool(LATE) { random.random_range(LATE_MIN) } else { spread - EARLY_MIN };
            let minutes = |minutes: f64| (minutes * 60_000.0) as i64;
            let came = day.first_bell_ms + minutes(after);
            let left = day.last_bell_ms + minutes(random.random_range(0.0..LEAVING_MIN));
            let scan = |ts_ms, direction| Scan { badge: badge.badge.clone(), ts_ms, direction };
            kept.entry((*gate).to_owned()).or_default().extend([scan(came, "in"), scan(left, "out")]);
        }
    }
    kept.values_mut().for_each(|scans| scans.sort_by_key(|scan| scan.ts_ms));
    kept
}

#[cfg(test)]
mod tests {
    use super::super::{PlannedBadge, PlannedDevice};
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    #[test]
    fn every_day_most_come_before_the_bell_and_some_are_away_often() {
        let device = |id: &str, kind: &str| PlannedDevice { id: id.into(), token: String::new(), kind: kind.into(), school: "a".into() };
        let badge = |number: usize| PlannedBadge { badge: number.to_string(), school: if number < 300 { "a" } else { "b" }.into() };
        let day = |number: i64| PastDay { school: "a".into(), first_bell_ms: number * DAY_MS, last_bell_ms: number * DAY_MS + DAY_MS / 4 };
        let plan = Plan {
            mqtt: String::new(),
            http: String::new(),
            devices: vec![device("north", "gate"), device("south", "gate"), device("band", "wearable")],
            badges: (0..400).map(badge).collect(),
            past: (1..=10).map(day).collect(),
        };
        let kept = scans(&plan, 1);
        assert_eq!(kept.len(), 2, "a gate of each: {:?}", kept.keys());
        assert!(kept.values().all(|scans| scans.is_sorted_by_key(|scan| scan.ts_ms)));
        let all: Vec<&Scan> = kept.values().flatten().collect();
        assert!(all.iter().all(|scan| scan.badge.parse::<usize>().unwrap() < 300), "the other school had no such day");
        let mut days: HashMap<&str, usize> = HashMap::new();
        let came = all.iter().filter(|scan| scan.direction == "in");
        let (mut in_time, mut late) = (0, 0);
        for scan in came {
            *days.entry(&scan.badge).or_default() += 1;
            let before_ms = (scan.ts_ms + DAY_MS / 2).div_euclid(DAY_MS) * DAY_MS - scan.ts_ms;
            assert!((-25 * 60_000..=20 * 60_000).contains(&before_ms), "{before_ms}");
            if before_ms >= 0 { in_time += 1 } else { late += 1 }
        }
        assert_eq!(all.len(), 2 * (in_time + late), "whoever comes leaves");
        assert!((2_400..2_950).contains(&in_time) && (30..200).contains(&late), "{in_time} in time, {late} late");
        let often_away = days.values().filter(|days| **days <= 8).count();
        assert!((15..60).contains(&often_away), "{often_away} were away two days or more");
    }
}
