//! The state behind all boards: schools, their days, devices and deadlines. No I/O: rows, cuts and the clock come in;
//! transitions, wishes to load days and touched keys go out.

pub(super) mod coverage;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::attendance::{Behind, Coverage};
use rollcall_model::event::Kind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, SchoolId};
use rollcall_model::schedule::{Span, date_span, local_date};
use rollcall_model::status::{Mark, ScanEvidence};
use rollcall_model::time::UtcMillis;
use rollcall_stream::heartbeat::{self, HeartbeatRow};
use rollcall_stream::{EventBatch, ReadBatch, mark, scan};

use super::day::{Day, Outcome};
use super::deadlines::{Deadlines, Due};
use super::device::Device;
use super::seam::{Cut, DayKey, DayPlan, DirectoryView, SchoolInfo, Transition};

/// Most days that are kept besides each school's today: for late evidence and late marks.
pub const PAST_DAYS_MAX: usize = 256;

/// Most events that wait for one day that is being loaded. Beyond, the day is loaded once more.
const WAITING_EVENTS_MAX: usize = 100_000;

/// Stale deadlines that are tolerated before the heap is cleaned.
const STALE_DEADLINES_MAX: usize = 100_000;

pub type SchoolKey = (DistrictId, SchoolId);

pub(super) struct School {
    pub info: SchoolInfo,
    pub today: DayKey,
    span: Span,
    pub coverage: Coverage,
    sources: Vec<DeviceId>,
    coverage_at: UtcMillis,
    coverage_due: Option<UtcMillis>,
}

/// An event that waits for its day to be loaded.
enum Waiting {
    Scan(ScanEvidence),
    Mark(Offset, Mark),
}

/// Events of a day in the log's order.
#[derive(Default)]
pub(super) struct DayEvents(Vec<Waiting>);

impl DayEvents {
    /// Adds what a batch says about the day.
    pub fn gather(&mut self, batch: &EventBatch, day: &DayKey, span: Span) {
        for (district, school, scan) in scan::decode(batch) {
            if (district, school) == (day.district, day.school) && span.contains(scan.ts) {
                self.0.push(Waiting::Scan(scan));
            }
        }
        for (offset, district, mark) in mark::decode(batch) {
            if (district, mark.school, mark.date) == (day.district, day.school, day.date) {
                self.0.push(Waiting::Mark(offset, mark));
            }
        }
    }
}

pub(super) struct Live {
    pub view: Arc<dyn DirectoryView>,
    pub schools: HashMap<SchoolKey, School>,
    pub devices: HashMap<DeviceId, Device>,
    pub days: HashMap<DayKey, Day>,
    pub touched_devices: BTreeSet<DeviceId>,
    /// Days in which something may have been touched since it was published.
    pub changed: BTreeSet<DayKey>,
    /// Schools whose boards now show another meeting or another day.
    pub rung: BTreeSet<SchoolKey>,
    pub now: UtcMillis,
    pub applied: Offset,
    pub transitions: Vec<Transition>,
    deadlines: Deadlines,
    loading: HashMap<DayKey, DayEvents>,
    to_load: Vec<DayKey>,
    busy: HashSet<DayKey>,
    unsettled: HashSet<DayKey>,
    spoke: BTreeSet<DeviceId>,
    connections_since: Offset,
    reads: u64,
}

impl Live {
    pub fn new(view: Arc<dyn DirectoryView>, connections_since: Offset, now: UtcMillis) -> Self {
        let mut live = Self {
            view,
            schools: HashMap::new(),
            devices: HashMap::new(),
            days: HashMap::new(),
            touched_devices: BTreeSet::new(),
            changed: BTreeSet::new(),
            rung: BTreeSet::new(),
            now,
            applied: Offset(0),
            transitions: Vec::new(),
            deadlines: Deadlines::default(),
            loading: HashMap::new(),
            to_load: Vec::new(),
            busy: HashSet::new(),
            unsettled: HashSet::new(),
            spoke: BTreeSet::new(),
            connections_since,
            reads: 0,
        };
        live.take_view();
        live
    }

    /// Takes what the database knows of the health of devices: their last words, and the scans of today.
    pub fn remember(&mut self, words: &[HeartbeatRow], scans: &[ScanEvidence]) {
        let words = words.iter().map(|word| (word.offset, Err(word)));
        let scans = scans.iter().map(|scan| (scan.offset, Ok(scan)));
        let mut heard: Vec<(Offset, Result<&ScanEvidence, &HeartbeatRow>)> = words.chain(scans).collect();
        heard.sort_by_key(|(offset, _)| *offset);
        for (_, word) in heard {
            match word {
                Err(word) => self.hear_status(word),
                Ok(scan) => {
                    if let Some(device) = self.devices.get_mut(&scan.device) {
                        device.scanned(scan);
                    }
                }
            }
        }
        self.assess_all();
    }

