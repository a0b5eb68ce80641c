//! The windows of all meetings in memory: events come in, dirty windows are calculated, settled ones are handed out to
//! be saved. No I/O: the task in `engine` brings what is read and takes what is to be written.

mod days;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::error::DataFusionError;
use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::{Span, local_date};
use rollcall_model::time::UtcMillis;
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::{EventBatch, telemetry};

use super::calculate::{Output, calculate};
use super::input::Input;
use super::known::{ALREADY_HELD, Known};
use super::meeting::{Class, Meeting, MeetingPlan, Numbers};
use super::seam::{ClassView, DayPresence, MeetingCut, Present, StudentRecord, WindowRecord};
use crate::attendance::{DayKey, SchoolInfo};

type SchoolKey = (DistrictId, SchoolId);

/// A meeting in memory: its day and its place in the day's plan.
pub(super) type Place = (DayKey, u32);

/// Whether the events of a meeting are all here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    Whole,
    /// Some may be in the database only; they are fetched when somebody needs the meeting.
    Needed,
    Loading,
}

pub(super) struct Held {
    pub meeting: Meeting,
    pub windows: BTreeMap<UtcMillis, Known>,
    pub load: Load,
}

pub(super) struct Day {
    pub key: DayKey,
    pub meetings: Vec<Held>,
    /// Where each class and each person is among the meetings.
    by_class: HashMap<Class, u32>,
    by_person: HashMap<PersonId, Vec<u32>>,
    /// The day has had a plan, so that one that comes now is another.
    is_planned: bool,
    /// What live attendance last said; `None`: nothing yet.
    pub presence: Option<u64>,
    used: u64,
}

struct School {
    info: SchoolInfo,
    today: DayKey,
    span: Span,
}

pub(super) struct Live {
    view: Arc<dyn ClassView>,
    pub now: UtcMillis,
    /// Every row of the log before it has been taken.
    pub applied: Offset,
    /// Everything received before it has been taken.
    pub received_until: UtcMillis,
    pub days: HashMap<DayKey, Day>,
    schools: HashMap<SchoolKey, School>,
    /// Meetings with windows to be calculated or saved.
    busy: BTreeSet<Place>,
    /// Windows that may be in history and that today's plan has no longer, with the plan that had them.
    withdrawn: BTreeMap<WindowKey, Arc<MeetingPlan>>,
    loads: Vec<Place>,
    turns: u64,
    /// How many windows were calculated altogether.
    pub calculated: u64,
}

/// A window, whatever place its meeting has in the plan of the day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct WindowKey {
    day: DayKey,
    section: SectionId,
    period: PeriodId,
    slot: UtcMillis,
}

impl WindowKey {
    fn of(day: DayKey, plan: &MeetingPlan, slot: UtcMillis) -> Self {
        Self { day, section: plan.section, period: plan.period, slot }
    }
}

/// A record on its way to history.
pub(super) struct Saving {
    pub key: WindowKey,
    /// The version of the window; `None`: the day has no such window any more.
    pub version: Option<u64>,
    pub record: WindowRecord,
}

impl Live {
    pub fn new(view: Arc<dyn ClassView>, now: UtcMillis, applied: Offset) -> Self {
        let mut live = Self {
            view,
            now,
            applied,
            received_until: UtcMillis(i64::MIN),
            days: HashMap::new(),
            schools: HashMap::new(),
            busy: BTreeSet::new(),
            withdrawn: BTreeMap::new(),
            loads: Vec::new(),
            turns: 0,
            calculated: 0,
        };
        live.open_schools();
        live
    }

    /// Moves the clock: schools whose midnight has passed get their next day.
    pub fn advance(&mut self, now: UtcMillis) {
        self.now = now;
        self.turns += 1;
        let turned: Vec<SchoolKey> = self.schools.iter().filter(|(_, s)| !s.span.contains(now)).map(|(key, _)| *key).collect();
        turned.into_iter().for_each(|key| self.turn_day(key));
    }

