//! From a request to marks in the log: which meeting, which students, whether the caller may, and the wait until the
//! marks are durable and shown.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::NaiveDate;
use parking_lot::Mutex;
use rollcall_model::ids::{DistrictId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{Meeting, date_span};
use rollcall_model::status::{Authority, Mark, MarkStatus, Status};
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use rollcall_store::directory::{PersonKind, SectionEntry};
use rollcall_stream::AppendError;
use serde::Deserialize;

use crate::caller::{Caller, require};
use crate::problem::{ApiError, FieldError};
use crate::rights;
use crate::routes::marks::{MarkRequest, NewMark};
use crate::routes::sections::{meetings_on, shown};
use crate::state::ApiState;

/// Most marks of one request: the largest lecture, twice.
pub const MARKS_MAX: usize = 500;

/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 200;

/// Marks remembered until the sink has certainly written them, so that what was just marked can be undone at once.
const RECENT_MAX: usize = 10_000;

/// How long the board may take to say who is not seen yet.
const BOARD_WAIT_MAX: Duration = Duration::from_secs(5);

/// The newest marks that this process has appended, for reading one's own writes before the sink has stored them.
#[derive(Default)]
pub struct RecentMarks {
    marks: Mutex<VecDeque<(DistrictId, Mark)>>,
    /// The instant at which the last marks were recorded, in milliseconds.
    last_recorded: AtomicI64,
}

impl RecentMarks {
    /// When marks that are made now are recorded: later than all before, even within one millisecond or when the system's
    /// clock was set back, because of two marks about the same the later one counts.
    pub fn next_instant(&self, now: UtcMillis) -> UtcMillis {
        let later = |last: i64| Some(now.0.max(last + 1));
        let last = self.last_recorded.fetch_update(Ordering::AcqRel, Ordering::Acquire, later).unwrap_or_else(|last| last);
        UtcMillis(now.0.max(last + 1))
    }

    fn add(&self, district: DistrictId, marks: &[Mark]) {
        let mut recent = self.marks.lock();
        recent.extend(marks.iter().map(|mark| (district, mark.clone())));
        let surplus = recent.len().saturating_sub(RECENT_MAX);
        recent.drain(..surplus);
    }

    /// A mark of the district.
    pub fn find(&self, district: DistrictId, wanted: impl Fn(&Mark) -> bool) -> Option<Mark> {
        self.marks.lock().iter().rev().find(|(of, mark)| *of == district && wanted(mark)).map(|(_, mark)| mark.clone())
    }

    /// Marks of the district, newest first.
    pub fn list(&self, district: DistrictId, wanted: impl Fn(&Mark) -> bool) -> Vec<Mark> {
        self.marks.lock().iter().rev().filter(|(of, mark)| *of == district && wanted(mark)).map(|(_, mark)| mark.clone()).collect()
    }
}

/// What a request's marks are about.
struct Place<'a> {
    school: SchoolId,
    /// With its meeting; `None`: whole days.
    section: Option<(&'a SectionEntry, PeriodId)>,
    date: NaiveDate,
}

/// Checks a request and makes its marks; nothing is appended yet.
pub async fn prepare(state: &ApiState, caller: &Caller, request: &MarkRequest) -> Result<Vec<Mark>, ApiError> {
    let mut marks = stated(state, caller, request).await?;
    let recorded = state.recent.next_instant(caller.now());
    marks.iter_mut().for_each(|mark| mark.recorded = recorded);
    Ok(marks)
}

async fn stated(state: &ApiState, caller: &Caller, request: &MarkRequest) -> Result<Vec<Mark>, ApiError> {
    let statements = match (&request.marks, request.whole_class) {
        (Some(marks), None) => marks.as_slice(),
        (None, Some(_)) => &[],
        _ => return Err(ApiError::field("marks", "required", "give either `marks` or `whole_class`")),
    };
    if request.whole_class.is_none() && !(1..=MARKS_MAX).contains(&statements.len()) {
        return Err(ApiError::field("marks", "out_of_range", format!("a request has 1 to {MARKS_MAX} marks")));
    }
    let Some(section) = request.section else {
        return prepare_days(caller, request, statements);
    };
    let section = caller.section(section)?;
    let date = request.date.unwrap_or_else(|| caller.today_in(section.school));
    require(rights::may_mark(&caller.who, &caller.directory, section, date), "this account may not mark in this section on that date")?;
    let meeting = meeting_of(caller, section, date, request)?;
    let place = Place { school: section.school, section: Some((section, meeting.period)), date };
    if request.whole_class.is_some() {
        check_date(caller, &place, MarkStatus::Present)?;
        let students = unmarked(state, caller, section.id, date, meeting.period).await?;
        return Ok(students.into_iter().map(|student| mark(caller, &place, student, MarkStatus::Present, None)).collect());
    }
    let enrolled: HashSet<PersonId> = caller.directory.students_of(section.id, date).collect();
    make(caller, &place, statements, |student| enrolled.contains(&student))
}

/// Marks about whole days, by the office.
fn prepare_days(caller: &Caller, request: &MarkRequest, statements: &[NewMark]) -> Result<Vec<Mark>, ApiError> {
    if request.period.is_some() || request.whole_class.is_some() {
        return Err(ApiError::field("section", "required", "a period and a whole class are of a section"));
    }
    require(caller.who.role == Role::Office, "only the office may mark a whole day")?;
    let mut marks = Vec::with_capacity(statements.len());
    for (index, statement) in statements.iter().enumerate() {
        let student = caller.directory.person(statement.student).filter(|person| person.kind == PersonKind::Student);
        let student = student.ok_or_else(|| unknown_student(index))?;
        let school = caller.school_of(student).ok_or_else(|| unknown_student(index))?;
        require(rights::may_mark_day(&caller.who, school), "this student belongs to another school")?;
        let date = request.date.unwrap_or_else(|| caller.today_in(school));
        if caller.school(school)?.schedule_for(date).is_none() {
            return Err(ApiError::field("date", "not_in_session", "the school is not in session on that date"));
        }
        let place = Place { school, section: None, date };
        marks.extend(make(caller, &place, std::slice::from_ref(statement), |_| true).map_err(|error| shifted(error, index))?);
    }
    Ok(marks)
}

fn unknown_student(index: usize) -> ApiError {
    ApiError::field(format!("marks[{index}].student"), "unknown", "there is no such student here on that date")
}

/// Errors of one statement, named by its place in the request.
fn shifted(error: ApiError, index: usize) -> ApiError {
    match error {
        ApiError::Invalid(mut errors) => {
            for error in &mut errors {
                error.field = error.field.replacen("marks[0]", &format!("marks[{index}]"), 1);
            }
            ApiError::Invalid(errors)
        }
        other => other,
    }
}

/// The meeting that is marked: the named one, or the one that the board shows.
fn meeting_of(caller: &Caller, section: &SectionEntry, date: NaiveDate, request: &MarkRequest) -> Result<Meeting, ApiError> {
    let meetings = meetings_on(caller, section, date);
    let chosen = match request.period {
        Some(period) => meetings.iter().find(|meeting| meeting.period == period),
        None if date == caller.today_in(section.school) => shown(&meetings, caller.now()),
        None if meetings.len() > 1 => {
            return Err(ApiError::field("period", "required", "the section meets more than once on that date; say in which period"));
        }
        None => meetings.first(),
    };
    chosen.copied().ok_or_else(|| ApiError::field("period", "does_not_meet", "the section does not meet then"))
}

/// Past days within the policy's time for late evidence, for a teacher; any past day, and excused absences to come, for
/// the office.
fn check_date(caller: &Caller, place: &Place<'_>, status: MarkStatus) -> Result<(), ApiError> {
    let today = caller.today_in(place.school);
    let office = caller.who.role == Role::Office;
    if place.date > today && !(office && status == MarkStatus::AbsentExcused) {
        return Err(ApiError::field("date", "in_future", "only the office may mark days to come, and only as excused"));
    }
    let late_max_ms = caller.school(place.school)?.policy_on(today).late_max_ms;
    let days_back_max = late_max_ms / (24 * 60 * 60 * 1000);
    if !office && (today - place.date).num_days() > days_back_max {
        let message = format!("a teacher may correct the last {days_back_max} days; ask the office");
        return Err(ApiError::field("date", "too_old", message));
    }
    Ok(())
}

fn make(caller: &Caller, place: &Place<'_>, statements: &[NewMark], belongs: impl Fn(PersonId) -> bool) -> Result<Vec<Mark>, ApiError> {
    let (mut errors, mut marks, mut seen) = (Vec::new(), Vec::with_capacity(statements.len()), HashSet::new());
    for (index, statement) in statements.iter().enumerate() {
        let mut refuse = |field: &str, code: &str, message: String| {
            errors.push(FieldError::new(format!("marks[{index}].{field}"), code, message));
        };
        if !belongs(statement.student) {
            refuse("student", "unknown", "there is no such student here on that date".to_owned());
        }
        if !seen.insert(statement.student) {
            refuse("student", "repeated", "a student is marked once in a request".to_owned());
        }
        let status = statement.status.into();
        let reason = statement.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control)) {
            refuse("reason", "not_a_line", format!("a reason is one line of at most {REASON_CHARS_MAX} characters"));
        }
        if let Some(at) = statement.at {
            let zone = caller.school(place.school)?.zone;
            if !matches!(status, MarkStatus::Tardy | MarkStatus::EarlyDeparture) {
                refuse("at", "not_allowed", "only tardy and early departure have a time".to_owned());
            } else if !date_span(place.date, zone).contains(at) {
                refuse("at", "other_date", "the time lies on another date than the mark".to_owned());
            }
        }
        if let Err(ApiError::Invalid(refused)) = check_date(caller, place, status) {
            errors.extend(refused);
            break;
        }
        let mut made = mark(caller, place, statement.student, status, reason.map(str::to_owned));
        made.at = statement.at;
        marks.push(made);
    }
    if errors.is_empty() { Ok(marks) } else { Err(ApiError::Invalid(errors)) }
}

