//! Figures of groups, from the facts: what every report of attendance, tardies, late arrivals and absences is made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::ids::{PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::reports::Totals;
use rollcall_model::reports::day::{DayValue, week_of};
use rollcall_model::reports::figures::{Averages, Figures};
use rollcall_model::reports::late::LateArrivals;
use rollcall_store::StoreError;

use super::read::Reader;

/// By what a report is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    School,
    Grade,
    /// Counted in meetings of the section instead of days.
    Section,
    /// Weeks from Monday on.
    Week,
}

/// One part of a report.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Group {
    School(SchoolId),
    /// `None`: the directory has no grade.
    Grade(Option<Arc<str>>),
    Section(SectionId),
    /// Its Monday.
    Week(NaiveDate),
}

/// The figures of one group.
#[derive(Clone, Default, Debug)]
pub struct Line {
    pub figures: Figures,
    pub averages: Averages,
    /// Of all schools of the group, when they agree. Of a section, how often it met.
    pub days_in_session: Option<u32>,
    pub late: LateArrivals,
    /// What is told of students who were not always there and in time, for figures that are made of one contribution each. Empty unless asked for.
    pub by_student: HashMap<PersonId, Totals>,
    /// Students on each counted day, of a section in each meeting.
    by_day: BTreeMap<(NaiveDate, Option<PeriodId>), u64>,
}

/// A report. `total` counts every student and day once, at the student's home; reports by section have none, because
/// students are in many.
#[derive(Clone, Debug)]
pub struct Report {
    pub lines: BTreeMap<Group, Line>,
    pub total: Option<Line>,
}

/// The days of one student.
#[derive(Clone, Debug)]
pub struct StudentTotals {
    /// The school of the newest day that was counted.
    pub school: SchoolId,
    pub grade: Option<Arc<str>>,
    pub totals: Totals,
    newest: NaiveDate,
}

/// What chronic absence is judged by.
#[derive(Clone, Default, Debug)]
pub struct Absences {
    /// Each student at each school.
    pub by_school: BTreeMap<(SchoolId, PersonId), StudentTotals>,
    /// Each student once, over all schools that were asked for.
    pub by_student: HashMap<PersonId, StudentTotals>,
}

/// Reads all facts and sums them up by group, and `of_each` student in it. Only closed days are counted.
pub async fn collect(reader: &mut Reader, grain: Grain, of_each: bool) -> Result<Report, StoreError> {
    match grain {
        Grain::Section => by_section(reader, of_each).await,
        _ => by_day(reader, grain, of_each).await,
    }
}

async fn by_day(reader: &mut Reader, grain: Grain, of_each: bool) -> Result<Report, StoreError> {
    let sessions = reader.sessions();
    let mut lines: BTreeMap<Group, Line> = BTreeMap::new();
    // What was in session without a student still has its line: there is a membership of nobody.
    for (school, dates) in &sessions {
        for date in dates {
            match grain {
                Grain::School => drop(lines.entry(Group::School(*school)).or_default()),
                Grain::Week => drop(lines.entry(Group::Week(week_of(*date))).or_default()),
                Grain::Grade | Grain::Section => {}
            }
        }
    }
    let one_school = sessions.len() == 1;
    let mut total = Line::default();
    while let Some(rows) = reader.days().await? {
        for row in rows.into_iter().filter(|row| row.closed) {
            let counted = one_school || row.home;
            let group = match grain {
                Grain::School => Group::School(row.school),
                Grain::Week => Group::Week(week_of(row.date)),
                Grain::Grade | Grain::Section => Group::Grade(row.grade),
            };
            if counted {
                total.add(row.school, row.student, (row.date, None), row.value, row.late_min, of_each);
            }
            if counted || grain == Grain::School {
                lines.entry(group).or_default().add(row.school, row.student, (row.date, None), row.value, row.late_min, of_each);
            }
        }
    }
    for (group, line) in &mut lines {
        let days = sessions.iter().filter(|(school, _)| !matches!(group, Group::School(own) if own != *school));
        let within = |dates: &[NaiveDate]| match group {
            Group::Week(monday) => dates.iter().filter(|date| week_of(**date) == *monday).count(),
            _ => dates.len(),
        };
        line.finish(days.map(|(school, dates)| (*school, within(dates) as u32)).collect());
    }
    total.finish(sessions.iter().map(|(school, dates)| (*school, dates.len() as u32)).collect());
    Ok(Report { lines, total: Some(total) })
}

async fn by_section(reader: &mut Reader, of_each: bool) -> Result<Report, StoreError> {
    let held = reader.asked().meetings_held();
    let mut lines: BTreeMap<Group, Line> = held.keys().map(|section| (Group::Section(*section), Line::default())).collect();
    while let Some(rows) = reader.periods().await? {
        for row in rows.into_iter().filter(|row| row.closed) {
            let line = lines.entry(Group::Section(row.section)).or_default();
            line.add(row.school, row.student, (row.date, Some(row.period)), row.value, row.late_min, of_each);
        }
    }
    for (group, line) in &mut lines {
        let Group::Section(section) = group else { continue };
        let school = reader.asked().directory.section(*section).map(|section| section.school);
        let meetings = held.get(section).copied().unwrap_or(0);
        line.finish(school.into_iter().map(|school| (school, meetings)).collect());
    }
    Ok(Report { lines, total: None })
}

/// Reads all days and sums them up by student.
pub async fn absences(reader: &mut Reader) -> Result<Absences, StoreError> {
    let one_school = reader.asked().schools.len() == 1;
    let mut absences = Absences::default();
    while let Some(rows) = reader.days().await? {
        for row in rows.into_iter().filter(|row| row.closed) {
            let (school, grade, newest) = (row.school, row.grade, row.date);
            let empty = || StudentTotals { school, grade: grade.clone(), totals: Totals::default(), newest };
            let at_school = absences.by_school.entry((school, row.student)).or_insert_with(empty);
            at_school.totals.add_day(row.value);
            if one_school || row.home {
                let student = absences.by_student.entry(row.student).or_insert_with(empty);
                student.totals.add_day(row.value);
                if newest >= student.newest {
                    (student.school, student.newest) = (school, newest);
                }
            }
        }
    }
    Ok(absences)
}

impl Line {
    /// The students of the counted day that had the fewest; 0 when nobody was counted. Two ranges of dates that differ by
    /// a day tell of that day's students, so it is this number that decides whether a group is too small to be shown.
    pub fn fewest(&self) -> u64 {
        self.by_day.values().copied().min().unwrap_or(0)
    }

    fn add(
        &mut self,
        school: SchoolId,
        student: PersonId,
        day: (NaiveDate, Option<PeriodId>),
        value: DayValue,
        late_min: Option<u32>,
        of_each: bool,
    ) {
        self.figures.add(school, student, value);
        if of_each && (value.absent_half_days > 0 || value.unknown_half_days > 0 || value.tardy) {
            self.by_student.entry(student).or_default().add_day(value);
        }
        *self.by_day.entry(day).or_default() += 1;
        if value.tardy {
            self.late.add(student, late_min);
        }
    }

    fn finish(&mut self, days: BTreeMap<SchoolId, u32>) {
        self.averages = self.figures.averages(&days);
        let mut counts = days.values();
        self.days_in_session = counts.next().copied().filter(|first| counts.all(|other| other == first));
    }
}