    /// Takes a new state of timetable, roster, consents and resources. A meeting that it changes starts anew from what
    /// is stored.
    pub fn take_view(&mut self, view: Arc<dyn ClassView>) {
        self.view = view;
        self.open_schools();
        let known: HashSet<SchoolKey> = self.schools.keys().copied().collect();
        self.days.retain(|key, _| known.contains(&(key.district, key.school)));
        self.busy.retain(|(key, _)| known.contains(&(key.district, key.school)));
        for key in self.days.keys().copied().collect::<Vec<_>>() {
            let plan = self.view.day(key).unwrap_or_default();
            self.replan(key, &plan);
        }
    }

    /// Takes the rows of a batch.
    pub fn apply(&mut self, batch: &EventBatch) {
        match batch.kind {
            Kind::Activity => activity::decode(batch).for_each(|row| {
                self.received_until = self.received_until.max(row.received);
                self.for_meetings((row.district, row.school), row.person, row.ts, row.section, |held| held.meeting.add_activity(&row));
            }),
            Kind::Telemetry => telemetry::decode(batch).for_each(|row| {
                self.received_until = self.received_until.max(row.received);
                if let Some(person) = row.person {
                    self.for_meetings((row.district, row.school), person, row.ts, None, |held| held.meeting.add_reading(&row));
                }
            }),
            Kind::Scan | Kind::Status | Kind::Mark | Kind::DeadLetter => {}
        }
    }

    /// Offers a row to the meetings of a person at an instant.
    fn for_meetings(
        &mut self,
        school: SchoolKey,
        person: PersonId,
        ts: UtcMillis,
        section: Option<SectionId>,
        mut add: impl FnMut(&mut Held) -> bool,
    ) {
        let Some(key) = self.day_of(school, ts) else { return };
        let Some(day) = self.days.get_mut(&key) else { return };
        day.used = self.turns;
        let Some(places) = day.by_person.get(&person) else { return };
        let chosen = chosen(&day.meetings, places, ts, section);
        for place in places {
            let held = &mut day.meetings[*place as usize];
            let skipped = chosen.is_some_and(|chosen| chosen != *place) && held.meeting.plan.span.contains(ts);
            if !skipped && held.meeting.plan.reach().contains(ts) && add(held) {
                self.busy.insert((key, *place));
                if held.load == Load::Needed {
                    held.load = Load::Loading;
                    self.loads.push((key, *place));
                }
            }
        }
    }

    /// The day in memory that an instant belongs to, planned if need be.
    fn day_of(&mut self, school: SchoolKey, ts: UtcMillis) -> Option<DayKey> {
        let found = self.schools.get(&school)?;
        if found.span.contains(ts) {
            return Some(found.today);
        }
        let key = DayKey { date: local_date(ts, found.info.zone)?, ..found.today };
        self.open_day(key);
        Some(key)
    }

    /// Meetings whose stored events are needed; each is given once.
    pub fn take_loads(&mut self) -> Vec<(Place, Arc<MeetingPlan>)> {
        let loads = std::mem::take(&mut self.loads);
        loads.into_iter().filter_map(|place| Some((place, self.held(place)?.meeting.plan.clone()))).collect()
    }

    /// Asks for the stored events of a meeting that somebody looks at. False: there is no such meeting.
    pub fn want(&mut self, place: Place) -> bool {
        let Some(held) = self.days.get_mut(&place.0).and_then(|day| day.meetings.get_mut(place.1 as usize)) else { return false };
        if held.load == Load::Needed {
            held.load = Load::Loading;
            self.loads.push(place);
        }
        true
    }

