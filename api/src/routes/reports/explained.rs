//! One row behind a figure: a student and a day, or a meeting of a section.

use chrono::{NaiveDate, SecondsFormat};
use rollcall_model::ids::{MarkId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::reports::day::{Absence, AttendanceDay, AttendancePeriod, Basis};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::Serialize;
use utoipa::ToSchema;

use super::behind::{MarkBehind, ScanBehind};
use crate::schema::StatusName;

/// One student and day (of a section: meeting) behind a figure.
#[derive(Serialize, ToSchema)]
pub struct ExplainedRow {
    #[schema(value_type = Uuid)]
    pub student: PersonId,
    pub given: String,
    pub family: String,
    #[schema(value_type = Uuid)]
    pub school: SchoolId,
    /// IANA zone of the school, in which the date and its times are read.
    pub zone: String,
    #[schema(value_type = String, format = Date)]
    pub date: NaiveDate,
    #[schema(value_type = Option<Uuid>)]
    pub section: Option<SectionId>,
    #[schema(value_type = Option<Uuid>)]
    pub period: Option<PeriodId>,
    pub period_name: Option<String>,
    #[schema(value_type = StatusName)]
    pub status: Status,
    #[schema(value_type = String)]
    pub rule: Rule,
    /// What this row adds to the figure.
    pub adds: u64,
    pub absent_half_days: u8,
    pub unknown_half_days: u8,
    /// `excused`, `unexcused` or `unexplained`; null: not absent.
    #[schema(value_type = Option<String>)]
    pub absence: Option<Absence>,
    pub scheduled_min: u32,
    /// Null for a meeting: minutes are kept for days.
    pub present_min: Option<u32>,
    pub late_min: Option<u32>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub arrival: Option<UtcMillis>,
    /// The mark that decided.
    #[schema(value_type = Option<Uuid>)]
    pub mark: Option<MarkId>,
    /// `recorded`, `evidence` (the rules applied to what was known, because nothing final was on record) or
    /// `nothing_scheduled`.
    #[schema(value_type = String)]
    pub basis: Basis,
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub known: UtcMillis,
    /// The scans of the day in order of time, the first 50; with `as_of`, those that the server had by then.
    pub scans: Vec<ScanBehind>,
    /// Further scans of the day that are not in `scans`.
    pub scans_unlisted: u64,
    /// The marks about the day, oldest first: at most 50, the office's and the newest. Of a teacher the own classes and whole days.
    pub marks: Vec<MarkBehind>,
    /// Further marks about the day, whoever may see them, that are not among those 50.
    pub marks_unlisted: u64,
    /// Where the student's day stands with what was concluded of it, and when.
    pub day: String,
}

impl ExplainedRow {
    pub fn of_day(row: &AttendanceDay, adds: u64, as_of: UtcMillis) -> Self {
        Self {
            section: None,
            period: None,
            status: row.status,
            rule: row.rule,
            adds,
            absent_half_days: row.value.absent_half_days,
            unknown_half_days: row.value.unknown_half_days,
            absence: row.value.absence,
            scheduled_min: row.scheduled_min,
            present_min: Some(row.present_min),
            late_min: row.late_min,
            arrival: row.arrival,
            mark: row.mark,
            basis: row.basis,
            known: row.known,
            ..Self::bare(row.student, row.school, row.date, as_of)
        }
    }

    pub fn of_meeting(row: &AttendancePeriod, adds: u64, as_of: UtcMillis) -> Self {
        Self {
            section: Some(row.section),
            period: Some(row.period),
            status: row.status,
            rule: row.rule,
            adds,
            absent_half_days: row.value.absent_half_days,
            unknown_half_days: row.value.unknown_half_days,
            absence: row.value.absence,
            scheduled_min: row.scheduled_min,
            late_min: row.late_min,
            arrival: row.arrival,
            mark: row.mark,
            basis: row.basis,
            known: row.known,
            ..Self::bare(row.student, row.school, row.date, as_of)
        }
    }

    /// What [`super::behind::fill`] completes.
    fn bare(student: PersonId, school: SchoolId, date: NaiveDate, as_of: UtcMillis) -> Self {
        let at = as_of.to_chrono().map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default();
        Self {
            student,
            given: String::new(),
            family: String::new(),
            school,
            zone: String::new(),
            date,
            section: None,
            period: None,
            period_name: None,
            status: Status::Unknown,
            rule: Rule::NoEvidence,
            adds: 0,
            absent_half_days: 0,
            unknown_half_days: 0,
            absence: None,
            scheduled_min: 0,
            present_min: None,
            late_min: None,
            arrival: None,
            mark: None,
            basis: Basis::Evidence,
            known: as_of,
            scans: Vec::new(),
            scans_unlisted: 0,
            marks: Vec::new(),
            marks_unlisted: 0,
            day: format!("/api/v1/students/{student}/days/{date}?at={at}"),
        }
    }
}
