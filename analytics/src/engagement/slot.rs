//! The events of one window of one meeting, by student, and what earlier calculations have counted of them.
//!
//! What the SQL says of a student in a window is a sum over the steps from event to event. Steps between events that were
//! counted once need not be given to the SQL again: their sum is carried into the next calculation instead. It is given up as
//! soon as an event comes that would stand between them or before them; then all of the student's steps are counted anew.
//! The step that leads out of the window is never part of what is carried, because an earlier event of the next window may
//! still cut it.

use super::input::{Input, ReadingRow, StepRow, Sums, Wearable};

/// One event of a student. The order of the fields is the order of a student's events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Event {
    pub ts: i64,
    pub seq: u64,
    /// Folded to 64 bits: it only tells two devices of one student apart.
    pub device: u64,
    pub received: i64,
    pub kind: u8,
    pub is_allowed: bool,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(super) struct Reading {
    pub student: u32,
    pub ts: i64,
    pub metric: Wearable,
    pub seq: u64,
    pub device: u64,
    pub value: f64,
}

/// First and last event of one student in a window: only they concern the neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edges {
    pub first: Event,
    pub last: Event,
}

/// The sum over the steps to a student's first so many events.
#[derive(Clone, Copy, Debug)]
struct Counted {
    events: usize,
    sums: Sums,
}

/// One student in one window.
#[derive(Debug, Default)]
struct Acts {
    events: Vec<Event>,
    is_disordered: bool,
    edges: Option<Edges>,
    counted: Option<Counted>,
    /// How many events the last calculation saw; `None`: it cannot be carried.
    seen: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// By the student's number in the meeting.
    students: Vec<Acts>,
    readings: Vec<Reading>,
    events: usize,
    pub left_out: u64,
}

impl Slot {
    pub fn events(&self) -> usize {
        self.events
    }

    pub fn readings(&self) -> usize {
        self.readings.len()
    }

    pub fn edges(&self, student: u32) -> Option<&Edges> {
        self.students.get(student as usize)?.edges.as_ref()
    }

    /// Takes an event and says whether it is now the student's first, and last, of the window.
    pub fn add(&mut self, student: u32, event: Event) -> (bool, bool) {
        let place = student as usize;
        if self.students.len() <= place {
            self.students.resize_with(place + 1, Acts::default);
        }
        self.events += 1;
        let acts = &mut self.students[place];
        let edges = acts.edges.get_or_insert(Edges { first: event, last: event });
        if !acts.events.is_empty() && event <= edges.last {
            acts.is_disordered = true;
            acts.counted = None;
        }
        acts.events.push(event);
        edges.first = edges.first.min(event);
        edges.last = edges.last.max(event);
        (edges.first == event, edges.last == event)
    }

    pub fn add_reading(&mut self, reading: Reading) {
        self.readings.push(reading);
    }

    /// The student's last event of the window before has changed, so the first step of this one has.
    pub fn recount(&mut self, student: u32) {
        if let Some(acts) = self.students.get_mut(student as usize) {
            acts.counted = None;
        }
    }

    /// Keeps what the SQL said of a student about the events that [`Slot::gather`] gave it last.
    pub fn count(&mut self, student: u32, sums: Sums) {
        if let Some(acts) = self.students.get_mut(student as usize)
            && let Some(events) = acts.seen.take()
        {
            acts.counted = Some(Counted { events, sums });
        }
    }

    /// The consecutive events of each student that may touch the window: its own, the one before the first and the one
    /// after the last; of those that were counted before only the sum.
    pub fn gather(&mut self, before: Option<&Self>, after: Option<&Self>, window: u32, base: u32, input: &mut Input) {
        self.sort();
        for (acts, number) in self.students.iter_mut().zip(0..) {
            let student = base + number;
            let leads_out = after.and_then(|slot| slot.edges(number)).map(|edges| edges.first);
            let carried = acts.counted.as_ref();
            let mut previous = match carried {
                Some(counted) => {
                    input.carried.push((window, student, counted.sums));
                    acts.events[..counted.events].last()
                }
                None => before.and_then(|slot| slot.edges(number)).map(|edges| &edges.last),
            };
            let new = &acts.events[carried.map_or(0, |counted| counted.events)..];
            for event in new.iter().chain(leads_out.as_ref().filter(|_| !acts.events.is_empty())) {
                input.steps.push(StepRow {
                    window,
                    student,
                    previous: previous.map(|previous| previous.ts),
                    ts: event.ts,
                    received: event.received,
                    kind: event.kind,
                    is_allowed: previous.is_some_and(|previous| previous.is_allowed),
                });
                previous = Some(event);
            }
            acts.seen = (leads_out.is_none() && !new.is_empty()).then_some(acts.events.len());
        }
        for Reading { student, ts, metric, value, .. } in &self.readings {
            input.readings.push(ReadingRow { window, student: base + student, metric: *metric, ts: *ts, value: *value });
        }
    }

    /// Puts events into their order and removes repetitions.
    fn sort(&mut self) {
        for acts in self.students.iter_mut().filter(|acts| acts.is_disordered) {
            // Stable: what was sorted before is one run and costs a comparison each.
            acts.events.sort();
            let before = acts.events.len();
            acts.events.dedup_by_key(|event| (event.ts, event.seq, event.device));
            self.events -= before - acts.events.len();
            acts.is_disordered = false;
        }
        self.readings.sort_by(|a, b| (a.student, a.ts, a.metric, a.seq, a.device).cmp(&(b.student, b.ts, b.metric, b.seq, b.device)));
        self.readings.dedup_by_key(|reading| (reading.student, reading.ts, reading.metric, reading.seq, reading.device));
    }
}
