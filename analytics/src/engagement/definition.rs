//! The definition of the metrics: its version, its parameters and its SQL.
//!
//! A change of what a metric means is a new version with SQL of its own; values of different versions are never mixed.

use rollcall_model::policy::AttendancePolicy;
use rollcall_model::time::UtcMillis;
use serde::{Deserialize, Serialize};

/// Stands beside every value.
pub const VERSION: u16 = 1;

/// Length of a window. Windows begin at multiples of it since the epoch, which in every zone of the world are also
/// multiples of five minutes of local time, and are clipped to the meeting.
pub const WINDOW_MS: i64 = 5 * 60 * 1000;

/// How long after its end a window waits for what is on its way before it is settled. What is received later still
/// changes it, as a correction.
pub const SETTLE_MS: i64 = 60 * 1000;

/// What one student did in one window. Tables: `step`, `carried`, `win`.
pub const STUDENT_SQL: &str = include_str!("definition_1/student.sql");

/// Who counts in a window. Tables: `win`, `presence`.
pub const EXPECTED_SQL: &str = include_str!("definition_1/expected.sql");

/// Who was asked by a quiz and has answered until a window's end. Tables: `win`, `presence`, `quiz`.
pub const ASKED_SQL: &str = include_str!("definition_1/asked.sql");

/// One window of one section. Tables: `win`, `reading`, and the results of [`STUDENT_SQL`] (`observed`), [`EXPECTED_SQL`]
/// (`expected`) and [`ASKED_SQL`] (`asked`), which it asks more than once.
pub const WINDOW_SQL: &str = include_str!("definition_1/window.sql");

/// A resource with this prefix is a quiz.
pub const QUIZ_PREFIX: &str = "quiz:";

/// The numbers of policy that a value was computed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// The longest step between two events that counts as activity.
    pub theta_ms: i64,
    pub coverage_min_pct: i64,
    pub settle_ms: i64,
}

impl From<&AttendancePolicy> for Parameters {
    fn from(policy: &AttendancePolicy) -> Self {
        Self {
            theta_ms: i64::from(policy.activity_gap_max_s) * 1000,
            coverage_min_pct: policy.engagement_coverage_min_pct.into(),
            settle_ms: SETTLE_MS,
        }
    }
}

/// Where the window that an instant lies in begins.
pub fn slot_of(instant: UtcMillis) -> UtcMillis {
    UtcMillis(instant.0.div_euclid(WINDOW_MS) * WINDOW_MS)
}
