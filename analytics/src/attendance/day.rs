//! One date of one school in memory: evidence, conclusions, tallies, and what has changed since it was published.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use rollcall_model::attendance::{Conclusion, Coverage, StatusDetail, StudentDay, Window};
use rollcall_model::event::Direction;
use rollcall_model::ids::{DeviceId, Offset, PeriodId, PersonId, SectionId};
use rollcall_model::schedule::Meeting;
use rollcall_model::status::{Mark, MarkStatus, ScanEvidence, Status};
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::Serialize;

use super::handle::Inside;
use super::record::Record;
use super::seam::{Cut, DayKey, DayPlan, LastStatus, Transition};
use super::tally::Tally;

/// Newest scans of a school that its page shows.
pub(super) const FEED_MAX: usize = 50;

/// Conclusions of one day that can change before its versions reach those of a later load.
const VERSION_BITS: u32 = 24;

/// One line of the gate feed.
#[derive(Clone, Copy, Serialize)]
pub(super) struct FeedEntry {
    #[serde(skip)]
    pub offset: Offset,
    pub person: PersonId,
    pub device: DeviceId,
    #[serde(with = "rfc3339")]
    pub ts: UtcMillis,
    #[serde(with = "rfc3339")]
    pub received: UtcMillis,
    pub dir: Direction,
    pub offline: bool,
}

impl From<&ScanEvidence> for FeedEntry {
    fn from(scan: &ScanEvidence) -> Self {
        let ScanEvidence { student: person, device, ts, received, direction: dir, offline, offset, .. } = *scan;
        Self { offset, person, device, ts, received, dir, offline }
    }
}

/// A person with evidence or a place on the roster.
#[derive(Default)]
pub(super) struct Person {
    pub evidence: StudentDay,
    /// One for each meeting in the plan's order and one more for the day; empty for somebody not on the roster.
    pub windows: Vec<WindowState>,
    /// When the clock alone changes something; the heap's entries at other instants are stale.
    pub next_change: Option<UtcMillis>,
    dirty: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct WindowState {
    pub concluded: Option<Conclusion>,
    /// What was last written.
    written: Option<Record>,
    /// When that was recorded. Two rows of a window never have one instant: it is how an append that is made again
    /// knows its own rows, and it keeps their order when the clock is set back.
    recorded: Option<UtcMillis>,
}

/// What has changed since the topics were last updated.
#[derive(Default)]
pub(super) struct Touched {
    pub people: BTreeSet<PersonId>,
    pub meetings: BTreeSet<u32>,
    pub inside: BTreeSet<PersonId>,
    /// There are new scans in the feed.
    pub fed: bool,
    pub totals: bool,
}

pub(super) struct Day {
    pub key: DayKey,
    pub plan: Arc<DayPlan>,
    /// Events below are in the state since it was loaded.
    pub cut: Offset,
    /// Until everything that an earlier process may have concluded from is applied, nothing is concluded.
    pub settle_at: Offset,
    pub settled: bool,
    pub people: HashMap<PersonId, Person>,
    pub tallies: Vec<Tally>,
    pub total: Tally,
    pub roll_taken: Vec<bool>,
    pub inside: HashMap<PersonId, Inside>,
    pub feed: VecDeque<FeedEntry>,
    pub touched: Touched,
    /// It was over when it was loaded. What the gates were like is not known then: without any scan nothing follows from none.
    pub was_over: bool,
    /// When it was last needed, in the engine's count of reads.
    pub used: u64,
    /// When a meeting next starts or ends.
    pub next_bell: Option<UtcMillis>,
    /// Grows with every conclusion that changes; begins where no earlier load of the day has been.
    pub(super) version: u64,
    dirty: Vec<PersonId>,
}

/// What concluding a day anew brought about.
#[derive(Default)]
pub(super) struct Outcome {
    pub transitions: Vec<Transition>,
    pub deadlines: Vec<(UtcMillis, PersonId)>,
}

impl Day {
    pub fn new(key: DayKey, plan: Arc<DayPlan>, cut: Cut, settle_at: Offset) -> Self {
        let mut day = Self {
            key,
            cut: cut.next_offset,
            settle_at,
            settled: false,
            people: HashMap::with_capacity(plan.students.len()),
            tallies: vec![Tally::default(); plan.meetings.len()],
            total: Tally::default(),
            roll_taken: vec![false; plan.meetings.len()],
            inside: HashMap::new(),
            feed: VecDeque::new(),
            touched: Touched::default(),
            was_over: false,
            used: 0,
            next_bell: None,
            version: settle_at.0.max(cut.next_offset.0) << VERSION_BITS,
            dirty: Vec::new(),
            plan,
        };
        for (student, places) in &day.plan.students {
            let windows = vec![WindowState::default(); places.len() + 1];
            day.people.insert(*student, Person { windows, ..Person::default() });
        }
        for scan in &cut.scans {
            day.person(scan.student).evidence.add_scan(scan);
        }
        let mut newest: Vec<&ScanEvidence> = cut.scans.iter().collect();
        newest.sort_unstable_by_key(|scan| scan.offset);
        day.feed.extend(newest.iter().rev().take(FEED_MAX).rev().map(|scan| FeedEntry::from(*scan)));
        for mark in cut.marks {
            day.note_roll(&mark);
            day.person(mark.student).evidence.add_mark(mark);
        }
        cut.last.iter().for_each(|last| day.note_written(last));
        day
    }