    /// Takes what is stored of a meeting and the log's rows from there on. A meeting that was planned anew meanwhile is
    /// loaded again.
    pub fn take_load(&mut self, place: Place, plan: &Arc<MeetingPlan>, cut: Option<MeetingCut>) {
        let Some(day) = self.days.get_mut(&place.0) else { return };
        let has_presence = day.presence.is_some();
        let elsewhere: Vec<bool> = cut
            .iter()
            .flat_map(|cut| &cut.events)
            .flat_map(activity::decode)
            .map(|row| {
                let places = day.by_person.get(&row.person).map_or(&[][..], Vec::as_slice);
                chosen(&day.meetings, places, row.ts, row.section).is_some_and(|chosen| chosen != place.1)
            })
            .collect();
        let Some(held) = day.meetings.get_mut(place.1 as usize).filter(|held| held.load == Load::Loading) else { return };
        let Some(cut) = cut.filter(|_| Arc::ptr_eq(plan, &held.meeting.plan)) else {
            self.loads.push(place);
            return;
        };
        held.load = Load::Whole;
        // These rows are in history or before a window that holds the log, whose offsets are known already.
        let mut elsewhere = elsewhere.into_iter();
        for batch in &cut.events {
            activity::decode(batch).for_each(|row| {
                let is_here = !elsewhere.next().unwrap_or(false) || !held.meeting.plan.span.contains(row.ts);
                if is_here {
                    held.meeting.add_activity(&ActivityRow { offset: ALREADY_HELD, ..row });
                }
            });
            telemetry::decode(batch).for_each(|row| {
                held.meeting.add_reading(&telemetry::TelemetryRow { offset: ALREADY_HELD, ..row });
            });
        }
        if !has_presence {
            set_presence(held, &cut.present);
        }
        self.busy.insert(place);
    }

    /// Days whose attendance matters now, with the version that is known.
    pub fn presence_wanted(&self, followed: &BTreeSet<DayKey>) -> Vec<(DayKey, u64)> {
        let busy: BTreeSet<DayKey> = self.busy.iter().map(|(day, _)| *day).chain(followed.iter().copied()).collect();
        busy.into_iter().filter_map(|key| Some((key, self.days.get(&key)?.presence.unwrap_or(u64::MAX)))).collect()
    }

    pub fn take_presence(&mut self, key: DayKey, said: DayPresence) {
        let Some(day) = self.days.get_mut(&key) else { return };
        // "As before" is no answer for meetings that were planned after the question.
        let Some(present) = said.present else { return };
        day.presence = Some(said.version);
        let mut by_class: HashMap<Class, Vec<Present>> = HashMap::new();
        for one in present {
            by_class.entry((one.section, one.period)).or_default().push(one);
        }
        for (held, place) in day.meetings.iter_mut().zip(0..) {
            set_presence(held, by_class.get(&held.meeting.plan.class()).map_or(&[], Vec::as_slice));
            if !held.meeting.touched.is_empty() {
                self.busy.insert((key, place));
            }
        }
    }

    /// Calculates every window that was touched and whose meeting is whole, all in one go.
    pub async fn calculate(&mut self) -> Result<(), DataFusionError> {
        self.settle();
        let mut input = Input::default();
        let mut numbers = Numbers::default();
        let mut order: Vec<(Place, UtcMillis, u32, Option<Offset>)> = Vec::new();
        let today: HashSet<DayKey> = self.schools.values().map(|school| school.today).collect();
        for place in &self.busy {
            let Some(day) = self.days.get_mut(&place.0) else { continue };
            // Today is calculated once attendance has said who is there; the past knows it from what is stored.
            let waits = day.presence.is_none() && today.contains(&place.0);
            let Some(held) = day.meetings.get_mut(place.1 as usize).filter(|held| !waits && held.load == Load::Whole) else { continue };
            if held.meeting.touched.is_empty() {
                continue;
            }
            let touched = std::mem::take(&mut held.meeting.touched);
            let slots: BTreeSet<UtcMillis> = touched.keys().copied().collect();
            let base = held.meeting.gather(&slots, &mut input, &mut numbers);
            order.extend(touched.into_iter().map(|(slot, offset)| (*place, slot, base, offset)));
        }
        if order.is_empty() {
            return Ok(());
        }
        let output = calculate(&input).await?;
        self.calculated += order.len() as u64;
        self.keep(&order, &output);
        Ok(())
    }

