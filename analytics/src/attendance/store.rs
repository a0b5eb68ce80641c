//! The database and the directory behind the seam of live attendance.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use chrono::NaiveDate;
use rollcall_model::ids::{DistrictId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{self, Span};
use rollcall_store::attendance::StatusRow;
use rollcall_store::directory::{Directory, DirectoryCache, DistrictDirectory, Membership, PersonKind, SchoolEntry};
use rollcall_store::{Store, StoreError, admin};
use rollcall_stream::heartbeat::HeartbeatRow;
use tokio::sync::watch;

use super::seam::{
    AttendanceStore, BoxFuture, Cut, DayKey, DayPlan, DeviceInfo, DirectorySource, DirectoryView, LastStatus, PlannedMeeting, SchoolInfo,
    SeamError, SectionInfo, Transition,
};

/// The directory kept by the store.
pub struct StoreDirectory(pub Arc<DirectoryCache>);

impl DirectorySource for StoreDirectory {
    fn current(&self) -> Arc<dyn DirectoryView> {
        Arc::new(View { directory: self.0.current(), students: OnceLock::new() })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed()
    }
}

struct View {
    directory: Arc<Directory>,
    /// The students who were ever members of each school, sorted out once: planning the schools of a district one by one
    /// would look at every person for every school.
    students: OnceLock<HashMap<SchoolId, Vec<Member>>>,
}

/// A membership of a student.
struct Member {
    student: PersonId,
    starts: Option<NaiveDate>,
    /// Exclusive.
    ends: Option<NaiveDate>,
}

impl View {
    fn students_in(&self, school: SchoolId, date: NaiveDate) -> impl Iterator<Item = PersonId> + '_ {
        let by_school = self.students.get_or_init(|| members(&self.directory));
        let members = by_school.get(&school).map_or(&[][..], Vec::as_slice);
        let holds = move |member: &&Member| member.starts.is_none_or(|starts| starts <= date) && member.ends.is_none_or(|ends| date < ends);
        members.iter().filter(holds).map(|member| member.student)
    }
}

fn members(directory: &Directory) -> HashMap<SchoolId, Vec<Member>> {
    let mut by_school: HashMap<SchoolId, Vec<Member>> = HashMap::new();
    let people = directory.districts.values().flat_map(|district| district.roster.people.values());
    for person in people.filter(|person| person.kind == PersonKind::Student && person.active) {
        for Membership { school, starts, ends } in &person.memberships {
            let member = Member { student: person.id, starts: *starts, ends: *ends };
            by_school.entry(*school).or_default().push(member);
        }
    }
    by_school
}

impl DirectoryView for View {
    fn schools(&self) -> Vec<SchoolInfo> {
        let of = |district: &DistrictDirectory, school: &SchoolEntry| SchoolInfo {
            district: district.id,
            id: school.id,
            name: school.name.clone(),
            zone: school.zone,
        };
        let districts = self.directory.districts.values();
        districts.flat_map(|district| district.roster.schools.values().map(move |school| of(district, school))).collect()
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        self.directory
            .districts
            .values()
            .flat_map(|district| district.devices.values())
            .map(|device| DeviceInfo {
                district: device.district,
                school: device.school,
                id: device.id,
                kind: device.kind,
                name: device.name.clone(),
                disabled: device.disabled,
                gateway: device.gateway,
            })
            .collect()
    }

    fn school_of(&self, section: SectionId) -> Option<(DistrictId, SchoolId)> {
        let (district, entry) = self.directory.section(section)?;
        Some((district.id, entry.school))
    }

    fn plan(&self, day: DayKey) -> Option<DayPlan> {
        let district = self.directory.district(day.district)?;
        let school = district.school(day.school)?;
        let meetings = planned_meetings(district, school, day.date);
        let students = places_of_students(self.students_in(day.school, day.date), district, &meetings, day.date);
        let sections: BTreeMap<SectionId, SectionInfo> = school
            .sections
            .iter()
            .filter_map(|id| district.section(*id))
            .filter(|section| section.runs_on(day.date))
            .map(|section| (section.id, SectionInfo { title: section.title.clone(), room: section.room.clone() }))
            .collect();
        let policy = school.policy_on(day.date).clone();
        Some(DayPlan { span: schedule::date_span(day.date, school.zone), policy, meetings, sections, students })
    }
}