    /// Days that somebody is to load; each is given once.
    pub fn take_loads(&mut self) -> Vec<DayKey> {
        std::mem::take(&mut self.to_load)
    }

    pub fn is_loading(&self) -> bool {
        !self.loading.is_empty()
    }

    pub fn settled(&self) -> bool {
        self.unsettled.is_empty() && !self.is_loading()
    }

    pub fn next_deadline(&self) -> Option<UtcMillis> {
        self.deadlines.next()
    }

    pub fn today_of(&self, school: &SchoolKey) -> Option<&Day> {
        self.days.get(&self.schools.get(school)?.today)
    }

    /// Whether today of every school is in memory and concluded.
    pub fn is_complete(&self) -> bool {
        self.settled() && self.schools.values().all(|school| self.days.contains_key(&school.today))
    }

    /// A loaded day, with the log's rows between its cut and `upto` that are not in the cut. Rows from `upto` on have
    /// waited here. `false`: too many have; it is to be loaded again.
    pub fn insert(&mut self, key: DayKey, plan: Arc<DayPlan>, cut: Cut, replayed: DayEvents, settle_at: Offset) -> bool {
        let Some(waited) = self.loading.remove(&key) else { return true };
        if waited.0.len() > WAITING_EVENTS_MAX {
            self.want(key);
            return false;
        }
        let mut day = Day::new(key, plan, cut, settle_at);
        day.was_over = day.plan.span.ends <= self.now;
        for event in replayed.0.into_iter().chain(waited.0) {
            match event {
                Waiting::Scan(scan) => day.add_scan(&scan),
                Waiting::Mark(offset, mark) => day.add_mark(offset, mark),
            }
        }
        day.used = self.reads;
        self.days.insert(key, day);
        self.unsettled.insert(key);
        self.note_bells(key);
        // The school's policy is the plan's: how long silence is tolerated may differ from the default.
        self.assess((key.district, key.school));
        true
    }

    /// The school vanished from the directory while its day was loaded.
    pub fn forget_load(&mut self, key: &DayKey) {
        self.loading.remove(key);
    }

    /// Applies what one read returned, in order.
    pub fn apply(&mut self, read: &ReadBatch) {
        self.reads += 1;
        for batch in &read.batches {
            match batch.kind {
                Kind::Scan => scan::decode(batch).for_each(|(district, school, scan)| {
                    self.hear_scan((district, school), &scan);
                }),
                Kind::Mark => mark::decode(batch).for_each(|(offset, district, mark)| {
                    self.hear_mark(offset, district, mark);
                }),
                Kind::Status => heartbeat::decode(batch).for_each(|row| self.hear_status(&row)),
                Kind::Telemetry | Kind::Activity | Kind::DeadLetter => {}
            }
        }
        self.applied = self.applied.max(read.next);
        let schools: BTreeSet<SchoolKey> = std::mem::take(&mut self.spoke)
            .iter()
            .filter_map(|device| self.devices.get(device))
            .map(|device| (device.info.district, device.info.school))
            .collect();
        schools.into_iter().for_each(|school| self.assess(school));
    }

    /// Does what is due at `now` and concludes everybody who was touched.
    pub fn advance(&mut self, now: UtcMillis) {
        let set_back = now < self.now;
        self.now = now;
        if set_back {
            self.take_back();
        }
        while let Some((at, due)) = self.deadlines.pop(now) {
            self.fall_due(at, due);
        }
        let settling = self.unsettled.iter().filter(|key| self.days[*key].settle_at <= self.applied);
        for key in settling.copied().collect::<Vec<_>>() {
            self.unsettled.remove(&key);
            self.rung.insert((key.district, key.school));
            let Some(day) = self.days.get_mut(&key) else { continue };
            day.settled = true;
            day.mark_all_dirty();
            self.busy.insert(key);
        }
        for key in std::mem::take(&mut self.busy) {
            self.changed.insert(key);
            self.conclude(key);
        }
        self.clean_deadlines();
    }

    /// The clock was set back: what it alone had concluded is concluded anew, and what will be due again is noted again.
    fn take_back(&mut self) {
        for key in self.schools.keys().copied().collect::<Vec<_>>() {
            self.turn_day(key);
        }
        for key in self.days.keys().copied().collect::<Vec<_>>() {
            if let Some(day) = self.days.get_mut(&key) {
                day.mark_all_dirty();
            }
            self.busy.insert(key);
            self.rung.insert((key.district, key.school));
            self.note_bells(key);
        }
        self.assess_all();
    }

