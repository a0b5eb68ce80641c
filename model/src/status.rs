//! Statuses, marks and the explanation that travels with each status.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::event::code;
use crate::ids::{AccountId, DeviceId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use crate::time::UtcMillis;

code!(/** What the system concludes for one student and one period or day. */ Status {
    Expected = 1 "expected",
    Present = 2 "present",
    Tardy = 3 "tardy",
    Absent = 4 "absent",
    EarlyDeparture = 5 "early_departure",
    /** Evidence is missing, so no conclusion is drawn. */
    Unknown = 6 "unknown",
});

code!(/** What a human may state. `Cleared` withdraws the earlier mark of the same authority: undo. */ MarkStatus {
    Present = 2 "present",
    Tardy = 3 "tardy",
    AbsentUnexcused = 4 "absent_unexcused",
    EarlyDeparture = 5 "early_departure",
    AbsentExcused = 7 "absent_excused",
    Cleared = 8 "cleared",
});

code!(/** Whose word a mark is. An office mark stands above a teacher's, whichever came later. */ Authority {
    Teacher = 1 "teacher",
    Office = 2 "office",
});

code!(/** The rule that led to a status; each has one sentence for people in the API. */ Rule {
    BeforeStart = 1 "before_start",
    ArrivedByGrace = 2 "arrived_by_grace",
    ArrivedAfterGrace = 3 "arrived_after_grace",
    ArrivedAfterCutoff = 4 "arrived_after_cutoff",
    NoEvidence = 5 "no_evidence",
    LeftBeforeEnd = 6 "left_before_end",
    LeftBeforeStart = 7 "left_before_start",
    GateBehind = 8 "gate_behind",
    RollNotTaken = 9 "roll_not_taken",
    TeacherMark = 10 "teacher_mark",
    OfficeMark = 11 "office_mark",
    /** The grace has passed without evidence and the absence deadline has not: still expected, overdue. */
    Awaited = 12 "awaited",
});

code!(/** What gate and classroom say of each other; `Review` asks a human, none tells a parent. */ Flag {
    /** In at the gate, absent in class: staff first. */
    InButMarkedAbsent = 1 "in_but_marked_absent",
    /** No scan, present in class: a missed scan. */
    MissedScan = 2 "missed_scan",
    /** Out at the gate, present in class later. */
    ReentryGap = 3 "reentry_gap",
    /** The conclusion used evidence that arrived late. */
    LateEvidence = 4 "late_evidence",
    /** Marked present, then out at the gate before the end: the mark stands, a human looks. */
    LeftAfterMark = 5 "left_after_mark",
});

/// One mark as it travels through the log. Append-only: a correction is a new mark that names the one it supersedes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    pub id: MarkId,
    pub school: SchoolId,
    pub student: PersonId,
    /// `None`: the mark is about the whole day.
    pub section: Option<SectionId>,
    pub period: Option<PeriodId>,
    /// The school's local date.
    pub date: NaiveDate,
    pub status: MarkStatus,
    pub authority: Authority,
    pub author: AccountId,
    pub reason: Option<String>,
    pub supersedes: Option<MarkId>,
    /// When the server recorded it.
    pub recorded: UtcMillis,
    /// When what it states holds from, for tardy and early departure; `None`: not stated.
    pub at: Option<UtcMillis>,
}

/// A scan as attendance sees it: in whichever order it arrived, its place in the log breaks ties of event time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScanEvidence {
    pub student: PersonId,
    pub device: DeviceId,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub direction: crate::event::Direction,
    pub offline: bool,
    pub offset: Offset,
}
