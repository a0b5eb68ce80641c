//! What engagement needs of the directory, of live attendance and of the database, so that it runs without them in tests.

use std::sync::Arc;

use rollcall_model::ids::{Offset, PeriodId, PersonId, SectionId};
use rollcall_model::schedule::Span;
use rollcall_model::status::Status;
use rollcall_model::time::UtcMillis;
use rollcall_stream::EventBatch;
use tokio::sync::watch;

use super::calculate::WindowValue;
use super::definition::Parameters;
use super::meeting::MeetingPlan;
use crate::attendance::{BoxFuture, DayKey, EngineHandle, SchoolInfo, SeamError};

/// All meetings of a school on a date, in the order of `rollcall_model::schedule::sort_meetings`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassDay {
    pub meetings: Vec<Arc<MeetingPlan>>,
}

/// Where timetable, roster, consents and allowed resources come from.
pub trait ClassSource: Send + Sync + 'static {
    /// Everything as it is now.
    fn load(&self) -> BoxFuture<'_, Result<Arc<dyn ClassView>, SeamError>>;
    /// Moves whenever `load` would give something new.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// One immutable state of [`ClassSource`], of all districts.
pub trait ClassView: Send + Sync {
    fn schools(&self) -> Vec<SchoolInfo>;
    /// `None`: no such school. Without meetings when the date is not in session.
    fn day(&self, day: DayKey) -> Option<ClassDay>;
    /// The school of a section.
    fn school_of(&self, section: SectionId) -> Option<SchoolInfo>;
}

/// A student in a meeting, as attendance has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Present {
    pub section: SectionId,
    pub period: PeriodId,
    pub student: PersonId,
    pub span: Span,
}

/// Who is present in all meetings of a school's day.
#[derive(Clone, Debug)]
pub struct DayPresence {
    pub version: u64,
    /// `None`: as it was at the version that the caller knows.
    pub present: Option<Vec<Present>>,
}

/// Live attendance.
pub trait PresenceSource: Send + Sync + 'static {
    /// `None`: attendance does not hold this day (now).
    fn presence(&self, day: DayKey, known: u64) -> BoxFuture<'_, Option<DayPresence>>;
}

impl PresenceSource for EngineHandle {
    fn presence(&self, day: DayKey, known: u64) -> BoxFuture<'_, Option<DayPresence>> {
        Box::pin(async move { EngineHandle::presence(self, day, known).await })
    }
}

/// The part of a meeting in which a student with this status counts as present: from the arrival, if one is known, to
/// the departure. `None`: not present as far as anybody knows.
pub fn present_span(status: Status, since: Option<UtcMillis>, arrival: Option<UtcMillis>, meeting: Span) -> Option<Span> {
    let from = |instant: Option<UtcMillis>| instant.unwrap_or(meeting.starts).max(meeting.starts);
    let span = match status {
        Status::Present | Status::Tardy => Span::new(from(since.or(arrival)), meeting.ends),
        Status::EarlyDeparture => Span::new(from(arrival), since.unwrap_or(meeting.ends).min(meeting.ends)),
        Status::Expected | Status::Absent | Status::Unknown => return None,
    };
    (span.length_ms() > 0).then_some(span)
}

/// What the database knows of one meeting at one instant.
#[derive(Clone, Debug)]
pub struct MeetingCut {
    /// Every event of the meeting before this offset is in `events`.
    pub next: Offset,
    pub events: Vec<EventBatch>,
    /// By the statuses last written.
    pub present: Vec<Present>,
}

/// What one student did in one window, for history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StudentRecord {
    pub student: PersonId,
    pub events: u64,
    pub meaningful: u64,
    pub active_ms: u64,
    pub allowed_ms: u64,
}

/// A settled window, for history.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowRecord {
    pub day: DayKey,
    pub section: SectionId,
    pub period: PeriodId,
    /// The beginning before clipping: with section, period and definition the key.
    pub slot: UtcMillis,
    pub span: Span,
    pub parameters: Parameters,
    pub value: WindowValue,
    /// Present students with data, by id.
    pub students: Vec<StudentRecord>,
    pub recorded: UtcMillis,
}

/// The database.
pub trait EngagementStore: Send + Sync + 'static {
    /// Where the reader stands: every window that rows before it have touched is in history. `None`: never ran.
    fn next(&self) -> BoxFuture<'_, Result<Option<Offset>, SeamError>>;
    /// What is stored of one meeting.
    fn load(&self, day: DayKey, meeting: Arc<MeetingPlan>) -> BoxFuture<'_, Result<MeetingCut, SeamError>>;
    /// Appends each record that differs from the newest one of its window, then moves the reader. May be called again
    /// with the same records after a failure.
    fn save(&self, records: Arc<Vec<WindowRecord>>, next: Offset) -> BoxFuture<'_, Result<(), SeamError>>;
}
