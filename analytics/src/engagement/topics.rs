//! The topics `section/<id>/engagement`: the windows of the meeting that the board shows, one entry a window.
//!
//! Collections: `windows` by the RFC 3339 instant at which the window begins (before clipping), only those that have
//! begun; `meta` with the meeting, the definition and its parameters. A correction is an ordinary delta.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rollcall_model::ids::SectionId;
use rollcall_model::schedule::Span;
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::Serialize;

use super::calculate::WindowValue;
use super::definition::{VERSION, WINDOW_MS};
use super::live::{Day, Held, Live, Load, Place};
use super::meeting::{MeetingPlan, Student};
use crate::attendance::{DayKey, SchoolInfo};
use crate::hub::{Changes, Hub, Publisher};

/// The last part of the topics' names.
const VIEW: &str = "engagement";

/// One window as subscribers see it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Entry {
    #[serde(with = "rfc3339")]
    starts: UtcMillis,
    #[serde(with = "rfc3339")]
    ends: UtcMillis,
    /// `open` until the watermark has passed, then `settled`.
    state: &'static str,
    /// False: no data, and so no metric.
    data: bool,
    /// How often what was settled has been corrected.
    corrections: u32,
    definition: u16,
    #[serde(flatten)]
    value: WindowValue,
}

#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
struct Instant(#[serde(with = "rfc3339")] UtcMillis);

/// Where the clock stands in the meeting that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum MeetingState {
    Before,
    Running,
    Over,
    None,
}

struct Followed {
    school: SchoolInfo,
    /// With its plan: another list, consent or schedule is another meeting.
    shown: Option<(Place, Arc<MeetingPlan>)>,
    state: MeetingState,
    sent: BTreeMap<UtcMillis, Entry>,
}

pub(super) struct Topics {
    hub: Hub,
    publisher: Publisher,
    followed: HashMap<SectionId, Followed>,
    /// Wanted, but the meeting is not whole yet.
    owed: BTreeSet<SectionId>,
}

fn name(section: SectionId) -> String {
    format!("section/{section}/{VIEW}")
}

fn parse(name: &str) -> Option<SectionId> {
    name.strip_prefix("section/")?.strip_suffix("/engagement")?.parse().ok()
}

impl Topics {
    pub fn new(hub: Hub) -> Self {
        let publisher = hub.publisher(VIEW);
        Self { hub, publisher, followed: HashMap::new(), owed: BTreeSet::new() }
    }

    /// A second way to the same list of wanted topics, to wait for it elsewhere.
    pub fn publisher(hub: &Hub) -> Publisher {
        hub.publisher(VIEW)
    }

    /// Days whose attendance is needed for what is followed.
    pub fn days(&self) -> BTreeSet<DayKey> {
        self.followed.values().filter_map(|followed| Some(followed.shown.as_ref()?.0.0)).collect()
    }

    /// Brings all followed topics up to the state.
    pub fn publish(&mut self, live: &mut Live) {
        for wanted in self.publisher.take_wanted() {
            match parse(&wanted).and_then(|section| Some((section, live.school_of(section)?))) {
                Some((section, school)) => {
                    let followed = Followed { school, shown: None, state: MeetingState::None, sent: BTreeMap::new() };
                    self.followed.insert(section, followed);
                    self.owed.insert(section);
                }
                None => self.hub.close(&wanted),
            }
        }
        for (section, followed) in &mut self.followed {
            let Some(day) = live.today_of(&followed.school) else { continue };
            let (place, state) = shown(day, *section, live.now);
            let place = place.map(|place| (day.key, place));
            let shown = place.and_then(|place| Some((place, live.held(place)?.meeting.plan.clone())));
            if (&shown, state) != (&followed.shown, followed.state) {
                followed.shown = shown;
                followed.state = state;
                self.owed.insert(*section);
            }
            if place.is_some_and(|place| !is_whole(live, place)) {
                live.want(place.unwrap_or_else(|| unreachable!("it was just found")));
                continue;
            }
            let held = place.and_then(|place| live.held(place));
            let entries = held.map(|held| entries(held, live.now)).unwrap_or_default();
            if self.owed.remove(section) {
                self.hub.replace(&name(*section), whole(place.map(|place| place.0), state, held, &entries));
            } else {
                let mut changes = Changes::new();
                for (slot, entry) in entries.iter().filter(|(slot, entry)| followed.sent.get(*slot) != Some(*entry)) {
                    changes.set("windows", key(*slot), entry.clone());
                }
                self.hub.update(&name(*section), changes);
            }
            followed.sent = entries;
        }
    }