    /// Takes a scan of this date; scans below the cut are known.
    pub fn add_scan(&mut self, scan: &ScanEvidence) {
        if scan.offset < self.cut || !self.person(scan.student).evidence.add_scan(scan) {
            return;
        }
        self.feed.push_back(FeedEntry::from(scan));
        self.touched.fed = true;
        if self.feed.len() > FEED_MAX {
            self.feed.pop_front();
        }
        self.mark_dirty(scan.student);
    }

    pub fn add_mark(&mut self, offset: Offset, mark: Mark) {
        if offset < self.cut {
            return;
        }
        self.note_roll(&mark);
        let student = mark.student;
        if self.person(student).evidence.add_mark(mark) {
            self.mark_dirty(student);
        }
    }

    /// Everybody is to be concluded anew.
    pub fn mark_all_dirty(&mut self) {
        let everybody: Vec<PersonId> = self.people.keys().copied().collect();
        everybody.into_iter().for_each(|person| self.mark_dirty(person));
    }

    /// Those whose conclusion rests on the lack of evidence, or whose mark is compared with it.
    pub fn mark_dirty_by_coverage(&mut self) {
        let rests = |window: &WindowState| {
            window.concluded.is_some_and(|concluded| {
                concluded.mark.is_some() || matches!(concluded.status, Status::Absent | Status::Unknown | Status::EarlyDeparture)
            })
        };
        let people = self.people.iter().filter(|(_, person)| person.windows.iter().any(rests));
        let people: Vec<PersonId> = people.map(|(id, _)| *id).collect();
        people.into_iter().for_each(|person| self.mark_dirty(person));
    }

