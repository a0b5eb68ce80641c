//! The reader: chunk after chunk of facts for some schools, dates and an instant.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::ids::{PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::reports::day::{AttendanceDay, AttendancePeriod, Membership, week_of};
use rollcall_model::schedule::{Meeting, local_date};
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::{DistrictDirectory, SchoolEntry};
use rollcall_store::query::marks;
use rollcall_store::query::reports::{self, ConclusionRow};
use rollcall_store::{Store, StoreError, Tenant};

use super::build::{self, Known, Said};
use super::missed::Missed;
use super::plan::{self, DatePlan, Members};

/// Most dates of one chunk: about 16,000 rows of days for a school of a thousand students.
pub const DATES_PER_CHUNK: usize = 16;

/// What is asked for. Rights are the caller's business: whoever asks has been found to be allowed to.
#[derive(Clone)]
pub struct Asked {
    pub directory: Arc<DistrictDirectory>,
    pub schools: Vec<SchoolId>,
    /// Local dates, both inclusive.
    pub from: NaiveDate,
    pub to: NaiveDate,
    pub as_of: UtcMillis,
    /// Only these students.
    pub students: Option<Arc<HashSet<PersonId>>>,
    /// Of meetings, only those of these sections.
    pub sections: Option<Arc<HashSet<SectionId>>>,
}

/// Reads facts. Dropping it stops the reading; nothing is held between chunks.
pub struct Reader {
    store: Store,
    asked: Asked,
    members: Members,
    chunks: VecDeque<(SchoolId, Vec<NaiveDate>)>,
}

type MeetingKey = (NaiveDate, PersonId, SectionId, PeriodId);

impl Reader {
    pub fn new(store: Store, asked: Asked) -> Self {
        let members = Members::of(&asked.directory);
        let mut chunks = VecDeque::new();
        for school in asked.schools.iter().filter_map(|id| asked.directory.school(*id)) {
            let begun = local_date(asked.as_of, school.zone).unwrap_or_default();
            let dates = plan::session_dates(school, asked.from, asked.to.min(begun));
            chunks.extend(dates.chunks(DATES_PER_CHUNK).map(|dates| (school.id, dates.to_vec())));
        }
        Self { store, asked, members, chunks }
    }

    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The closed days in session of each school that was asked for, in order.
    pub fn sessions(&self) -> BTreeMap<SchoolId, Vec<NaiveDate>> {
        self.asked.sessions()
    }

    /// The next chunk of days, in order of school, date and student; `None`: that was all. A chunk may be empty. When it
    /// fails the same chunk is read by the next call.
    pub async fn days(&mut self) -> Result<Option<Vec<AttendanceDay>>, StoreError> {
        let Some((school, dates)) = self.chunks.front().cloned() else { return Ok(None) };
        let mut rows = Vec::new();
        if let Some(entry) = self.asked.directory.school(school) {
            let mut tenant = self.store.snapshot(self.asked.directory.id).await?;
            let recorded = reports::days(&mut tenant, &self.range(school, &dates)).await?;
            let recorded: HashMap<_, _> = recorded.iter().map(|row| ((row.date, row.student), row)).collect();
            let asked = self.range(school, &dates);
            let marks = marks::of_missed_periods(&mut tenant, school, (asked.from, asked.to), asked.as_of).await?;
            let missed = Missed::new(marks, asked.as_of);
            for date in dates {
                let Some(plan) = plan::plan(&self.asked.directory, &self.members, entry, date) else { continue };
                self.days_on(&mut tenant, entry, &plan, (&recorded, &missed), &mut rows).await?;
            }
        }
        self.chunks.pop_front();
        Ok(Some(rows))
    }

