//! When an export is due. Pure.

use chrono::{DateTime, Datelike, Days, NaiveTime, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use rollcall_model::schedule::{instant_of, local_date};
use rollcall_model::time::UtcMillis;

const MINUTE_MS: i64 = 60_000;

/// How often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    Hourly,
    Daily,
    Weekly,
}

impl Every {
    pub const ALL: [Self; 3] = [Self::Hourly, Self::Daily, Self::Weekly];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|every| every.as_str() == text)
    }
}

/// A rhythm on the clocks of one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    pub every: Every,
    /// Of weekly.
    pub weekday: Option<Weekday>,
    /// Local wall-clock time; of hourly only its minute counts.
    pub at: NaiveTime,
    pub zone: Tz,
}

impl Schedule {
    /// The first instant of the rhythm after another. A local time that a change of clocks leaves out is the instant after
    /// the gap; of one that occurs twice the first counts, so that a day has one run.
    pub fn next_after(&self, after: UtcMillis) -> UtcMillis {
        match self.every {
            Every::Hourly => self.next_hour(after),
            Every::Daily | Every::Weekly => self.next_day(after),
        }
    }

    fn next_hour(&self, after: UtcMillis) -> UtcMillis {
        let first = (after.0.div_euclid(MINUTE_MS) + 1) * MINUTE_MS;
        let shows = |instant: &UtcMillis| {
            let local: Option<DateTime<Utc>> = instant.to_chrono();
            local.is_some_and(|utc| utc.with_timezone(&self.zone).minute() == self.at.minute())
        };
        // Clocks that jump by half an hour may leave the minute out of one hour, never out of two.
        (0..120).map(|minutes| UtcMillis(first + minutes * MINUTE_MS)).find(shows).unwrap_or(UtcMillis(first + 60 * MINUTE_MS))
    }

    fn next_day(&self, after: UtcMillis) -> UtcMillis {
        let today = local_date(after, self.zone).unwrap_or_default();
        let days = (0..=8).filter_map(|days| today.checked_add_days(Days::new(days)));
        let wanted = days.filter(|date| self.weekday.is_none_or(|weekday| date.weekday() == weekday));
        let found = wanted.map(|date| instant_of(date, self.at, self.zone)).find(|instant| *instant > after);
        found.unwrap_or(UtcMillis(after.0 + 24 * 60 * MINUTE_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> UtcMillis {
        UtcMillis::from_chrono(text.parse().unwrap())
    }

    fn schedule(every: Every, weekday: Option<Weekday>, at: &str, zone: Tz) -> Schedule {
        Schedule { every, weekday, at: at.parse().unwrap(), zone }
    }

    #[test]
    fn the_next_run_is_on_the_local_clock() {
        use chrono_tz::{America::Chicago, Asia::Kathmandu, Europe::Berlin};
        let cases = [
            (schedule(Every::Daily, None, "06:00:00", Chicago), "2026-11-20T11:59:59Z", "2026-11-20T12:00:00Z"),
            (schedule(Every::Daily, None, "06:00:00", Chicago), "2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z"),
            // Over the night in which clocks go forward: 06:00 comes an hour earlier.
            (schedule(Every::Daily, None, "06:00:00", Chicago), "2026-03-07T12:00:00Z", "2026-03-08T11:00:00Z"),
            // 02:30 does not exist on that day: 03:00 local.
            (schedule(Every::Daily, None, "02:30:00", Chicago), "2026-03-08T06:00:00Z", "2026-03-08T08:00:00Z"),
            // 02:30 occurs twice on 25 October in Berlin: once is enough.
            (schedule(Every::Daily, None, "02:30:00", Berlin), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            (schedule(Every::Weekly, Some(Weekday::Mon), "05:00:00", Berlin), "2026-11-20T00:00:00Z", "2026-11-23T04:00:00Z"),
            (schedule(Every::Weekly, Some(Weekday::Fri), "05:00:00", Berlin), "2026-11-20T04:00:00Z", "2026-11-27T04:00:00Z"),
            (schedule(Every::Hourly, None, "00:10:00", Chicago), "2026-11-20T12:10:00Z", "2026-11-20T13:10:00Z"),
            // Kathmandu is 5:45 ahead: its minute 10 is minute 25 of UTC.
            (schedule(Every::Hourly, None, "09:10:00", Kathmandu), "2026-11-20T12:00:00Z", "2026-11-20T12:25:00Z"),
        ];
        for (schedule, after, expected) in cases {
            assert_eq!(schedule.next_after(ms(after)), ms(expected), "{schedule:?} after {after}");
        }
    }

    #[test]
    fn after_a_year_of_downtime_there_is_one_next_run() {
        let daily = schedule(Every::Daily, None, "06:00:00", chrono_tz::UTC);
        assert_eq!(daily.next_after(ms("2027-11-20T07:00:00Z")), ms("2027-11-21T06:00:00Z"));
    }
}
