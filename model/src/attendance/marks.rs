//! Which marks stand, and what the strongest of them says about a window.
//!
//! - A mark is withdrawn or superseded by a standing mark that names it and has at least its authority. A `cleared`
//!   that names none withdraws everything that its authority said before in the same place (that period or the day).
//! - Withdrawing a correction lets the corrected mark stand again, and withdrawing a withdrawal does too: undo.
//! - Of the marks that stand, office is above teacher; of one authority, the period's own mark is above the day's;
//!   of one place, the newest counts.
//! - A day mark that says `tardy` or `early_departure` speaks of the periods that its instant touches (without an
//!   instant: of the first or the last period). Of the others it only implies presence, which evidence or any
//!   other mark outweighs.

use super::Window;
use super::day::HeldMark;
use crate::policy::AttendancePolicy;
use crate::schedule::Meeting;
use crate::status::{Authority, Mark, MarkStatus, Rule, Status};
use crate::time::UtcMillis;

/// What the deciding mark says about one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub mark: &'a Mark,
    pub status: Status,
    /// Arrival for tardy, departure for early departure, as far as the mark states it.
    pub at: Option<UtcMillis>,
}

impl Word<'_> {
    pub fn rule(&self) -> Rule {
        match self.mark.authority {
            Authority::Teacher => Rule::TeacherMark,
            Authority::Office => Rule::OfficeMark,
        }
    }
}