    pub fn mark_dirty(&mut self, id: PersonId) {
        if let Some(person) = self.people.get_mut(&id)
            && !std::mem::replace(&mut person.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Takes a changed timetable or roster. Evidence and what was written stay; conclusions are drawn anew.
    pub fn replan(&mut self, plan: Arc<DayPlan>) {
        let old = std::mem::replace(&mut self.plan, plan);
        let marks: Vec<Mark> = self.people.values().flat_map(|person| person.evidence.marks().cloned()).collect();
        for (id, person) in &mut self.people {
            let before = std::mem::take(&mut person.windows);
            let old_places = old.students.get(id).map_or(&[][..], |places| places);
            let Some(places) = self.plan.students.get(id) else { continue };
            let kept = |place: u32| {
                let wanted = &self.plan.meetings[place as usize].meeting;
                let same = |old_place: &u32| {
                    let meeting = &old.meetings[*old_place as usize].meeting;
                    (meeting.section, meeting.period) == (wanted.section, wanted.period)
                };
                old_places.iter().position(same).and_then(|index| before.get(index)).copied().unwrap_or_default()
            };
            person.windows = places.iter().map(|place| kept(*place)).collect();
            person.windows.push(before.last().copied().unwrap_or_default());
        }
        for student in self.plan.students.keys() {
            self.people.entry(*student).or_insert_with(|| Person {
                windows: vec![WindowState::default(); self.plan.students[student].len() + 1],
                ..Person::default()
            });
        }
        self.roll_taken = vec![false; self.plan.meetings.len()];
        marks.iter().for_each(|mark| self.note_roll(mark));
        self.version += 1;
        self.recount();
        self.mark_all_dirty();
    }

    /// Draws the conclusions of everybody whom something has touched.
    pub fn conclude(&mut self, coverage: &Coverage, now: UtcMillis) -> Outcome {
        let mut outcome = Outcome::default();
        if !self.settled {
            return outcome;
        }
        let coverage = self.coverage(coverage);
        for id in std::mem::take(&mut self.dirty) {
            self.conclude_person(id, &coverage, now, &mut outcome);
        }
        outcome
    }

    /// What a missing scan proves on this day, at a school of this coverage now.
    fn coverage<'a>(&self, of_now: &'a Coverage) -> Cow<'a, Coverage> {
        if self.was_over && self.feed.is_empty() { Cow::Owned(Coverage::without_source()) } else { Cow::Borrowed(of_now) }
    }

    /// The conclusion and its explanation of one window; `None` as the index is the day's.
    pub fn detail(&self, id: PersonId, index: usize, coverage: &Coverage) -> Option<(Conclusion, StatusDetail)> {
        let person = self.people.get(&id)?;
        let concluded = person.windows.get(index)?.concluded?;
        let meetings = self.meetings_of(id);
        let window = window_at(&meetings, index)?;
        Some((concluded, person.evidence.detail(&concluded, &window, &self.plan.policy, &self.coverage(coverage))))
    }

    /// The meetings of a student in order.
    pub fn meetings_of(&self, id: PersonId) -> Vec<Meeting> {
        let places = self.plan.students.get(&id).map_or(&[][..], |places| places);
        places.iter().map(|place| self.plan.meetings[*place as usize].meeting).collect()
    }

    fn person(&mut self, id: PersonId) -> &mut Person {
        self.people.entry(id).or_default()
    }

    fn note_roll(&mut self, mark: &Mark) {
        let (Some(section), Some(period)) = (mark.section, mark.period) else { return };
        if mark.status == MarkStatus::Cleared {
            return;
        }
        for (place, planned) in self.plan.meetings.iter().enumerate() {
            if (planned.meeting.section, planned.meeting.period) == (section, period) && !self.roll_taken[place] {
                self.roll_taken[place] = true;
                self.touched.meetings.insert(place as u32);
            }
        }
    }

    fn note_written(&mut self, last: &LastStatus) {
        let Some(places) = self.plan.students.get(&last.student) else { return };
        let at = |wanted: (SectionId, PeriodId)| {
            places.iter().position(|place| {
                let meeting = &self.plan.meetings[*place as usize].meeting;
                (meeting.section, meeting.period) == wanted
            })
        };
        let Some(index) = last.meeting.map_or(Some(places.len()), at) else { return };
        if let Some(person) = self.people.get_mut(&last.student) {
            person.windows[index].written = Some(Record::of_written(last));
            person.windows[index].recorded = Some(last.recorded);
        }
    }

