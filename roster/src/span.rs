//! Intervals of dates: first day in, last day out, unbounded where there is none.

use chrono::NaiveDate;

pub(crate) type Span = (Option<NaiveDate>, Option<NaiveDate>);

/// Extends the interval by `next`, which does not start before it, when both overlap or touch; else returns false.
pub(crate) fn join(starts: &mut Option<NaiveDate>, ends: &mut Option<NaiveDate>, next: Span) -> bool {
    debug_assert!(*starts <= next.0);
    let apart = matches!((*ends, next.0), (Some(end), Some(start)) if start > end);
    if apart {
        return false;
    }
    *ends = match (*ends, next.1) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_and_touching_intervals_join() {
        let day = |d| NaiveDate::from_ymd_opt(2026, 9, d);
        // (first, next, joined)
        let cases = [
            ((day(1), day(5)), (day(5), day(9)), Some((day(1), day(9)))),
            ((day(1), day(9)), (day(2), day(3)), Some((day(1), day(9)))),
            ((day(1), day(5)), (day(6), day(9)), None),
            ((None, day(5)), (None, None), Some((None, None))),
            ((None, None), (day(3), day(4)), Some((None, None))),
        ];
        for (first, next, expected) in cases {
            let (mut starts, mut ends) = first;
            let joined = join(&mut starts, &mut ends, next).then_some((starts, ends));
            assert_eq!(joined, expected, "{first:?} {next:?}");
        }
    }
}