/// All meetings of the school on the date, in the order of `sort_meetings`.
fn planned_meetings(district: &DistrictDirectory, school: &SchoolEntry, date: NaiveDate) -> Vec<PlannedMeeting> {
    let mut names: HashMap<_, Arc<str>> = HashMap::new();
    let mut meetings = district.sections_meeting(school.id, date);
    schedule::sort_meetings(&mut meetings);
    meetings
        .into_iter()
        .map(|meeting| {
            let period_name = names
                .entry(meeting.period)
                .or_insert_with(|| school.periods.get(&meeting.period).map_or("", |period| period.name.as_str()).into())
                .clone();
            PlannedMeeting { meeting, period_name }
        })
        .collect()
}

/// Each student of the school with the places of their meetings, ascending because the meetings are walked in order.
fn places_of_students(
    members: impl Iterator<Item = PersonId>,
    district: &DistrictDirectory,
    meetings: &[PlannedMeeting],
    date: NaiveDate,
) -> HashMap<PersonId, Box<[u32]>> {
    let mut places: HashMap<PersonId, Vec<u32>> = members.map(|student| (student, Vec::new())).collect();
    for (place, planned) in meetings.iter().enumerate() {
        for student in district.students_of(planned.meeting.section, date) {
            let of_student = places.entry(student).or_default();
            // A roster may enrol a student twice in one section, with touching dates.
            if of_student.last() != Some(&(place as u32)) {
                of_student.push(place as u32);
            }
        }
    }
    places.into_iter().map(|(student, places)| (student, places.into_boxed_slice())).collect()
}

/// The database kept by the store.
pub struct StoreAttendance {
    pub store: Store,
}

fn seam(error: StoreError) -> SeamError {
    SeamError(Box::new(error))
}

impl AttendanceStore for StoreAttendance {
    fn load_cut(&self, day: DayKey, span: Span) -> BoxFuture<'_, Result<Cut, SeamError>> {
        Box::pin(async move {
            let cut = self.store.load_cut(day.district, day.school, day.date, span).await.map_err(seam)?;
            Ok(Cut { scans: cut.scans, marks: cut.marks, last: cut.statuses.into_iter().map(last_status).collect(), next_offset: cut.next })
        })
    }

    fn last_words(&self) -> BoxFuture<'_, Result<Vec<HeartbeatRow>, SeamError>> {
        Box::pin(async move {
            let mut words = Vec::new();
            for (district, _) in admin::districts(&self.store).await.map_err(seam)? {
                words.extend(self.store.last_words(district).await.map_err(seam)?);
            }
            words.sort_by_key(|word| word.offset);
            Ok(words)
        })
    }

    fn append(&self, rows: Arc<Vec<Transition>>) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            let mut districts: BTreeMap<DistrictId, Vec<StatusRow>> = BTreeMap::new();
            for row in rows.iter() {
                districts.entry(row.day.district).or_default().push(status_row(row));
            }
            // A district is one transaction; rows that an earlier attempt has written are recognised and left alone.
            for (district, rows) in &districts {
                self.store.append_statuses(*district, rows).await.map_err(seam)?;
            }
            Ok(())
        })
    }
}

fn last_status(row: StatusRow) -> LastStatus {
    LastStatus {
        student: row.student,
        meeting: row.section.zip(row.period),
        status: row.status,
        rule: row.rule,
        since: row.since,
        detail: row.detail,
        recorded: row.recorded,
    }
}

fn status_row(row: &Transition) -> StatusRow {
    StatusRow {
        school: row.day.school,
        student: row.student,
        date: row.day.date,
        section: row.meeting.map(|(section, _)| section),
        period: row.meeting.map(|(_, period)| period),
        status: row.status,
        rule: row.rule,
        since: row.since,
        detail: row.detail.clone(),
        recorded: row.recorded,
    }
}
