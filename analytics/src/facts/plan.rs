//! The calendar and the roster of past dates: who was a member of a school, and which meetings each student had.
//!
//! Unlike the live plan it does not ask whether a person or a section is active now: who has left in spring was a member
//! in autumn, and the dates of memberships, enrolments and meetings say so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::ids::{PersonId, SchoolId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{self, Meeting, Span};
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::{DistrictDirectory, PersonEntry, PersonKind, SchoolEntry};

/// The students who were ever members of each school of a district, sorted out once.
pub struct Members(HashMap<SchoolId, Vec<Stay>>);

struct Stay {
    student: PersonId,
    grade: Option<Arc<str>>,
    starts: Option<NaiveDate>,
    /// Exclusive.
    ends: Option<NaiveDate>,
    /// There are stays in other schools too, so that the home has to be looked for.
    has_others: bool,
}

/// A student who is a member of the school on the date.
pub(super) struct Member {
    pub student: PersonId,
    pub grade: Option<Arc<str>>,
    pub home: bool,
}

/// One date in session of one school.
pub(super) struct DatePlan<'a> {
    pub date: NaiveDate,
    pub policy: &'a AttendancePolicy,
    /// From midnight to midnight.
    pub span: Span,
    /// When the last instructional bell of the school rings.
    pub closes: UtcMillis,
    /// In the order of `sort_meetings`.
    pub meetings: Vec<Meeting>,
    /// In the order of their ids.
    pub members: Vec<Member>,
    /// Places in `meetings`, ascending; members or not.
    pub places: HashMap<PersonId, Vec<u32>>,
}

fn holds(starts: Option<NaiveDate>, ends: Option<NaiveDate>, date: NaiveDate) -> bool {
    starts.is_none_or(|starts| starts <= date) && ends.is_none_or(|ends| date < ends)
}

impl Members {
    pub fn of(directory: &DistrictDirectory) -> Self {
        let mut by_school: HashMap<SchoolId, Vec<Stay>> = HashMap::new();
        let mut grades: HashMap<&str, Arc<str>> = HashMap::new();
        for person in directory.roster.people.values().filter(|person| person.kind == PersonKind::Student) {
            let grade = person.grade.as_deref().map(|grade| Arc::clone(grades.entry(grade).or_insert_with(|| grade.into())));
            let has_others = person.memberships.iter().any(|stay| stay.school != person.memberships[0].school);
            for stay in &person.memberships {
                let (starts, ends, grade) = (stay.starts, stay.ends, grade.clone());
                by_school.entry(stay.school).or_default().push(Stay { student: person.id, grade, starts, ends, has_others });
            }
        }
        by_school.values_mut().for_each(|stays| stays.sort_unstable_by_key(|stay| (stay.student, stay.starts)));
        Self(by_school)
    }

    fn on(&self, directory: &DistrictDirectory, school: SchoolId, date: NaiveDate) -> Vec<Member> {
        let stays = self.0.get(&school).map_or(&[][..], Vec::as_slice);
        let mut members: Vec<Member> = stays
            .iter()
            .filter(|stay| holds(stay.starts, stay.ends, date))
            .map(|stay| {
                let home = || directory.person(stay.student).is_some_and(|person| home_on(directory, person, date) == Some(school));
                Member { student: stay.student, grade: stay.grade.clone(), home: !stay.has_others || home() }
            })
            .collect();
        // Stays that overlap make one member.
        members.dedup_by_key(|member| member.student);
        members
    }