    /// Marks windows that the watermark has passed; they are calculated once more, for their students.
    fn settle(&mut self) {
        let until = self.received_until;
        for place in &self.busy {
            let Some(held) = held_mut(&mut self.days, *place) else { continue };
            for (slot, known) in held.windows.iter_mut().filter(|(_, known)| !known.is_settled) {
                let plan = &held.meeting.plan;
                if plan.window(*slot).ends.plus_ms(plan.parameters.settle_ms) <= until {
                    known.is_settled = true;
                    held.meeting.touched.entry(*slot).or_insert(None);
                }
            }
        }
    }

    fn keep(&mut self, order: &[(Place, UtcMillis, u32, Option<Offset>)], output: &Output) {
        let mut settled: HashMap<u32, Vec<StudentRecord>> = HashMap::new();
        for (number, (place, slot, _, _)) in (0..).zip(order) {
            let Some(held) = held_mut(&mut self.days, *place) else { continue };
            let plan = held.meeting.plan.clone();
            let known = held.windows.entry(*slot).or_default();
            // A window that is met for the first time after its time has come late as a whole.
            known.is_settled |= plan.window(*slot).ends.plus_ms(plan.parameters.settle_ms) <= self.received_until;
            if known.is_settled {
                settled.insert(number, Vec::new());
            }
        }
        for rows in output.students.chunk_by(|one, other| one.window == other.window) {
            let number = rows[0].window;
            let (place, slot, base, _) = &order[number as usize];
            let Some(held) = held_mut(&mut self.days, *place) else { continue };
            held.meeting.count(*slot, *base, rows);
            let (meeting, window) = (&held.meeting, held.meeting.plan.window(*slot));
            let is_present = |number: u32| meeting.presence.iter().any(|(student, span)| *student == number && span.overlap_ms(window) > 0);
            let Some(students) = settled.get_mut(&number) else { continue };
            students.extend(rows.iter().filter(|row| is_present(row.student - base)).map(|row| {
                let count = |sum: i64| sum.max(0).cast_unsigned();
                StudentRecord {
                    student: meeting.plan.students[(row.student - base) as usize].person,
                    events: count(row.sums.events),
                    meaningful: count(row.sums.meaningful),
                    active_ms: count(row.sums.active_ms),
                    allowed_ms: count(row.sums.allowed_ms),
                }
            }));
        }
        for ((number, (place, slot, _, offset)), value) in (0..).zip(order).zip(&output.windows) {
            let Some(held) = held_mut(&mut self.days, *place) else { continue };
            let known = held.windows.entry(*slot).or_default();
            let students = settled.remove(&number).map(|mut students| {
                students.sort_unstable_by_key(|record| record.student);
                students
            });
            known.take(value, students, *offset);
        }
    }

    /// Settled windows that are not in history as they are, at most `most` of them. One that is withdrawn goes there without data.
    pub fn to_save(&self, most: usize) -> Vec<Saving> {
        let withdrawn = self.withdrawn.iter().take(most);
        let mut found: Vec<Saving> = withdrawn.map(|(key, plan)| self.saving(*key, plan, None)).collect();
        for place in &self.busy {
            let Some(held) = self.held(*place) else { continue };
            for (slot, known) in held.windows.iter().filter(|(_, known)| known.is_settled && known.saved != Some(known.version)) {
                if found.len() == most {
                    return found;
                }
                let plan = &held.meeting.plan;
                found.push(self.saving(WindowKey::of(place.0, plan, *slot), plan, Some(known)));
            }
        }
        found
    }