    /// The next chunk of meetings, in order of school, date, time and student; else like [`Reader::days`].
    pub async fn periods(&mut self) -> Result<Option<Vec<AttendancePeriod>>, StoreError> {
        let Some((school, dates)) = self.chunks.front().cloned() else { return Ok(None) };
        let mut rows = Vec::new();
        if let Some(entry) = self.asked.directory.school(school) {
            let mut tenant = self.store.snapshot(self.asked.directory.id).await?;
            let range = self.range(school, &dates);
            let days = reports::days(&mut tenant, &range).await?;
            let done: HashSet<_> = days.iter().filter(|row| build::is_final(row)).map(|row| (row.date, row.student)).collect();
            let recorded = reports::periods(&mut tenant, &range).await?;
            let recorded: HashMap<MeetingKey, _> = recorded.iter().filter_map(|row| Some((meeting_key(row)?, row))).collect();
            let mut weeks: HashMap<NaiveDate, HashMap<SectionId, u32>> = HashMap::new();
            for date in dates {
                let Some(plan) = plan::plan(&self.asked.directory, &self.members, entry, date) else { continue };
                let held = weeks.entry(week_of(date)).or_insert_with(|| self.asked.meetings_of_week(entry, date));
                self.periods_on(&mut tenant, (school, held), &plan, &done, &recorded, &mut rows).await?;
            }
        }
        self.chunks.pop_front();
        Ok(Some(rows))
    }

    /// The next chunk of memberships, in order of school, date and student; `None`: that was all.
    pub fn membership(&mut self) -> Option<Vec<Membership>> {
        let (school, dates) = self.chunks.pop_front()?;
        let directory = &self.asked.directory;
        let Some(entry) = directory.school(school) else { return Some(Vec::new()) };
        let mut rows = Vec::new();
        for plan in dates.into_iter().filter_map(|date| plan::plan(directory, &self.members, entry, date)) {
            let closed = plan.closes <= self.asked.as_of;
            let days_in_session = self.asked.days_of_week(entry, plan.date);
            rows.extend(plan.members.iter().filter(|member| self.wants(member.student)).map(|member| Membership {
                district: directory.id,
                school,
                student: member.student,
                grade: member.grade.clone(),
                date: plan.date,
                home: member.home,
                closed,
                days_in_session,
            }));
        }
        Some(rows)
    }

    async fn days_on(
        &self,
        tenant: &mut Tenant,
        entry: &SchoolEntry,
        plan: &DatePlan<'_>,
        (recorded, missed): (&HashMap<(NaiveDate, PersonId), &ConclusionRow>, &Missed),
        rows: &mut Vec<AttendanceDay>,
    ) -> Result<(), StoreError> {
        let (school, closed) = (entry.id, plan.closes <= self.asked.as_of);
        let days_in_session = self.asked.days_of_week(entry, plan.date);
        let mut known = None;
        for member in plan.members.iter().filter(|member| self.wants(member.student)) {
            let row = recorded.get(&(plan.date, member.student));
            let mut said = match row {
                Some(row) if !closed || build::is_final(row) => build::recorded_day(row, plan.policy, closed),
                _ if !closed => build::expected(scheduled_min(plan, member.student), self.asked.as_of),
                _ => {
                    let meetings = plan.meetings_of(member.student);
                    self.known(tenant, school, plan, &mut known).await?.day(member.student, &meetings, plan.policy)
                }
            };
            missed.explain(&mut said, plan.date, member.student, || plan.meetings_of(member.student), plan.policy);
            let Said { status, rule, value, scheduled_min, present_min, arrival, late_min, mark, basis, known } = said;
            rows.push(AttendanceDay {
                district: self.asked.directory.id,
                school,
                student: member.student,
                grade: member.grade.clone(),
                date: plan.date,
                home: member.home,
                closed,
                days_in_session,
                status,
                rule,
                value,
                scheduled_min,
                present_min,
                arrival,
                late_min,
                mark,
                basis,
                known,
            });
        }
        Ok(())
    }