    /// How many members each grade of a school had on that one of these dates, which are in order, on which it had the
    /// fewest, days without any left aside.
    pub fn fewest(&self, school: SchoolId, dates: &[NaiveDate]) -> BTreeMap<Option<Arc<str>>, u64> {
        let mut steps: BTreeMap<Option<Arc<str>>, Vec<i64>> = BTreeMap::new();
        for stay in self.0.get(&school).map_or(&[][..], Vec::as_slice) {
            let first = dates.partition_point(|date| stay.starts.is_some_and(|starts| *date < starts));
            let last = dates.partition_point(|date| stay.ends.is_none_or(|ends| *date < ends));
            if first < last {
                let of_grade = steps.entry(stay.grade.clone()).or_insert_with(|| vec![0; dates.len() + 1]);
                of_grade[first] += 1;
                of_grade[last] -= 1;
            }
        }
        let fewest = |steps: Vec<i64>| {
            let counts = steps.into_iter().scan(0, |count, step| {
                *count += step;
                Some(*count)
            });
            counts.filter(|count| *count > 0).min().unwrap_or(0).cast_unsigned()
        };
        steps.into_iter().map(|(grade, steps)| (grade, fewest(steps))).collect()
    }
}

/// Of the schools that are in session on the date and have the student as a member, the one that has had the student
/// for longest; of equals, the one with the smallest id.
fn home_on(directory: &DistrictDirectory, person: &PersonEntry, date: NaiveDate) -> Option<SchoolId> {
    let stays = person.memberships.iter().filter(|stay| holds(stay.starts, stay.ends, date));
    let in_session = stays.filter(|stay| directory.schedule_for(stay.school, date).is_some());
    in_session.min_by_key(|stay| (stay.starts, stay.school)).map(|stay| stay.school)
}

/// The dates on which a school is in session between two dates, both inclusive, in order.
pub(super) fn session_dates(school: &SchoolEntry, from: NaiveDate, to: NaiveDate) -> Vec<NaiveDate> {
    let within = school.calendar.keys().copied().filter(|date| (from..=to).contains(date));
    let mut dates: Vec<NaiveDate> = within.filter(|date| school.schedule_for(*date).is_some()).collect();
    dates.sort_unstable();
    dates
}

/// When the last instructional bell of a date rings; the end of the date when there is none. `None`: not in session.
pub(super) fn closes(school: &SchoolEntry, date: NaiveDate) -> Option<UtcMillis> {
    let day = school.schedule_for(date)?;
    let ends = day.bells.iter().filter(|bell| bell.instructional).map(|bell| bell.span_on(date, school.zone).ends).max();
    Some(ends.unwrap_or(schedule::date_span(date, school.zone).ends))
}

/// The meetings of one date, in the order of `sort_meetings`; `None` when the school is not in session.
pub(super) fn meetings(directory: &DistrictDirectory, school: &SchoolEntry, date: NaiveDate) -> Option<Vec<Meeting>> {
    let day = school.schedule_for(date)?;
    let sections = school.sections.iter().filter_map(|id| directory.section(*id));
    let running = sections.filter(|section| holds(section.starts, section.ends, date));
    Some(schedule::meetings_on(running.flat_map(|section| &section.meetings), day.bells, date, day.cycle, school.zone))
}

/// The plan of one date; `None` when the school is not in session.
pub(super) fn plan<'a>(
    directory: &'a DistrictDirectory,
    members: &Members,
    school: &'a SchoolEntry,
    date: NaiveDate,
) -> Option<DatePlan<'a>> {
    let meetings = meetings(directory, school, date)?;
    let mut places: HashMap<PersonId, Vec<u32>> = HashMap::new();
    for (place, meeting) in meetings.iter().enumerate() {
        for student in directory.students_of(meeting.section, date) {
            let of_student = places.entry(student).or_default();
            if of_student.last() != Some(&(place as u32)) {
                of_student.push(place as u32);
            }
        }
    }
    Some(DatePlan {
        date,
        policy: school.policy_on(date),
        span: schedule::date_span(date, school.zone),
        closes: closes(school, date)?,
        meetings,
        members: members.on(directory, school.id, date),
        places,
    })
}

impl DatePlan<'_> {
    /// The meetings of one student in order.
    pub fn meetings_of(&self, student: PersonId) -> Vec<Meeting> {
        let places = self.places.get(&student).map_or(&[][..], Vec::as_slice);
        places.iter().map(|place| self.meetings[*place as usize]).collect()
    }
}