fn mark(caller: &Caller, place: &Place<'_>, student: PersonId, status: MarkStatus, reason: Option<String>) -> Mark {
    Mark {
        id: MarkId::random(),
        school: place.school,
        student,
        section: place.section.map(|(section, _)| section.id),
        period: place.section.map(|(_, period)| period),
        date: place.date,
        status,
        authority: authority(caller),
        author: caller.who.account,
        reason,
        supersedes: None,
        recorded: caller.now(),
        at: None,
    }
}

/// Only teachers and offices come this far.
pub fn authority(caller: &Caller) -> Authority {
    match caller.who.role {
        Role::Office => Authority::Office,
        Role::Teacher | Role::Analyst | Role::Guardian | Role::It => Authority::Teacher,
    }
}

/// What of a section's board decides about the whole class.
#[derive(Deserialize)]
struct BoardSeen {
    students: HashMap<PersonId, EntrySeen>,
    meta: MetaSeen,
}

#[derive(Deserialize)]
struct EntrySeen {
    status: Status,
    detail: DetailSeen,
}

#[derive(Deserialize)]
struct DetailSeen {
    mark: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct MetaSeen {
    date: NaiveDate,
    period: Option<PeriodId>,
}

/// Students of the board whom neither a scan nor a person has placed: expected, unknown, or absent by inference.
async fn unmarked(
    state: &ApiState,
    caller: &Caller,
    section: SectionId,
    date: NaiveDate,
    period: PeriodId,
) -> Result<Vec<PersonId>, ApiError> {
    let board = tokio::time::timeout(BOARD_WAIT_MAX, state.engine.section_board(section)).await.ok().flatten();
    let board = board.ok_or_else(|| ApiError::Unavailable {
        code: "board_not_ready",
        message: "the board of this section is not ready yet; try again".to_owned(),
    })?;
    let board: BoardSeen = serde_json::from_slice(&board.data).map_err(ApiError::internal)?;
    if board.meta.date != date || board.meta.period != Some(period) {
        return Err(ApiError::field("period", "not_on_board", "the whole class can be marked for the meeting that the board shows"));
    }
    let enrolled = caller.directory.students_of(section, date);
    let open = |student: &PersonId| {
        board
            .students
            .get(student)
            .is_some_and(|entry| entry.detail.mark.is_none() && matches!(entry.status, Status::Expected | Status::Unknown | Status::Absent))
    };
    Ok(enrolled.filter(open).collect())
}

/// Appends marks and waits until they are on stable storage and shown. An error means that they are not known to be
/// durable; they may still become so.
pub async fn append(state: &ApiState, district: DistrictId, marks: &[Mark]) -> Result<(), ApiError> {
    if marks.is_empty() {
        return Ok(());
    }
    let unavailable = |code, message: &str| ApiError::Unavailable { code, message: message.to_owned() };
    let offset = state.log.append(vec![rollcall_stream::mark::encode(district, marks)]).map_err(|error| match error {
        AppendError::Full => unavailable("log_full", "the server cannot take marks now: its disk budget is used up"),
        AppendError::Busy => unavailable("log_busy", "the server cannot take marks at the moment; try again"),
        AppendError::Stopped(_) => unavailable("log_stopped", "the server is stopping; try again in a moment"),
    })?;
    durable(state, offset).await?;
    state.recent.add(district, marks);
    // What is durable is true even if the board lags; the wait only spares the caller an old answer.
    state.engine.wait_applied(offset, state.config.write_wait_max).await;
    Ok(())
}

async fn durable(state: &ApiState, offset: Offset) -> Result<(), ApiError> {
    let mut durable = state.log.durable();
    let reached = durable.wait_for(|durable| *durable >= offset);
    match tokio::time::timeout(state.config.write_wait_max, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ApiError::Unavailable {
            code: "log_stopped",
            message: "the server is stopping; the mark is not known to be kept".to_owned(),
        }),
        Err(_) => Err(ApiError::Unavailable {
            code: "not_durable",
            message: "the mark is not on stable storage yet; it may still be kept".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_marks_the_later_one_is_recorded_later() {
        let recent = RecentMarks::default();
        let instants: Vec<i64> = [1000, 1000, 900, 2000].into_iter().map(|now| recent.next_instant(UtcMillis(now)).0).collect();
        assert_eq!(instants, [1000, 1001, 1002, 2000]);
    }
}
