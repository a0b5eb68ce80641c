//! The events of one meeting of one section, kept by window, and the table function that pairs each event with the
//! student's previous one for the SQL.
//!
//! A meeting is a set: events may come in any order, more than once and in any batches, and give the same tables. What
//! lacks the consent for its purpose, or lies out of school hours, is never kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use rollcall_model::event::{ActivityKind, Kind};
use rollcall_model::ids::{Offset, PeriodId, PersonId, SectionId};
use rollcall_model::schedule::Span;
use rollcall_model::time::UtcMillis;
use rollcall_stream::EventBatch;
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::telemetry::{self, TelemetryRow};

use super::calculate::StudentValue;
use super::definition::{Parameters, QUIZ_PREFIX, WINDOW_MS, slot_of};
use super::input::{Input, PresenceRow, QuizRow, Wearable, WindowRow};
use super::slot::{Event, Reading, Slot};

/// Most events that one window of one meeting keeps: about a hundred each second of a class. Further ones are left out
/// and counted, so that a tablet gone wild cannot fill the memory.
pub const WINDOW_EVENTS_MAX: usize = 30_000;

/// What meets: of a day, there is one meeting of each.
pub type Class = (SectionId, PeriodId);

/// One student of a meeting and the purposes for which there is consent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Student {
    pub person: PersonId,
    pub activity: bool,
    pub wearable: bool,
}

/// A resource that the teacher allows: its name, or the beginning of it before a final `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed(pub Arc<[String]>);

impl Allowed {
    pub fn allows(&self, resource: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => resource.starts_with(beginning),
            None => resource == pattern,
        })
    }
}

/// One meeting as the timetable, the roster, the consents and the teacher have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeetingPlan {
    pub section: SectionId,
    pub period: PeriodId,
    pub period_name: Arc<str>,
    pub span: Span,
    /// From the school's first bell to its last one on that date: outside nothing is taken.
    pub hours: Span,
    pub students: Vec<Student>,
    pub teachers: Vec<PersonId>,
    /// `None`: the teacher has not said which resources are allowed.
    pub allowed: Option<Allowed>,
    pub parameters: Parameters,
}

impl MeetingPlan {
    pub fn class(&self) -> Class {
        (self.section, self.period)
    }

    /// The beginnings of the windows that the meeting touches.
    pub fn slots(&self) -> impl Iterator<Item = UtcMillis> + use<> {
        let (first, ends) = (slot_of(self.span.starts).0, self.span.ends.0);
        (0..).map(move |n| first + n * WINDOW_MS).take_while(move |slot| *slot < ends).map(UtcMillis)
    }

    /// The window of a slot, clipped to the meeting.
    pub fn window(&self, slot: UtcMillis) -> Span {
        Span::new(slot.max(self.span.starts), slot.plus_ms(WINDOW_MS).min(self.span.ends))
    }

    /// The rows of a batch that can matter to the meeting, without their offsets; `None`: there is none.
    pub fn rows_in(&self, batch: &EventBatch) -> Option<EventBatch> {
        let people: HashSet<PersonId> = self.students.iter().map(|student| student.person).chain(self.teachers.iter().copied()).collect();
        let reach = self.reach();
        let is_in = |person: Option<PersonId>, ts: UtcMillis| reach.contains(ts) && person.is_some_and(|person| people.contains(&person));
        let chosen: BooleanArray = match batch.kind {
            Kind::Activity => activity::decode(batch).map(|row| Some(is_in(Some(row.person), row.ts))).collect(),
            Kind::Telemetry => telemetry::decode(batch).map(|row| Some(is_in(row.person, row.ts))).collect(),
            Kind::Scan | Kind::Status | Kind::Mark | Kind::DeadLetter => return None,
        };
        let rows = filter_record_batch(&batch.rows, &chosen).expect("there is an answer for each row");
        (rows.num_rows() > 0).then(|| EventBatch::new(batch.kind, rows))
    }

    /// Event times that can matter to the meeting: its own, and theta on both sides, within school hours.
    pub fn reach(&self) -> Span {
        let theta_ms = self.parameters.theta_ms;
        let starts = self.span.starts.plus_ms(-theta_ms).max(self.hours.starts);
        Span::new(starts, self.span.ends.plus_ms(theta_ms).min(self.hours.ends))
    }
}