    /// Takes a new state of the directory and the plans that it changed.
    pub fn replan(&mut self, view: Arc<dyn DirectoryView>, plans: Vec<(DayKey, Arc<DayPlan>)>) {
        self.view = view;
        self.take_view();
        for (key, plan) in plans {
            let Some(day) = self.days.get_mut(&key) else { continue };
            day.replan(plan);
            self.busy.insert(key);
            self.rung.insert((key.district, key.school));
            self.note_bells(key);
        }
        self.assess_all();
    }

    /// Drops the days that were used longest ago, beyond the limit; only when no transition waits to be written, so
    /// that a day that comes back finds all of its own.
    pub fn unload(&mut self) {
        let todays: HashSet<DayKey> = self.schools.values().map(|school| school.today).collect();
        let past = self.days.values().filter(|day| !todays.contains(&day.key) && day.settled);
        let mut past: Vec<(u64, DayKey)> = past.map(|day| (day.used, day.key)).collect();
        past.sort_unstable();
        for (_, key) in past.iter().take(past.len().saturating_sub(PAST_DAYS_MAX)) {
            self.days.remove(key);
        }
    }

    /// What of a device makes its school's evidence incomplete.
    pub fn behind(&self, device: &Device) -> Option<&Behind> {
        let school = self.schools.get(&(device.info.district, device.info.school))?;
        school.coverage.behind.iter().find(|behind| behind.device == device.info.id)
    }

    fn take_view(&mut self) {
        let infos = self.view.schools();
        let known: HashSet<SchoolKey> = infos.iter().map(|info| (info.district, info.id)).collect();
        self.schools.retain(|key, _| known.contains(key));
        self.days.retain(|key, _| known.contains(&(key.district, key.school)));
        self.unsettled.retain(|key| known.contains(&(key.district, key.school)));
        self.loading.retain(|key, _| known.contains(&(key.district, key.school)));
        let mut sources: HashMap<SchoolKey, Vec<DeviceId>> = HashMap::new();
        let mut before = std::mem::take(&mut self.devices);
        for info in self.view.devices() {
            let id = info.id;
            let mut device = before.remove(&id).unwrap_or_else(|| Device::new(info.clone()));
            device.info = info;
            if device.is_source() {
                sources.entry((device.info.district, device.info.school)).or_default().push(id);
            }
            self.touched_devices.insert(id);
            self.devices.insert(id, device);
        }
        self.touched_devices.extend(before.into_keys());
        for info in infos {
            let key = (info.district, info.id);
            let sources = sources.remove(&key).unwrap_or_default();
            match self.schools.get_mut(&key) {
                Some(school) => {
                    let moved = school.info.zone != info.zone;
                    school.info = info;
                    school.sources = sources;
                    if moved {
                        self.turn_day(key);
                    }
                }
                None => self.open_school(info, sources),
            }
        }
    }

    fn open_school(&mut self, info: SchoolInfo, sources: Vec<DeviceId>) {
        let key = (info.district, info.id);
        let today = DayKey { district: info.district, school: info.id, date: NaiveDate::MIN };
        let school = School {
            info,
            today,
            span: Span::new(UtcMillis(0), UtcMillis(0)),
            coverage: Coverage::default(),
            sources,
            coverage_at: UtcMillis(i64::MIN),
            coverage_due: None,
        };
        self.schools.insert(key, school);
        self.turn_day(key);
    }

    /// Makes the date at `now` the school's today.
    fn turn_day(&mut self, key: SchoolKey) {
        let Some(school) = self.schools.get_mut(&key) else { return };
        let Some(date) = local_date(self.now, school.info.zone) else { return };
        school.today = DayKey { district: key.0, school: key.1, date };
        school.span = date_span(date, school.info.zone);
        let (today, ends) = (school.today, school.span.ends);
        self.deadlines.push(ends, Due::Midnight(key.0, key.1));
        self.rung.insert(key);
        self.want(today);
    }

    fn want(&mut self, key: DayKey) {
        if !self.days.contains_key(&key) && !self.loading.contains_key(&key) {
            self.loading.insert(key, DayEvents::default());
            self.to_load.push(key);
        }
    }

