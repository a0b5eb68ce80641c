//! Curves of arrivals: steps that only rise. Pure.

use std::collections::BTreeMap;

use super::{ArrivalPoint, STEP_MIN};

/// Where the curve rises: the share of `students` who had arrived by the end of each step of [`STEP_MIN`] minutes.
pub fn points(by_minute: &BTreeMap<u32, u64>, students: u64) -> Vec<ArrivalPoint> {
    let mut arrived = 0;
    let mut points = Vec::with_capacity(by_minute.len());
    for (minute, count) in by_minute.iter().filter(|(_, count)| **count > 0) {
        arrived += count;
        points.push(ArrivalPoint { minute: minute + STEP_MIN, share: share(arrived, students) });
    }
    points
}

/// A student who left the roster in the course of the day may have arrived: never more than everybody.
fn share(arrived: u64, students: u64) -> f64 {
    if students == 0 { 0.0 } else { (arrived as f64 / students as f64).min(1.0) }
}

/// The curve with steps of at least `fewest` students each; what comes after the last such step is left out.
pub fn coarse(points: &[ArrivalPoint], fewest: u64, students: u64) -> Vec<ArrivalPoint> {
    let least = share(fewest, students);
    let mut kept: Vec<ArrivalPoint> = Vec::new();
    for point in points {
        let before = kept.last().map_or(0.0, |last| last.share);
        // Shares are quotients: the tolerance is far below one student.
        if point.share - before >= least - 1e-9 {
            kept.push(*point);
        }
    }
    kept
}

/// The median of several curves at every minute at which one of them rises.
pub fn median(curves: &[Vec<ArrivalPoint>]) -> Vec<ArrivalPoint> {
    let mut minutes: Vec<u32> = curves.iter().flatten().map(|point| point.minute).collect();
    minutes.sort_unstable();
    minutes.dedup();
    let mut found: Vec<ArrivalPoint> = Vec::new();
    for minute in minutes {
        let share = middle(curves.iter().map(|curve| at(curve, minute)).collect());
        if share > found.last().map_or(0.0, |last| last.share) {
            found.push(ArrivalPoint { minute, share });
        }
    }
    found
}

/// What the curve says at a minute.
fn at(curve: &[ArrivalPoint], minute: u32) -> f64 {
    let reached = curve.partition_point(|point| point.minute <= minute);
    reached.checked_sub(1).map_or(0.0, |place| curve[place].share)
}

fn middle(mut shares: Vec<f64>) -> f64 {
    shares.sort_unstable_by(f64::total_cmp);
    let half = shares.len() / 2;
    match shares.len() {
        0 => 0.0,
        n if n % 2 == 1 => shares[half],
        _ => f64::midpoint(shares[half - 1], shares[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(u32, f64)]) -> Vec<ArrivalPoint> {
        points.iter().map(|(minute, share)| ArrivalPoint { minute: *minute, share: *share }).collect()
    }

    #[test]
    fn a_curve_counts_up_to_the_end_of_each_step() {
        let by_minute = BTreeMap::from([(470, 10), (475, 0), (480, 30)]);
        assert_eq!(points(&by_minute, 40), curve(&[(475, 0.25), (485, 1.0)]));
        assert_eq!(points(&BTreeMap::from([(470, 3)]), 0), curve(&[(475, 0.0)]));
    }

    #[test]
    fn the_median_is_taken_at_every_minute_and_one_strange_day_does_not_move_it() {
        let usual = curve(&[(475, 0.2), (485, 0.9)]);
        let late = curve(&[(485, 0.1), (500, 0.9)]);
        assert_eq!(median(&[usual.clone(), usual.clone(), late.clone()]), usual);
        // Of an even number the middle lies between two.
        assert_eq!(median(&[usual, late]), curve(&[(475, 0.1), (485, 0.5), (500, 0.9)]));
        assert_eq!(median(&[]), curve(&[]));
    }

    #[test]
    fn a_step_never_stands_for_fewer_than_asked() {
        let fine = curve(&[(470, 0.05), (475, 0.10), (480, 0.30), (485, 0.34), (490, 0.40)]);
        assert_eq!(coarse(&fine, 10, 100), curve(&[(475, 0.10), (480, 0.30), (490, 0.40)]));
        assert_eq!(coarse(&fine, 10, 20), curve(&[]));
    }
}