/// An event of a quiz; the resource is its place in [`Quizzes::resources`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct QuizEvent {
    ts: i64,
    resource: u32,
    kind: u8,
    student: Option<u32>,
}

/// What happened in the quizzes of a meeting.
#[derive(Debug, Default)]
struct Quizzes {
    resources: Vec<Arc<str>>,
    events: HashSet<QuizEvent>,
}

impl Quizzes {
    /// Takes what the definition asks of a quiz (opened, answered, submitted); false when it is known or of no concern.
    fn add(&mut self, row: &ActivityRow<'_>, student: Option<u32>) -> bool {
        let concerns = matches!(row.kind, ActivityKind::Opened | ActivityKind::Answered | ActivityKind::Submitted);
        if !concerns || self.events.len() >= WINDOW_EVENTS_MAX {
            return false;
        }
        let resource = self.resources.iter().position(|known| **known == *row.resource).unwrap_or_else(|| {
            self.resources.push(row.resource.into());
            self.resources.len() - 1
        });
        self.events.insert(QuizEvent { ts: row.ts.0, resource: resource as u32, kind: row.kind.code(), student })
    }

    /// The events that can be the first opening of a quiz, or a student's first answer since: all that the SQL asks for. A class
    /// that answers for half an hour would otherwise be looked at whole in each turn.
    fn decisive(&self) -> impl Iterator<Item = QuizEvent> {
        let mut opened: HashMap<u32, QuizEvent> = HashMap::new();
        let earlier = |known: &mut QuizEvent, event: &QuizEvent| {
            if event.ts < known.ts {
                *known = *event;
            }
        };
        let is_opening = |event: &&QuizEvent| event.kind == ActivityKind::Opened.code();
        for event in self.events.iter().filter(is_opening) {
            earlier(opened.entry(event.resource).or_insert(*event), event);
        }
        let mut answered: HashMap<(u32, Option<u32>), QuizEvent> = HashMap::new();
        let is_open = |event: &&QuizEvent| opened.get(&event.resource).is_some_and(|opened| opened.ts <= event.ts);
        for event in self.events.iter().filter(|event| !is_opening(event)).filter(is_open) {
            earlier(answered.entry((event.resource, event.student)).or_insert(*event), event);
        }
        opened.into_values().chain(answered.into_values())
    }
}

#[derive(Clone, Copy, Debug)]
enum Member {
    Student(u32),
    Teacher,
}

/// One meeting with its events.
#[derive(Debug)]
pub struct Meeting {
    pub plan: Arc<MeetingPlan>,
    /// When each present student is there; empty: nobody is known to be.
    pub presence: Vec<(u32, Span)>,
    members: HashMap<PersonId, Member>,
    slots: BTreeMap<UtcMillis, Slot>,
    quizzes: Quizzes,
    /// Windows to be calculated, with the offset of the first event that has touched each since it was last saved.
    pub touched: BTreeMap<UtcMillis, Option<Offset>>,
}

fn fold(id: &[u8; 16]) -> u64 {
    let (high, low) = id.split_at(8);
    let part = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    part(high).rotate_left(1) ^ part(low)
}

impl Meeting {
    pub fn new(plan: Arc<MeetingPlan>) -> Self {
        let teachers = plan.teachers.iter().map(|person| (*person, Member::Teacher));
        let students = plan.students.iter().zip(0..).map(|(student, number)| (student.person, Member::Student(number)));
        let members = teachers.chain(students).collect();
        Self { plan, presence: Vec::new(), members, slots: BTreeMap::new(), quizzes: Quizzes::default(), touched: BTreeMap::new() }
    }

    /// Events and readings that are kept.
    pub fn size(&self) -> usize {
        self.slots.values().map(|slot| slot.events() + slot.readings()).sum::<usize>() + self.quizzes.events.len()
    }

    /// Events that a window had no place for.
    pub fn left_out(&self) -> u64 {
        self.slots.values().map(|slot| slot.left_out).sum()
    }