    fn conclude_person(&mut self, id: PersonId, coverage: &Coverage, now: UtcMillis, outcome: &mut Outcome) {
        let meetings = self.meetings_of(id);
        let Some(person) = self.people.get_mut(&id) else { return };
        person.dirty = false;
        let policy = &self.plan.policy;
        let mut next_change: Option<UtcMillis> = None;
        for index in 0..person.windows.len() {
            let Some(window) = window_at(&meetings, index) else { continue };
            let new = person.evidence.conclude(&window, policy, coverage, now);
            let begins = Some(window.span().starts).filter(|starts| *starts > now);
            let changes = person.evidence.next_change(&window, policy, coverage, now);
            next_change = [next_change, begins, changes].into_iter().flatten().min();
            let state = &mut person.windows[index];
            let old = state.concluded.replace(new);
            if !old.is_some_and(|old| old.says_same(&new)) {
                self.touched.people.insert(id);
                self.version += 1;
                let places = &self.plan.students[&id];
                match places.get(index) {
                    Some(place) => {
                        self.tallies[*place as usize].moved(old.map(|old| old.status), new.status);
                        self.touched.meetings.insert(*place);
                    }
                    None => {
                        self.total.moved(old.map(|old| old.status), new.status);
                        self.touched.totals = true;
                    }
                }
            }
            // A period that has not begun is not on record yet, unless somebody stated something about it.
            let on_record = begins.is_none() || new.mark.is_some() || state.written.is_some();
            if let Some(record) = Record::to_write(&new, state.written.as_ref()).filter(|_| on_record) {
                state.written = Some(record);
                let recorded = state.recorded.map_or(now, |before| now.max(before.plus_ms(1)));
                state.recorded = Some(recorded);
                outcome.transitions.push(Transition {
                    day: self.key,
                    student: id,
                    meeting: window.meeting().map(|meeting| (meeting.section, meeting.period)),
                    status: new.status,
                    rule: new.rule,
                    since: new.since,
                    detail: person.evidence.detail(&new, &window, policy, coverage),
                    recorded,
                });
            }
        }
        if let Some(at) = next_change.filter(|at| person.next_change != Some(*at)) {
            outcome.deadlines.push((at, id));
        }
        person.next_change = next_change;
        self.note_inside(id);
    }

    /// In the building by evidence, or without any scan today by the word of a mark.
    fn note_inside(&mut self, id: PersonId) {
        let Some(person) = self.people.get(&id) else { return };
        let by_scan = person.evidence.inside_since(&self.plan.policy);
        let by_mark = || {
            let day = person.windows.last()?.concluded?;
            let mark = person.evidence.marks().find(|mark| Some(mark.id) == day.mark)?;
            let there = matches!(day.status, Status::Present | Status::Tardy) && person.evidence.scans_len() == 0;
            there.then(|| mark.at.unwrap_or(mark.recorded))
        };
        let inside = match by_scan {
            Some((since, device)) => Some(Inside { person: id, since, device: Some(device) }),
            None => by_mark().map(|since| Inside { person: id, since, device: None }),
        };
        let changed = match inside {
            Some(inside) => self.inside.insert(id, inside.clone()) != Some(inside),
            None => self.inside.remove(&id).is_some(),
        };
        if changed {
            self.touched.inside.insert(id);
        }
    }

    fn recount(&mut self) {
        self.tallies = vec![Tally::default(); self.plan.meetings.len()];
        self.total = Tally::default();
        for (id, person) in &self.people {
            let Some(places) = self.plan.students.get(id) else { continue };
            for (index, window) in person.windows.iter().enumerate() {
                let Some(concluded) = window.concluded else { continue };
                match places.get(index) {
                    Some(place) => self.tallies[*place as usize].moved(None, concluded.status),
                    None => self.total.moved(None, concluded.status),
                }
            }
        }
        self.touched.meetings.extend(0..self.plan.meetings.len() as u32);
        self.touched.totals = true;
    }
}

/// The window of a place in `Person::windows`: a meeting, or after the last one the day.
fn window_at(meetings: &[Meeting], index: usize) -> Option<Window<'_>> {
    if index < meetings.len() { Some(Window::period(meetings, index)) } else { Window::day(meetings) }
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.meetings.is_empty() && self.inside.is_empty() && !self.fed && !self.totals
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
