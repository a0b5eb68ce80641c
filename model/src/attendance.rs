//! The attendance rules: evidence, marks, timetable, policy, coverage and the clock in; a conclusion out.
//!
//! Everything is a pure function. A [`StudentDay`] is a set: the order in which scans and marks arrive, how often,
//! and in which batches does not matter. [`StudentDay::conclude`] says what holds at an instant for one
//! [`Window`] (a period or the day), [`StudentDay::next_change`] when the clock alone will change that, and
//! [`StudentDay::detail`] gives the explanation that is stored and shown. Concluding allocates nothing.
//!
//! What the rules decide where the domain leaves room is in `docs/adr/0002-period-presence.md`.

mod conclude;
mod coverage;
mod day;
mod detail;
mod explain;
mod marks;
mod presence;

pub use conclude::Conclusion;
pub use coverage::{Behind, BehindReason, Coverage, SourceState};
pub use day::StudentDay;
pub use detail::{DECIDING_EVIDENCE_MAX, EvidenceDetail, MarkDetail, StatusDetail};
pub use explain::explain;
pub use presence::{Intervals, Presence};

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::AttendancePolicy;
use crate::schedule::{Meeting, Span, day_span};
use crate::status::Flag;
use crate::time::UtcMillis;

/// What is concluded about: one meeting of a student's day, or the whole day.
///
/// Both borrow all meetings of the student on that date in the order of [`crate::schedule::sort_meetings`]: a day
/// mark has to know which period is the first, and the day which minutes are scheduled.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    meetings: &'a [Meeting],
    /// Index of the meeting; `None`: the day.
    meeting: Option<usize>,
    span: Span,
}

impl<'a> Window<'a> {
    /// The period of one meeting. Panics when there is no such meeting, like a slice.
    pub fn period(meetings: &'a [Meeting], index: usize) -> Self {
        Self { meetings, meeting: Some(index), span: meetings[index].span }
    }

    /// From the first to the last instructional period; `None` for a student who has none on that date.
    pub fn day(meetings: &'a [Meeting]) -> Option<Self> {
        day_span(meetings).map(|span| Self { meetings, meeting: None, span })
    }

    pub fn span(&self) -> Span {
        self.span
    }

    /// The meeting, when the window is a period.
    pub fn meeting(&self) -> Option<&'a Meeting> {
        self.meeting.map(|index| &self.meetings[index])
    }

    pub fn is_day(&self) -> bool {
        self.meeting.is_none()
    }

    /// Whether no instructional period of the day begins before this one.
    pub(crate) fn is_first(&self) -> bool {
        day_span(self.meetings).is_some_and(|day| self.span.starts <= day.starts)
    }

    /// Whether no instructional period of the day ends after this one.
    pub(crate) fn is_last(&self) -> bool {
        day_span(self.meetings).is_some_and(|day| self.span.ends >= day.ends)
    }

    /// Arrived at or before this instant is present.
    pub(crate) fn grace_until(&self, policy: &AttendancePolicy) -> UtcMillis {
        self.span.starts.plus_min(policy.grace_min)
    }

    /// Arrived at or before this instant, and after the grace, is tardy.
    pub(crate) fn tardy_until(&self, policy: &AttendancePolicy) -> UtcMillis {
        self.span.starts.plus_min(policy.tardy_cutoff_min)
    }

    /// From this instant on a student without evidence is no longer expected. Never after the window's end: then
    /// there is nothing left to wait for.
    pub(crate) fn deadline(&self, policy: &AttendancePolicy) -> UtcMillis {
        self.span.starts.plus_min(policy.absent_after_min).min(self.span.ends)
    }

    /// The meetings whose minutes are scheduled in this window, in order.
    pub(crate) fn scheduled(&self) -> impl Iterator<Item = &'a Meeting> {
        let meetings = match self.meeting {
            Some(index) => &self.meetings[index..=index],
            None => self.meetings,
        };
        meetings.iter().filter(|meeting| meeting.instructional)
    }
}

/// A set of [`Flag`]s; in JSON the list of their words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);

    pub fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag.code();
    }

    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag.code()) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Flag> {
        Flag::ALL.iter().copied().filter(move |flag| self.contains(*flag))
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<T: IntoIterator<Item = Flag>>(flags: T) -> Self {
        let mut set = Self::NONE;
        flags.into_iter().for_each(|flag| set.insert(flag));
        set
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for flag in self.iter() {
            list.serialize_element(&flag)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Flag>::deserialize(deserializer)?.into_iter().collect())
    }
}
