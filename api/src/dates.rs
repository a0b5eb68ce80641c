//! Ranges of dates that a request asks for.

use chrono::{Days, NaiveDate};

use crate::problem::ApiError;

/// The bounds of a range, both inclusive, that has 1 to `days_max` days. What is not given: the last date is `today`, and the first one
/// lies `days_before` it.
pub fn range(
    (from, to): (Option<NaiveDate>, Option<NaiveDate>),
    today: impl FnOnce() -> NaiveDate,
    days_before: u64,
    days_max: i64,
) -> Result<(NaiveDate, NaiveDate), ApiError> {
    let to = to.unwrap_or_else(today);
    let from = from.or(to.checked_sub_days(Days::new(days_before))).unwrap_or(to);
    match (to - from).num_days() + 1 {
        days if (1..=days_max).contains(&days) => Ok((from, to)),
        _ => Err(ApiError::field("from", "out_of_range", format!("a range has 1 to {days_max} days and begins before it ends"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_days_and_no_more() {
        let date = |text: &str| Some(text.parse::<NaiveDate>().unwrap());
        let asked = |from, to| range((from, to), || date("2026-11-20").unwrap(), 6, 10).ok();
        let is = |from, to| Some((date(from).unwrap(), date(to).unwrap()));
        assert_eq!(asked(None, None), is("2026-11-14", "2026-11-20"));
        assert_eq!(asked(None, date("2026-01-03")), is("2025-12-28", "2026-01-03"));
        assert_eq!(asked(date("2026-11-11"), None), is("2026-11-11", "2026-11-20"));
        assert_eq!(asked(date("2026-11-20"), None), is("2026-11-20", "2026-11-20"));
        assert_eq!(asked(date("2026-11-10"), None), None);
        assert_eq!(asked(date("2026-11-21"), None), None);
        assert_eq!(asked(None, Some(NaiveDate::MIN)), Some((NaiveDate::MIN, NaiveDate::MIN)));
        assert_eq!(asked(Some(NaiveDate::MIN), Some(NaiveDate::MAX)), None);
    }
}