    /// Takes an event of somebody in the class; says whether it concerns the meeting.
    pub fn add_activity(&mut self, row: &ActivityRow<'_>) -> bool {
        let Some(member) = self.members.get(&row.person).copied() else { return false };
        if !self.plan.reach().contains(row.ts) {
            return false;
        }
        let student = match member {
            Member::Student(number) if self.plan.students[number as usize].activity => Some(number),
            Member::Teacher if row.kind == ActivityKind::Opened => None,
            _ => return false,
        };
        if row.resource.starts_with(QUIZ_PREFIX) && row.kind != ActivityKind::Interacted && self.plan.span.contains(row.ts) {
            self.add_quiz(row, student);
        } else if student.is_none() {
            return false;
        }
        let Some(student) = student else { return true };
        let is_allowed = row.kind != ActivityKind::Closed && self.plan.allowed.as_ref().is_some_and(|allowed| allowed.allows(row.resource));
        let event = Event {
            ts: row.ts.0,
            seq: row.seq,
            device: fold(row.device.as_bytes()),
            received: row.received.0,
            kind: row.kind.code(),
            is_allowed,
        };
        self.add_event(student, event, row.offset);
        true
    }

    /// Takes a reading of a wearable whose wearer's consent is on file.
    pub fn add_reading(&mut self, row: &TelemetryRow<'_>) -> bool {
        let Some(Member::Student(student)) = row.person.and_then(|person| self.members.get(&person)).copied() else { return false };
        let Some(metric) = Wearable::from_text(row.metric) else { return false };
        let wanted = self.plan.students[student as usize].wearable && self.plan.span.contains(row.ts) && row.value.is_finite();
        let at = slot_of(row.ts);
        if !wanted {
            return false;
        }
        let slot = self.slots.entry(at).or_default();
        if slot.readings() >= WINDOW_EVENTS_MAX {
            slot.left_out += 1;
            return false;
        }
        let device = fold(row.device.as_bytes());
        slot.add_reading(Reading { student, ts: row.ts.0, metric, seq: row.seq, device, value: row.value });
        self.touch(at, Some(row.offset));
        true
    }

    fn add_quiz(&mut self, row: &ActivityRow<'_>, student: Option<u32>) {
        if !self.quizzes.add(row, student) {
            return;
        }
        // What was known of a quiz at the end of each later window changes too.
        let later: Vec<UtcMillis> = self.plan.slots().skip_while(|slot| *slot < slot_of(row.ts)).collect();
        let newest = self.slots.keys().next_back().copied().unwrap_or(row.ts).max(slot_of(row.ts));
        later.into_iter().take_while(|slot| *slot <= newest).for_each(|slot| self.touch(slot, Some(row.offset)));
    }

    fn add_event(&mut self, student: u32, event: Event, offset: Offset) {
        let at = slot_of(UtcMillis(event.ts));
        let theta_ms = self.plan.parameters.theta_ms;
        let slot = self.slots.entry(at).or_default();
        if slot.events() >= WINDOW_EVENTS_MAX {
            if slot.left_out == 0 {
                tracing::warn!(section = %self.plan.section, "a window has more events than are kept; further ones are left out");
            }
            slot.left_out += 1;
            return;
        }
        let (is_first, is_last) = slot.add(student, event);
        self.touch(at, Some(offset));
        let before = at.plus_ms(-WINDOW_MS);
        if is_first && event.ts - at.0 <= theta_ms && self.slots.get(&before).is_some_and(|slot| slot.edges(student).is_some()) {
            self.touch(before, Some(offset));
        }
        let after = at.plus_ms(WINDOW_MS);
        if is_last && let Some(next) = self.slots.get_mut(&after).filter(|next| next.edges(student).is_some()) {
            next.recount(student);
            if after.0 - event.ts <= theta_ms {
                self.touch(after, Some(offset));
            }
        }
    }

    /// The window is to be calculated again; slots outside the meeting only hold its neighbours' events.
    pub fn touch(&mut self, slot: UtcMillis, offset: Option<Offset>) {
        let window = self.plan.window(slot);
        if window.length_ms() == 0 {
            return;
        }
        let first = self.touched.entry(slot).or_insert(offset);
        *first = [*first, offset].into_iter().flatten().min();
    }