    async fn periods_on(
        &self,
        tenant: &mut Tenant,
        (school, held): (SchoolId, &HashMap<SectionId, u32>),
        plan: &DatePlan<'_>,
        done: &HashSet<(NaiveDate, PersonId)>,
        recorded: &HashMap<MeetingKey, &ConclusionRow>,
        rows: &mut Vec<AttendancePeriod>,
    ) -> Result<(), StoreError> {
        let closed = plan.closes <= self.asked.as_of;
        let mut known = None;
        let mut students: Vec<(&PersonId, &Vec<u32>)> = plan.places.iter().filter(|(student, _)| self.wants(**student)).collect();
        students.sort_unstable();
        for (student, places) in students {
            for (index, place) in places.iter().enumerate() {
                let meeting = plan.meetings[*place as usize];
                if !self.asked.wants_meeting(&meeting) {
                    continue;
                }
                let row = recorded.get(&(plan.date, *student, meeting.section, meeting.period));
                let minutes = u32::try_from(meeting.span.length_ms() / 60_000).unwrap_or(0);
                let said = match row {
                    Some(row) if !closed || done.contains(&(plan.date, *student)) => build::recorded_meeting(row, closed),
                    _ if !closed => build::expected(minutes, self.asked.as_of),
                    _ => {
                        let meetings = plan.meetings_of(*student);
                        self.known(tenant, school, plan, &mut known).await?.meeting(*student, &meetings, index, plan.policy)
                    }
                };
                let meetings_held = held.get(&meeting.section).copied().unwrap_or(0);
                rows.push(self.period(school, plan.date, *student, &meeting, (closed, meetings_held), said));
            }
        }
        Ok(())
    }

    fn period(
        &self,
        school: SchoolId,
        date: NaiveDate,
        student: PersonId,
        meeting: &Meeting,
        (closed, meetings_held): (bool, u32),
        said: Said,
    ) -> AttendancePeriod {
        let Said { status, rule, value, scheduled_min, arrival, late_min, mark, basis, known, .. } = said;
        AttendancePeriod {
            district: self.asked.directory.id,
            school,
            section: meeting.section,
            period: meeting.period,
            student,
            grade: self.asked.directory.person(student).and_then(|person| person.grade.as_deref().map(Arc::from)),
            date,
            closed,
            meetings_held,
            status,
            rule,
            value,
            scheduled_min,
            arrival,
            late_min,
            mark,
            basis,
            known,
        }
    }

    /// The evidence of a date, read once and only when it is needed.
    async fn known<'a>(
        &self,
        tenant: &mut Tenant,
        school: SchoolId,
        plan: &DatePlan<'_>,
        known: &'a mut Option<Known>,
    ) -> Result<&'a Known, StoreError> {
        if known.is_none() {
            let evidence = reports::evidence(tenant, &self.range(school, &[plan.date]), plan.span).await?;
            *known = Some(Known::new(evidence, self.asked.as_of));
        }
        Ok(known.as_ref().expect("it was just put there"))
    }

    fn range(&self, school: SchoolId, dates: &[NaiveDate]) -> reports::Asked {
        let (from, to) = (dates.first().copied().unwrap_or_default(), dates.last().copied().unwrap_or_default());
        reports::Asked { district: self.asked.directory.id, school, from, to, as_of: self.asked.as_of }
    }

    fn wants(&self, student: PersonId) -> bool {
        self.asked.students.as_ref().is_none_or(|students| students.contains(&student))
    }
}

fn meeting_key(row: &ConclusionRow) -> Option<MeetingKey> {
    let (section, period) = row.meeting?;
    Some((row.date, row.student, section, period))
}

fn scheduled_min(plan: &DatePlan<'_>, student: PersonId) -> u32 {
    let ms: i64 = plan.meetings_of(student).iter().filter(|meeting| meeting.instructional).map(|meeting| meeting.span.length_ms()).sum();
    u32::try_from(ms / 60_000).unwrap_or(0)
}
