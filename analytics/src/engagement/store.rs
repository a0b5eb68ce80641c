//! The database and the directory behind the seam of engagement.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::event::ActivityKind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{self, Meeting, Span};
use rollcall_store::directory::{Directory, DirectoryCache, DistrictDirectory, SchoolEntry};
use rollcall_store::engagement::{Consent, EngagementSettings, EngagementWindow, MeetingQuery, Purpose, StoredMeeting};
use rollcall_store::{Store, StoreError};
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::telemetry::{self, TelemetryRow};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::definition::{Parameters, VERSION};
use super::meeting::{Allowed, MeetingPlan, Student};
use super::seam::{ClassDay, ClassSource, ClassView, EngagementStore, MeetingCut, Present, WindowRecord, present_span};
use crate::attendance::{BoxFuture, DayKey, SchoolInfo, SeamError};

/// Timetable and roster as the store keeps them in memory, with consents and resources read from the database.
pub struct StoreClasses {
    pub cache: Arc<DirectoryCache>,
    pub store: Store,
}

impl ClassSource for StoreClasses {
    fn load(&self) -> BoxFuture<'_, Result<Arc<dyn ClassView>, SeamError>> {
        Box::pin(async move {
            let directory = self.cache.current();
            let mut settings = HashMap::new();
            for district in directory.districts.keys() {
                let read = self.store.engagement_settings(*district).await.map_err(seam)?;
                settings.insert(*district, Settings::from(read));
            }
            Ok(Arc::new(View { directory, settings }) as Arc<dyn ClassView>)
        })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.cache.changed()
    }
}

struct View {
    directory: Arc<Directory>,
    settings: HashMap<DistrictId, Settings>,
}

/// What a district has settled, sorted out by who asks.
#[derive(Default)]
struct Settings {
    /// By school, student (`None`: the school's own) and purpose; oldest first.
    consents: HashMap<(SchoolId, Option<PersonId>, Purpose), Vec<Consent>>,
    resources: HashMap<SectionId, Allowed>,
    physical: HashSet<SectionId>,
}

impl From<EngagementSettings> for Settings {
    fn from(read: EngagementSettings) -> Self {
        let mut consents: HashMap<_, Vec<Consent>> = HashMap::new();
        for consent in read.consents {
            consents.entry((consent.school, consent.student, consent.purpose)).or_default().push(consent);
        }
        let resources = read.resources.into_iter().map(|(section, resources)| (section, Allowed(resources.into()))).collect();
        Self { consents, resources, physical: read.physical }
    }
}

impl Settings {
    /// The newest word of a subject about a purpose on a date.
    fn word(&self, school: SchoolId, student: Option<PersonId>, purpose: Purpose, date: NaiveDate) -> Option<bool> {
        let stated = self.consents.get(&(school, student, purpose))?;
        stated.iter().rev().find(|consent| consent.holds_on(date)).map(|consent| consent.granted)
    }

    fn student(&self, school: SchoolId, section: SectionId, person: PersonId, date: NaiveDate) -> Student {
        let own = |purpose| self.word(school, Some(person), purpose, date);
        let for_all = || self.word(school, None, Purpose::Activity, date);
        let in_pe = || self.physical.contains(&section) && own(Purpose::WearablePe) == Some(true);
        let activity = own(Purpose::Activity).or_else(for_all) == Some(true);
        Student { person, activity, wearable: own(Purpose::Wearable) == Some(true) || in_pe() }
    }
}

impl View {
    fn info(district: &DistrictDirectory, school: &SchoolEntry) -> SchoolInfo {
        SchoolInfo { district: district.id, id: school.id, name: school.name.clone(), zone: school.zone }
    }
}

impl ClassView for View {
    fn schools(&self) -> Vec<SchoolInfo> {
        let districts = self.directory.districts.values();
        districts.flat_map(|district| district.roster.schools.values().map(move |school| Self::info(district, school))).collect()
    }

    fn school_of(&self, section: SectionId) -> Option<SchoolInfo> {
        let (district, entry) = self.directory.section(section)?;
        Some(Self::info(district, district.school(entry.school)?))
    }

    fn day(&self, day: DayKey) -> Option<ClassDay> {
        let district = self.directory.district(day.district)?;
        let school = district.school(day.school)?;
        let Some(bells) = school.schedule_for(day.date) else { return Some(ClassDay::default()) };
        let spans = bells.bells.iter().map(|bell| bell.span_on(day.date, school.zone));
        let hours = spans.reduce(|all, span| Span::new(all.starts.min(span.starts), all.ends.max(span.ends)));
        let Some(hours) = hours else { return Some(ClassDay::default()) };
        let nothing = Settings::default();
        let settings = self.settings.get(&day.district).unwrap_or(&nothing);
        let parameters = Parameters::from(school.policy_on(day.date));
        let mut meetings = district.sections_meeting(day.school, day.date);
        schedule::sort_meetings(&mut meetings);
        let plan = |meeting: Meeting| {
            let mut people: Vec<PersonId> = district.students_of(meeting.section, day.date).collect();
            people.sort_unstable();
            people.dedup();
            let students = people.into_iter().map(|person| settings.student(day.school, meeting.section, person, day.date)).collect();
            Arc::new(MeetingPlan {
                section: meeting.section,
                period: meeting.period,
                period_name: school.periods.get(&meeting.period).map_or("", |period| period.name.as_str()).into(),
                span: meeting.span,
                hours,
                students,
                teachers: district.teachers_of(meeting.section, day.date).collect(),
                allowed: settings.resources.get(&meeting.section).cloned(),
                parameters,
            })
        };
        Some(ClassDay { meetings: meetings.into_iter().filter(|meeting| meeting.instructional).map(plan).collect() })
    }
}

