//! The numbers of the attendance rules: configuration with an effective date, never constants in code.
//!
//! The JSON form is what stands in the `policy` columns: every field may be left out and then has its default, an
//! unknown field is refused by name. Units are the last word of each field's name.

use serde::{Deserialize, Serialize};

use crate::limits;

/// What a school has decided about attendance. [`AttendancePolicy::validate`] before use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttendancePolicy {
    /// Arrived at most this long after the bell is present.
    pub grace_min: u32,
    /// Arrived after the grace and at most this long after the bell is tardy; later is absent.
    pub tardy_cutoff_min: u32,
    /// Without evidence, expected becomes absent (or unknown) this long after the bell.
    pub absent_after_min: u32,
    /// A gap between out and in of at most this length is bridged: the student did not leave.
    pub reentry_min: u32,
    /// An `auto` scan within this time of the student's previous scan is its repetition and toggles nothing.
    pub repeat_scan_s: u32,
    /// A day with at least this many absent minutes counts as half a day of absence.
    pub half_day_min: u32,
    /// A day with at least this many absent minutes counts as a whole day of absence.
    pub whole_day_min: u32,
    /// A day with at most this many scheduled minutes is a half-day, which has the two thresholds below.
    pub short_day_max_min: u32,
    pub short_day_half_min: u32,
    pub short_day_whole_min: u32,
    /// Fewer enrolled days than this never make a student chronically absent.
    pub chronic_days_min: u32,
    /// How far in the future an event time may lie.
    pub clock_skew_max_ms: i64,
    /// How old an event may be when it arrives.
    pub late_max_ms: i64,
    /// A gate that reports heartbeats and then says nothing for this long is behind.
    pub gate_silence_max_s: u32,
    /// Engagement: two events of a student at most this far apart are one stretch of activity.
    pub activity_gap_max_s: u32,
    /// Engagement: with data of a smaller share of the present students, in percent, resource alignment is not stated.
    pub engagement_coverage_min_pct: u32,
}

impl Default for AttendancePolicy {
    fn default() -> Self {
        Self {
            grace_min: 5,
            tardy_cutoff_min: 20,
            absent_after_min: 20,
            reentry_min: 10,
            repeat_scan_s: 30,
            half_day_min: 120,
            whole_day_min: 240,
            short_day_max_min: 240,
            short_day_half_min: 60,
            short_day_whole_min: 120,
            chronic_days_min: 10,
            clock_skew_max_ms: limits::CLOCK_SKEW_MAX_MS,
            late_max_ms: limits::LATE_MAX_MS,
            gate_silence_max_s: 180,
            activity_gap_max_s: 120,
            engagement_coverage_min_pct: 50,
        }
    }
}

/// Why a policy cannot be used; the message names the fields for the person who wrote it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("{smaller} must not be greater than {greater}")]
    Order { smaller: &'static str, greater: &'static str },
    #[error("{field} must lie between {min} and {max}")]
    Range { field: &'static str, min: i64, max: i64 },
}

/// Most minutes that any field in minutes may say: one day. Keeps sums of instants far from overflow.
pub const POLICY_MIN_MAX: u32 = 24 * 60;

/// Longest repetition and silence that a policy may say, in seconds: one day.
pub const POLICY_S_MAX: u32 = 24 * 60 * 60;

/// Longest gap that activity may bridge: one window of engagement, so that a window depends on its two neighbours only.
pub const ACTIVITY_GAP_S_MAX: u32 = 5 * 60;

impl AttendancePolicy {
    /// Checks what the rules rely on: the order of the thresholds and the range of every number.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let order = |smaller, a: u32, greater, b: u32| {
            if a <= b { Ok(()) } else { Err(PolicyError::Order { smaller, greater }) }
        };
        let range = |field, value: i64, min: i64, max: i64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(PolicyError::Range { field, min, max }) }
        };
        let minutes = |field, value: u32, min: i64| range(field, value.into(), min, POLICY_MIN_MAX.into());
        order("grace_min", self.grace_min, "tardy_cutoff_min", self.tardy_cutoff_min)?;
        order("grace_min", self.grace_min, "absent_after_min", self.absent_after_min)?;
        order("half_day_min", self.half_day_min, "whole_day_min", self.whole_day_min)?;
        order("short_day_half_min", self.short_day_half_min, "short_day_whole_min", self.short_day_whole_min)?;
        minutes("tardy_cutoff_min", self.tardy_cutoff_min, 0)?;
        minutes("absent_after_min", self.absent_after_min, 0)?;
        minutes("reentry_min", self.reentry_min, 0)?;
        // Zero absent minutes would make every day of every student an absence.
        minutes("half_day_min", self.half_day_min, 1)?;
        minutes("whole_day_min", self.whole_day_min, 1)?;
        minutes("short_day_max_min", self.short_day_max_min, 0)?;
        minutes("short_day_half_min", self.short_day_half_min, 1)?;
        minutes("short_day_whole_min", self.short_day_whole_min, 1)?;
        range("repeat_scan_s", self.repeat_scan_s.into(), 0, POLICY_S_MAX.into())?;
        range("gate_silence_max_s", self.gate_silence_max_s.into(), 1, POLICY_S_MAX.into())?;
        range("activity_gap_max_s", self.activity_gap_max_s.into(), 1, ACTIVITY_GAP_S_MAX.into())?;
        range("engagement_coverage_min_pct", self.engagement_coverage_min_pct.into(), 0, 100)?;
        range("clock_skew_max_ms", self.clock_skew_max_ms, 0, 24 * 60 * 60 * 1000)?;
        range("late_max_ms", self.late_max_ms, 0, 400 * 24 * 60 * 60 * 1000)
    }

    pub(crate) const fn reentry_ms(&self) -> i64 {
        self.reentry_min as i64 * 60_000
    }

    pub(crate) const fn repeat_scan_ms(&self) -> i64 {
        self.repeat_scan_s as i64 * 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_the_empty_object_is_the_default() {
        assert_eq!(AttendancePolicy::default().validate(), Ok(()));
        let read: AttendancePolicy = serde_json::from_str("{}").unwrap();
        assert_eq!(read, AttendancePolicy::default());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<AttendancePolicy>(r#"{"grace_minutes": 3}"#).unwrap_err();
        assert!(error.to_string().contains("grace_minutes"), "{error}");
    }

    #[test]
    fn thresholds_out_of_order_or_range_are_refused() {
        let policy = |json: &str| serde_json::from_str::<AttendancePolicy>(json).unwrap().validate();
        let refused = [
            (r#"{"grace_min": 21}"#, "grace_min must not be greater than tardy_cutoff_min"),
            (r#"{"grace_min": 8, "absent_after_min": 7}"#, "grace_min must not be greater than absent_after_min"),
            (r#"{"half_day_min": 300}"#, "half_day_min must not be greater than whole_day_min"),
            (r#"{"half_day_min": 0}"#, "half_day_min must lie between 1 and 1440"),
            (r#"{"reentry_min": 1441}"#, "reentry_min must lie between 0 and 1440"),
            (r#"{"activity_gap_max_s": 301}"#, "activity_gap_max_s must lie between 1 and 300"),
            (r#"{"engagement_coverage_min_pct": 101}"#, "engagement_coverage_min_pct must lie between 0 and 100"),
            (r#"{"gate_silence_max_s": 0}"#, "gate_silence_max_s must lie between 1 and 86400"),
        ];
        for (json, message) in refused {
            assert_eq!(policy(json).unwrap_err().to_string(), message, "{json}");
        }
    }
}
