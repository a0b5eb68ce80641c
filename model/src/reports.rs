//! The arithmetic of days: absences in half-days, membership and attendance, chronic absence.
//!
//! Everything is counted in integer half-days; a quotient is taken at the last moment and is `None` where it would be
//! 0/0. [`day`] has the rows that are counted and what one day is worth, [`figures`] the averages of groups, [`late`] how
//! late people come, [`suppress`] what of a table may be shown to somebody who has no right to single students.
//!
//! A day on which no one knows whether the student was there is neither attended nor absent: it stays in the membership
//! and is counted by itself, so that attended, absent and unknown half-days always add up to the enrolled ones.

pub mod day;
pub mod figures;
pub mod late;
pub mod suppress;

use serde::Serialize;

use self::day::DayValue;
use crate::attendance::Conclusion;
use crate::policy::AttendancePolicy;

/// Absence of one day in half-days: 0, 1 or 2. Meaningful once the day is over. A day with few scheduled minutes has
/// thresholds of its own, and a day without any has no absence.
pub fn absent_half_days(day: &Conclusion, policy: &AttendancePolicy) -> u32 {
    lacking_half_days(day.scheduled_ms, day.present_ms, policy)
}

/// The same of milliseconds that are known by themselves.
pub fn lacking_half_days(scheduled_ms: i64, present_ms: i64, policy: &AttendancePolicy) -> u32 {
    let short = scheduled_ms <= i64::from(policy.short_day_max_min) * 60_000;
    let (half_min, whole_min) = match short {
        true => (policy.short_day_half_min, policy.short_day_whole_min),
        false => (policy.half_day_min, policy.whole_day_min),
    };
    match scheduled_ms - present_ms {
        ms if ms >= i64::from(whole_min) * 60_000 => 2,
        ms if ms >= i64::from(half_min) * 60_000 => 1,
        _ => 0,
    }
}

/// Sums over students and days of one school or district, in half-days.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Two for each student and day in session on which the student was enrolled.
    pub enrolled_half_days: u64,
    /// Excused, unexcused and unexplained alike.
    pub absent_half_days: u64,
    /// Neither attended nor absent: the evidence is missing.
    pub unknown_half_days: u64,
    /// Of the absent ones.
    pub excused_half_days: u64,
    pub unexcused_half_days: u64,
    pub unexplained_half_days: u64,
    /// Days (of a section: meetings) on which the student came late.
    pub tardies: u64,
}

impl Totals {
    /// Adds one day in session on which one student was enrolled.
    pub fn add_day(&mut self, value: DayValue) {
        let (absent, unknown) = (u64::from(value.absent_half_days), u64::from(value.unknown_half_days));
        self.enrolled_half_days += 2;
        self.absent_half_days += absent;
        self.unknown_half_days += unknown;
        match value.absence {
            Some(day::Absence::Excused) => self.excused_half_days += absent,
            Some(day::Absence::Unexcused) => self.unexcused_half_days += absent,
            Some(day::Absence::Unexplained) => self.unexplained_half_days += absent,
            None => {}
        }
        self.tardies += u64::from(value.tardy);
    }

    pub const fn attended_half_days(&self) -> u64 {
        self.enrolled_half_days - self.absent_half_days - self.unknown_half_days
    }

    /// Average daily membership; `None` without a day in session.
    pub fn adm(&self, days_in_session: u32) -> Option<f64> {
        per_day(self.enrolled_half_days, days_in_session)
    }

    /// Average daily attendance; `None` without a day in session.
    pub fn ada(&self, days_in_session: u32) -> Option<f64> {
        per_day(self.attended_half_days(), days_in_session)
    }

    /// Attendance by membership; `None` for 0/0, which is neither 0 nor 100 %.
    pub fn rate(&self) -> Option<f64> {
        (self.enrolled_half_days > 0).then(|| self.attended_half_days() as f64 / self.enrolled_half_days as f64)
    }

    /// Of one student: absent on at least a tenth of enough enrolled days.
    pub fn is_chronic(&self, policy: &AttendancePolicy) -> bool {
        self.enrolled_half_days >= u64::from(policy.chronic_days_min) * 2
            && self.enrolled_half_days > 0
            && 10 * self.absent_half_days >= self.enrolled_half_days
    }

    /// Of one student: below 5 %, 10 %, 20 % absence, or more; `None` without an enrolled day.
    pub fn tier(&self) -> Option<Tier> {
        let (absent, enrolled) = (self.absent_half_days, self.enrolled_half_days);
        match () {
            () if enrolled == 0 => None,
            () if 20 * absent < enrolled => Some(Tier::Satisfactory),
            () if 10 * absent < enrolled => Some(Tier::AtRisk),
            () if 5 * absent < enrolled => Some(Tier::Moderate),
            () => Some(Tier::Severe),
        }
    }
}

/// Tiers of absence by rate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Below 5 %.
    Satisfactory,
    /// From 5 % to below 10 %.
    AtRisk,
    /// From 10 % to below 20 %.
    Moderate,
    /// 20 % and more.
    Severe,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::Satisfactory, Self::AtRisk, Self::Moderate, Self::Severe];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Satisfactory => "satisfactory",
            Self::AtRisk => "at_risk",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.enrolled_half_days += other.enrolled_half_days;
        self.absent_half_days += other.absent_half_days;
        self.unknown_half_days += other.unknown_half_days;
        self.excused_half_days += other.excused_half_days;
        self.unexcused_half_days += other.unexcused_half_days;
        self.unexplained_half_days += other.unexplained_half_days;
        self.tardies += other.tardies;
    }
}

fn per_day(half_days: u64, days_in_session: u32) -> Option<f64> {
    (days_in_session > 0).then(|| half_days as f64 / 2.0 / f64::from(days_in_session))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn student(enrolled_days: u64, absent_half_days: u64) -> Totals {
        Totals { enrolled_half_days: enrolled_days * 2, absent_half_days, ..Totals::default() }
    }

    #[test]
    fn chronic_absence_compares_exactly_and_needs_enough_days() {
        let policy = AttendancePolicy::default();
        let cases = [(180, 36, true), (180, 35, false), (10, 2, true), (9, 18, false), (0, 0, false)];
        for (days, half_days, chronic) in cases {
            assert_eq!(student(days, half_days).is_chronic(&policy), chronic, "{half_days} half-days of {days}");
        }
    }

    #[test]
    fn tiers_begin_exactly_at_their_rate() {
        let cases = [
            (9, Tier::Satisfactory),
            (10, Tier::AtRisk),
            (19, Tier::AtRisk),
            (20, Tier::Moderate),
            (39, Tier::Moderate),
            (40, Tier::Severe),
        ];
        for (half_days, tier) in cases {
            assert_eq!(student(100, half_days).tier(), Some(tier), "{half_days}");
        }
        assert_eq!(student(0, 0).tier(), None);
    }

    #[test]
    fn averages_of_nothing_are_nothing() {
        assert_eq!((Totals::default().rate(), Totals::default().ada(0)), (None, None));
        let mut totals = Totals::default();
        [0, 1, 2, 0].into_iter().for_each(|absent_half_days| totals.add_day(DayValue { absent_half_days, ..DayValue::default() }));
        assert_eq!((totals.adm(2), totals.ada(2), totals.rate()), (Some(2.0), Some(1.25), Some(0.625)));
    }
}