/// What all marks together say about one window.
pub(super) enum Verdict<'a> {
    /// A human's word: above evidence.
    Says(Word<'a>),
    /// A day mark implies presence: below evidence, above the lack of it.
    Implies(Word<'a>),
    Nothing,
}

enum Claim {
    Says(Status, Option<UtcMillis>),
    Implies,
}

/// Decides anew which marks stand. A mark stands unless a standing one removes it; marks that remove each other in a
/// circle, which only damaged data can do, all stand.
pub(super) fn settle(marks: &mut [HeldMark]) {
    let mut decided: Vec<Option<bool>> = vec![None; marks.len()];
    // Newest first: a removal is nearly always newer than what it removes, so the recursion stays flat.
    for place in (0..marks.len()).rev() {
        stands(marks, place, &mut decided);
    }
    for (held, decided) in marks.iter_mut().zip(decided) {
        held.stands = decided.unwrap_or(true);
    }
}

fn stands(marks: &[HeldMark], place: usize, decided: &mut [Option<bool>]) -> bool {
    if let Some(stands) = decided[place] {
        return stands;
    }
    decided[place] = Some(true);
    let removed = (0..marks.len()).any(|other| other != place && removes(marks, other, place) && stands(marks, other, decided));
    decided[place] = Some(!removed);
    !removed
}

fn removes(marks: &[HeldMark], other: usize, place: usize) -> bool {
    let (later, earlier) = (&marks[other].mark, &marks[place].mark);
    match later.supersedes {
        Some(named) => named == earlier.id && later.authority >= earlier.authority,
        None => {
            later.status == MarkStatus::Cleared
                && other > place
                && later.authority == earlier.authority
                && (later.section, later.period) == (earlier.section, earlier.period)
        }
    }
}

fn is_about_day(mark: &Mark) -> bool {
    mark.section.is_none() && mark.period.is_none()
}

fn is_about(mark: &Mark, meeting: &Meeting) -> bool {
    !is_about_day(mark)
        && mark.section.is_none_or(|section| section == meeting.section)
        && mark.period.is_none_or(|period| period == meeting.period)
}

/// What the marks say about a window. For the day, only the marks about the day.
pub(super) fn verdict<'a>(marks: &'a [HeldMark], window: &Window<'_>, policy: &AttendancePolicy) -> Verdict<'a> {
    let mut strongest: Option<((Authority, bool), Word<'a>)> = None;
    let mut implied: Option<(Authority, Word<'a>)> = None;
    let standing = marks.iter().filter(|held| held.stands && held.mark.status != MarkStatus::Cleared);
    for mark in standing.map(|held| &held.mark) {
        let own = match window.meeting() {
            Some(meeting) => is_about(mark, meeting),
            None => is_about_day(mark),
        };
        let claim = match own {
            true => Claim::Says(status_of(mark.status), mark.at),
            false if is_about_day(mark) => claim_of_day(mark, window, policy),
            false => continue,
        };
        // Marks come oldest first, so among equals the last one seen is the newest.
        match claim {
            Claim::Says(status, at) => {
                let rank = (mark.authority, own);
                if strongest.as_ref().is_none_or(|(best, _)| rank >= *best) {
                    strongest = Some((rank, Word { mark, status, at }));
                }
            }
            Claim::Implies => {
                if implied.as_ref().is_none_or(|(best, _)| mark.authority >= *best) {
                    implied = Some((mark.authority, Word { mark, status: Status::Present, at: None }));
                }
            }
        }
    }
    match (strongest, implied) {
        (Some((_, word)), _) => Verdict::Says(word),
        (None, Some((_, word))) => Verdict::Implies(word),
        (None, None) => Verdict::Nothing,
    }
}

/// What a day mark says about one period.
fn claim_of_day(mark: &Mark, window: &Window<'_>, policy: &AttendancePolicy) -> Claim {
    let span = window.span();
    match (mark.status, mark.at) {
        (MarkStatus::Tardy, Some(at)) if at <= span.starts => Claim::Implies,
        (MarkStatus::Tardy, Some(at)) if at >= span.ends => Claim::Says(Status::Absent, None),
        (MarkStatus::Tardy, Some(at)) if at <= window.grace_until(policy) => Claim::Says(Status::Present, Some(at)),
        (MarkStatus::Tardy, Some(at)) if at <= window.tardy_until(policy) => Claim::Says(Status::Tardy, Some(at)),
        (MarkStatus::Tardy, Some(_)) => Claim::Says(Status::Absent, None),
        (MarkStatus::Tardy, None) if window.is_first() => Claim::Says(Status::Tardy, None),
        (MarkStatus::EarlyDeparture, Some(at)) if at >= span.ends => Claim::Implies,
        (MarkStatus::EarlyDeparture, Some(at)) if at <= span.starts => Claim::Says(Status::Absent, None),
        (MarkStatus::EarlyDeparture, None) if window.is_last() => Claim::Says(Status::EarlyDeparture, None),
        (MarkStatus::EarlyDeparture, Some(at)) => Claim::Says(Status::EarlyDeparture, Some(at)),
        (MarkStatus::Tardy | MarkStatus::EarlyDeparture, None) => Claim::Implies,
        (status, _) => Claim::Says(status_of(status), None),
    }
}

fn status_of(status: MarkStatus) -> Status {
    match status {
        MarkStatus::Present => Status::Present,
        MarkStatus::Tardy => Status::Tardy,
        MarkStatus::EarlyDeparture => Status::EarlyDeparture,
        // `cleared` never stands for a status; callers leave it out.
        MarkStatus::AbsentUnexcused | MarkStatus::AbsentExcused | MarkStatus::Cleared => Status::Absent,
    }
}

/// What the marks about single periods add up to for a day without a mark of its own and without evidence.
///
/// Present in any period is present at school; tardy when the day's first period says so, or when an earlier period
/// was marked absent; early departure when the last period in which presence is stated says so. Marked absent only:
/// absent. `None`: no period is marked.
pub(super) fn day_from_periods<'a>(marks: &'a [HeldMark], window: &Window<'_>, policy: &AttendancePolicy) -> Option<Word<'a>> {
    let (mut first_present, mut last_present, mut absent_before): (Option<(bool, Word<'a>)>, _, _) = (None, None, None);
    for index in 0..window.meetings.len() {
        let period = Window::period(window.meetings, index);
        let Verdict::Says(word) = verdict(marks, &period, policy) else { continue };
        if word.status != Status::Absent {
            first_present.get_or_insert((period.is_first(), word));
            last_present = Some(word);
        } else if first_present.is_none() {
            absent_before.get_or_insert(word);
        }
    }
    let Some((is_first, first)) = first_present else { return absent_before };
    let tardy = absent_before.is_some() || (is_first && first.status == Status::Tardy);
    match last_present.filter(|last| last.status == Status::EarlyDeparture) {
        Some(last) => Some(last),
        None if tardy => Some(Word { status: Status::Tardy, ..first }),
        None => Some(Word { status: Status::Present, at: None, ..first }),
    }
}