/// The database kept by the store.
pub struct StoreEngagement {
    pub store: Store,
}

fn seam(error: StoreError) -> SeamError {
    SeamError(Box::new(error))
}

impl EngagementStore for StoreEngagement {
    fn next(&self) -> BoxFuture<'_, Result<Option<Offset>, SeamError>> {
        Box::pin(async move { self.store.engagement_next().await.map_err(seam) })
    }

    fn load(&self, day: DayKey, meeting: Arc<MeetingPlan>) -> BoxFuture<'_, Result<MeetingCut, SeamError>> {
        Box::pin(async move {
            // Only of those whose consent is on file, and of the teachers, who open quizzes.
            let students = || meeting.students.iter();
            let consented = students().filter(|student| student.activity).map(|student| student.person);
            let query = MeetingQuery {
                school: day.school,
                section: meeting.section,
                period: meeting.period,
                date: day.date,
                span: meeting.reach(),
                people: consented.chain(meeting.teachers.iter().copied()).collect(),
                wearers: students().filter(|student| student.wearable).map(|student| student.person).collect(),
            };
            let stored = self.store.load_meeting(day.district, &query).await.map_err(seam)?;
            Ok(cut(day, &meeting, &stored))
        })
    }

    fn save(&self, records: Arc<Vec<WindowRecord>>, next: Offset) -> BoxFuture<'_, Result<(), SeamError>> {
        Box::pin(async move {
            let mut districts: BTreeMap<DistrictId, Vec<EngagementWindow>> = BTreeMap::new();
            for record in records.iter() {
                districts.entry(record.day.district).or_default().push(row(record));
            }
            // A district is one transaction. After a crash between two of them, or before the position, the windows are
            // computed again and found to be as they stand.
            for (district, rows) in &districts {
                self.store.append_windows(*district, rows).await.map_err(seam)?;
            }
            self.store.engagement_commit(next).await.map_err(seam)
        })
    }
}

fn cut(day: DayKey, meeting: &MeetingPlan, stored: &StoredMeeting) -> MeetingCut {
    let activity: Vec<ActivityRow<'_>> = stored
        .activity
        .iter()
        .filter_map(|row| {
            Some(ActivityRow {
                district: day.district,
                school: day.school,
                device: DeviceId(row.device),
                seq: row.seq,
                ts: row.ts,
                received: row.received,
                offline: row.offline,
                person: row.person,
                kind: u8::try_from(row.kind).ok().and_then(ActivityKind::from_code)?,
                resource: &row.resource,
                section: row.section,
                dur_ms: row.dur_ms,
                offset: Offset(0),
            })
        })
        .collect();
    let readings: Vec<TelemetryRow<'_>> = stored
        .readings
        .iter()
        .map(|row| TelemetryRow {
            district: day.district,
            school: day.school,
            device: DeviceId(row.device),
            seq: row.seq,
            ts: row.ts,
            received: row.received,
            offline: row.offline,
            person: Some(row.person),
            metric: &row.metric,
            value: row.value,
            offset: Offset(0),
        })
        .collect();
    let present = stored.statuses.iter().filter_map(|row| {
        let span = present_span(row.status, row.since, row.arrival, meeting.span)?;
        Some(Present { section: meeting.section, period: meeting.period, student: row.student, span })
    });
    MeetingCut { next: stored.next, events: vec![activity::encode(&activity), telemetry::encode(&readings)], present: present.collect() }
}

fn row(record: &WindowRecord) -> EngagementWindow {
    let value = &record.value;
    let few = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let many = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let students: Vec<_> = record
        .students
        .iter()
        .map(|one| {
            json!({"student": Uuid::from(one.student.0), "events": one.events, "meaningful": one.meaningful,
                "active_ms": one.active_ms, "allowed_ms": one.allowed_ms})
        })
        .collect();
    EngagementWindow {
        school: record.day.school.0,
        section: record.section.0,
        period: record.period.0,
        date: record.day.date,
        slot: record.slot.to_chrono().unwrap_or_default(),
        definition: VERSION as i16,
        revision: 0,
        starts: record.span.starts.to_chrono().unwrap_or_default(),
        ends: record.span.ends.to_chrono().unwrap_or_default(),
        parameters: json!(record.parameters),
        present: few(value.present),
        with_data: few(value.with_data),
        events: many(value.events),
        late_events: many(value.late_events),
        meaningful: many(value.meaningful),
        active_ms: many(value.active_ms),
        allowed_ms: many(value.allowed_ms),
        coverage: value.coverage,
        active_min: value.active_min,
        interaction_rate: value.interaction_rate,
        resource_alignment: value.resource_alignment,
        quiz_present: value.quiz_present.map(few),
        quiz_responders: value.quiz_responders.map(few),
        quiz_participation: value.quiz_participation,
        quiz_latency_ms: value.quiz_latency_ms,
        wearers: value.wearers.map(few),
        worn_ratio: value.worn_ratio,
        steps: value.steps,
        movement_min: value.movement_min.map(few),
        students: students.into(),
        recorded_at: record.recorded.to_chrono().unwrap_or_default(),
    }
}