    /// Takes who is present and when, several times for whoever came back; every window with events whose class that changes is touched.
    pub fn set_presence(&mut self, mut presence: Vec<(u32, Span)>) {
        presence.sort_unstable_by_key(|(student, span)| (*student, span.starts));
        presence.dedup_by(|(student, span), (other, kept)| {
            let is_one = student == other && span.starts <= kept.ends;
            if is_one {
                kept.ends = kept.ends.max(span.ends);
            }
            is_one
        });
        if presence == self.presence {
            return;
        }
        fn spans_in(all: &[(u32, Span)], student: u32) -> &[(u32, Span)] {
            let first = all.partition_point(|(id, _)| *id < student);
            &all[first..first + all[first..].partition_point(|(id, _)| *id == student)]
        }
        let before = std::mem::replace(&mut self.presence, presence);
        let changed: Vec<(&[(u32, Span)], &[(u32, Span)])> = (0..self.plan.students.len() as u32)
            .map(|student| (spans_in(&before, student), spans_in(&self.presence, student)))
            .filter(|(old, new)| old != new)
            .collect();
        // A quiz counts those who were present when it was opened, so its later windows change as well.
        let has_quiz = !self.quizzes.events.is_empty();
        let slots = self.slots.keys().copied();
        let touched = slots.filter(|slot| {
            let window = self.plan.window(*slot);
            let touches = |spans: &[(u32, Span)]| spans.iter().any(|(_, span)| span.overlap_ms(window) > 0);
            has_quiz || changed.iter().any(|(old, new)| touches(old) != touches(new))
        });
        for slot in touched.collect::<Vec<_>>() {
            self.touch(slot, None);
        }
    }

    /// Writes the tables of some windows into `input` and returns the first number of the meeting's students.
    pub fn gather(&mut self, wanted: &BTreeSet<UtcMillis>, input: &mut Input, numbers: &mut Numbers) -> u32 {
        let meeting = numbers.meetings;
        let base = numbers.students;
        numbers.meetings += 1;
        numbers.students += self.plan.students.len() as u32;
        let mut before: Option<(u32, Span)> = None;
        for (student, span) in self.presence.iter().copied() {
            let previous = before.replace((student, span)).filter(|(other, _)| *other == student).map(|(_, span)| span.ends);
            input.presence.push(PresenceRow { meeting, student: base + student, span, previous });
        }
        let resources: Vec<u32> = self.quizzes.resources.iter().map(|name| numbers.resource(name)).collect();
        for quiz in self.quizzes.decisive() {
            let (resource, student) = (resources[quiz.resource as usize], quiz.student.map(|student| base + student));
            input.quizzes.push(QuizRow { meeting, student, resource, kind: quiz.kind, ts: quiz.ts });
        }
        for slot in wanted {
            let window = input.windows.len() as u32;
            input.windows.push(WindowRow {
                meeting,
                span: self.plan.window(*slot),
                parameters: self.plan.parameters,
                is_restricted: self.plan.allowed.is_some(),
            });
            self.steps(*slot, window, base, input);
        }
        base
    }

    fn steps(&mut self, at: UtcMillis, window: u32, base: u32, input: &mut Input) {
        let Some(mut slot) = self.slots.remove(&at) else { return };
        let (before, after) = (self.slots.get(&at.plus_ms(-WINDOW_MS)), self.slots.get(&at.plus_ms(WINDOW_MS)));
        slot.gather(before, after, window, base, input);
        self.slots.insert(at, slot);
    }

    /// Keeps what a calculation said of students in a window, so that the next one need not look at the same steps. `base` is the
    /// number that [`Meeting::gather`] gave; nothing was added since.
    pub fn count(&mut self, at: UtcMillis, base: u32, rows: &[StudentValue]) {
        let Some(slot) = self.slots.get_mut(&at) else { return };
        rows.iter().for_each(|row| slot.count(row.student - base, row.sums));
    }
}

/// The numbers given out in one calculation.
#[derive(Default)]
pub struct Numbers {
    meetings: u32,
    students: u32,
    resources: HashMap<Arc<str>, u32>,
}

impl Numbers {
    fn resource(&mut self, name: &Arc<str>) -> u32 {
        let next = self.resources.len() as u32;
        *self.resources.entry(name.clone()).or_insert(next)
    }
}