    fn saving(&self, key: WindowKey, plan: &MeetingPlan, known: Option<&Known>) -> Saving {
        let WindowKey { day, section, period, slot } = key;
        let (value, students) = known.map_or_else(Default::default, |known| (known.value.clone(), known.students.clone()));
        let (span, parameters, recorded) = (plan.window(slot), plan.parameters, self.now);
        let record = WindowRecord { day, section, period, slot, span, parameters, value, students, recorded };
        Saving { key, version: known.map(|known| known.version), record }
    }

    /// These versions are in history.
    pub fn saved(&mut self, saved: impl Iterator<Item = (WindowKey, Option<u64>)>) {
        for (key, version) in saved {
            let Some(version) = version else {
                self.withdrawn.remove(&key);
                continue;
            };
            let place = self.days.get(&key.day).and_then(|day| day.by_class.get(&(key.section, key.period)));
            let held = place.copied().and_then(|place| held_mut(&mut self.days, (key.day, place)));
            let Some(known) = held.and_then(|held| held.windows.get_mut(&key.slot)) else { continue };
            known.saved = Some(version);
            if known.version == version {
                known.unsaved_from = None;
            }
        }
    }

    /// Every window that rows before it have touched is in history, apart from those that `saving` is about to write.
    pub fn committable(&mut self, saving: &[Saving]) -> Offset {
        let about: HashSet<(WindowKey, Option<u64>)> = saving.iter().map(|saving| (saving.key, saving.version)).collect();
        let mut least = self.applied;
        let days = &self.days;
        self.busy.retain(|place| {
            let Some(held) = days.get(&place.0).and_then(|day| day.meetings.get(place.1 as usize)) else { return false };
            let touched = held.meeting.touched.values().flatten();
            let key = |slot: &UtcMillis| WindowKey::of(place.0, &held.meeting.plan, *slot);
            let unsaved = held.windows.iter().filter(|(slot, known)| !about.contains(&(key(slot), Some(known.version))));
            let unsaved = unsaved.filter_map(|(_, known)| known.unsaved_from.as_ref());
            least = touched.chain(unsaved).copied().fold(least, Ord::min);
            let is_done = |known: &Known| known.is_settled && known.saved == Some(known.version);
            !held.meeting.touched.is_empty() || held.load == Load::Loading || !held.windows.values().all(is_done)
        });
        least
    }

    pub fn held(&self, place: Place) -> Option<&Held> {
        self.days.get(&place.0)?.meetings.get(place.1 as usize)
    }

    pub fn school_of(&self, section: SectionId) -> Option<SchoolInfo> {
        self.view.school_of(section)
    }

    pub fn today_of(&self, school: &SchoolInfo) -> Option<&Day> {
        self.days.get(&self.schools.get(&(school.district, school.id))?.today)
    }
}

impl Held {
    pub(super) fn new(plan: Arc<MeetingPlan>, load: Load) -> Self {
        Self { meeting: Meeting::new(plan), windows: BTreeMap::new(), load }
    }
}

/// Of two classes of a student at once it is the one that the app names.
fn chosen(meetings: &[Held], places: &[u32], ts: UtcMillis, section: Option<SectionId>) -> Option<u32> {
    let section = section?;
    let plan = |place: u32| &meetings[place as usize].meeting.plan;
    places.iter().copied().find(|place| plan(*place).section == section && plan(*place).span.contains(ts))
}

fn held_mut(days: &mut HashMap<DayKey, Day>, place: Place) -> Option<&mut Held> {
    days.get_mut(&place.0)?.meetings.get_mut(place.1 as usize)
}

fn set_presence(held: &mut Held, present: &[Present]) {
    let students = &held.meeting.plan.students;
    let number = |one: &Present| students.iter().position(|student| student.person == one.student);
    let presence = present.iter().filter_map(|one| Some((number(one)? as u32, one.span))).collect();
    held.meeting.set_presence(presence);
}