    fn hear_scan(&mut self, key: SchoolKey, scan: &ScanEvidence) {
        if let Some(device) = self.devices.get_mut(&scan.device) {
            device.scanned(scan);
            self.spoke.insert(scan.device);
            self.touched_devices.insert(scan.device);
        }
        let Some(school) = self.schools.get(&key) else { return };
        let day = if school.span.contains(scan.ts) {
            school.today
        } else {
            let Some(date) = local_date(scan.ts, school.info.zone) else { return };
            DayKey { date, ..school.today }
        };
        match self.days.get_mut(&day) {
            Some(day) => {
                day.used = self.reads;
                day.add_scan(scan);
                self.busy.insert(day.key);
            }
            None => self.wait_for(day, Waiting::Scan(*scan)),
        }
    }

    fn hear_mark(&mut self, offset: Offset, district: DistrictId, mark: Mark) {
        let key = DayKey { district, school: mark.school, date: mark.date };
        if !self.schools.contains_key(&(district, mark.school)) {
            return;
        }
        match self.days.get_mut(&key) {
            Some(day) => {
                day.used = self.reads;
                day.add_mark(offset, mark);
                self.busy.insert(key);
            }
            None => self.wait_for(key, Waiting::Mark(offset, mark)),
        }
    }

    fn hear_status(&mut self, row: &HeartbeatRow) {
        let Some(device) = self.devices.get_mut(&row.device) else { return };
        device.status(row, self.connections_since);
        let is_gateway = device.info.kind == rollcall_model::event::DeviceKind::Gateway;
        self.spoke.insert(row.device);
        self.touched_devices.insert(row.device);
        if let (true, Some(connected)) = (is_gateway, row.connected) {
            let behind = self.devices.values_mut().filter(|device| device.info.gateway == Some(row.device));
            for device in behind {
                device.connection(row, connected, self.connections_since);
                self.spoke.insert(device.info.id);
                self.touched_devices.insert(device.info.id);
            }
        }
    }

    /// Keeps an event of a day that is not in memory, and asks for the day.
    fn wait_for(&mut self, key: DayKey, event: Waiting) {
        self.want(key);
        if let Some(waiting) = self.loading.get_mut(&key)
            && waiting.0.len() <= WAITING_EVENTS_MAX
        {
            waiting.0.push(event);
        }
    }

    fn fall_due(&mut self, at: UtcMillis, due: Due) {
        match due {
            Due::Person(key, person) => {
                let Some(day) = self.days.get_mut(&key) else { return };
                if day.people.get(&person).is_some_and(|person| person.next_change == Some(at)) {
                    day.mark_dirty(person);
                    self.busy.insert(key);
                }
            }
            Due::Bell(key) => {
                if self.days.get(&key).is_some_and(|day| day.next_bell == Some(at)) {
                    self.rung.insert((key.district, key.school));
                    self.note_bells(key);
                }
            }
            Due::Coverage(district, school) => {
                if let Some(school) = self.schools.get_mut(&(district, school)) {
                    school.coverage_due = None;
                }
                self.assess((district, school));
            }
            Due::Midnight(district, school) => self.turn_day((district, school)),
        }
    }

    /// Puts the next start or end of a meeting into the heap.
    fn note_bells(&mut self, key: DayKey) {
        let Some(day) = self.days.get_mut(&key) else { return };
        let spans = day.plan.meetings.iter().map(|planned| planned.meeting.span);
        let next = spans.flat_map(|span| [span.starts, span.ends]).filter(|at| *at > self.now).min();
        let before = std::mem::replace(&mut day.next_bell, next);
        if let Some(at) = next.filter(|_| before != next) {
            self.deadlines.push(at, Due::Bell(key));
        }
    }

    fn conclude(&mut self, key: DayKey) {
        let Some(school) = self.schools.get(&(key.district, key.school)) else { return };
        let Some(day) = self.days.get_mut(&key) else { return };
        let Outcome { transitions, deadlines } = day.conclude(&school.coverage, self.now);
        self.transitions.extend(transitions);
        for (at, person) in deadlines {
            self.deadlines.push(at, Due::Person(key, person));
        }
    }

    fn clean_deadlines(&mut self) {
        if self.deadlines.len() <= STALE_DEADLINES_MAX {
            return;
        }
        let people: usize = self.days.values().map(|day| day.people.len()).sum();
        if self.deadlines.len() <= 2 * people + STALE_DEADLINES_MAX {
            return;
        }
        let days = &self.days;
        self.deadlines.retain(|at, due| match due {
            Due::Person(key, person) => {
                let person = days.get(key).and_then(|day| day.people.get(person));
                person.is_some_and(|person| person.next_change == Some(at))
            }
            Due::Bell(_) | Due::Coverage(..) | Due::Midnight(..) => true,
        });
    }
}
