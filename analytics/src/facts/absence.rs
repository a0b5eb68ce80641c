//! Absence of each student over a range of dates, and how it is judged: what chronic absence is counted from.
//!
//! The figures are those of the report ([`report::absences`]): at a school all its closed days count and its policy judges; in the
//! district a student's days count at the student's home, once, and the policy of the school of the newest of them judges. Both as the
//! policy holds on the last date of the range.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use chrono::{Days, NaiveDate};
use rollcall_model::ids::{PersonId, SchoolId, SectionId};
use rollcall_model::reports::Totals;
use rollcall_model::schedule::local_date;
use rollcall_model::time::UtcMillis;
use rollcall_store::StoreError;
use rollcall_store::directory::SchoolEntry;

use super::columns::{COUNT, Column, FLAG, ID, TEXT, counts, dates, flags, ids, instant, instants, schema, texts};
use super::plan::session_dates;
use super::read::{Asked, Reader};
use super::report;

/// Days between two days in session that still belong to one school year. More are the summer.
const PAUSE_DAYS_MAX: i64 = 35;

/// Where there is no such pause, the school year is taken to be as long.
const YEAR_DAYS: u64 = 365;

pub static AT_SCHOOL: LazyLock<Vec<Column>> = LazyLock::new(|| columns("The school, whose policy judges."));

pub static IN_DISTRICT: LazyLock<Vec<Column>> =
    LazyLock::new(|| columns("Where the student was on the newest day that counts; its policy judges."));

/// A student of a school, and a section in which the student is on the last date.
pub static IN_SECTION: LazyLock<Vec<Column>> = LazyLock::new(|| [AT_SCHOOL.clone(), vec![SECTION]].concat());

const SECTION: Column = ("section", ID, false, "A section of the school in which the student is on the last date.");

fn columns(school: &'static str) -> Vec<Column> {
    vec![
        ("district", ID, false, "The district."),
        ("school", ID, false, school),
        ("student", ID, false, "The student, by pseudonymous id."),
        ("grade", TEXT, true, "The grade's code as the roster has it now."),
        (
            "first_date",
            DataType::Date32,
            false,
            "First date of the range: of the school year, unless a query says `first_date = ...`. A pause of more than five weeks ends a year.",
        ),
        ("last_date", DataType::Date32, false, "Last date of the range: today, unless a query says `last_date = ...`."),
        ("as_of", instant(), false, "As it was known at this instant: now, unless a query says `as_of = ...`."),
        ("enrolled_half_days", COUNT, false, "Two for each closed day in session on which the student was a member."),
        ("attended_half_days", COUNT, false, "Enrolled, less absent, less unknown."),
        ("absent_half_days", COUNT, false, "Excused or not."),
        ("excused_half_days", COUNT, false, "Of the absent ones."),
        ("unexcused_half_days", COUNT, false, "Of the absent ones."),
        ("unexplained_half_days", COUNT, false, "Of the absent ones: nobody has said why."),
        ("unknown_half_days", COUNT, false, "Neither attended nor absent: the evidence is missing."),
        ("tardies", COUNT, false, "Days on which the student came late."),
        ("tier", TEXT, false, "By absent of enrolled: satisfactory (below 5 %), at_risk (10 %), moderate (20 %) or severe."),
        ("chronic", FLAG, false, "Absent on at least a tenth of the enrolled days, with as many enrolled days as the policy asks for."),
    ]
}

/// A range of dates, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub first: NaiveDate,
    pub last: NaiveDate,
}

impl Range {
    /// What was not asked for is the school year to date; of several schools, from the earliest of their years on to the latest of
    /// their dates. `None`: there is no school.
    pub fn of(asked: (Option<NaiveDate>, Option<NaiveDate>), schools: &[&SchoolEntry], as_of: UtcMillis) -> Option<Self> {
        let today = schools.iter().filter_map(|school| local_date(as_of, school.zone)).max();
        let last = asked.1.or(today)?;
        let first = asked.0.or_else(|| schools.iter().map(|school| year_begins(school, last)).min())?;
        Some(Self { first, last })
    }
}

/// The first day in session of the school year that a date is in, or after; the date itself where nothing was in session before it.
fn year_begins(school: &SchoolEntry, date: NaiveDate) -> NaiveDate {
    let dates = session_dates(school, date.checked_sub_days(Days::new(YEAR_DAYS)).unwrap_or(date), date);
    let pause = dates.windows(2).rposition(|pair| (pair[1] - pair[0]).num_days() > PAUSE_DAYS_MAX);
    dates.get(pause.map_or(0, |before| before + 1)).copied().unwrap_or(date)
}

