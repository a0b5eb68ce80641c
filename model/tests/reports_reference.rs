//! The arithmetic of reports against a naive reference that keeps every day and calculates with exact fractions.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rollcall_model::ids::{PersonId, SchoolId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::reports::day::DayValue;
use rollcall_model::reports::figures::Figures;
use rollcall_model::reports::{Tier, Totals};
use rollcall_model::status::Status;

/// One student on one day: school, student, what lacks in half-days, and whether anybody knows.
type Row = (u8, u8, u32, bool);

fn school(n: u8) -> SchoolId {
    SchoolId::from_bytes([n; 16])
}

fn value((_, _, lacking, known): Row) -> DayValue {
    DayValue::new(if known { Status::Absent } else { Status::Unknown }, lacking, None)
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn plus((a, b): (i128, i128), (c, d): (i128, i128)) -> (i128, i128) {
    let (numerator, denominator) = (a * d + c * b, b * d);
    let common = gcd(numerator.abs(), denominator).max(1);
    (numerator / common, denominator / common)
}

fn near(got: Option<f64>, exact: Option<(i128, i128)>) -> bool {
    match (got, exact) {
        (None, None) => true,
        (Some(got), Some((numerator, denominator))) => (got - numerator as f64 / denominator as f64).abs() <= 1e-12 * got.abs().max(1.0),
        _ => false,
    }
}

/// Days attended, in half-days.
fn attended(row: &Row) -> i128 {
    2 - i128::from(row.2.min(2))
}

proptest! {
    #[test]
    fn averages_are_the_exact_fractions(
        rows in proptest::collection::vec((0..3u8, 0..6u8, 0..4u32, any::<bool>()), 0..60),
        days in proptest::collection::vec(0..200u32, 3),
    ) {
        // A school without a day in session has no rows.
        let rows: Vec<Row> = rows.into_iter().filter(|row| days[usize::from(row.0)] > 0).collect();
        let mut figures = Figures::default();
        rows.iter().for_each(|row| figures.add(school(row.0), PersonId::from_bytes([row.1; 16]), value(*row)));
        let calendars: BTreeMap<SchoolId, u32> = days.iter().enumerate().map(|(n, days)| (school(n as u8), *days)).collect();
        let averages = figures.averages(&calendars);

        let exact = |of: &dyn Fn(&Row) -> i128| {
            let in_session = days.iter().enumerate().filter(|(_, days)| **days > 0);
            let mut parts = in_session.map(|(n, days)| {
                let half_days: i128 = rows.iter().filter(|row| usize::from(row.0) == n).map(of).sum();
                (half_days, 2 * i128::from(*days))
            });
            let first = parts.next()?;
            Some(parts.fold(first, plus))
        };
        let (adm, ada) = (exact(&|_| 2), exact(&attended));
        prop_assert!(near(averages.adm, adm), "{:?} {adm:?}", averages.adm);
        prop_assert!(near(averages.ada, ada), "{:?} {ada:?}", averages.ada);
        let rate = adm.zip(ada).filter(|(adm, _)| adm.0 > 0).map(|(adm, ada)| (ada.0 * adm.1, ada.1 * adm.0));
        prop_assert!(near(averages.rate, rate), "{:?} {rate:?}", averages.rate);
        prop_assert_eq!(figures.students(), rows.iter().map(|row| row.1).collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn sums_lose_nothing_and_tiers_are_exact(rows in proptest::collection::vec((0..1u8, 0..1u8, 0..4u32, any::<bool>()), 0..400), min in 0..30u32) {
        let mut totals = Totals::default();
        rows.iter().for_each(|row| totals.add_day(value(*row)));
        let absent: u64 = rows.iter().filter(|row| row.3).map(|row| u64::from(row.2.min(2))).sum();
        let days = rows.len() as u64;
        prop_assert_eq!((totals.enrolled_half_days, totals.absent_half_days), (2 * days, absent));
        prop_assert_eq!(totals.attended_half_days() + totals.absent_half_days + totals.unknown_half_days, 2 * days);
        prop_assert_eq!(totals.excused_half_days + totals.unexcused_half_days + totals.unexplained_half_days, absent);

        // Absent by enrolled days as a share in percent, multiplied out.
        let at_least = |percent: u64| 100 * absent >= percent * 2 * days;
        let tier = match () {
            () if days == 0 => None,
            () if at_least(20) => Some(Tier::Severe),
            () if at_least(10) => Some(Tier::Moderate),
            () if at_least(5) => Some(Tier::AtRisk),
            () => Some(Tier::Satisfactory),
        };
        prop_assert_eq!(totals.tier(), tier);
        let policy = AttendancePolicy { chronic_days_min: min, ..AttendancePolicy::default() };
        prop_assert_eq!(totals.is_chronic(&policy), days > 0 && days >= u64::from(min) && at_least(10));
    }
}
