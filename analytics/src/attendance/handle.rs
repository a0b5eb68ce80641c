//! What others may ask of live attendance while it runs.

use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_model::attendance::StatusDetail;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::changes::StatusChanges;
use super::seam::DayKey;
use super::statuses::DayStatuses;
use crate::engagement::DayPresence;
use crate::hub::{Hub, Snapshot};

/// Most questions that wait for the engine; further callers wait for a place.
pub(super) const QUESTIONS_MAX: usize = 256;

/// Somebody who is in a building now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Inside {
    pub person: PersonId,
    #[serde(with = "rfc3339")]
    pub since: UtcMillis,
    /// `None`: no scanner saw the person; a mark says so.
    pub device: Option<DeviceId>,
}

/// What holds for a student today.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StudentToday {
    pub school: SchoolId,
    pub date: NaiveDate,
    /// Of the school.
    pub zone: Tz,
    /// First entry and last exit of the day by evidence, before the first bell and after the last one too.
    #[serde(skip)]
    pub seen: Option<(UtcMillis, Option<UtcMillis>)>,
    /// In the building since, by evidence.
    #[serde(with = "rfc3339::option")]
    pub inside_since: Option<UtcMillis>,
    /// `None`: no instruction today.
    pub day: Option<WindowToday>,
    /// In order of time.
    pub periods: Vec<WindowToday>,
}

/// One window of [`StudentToday`].
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WindowToday {
    /// `None` for the day.
    pub section: Option<SectionId>,
    pub period: Option<PeriodId>,
    pub status: Status,
    #[serde(with = "rfc3339::option")]
    pub since: Option<UtcMillis>,
    pub rule: Rule,
    pub detail: StatusDetail,
}

pub(super) enum Question {
    StudentToday {
        district: DistrictId,
        student: PersonId,
        reply: oneshot::Sender<Option<StudentToday>>,
    },
    Building {
        district: DistrictId,
        school: SchoolId,
        reply: oneshot::Sender<Option<Vec<Inside>>>,
    },
    Presence {
        day: DayKey,
        known: u64,
        reply: oneshot::Sender<Option<DayPresence>>,
    },
    Statuses {
        district: DistrictId,
        school: SchoolId,
        known: Option<(NaiveDate, u64)>,
        reply: oneshot::Sender<Option<DayStatuses>>,
    },
    /// Answered after the clock was read and everything due was published.
    Now {
        reply: oneshot::Sender<()>,
    },
}

/// The running engine as the API sees it. Answers are as of the newest applied event; all methods end with "nothing"
/// when the engine has stopped. The caller has authorised the question.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) hub: Hub,
    pub(super) applied: watch::Receiver<Offset>,
    pub(super) changes: StatusChanges,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) questions: mpsc::Sender<Question>,
}

impl EngineHandle {
    /// The board of a section, the same data and version as its live topic; `None`: no such section.
    pub async fn section_board(&self, section: SectionId) -> Option<Snapshot> {
        self.hub.snapshot(&format!("section/{section}/attendance")).await
    }

    /// A student's conclusions of today; `None`: not on the roster of any school of the district.
    pub async fn student_day(&self, district: DistrictId, student: PersonId) -> Option<StudentToday> {
        self.ask(|reply| Question::StudentToday { district, student, reply }).await.flatten()
    }

    /// Who is in the building now, longest first: the evacuation list. Everybody with a badge is on it, and students
    /// whom only a mark says to be present. `None`: no such school, or its day is not loaded yet.
    pub async fn building(&self, district: DistrictId, school: SchoolId) -> Option<Vec<Inside>> {
        self.ask(|reply| Question::Building { district, school, reply }).await.flatten()
    }

    /// Who is present in each meeting of a school's day, unless that is as it was at the version `known`. `None`: the
    /// day is not in memory.
    pub async fn presence(&self, day: DayKey, known: u64) -> Option<DayPresence> {
        self.ask(|reply| Question::Presence { day, known, reply }).await.flatten()
    }

    /// What holds for every expected student of a school today, unless that is as it was at the date and version `known`.
    /// `None`: no such school, or its day is not loaded yet.
    pub async fn statuses(&self, district: DistrictId, school: SchoolId, known: Option<(NaiveDate, u64)>) -> Option<DayStatuses> {
        self.ask(|reply| Question::Statuses { district, school, known, reply }).await.flatten()
    }

    /// Moves with the statuses of today, by events and by the clock.
    pub fn status_changes(&self) -> &StatusChanges {
        &self.changes
    }

    /// Whether today is loaded for every school and everything that was durable at the start is applied.
    pub fn ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until [`EngineHandle::ready`]; false when the engine stopped before.
    pub async fn wait_ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// One past the last event that boards and answers show.
    pub fn applied(&self) -> Offset {
        *self.applied.borrow()
    }

    /// Waits until every event before `offset` shows, at most `within`; false when it does not yet.
    pub async fn wait_applied(&self, offset: Offset, within: Duration) -> bool {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| *applied >= offset);
        matches!(tokio::time::timeout(within, reached).await, Ok(Ok(_)))
    }

    /// Tells the engine that a stepped clock has moved, and waits until all that is due has happened.
    pub async fn clock_moved(&self) {
        self.ask(|reply| Question::Now { reply }).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.ok()?;
        answer.await.ok()
    }
}