/// One student's days of the range, judged.
#[derive(Clone)]
pub(super) struct Judged {
    school: SchoolId,
    student: PersonId,
    grade: Option<Arc<str>>,
    totals: Totals,
    chronic: bool,
}

/// Reads all of what is asked for; in order of school and student.
pub(super) async fn judged(reader: &mut Reader, at_school: bool) -> Result<Vec<Judged>, StoreError> {
    let found = report::absences(reader).await?;
    let (directory, last) = (Arc::clone(&reader.asked().directory), reader.asked().to);
    let judge = |student: PersonId, of: report::StudentTotals| {
        let chronic = directory.school(of.school).is_some_and(|school| of.totals.is_chronic(school.policy_on(last)));
        Judged { school: of.school, student, grade: of.grade, totals: of.totals, chronic }
    };
    let mut judged: Vec<Judged> = match at_school {
        true => found.by_school.into_iter().map(|((_, student), of)| judge(student, of)).collect(),
        false => found.by_student.into_iter().map(|(student, of)| judge(student, of)).collect(),
    };
    judged.sort_unstable_by_key(|judged| (judged.school, judged.student));
    Ok(judged)
}

/// The days at its school of who is in a section on the last date, in order of section and student.
pub(super) fn by_section(judged: Vec<Judged>, asked: &Asked) -> (Vec<SectionId>, Vec<Judged>) {
    let at_school: BTreeMap<(SchoolId, PersonId), Judged> = judged.into_iter().map(|of| ((of.school, of.student), of)).collect();
    let sections = asked.directory.roster.sections.values().filter(|section| asked.schools.contains(&section.school));
    let mut sections: Vec<_> = sections.filter(|section| asked.wants_section(&section.id)).collect();
    sections.sort_unstable_by_key(|section| section.id);
    let mut found = (Vec::new(), Vec::new());
    for section in sections {
        let mut students: Vec<PersonId> = asked.directory.students_of(section.id, asked.to).collect();
        students.sort_unstable();
        students.dedup();
        for of in students.into_iter().filter_map(|student| at_school.get(&(section.school, student))) {
            found.0.push(section.id);
            found.1.push(of.clone());
        }
    }
    found
}

/// They as a batch of [`IN_SECTION`].
pub(super) fn batch_by_section((sections, rows): &(Vec<SectionId>, Vec<Judged>), reader: &Reader) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch(rows, reader)?.columns().to_vec();
    columns.push(ids(sections.iter().map(|section| Some(section.as_bytes())))?);
    RecordBatch::try_new(schema(&IN_SECTION), columns)
}

/// They as a batch of [`AT_SCHOOL`] or [`IN_DISTRICT`], which have the same types.
pub(super) fn batch(rows: &[Judged], reader: &Reader) -> Result<RecordBatch, ArrowError> {
    let asked = reader.asked();
    let count = |of: fn(&Totals) -> u64| counts(rows.iter().map(|row| u32::try_from(of(&row.totals)).ok()));
    let columns = vec![
        ids(rows.iter().map(|_| Some(asked.directory.id.as_bytes())))?,
        ids(rows.iter().map(|row| Some(row.school.as_bytes())))?,
        ids(rows.iter().map(|row| Some(row.student.as_bytes())))?,
        texts(rows.iter().map(|row| row.grade.as_deref())),
        dates(rows.iter().map(|_| asked.from)),
        dates(rows.iter().map(|_| asked.to)),
        instants(rows.iter().map(|_| Some(asked.as_of))),
        count(|totals| totals.enrolled_half_days),
        count(Totals::attended_half_days),
        count(|totals| totals.absent_half_days),
        count(|totals| totals.excused_half_days),
        count(|totals| totals.unexcused_half_days),
        count(|totals| totals.unexplained_half_days),
        count(|totals| totals.unknown_half_days),
        count(|totals| totals.tardies),
        texts(rows.iter().map(|row| row.totals.tier().map(rollcall_model::reports::Tier::as_str))),
        flags(rows.iter().map(|row| row.chronic)),
    ];
    RecordBatch::try_new(schema(&AT_SCHOOL), columns)
}