    /// Stops rendering topics that the hub has dropped.
    pub fn forget_dropped(&mut self) {
        let Self { hub, owed, followed, .. } = self;
        followed.retain(|section, _| owed.contains(section) || hub.is_live(&name(*section)));
    }

    pub fn len(&self) -> usize {
        self.followed.len()
    }
}

/// Whether the windows say all that is known: events loaded, attendance heard.
fn is_whole(live: &Live, place: Place) -> bool {
    let has_presence = live.days.get(&place.0).is_some_and(|day| day.presence.is_some());
    live.held(place).is_some_and(|held| held.load == Load::Whole && held.meeting.touched.is_empty() && has_presence)
}

/// The meeting that runs now (of several the one that began last), else the next one, else the last one: as the board.
fn shown(day: &Day, section: SectionId, now: UtcMillis) -> (Option<u32>, MeetingState) {
    let mut chosen = (None, MeetingState::None);
    for (held, place) in day.meetings.iter().zip(0..).filter(|(held, _)| held.meeting.plan.section == section) {
        let span = held.meeting.plan.span;
        let state = match (span.contains(now), now < span.starts) {
            (true, _) => MeetingState::Running,
            (false, true) => MeetingState::Before,
            (false, false) => MeetingState::Over,
        };
        let is_better = match (chosen.1, state) {
            (MeetingState::None | MeetingState::Over, _) | (MeetingState::Running, MeetingState::Running) => true,
            (MeetingState::Running | MeetingState::Before, _) => false,
        };
        if is_better {
            chosen = (Some(place), state);
        }
    }
    chosen
}

fn key(slot: UtcMillis) -> String {
    slot.to_chrono().map(|slot| slot.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)).unwrap_or_default()
}

/// Every window that has begun, whether there is data or not.
fn entries(held: &Held, now: UtcMillis) -> BTreeMap<UtcMillis, Entry> {
    let plan = &held.meeting.plan;
    let begun = plan.slots().filter(|slot| plan.window(*slot).starts <= now);
    begun.map(|slot| (slot, entry(held, slot, plan.window(slot), now))).collect()
}

fn entry(held: &Held, slot: UtcMillis, window: Span, now: UtcMillis) -> Entry {
    let known = held.windows.get(&slot);
    let settled_by_clock = window.ends.plus_ms(held.meeting.plan.parameters.settle_ms) <= now;
    let is_settled = known.map_or(settled_by_clock, |known| known.is_settled);
    let value = known.map_or_else(|| without_data(held, window), |known| known.value.clone());
    let data = value.with_data > 0 || value.wearers.is_some() || value.quiz_present.is_some();
    let corrections = known.map_or(0, |known| known.corrections);
    let state = if is_settled { "settled" } else { "open" };
    Entry { starts: window.starts, ends: window.ends, state, data, corrections, definition: VERSION, value }
}

fn without_data(held: &Held, window: Span) -> WindowValue {
    let present = held.meeting.presence.iter().filter(|(_, span)| span.overlap_ms(window) > 0).count() as u32;
    WindowValue { present, coverage: (present > 0).then_some(0.0), ..WindowValue::default() }
}

fn whole(day: Option<DayKey>, state: MeetingState, held: Option<&Held>, entries: &BTreeMap<UtcMillis, Entry>) -> Changes {
    let mut topic = Changes::new();
    topic.declare("windows").set("meta", "state", state).set("meta", "definition", VERSION).set("meta", "window_min", WINDOW_MS / 60_000);
    let (Some(day), Some(held)) = (day, held) else {
        for missing in ["date", "period", "period_name", "starts", "ends"] {
            topic.set("meta", missing, ());
        }
        return topic;
    };
    let plan: &Arc<_> = &held.meeting.plan;
    let consented = plan.students.iter().filter(|Student { activity, .. }| *activity).count();
    topic
        .set("meta", "date", day.date)
        .set("meta", "period", plan.period)
        .set("meta", "period_name", plan.period_name.clone())
        .set("meta", "starts", Instant(plan.span.starts))
        .set("meta", "ends", Instant(plan.span.ends))
        .set("meta", "parameters", plan.parameters)
        .set("meta", "students", plan.students.len())
        .set("meta", "consented", consented)
        .set("meta", "is_restricted", plan.allowed.is_some());
    for (slot, entry) in entries {
        topic.set("windows", key(*slot), entry.clone());
    }
    topic
}
