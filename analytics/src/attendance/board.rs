//! What each topic's data looks like: the whole state of a board, and its entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use rollcall_model::attendance::StatusDetail;
use rollcall_model::ids::{DeviceId, DistrictId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::{UtcMillis, rfc3339};
use serde::Serialize;

use super::day::Day;
use super::handle::{Inside, StudentToday, WindowToday};
use super::live::{Live, SchoolKey};
use super::tally::{Tally, rounded};
use crate::hub::Changes;
use crate::query::GROUP_MIN;

/// Which meeting of a section a board shows, and where the clock stands in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    /// Place in the plan; `None`: the section does not meet that day.
    pub place: Option<u32>,
    pub state: MeetingState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MeetingState {
    Before,
    Running,
    Over,
    None,
}

/// One student of a section's board.
#[derive(Serialize)]
pub(super) struct Entry {
    status: Status,
    #[serde(with = "rfc3339::option")]
    since: Option<UtcMillis>,
    rule: Rule,
    detail: StatusDetail,
    day_status: Option<Status>,
}

#[derive(Serialize)]
pub(super) struct BuildingEntry {
    #[serde(with = "rfc3339")]
    since: UtcMillis,
    device: Option<DeviceId>,
}

impl From<&Inside> for BuildingEntry {
    fn from(inside: &Inside) -> Self {
        Self { since: inside.since, device: inside.device }
    }
}

/// One section of a school's board.
#[derive(Serialize)]
pub(super) struct SectionLine {
    title: String,
    room: Option<String>,
    period: Option<PeriodId>,
    period_name: Option<Arc<str>>,
    state: MeetingState,
    counts: Tally,
    roll_taken: bool,
}

/// One school of a district's board.
#[derive(Clone, PartialEq, Serialize)]
pub(super) struct SchoolLine {
    name: String,
    date: NaiveDate,
    counts: Tally,
    /// Null: withheld, because the school has few students.
    in_building: Option<u32>,
    /// Numbers are multiples of it.
    rounded_to: u32,
}

/// The meeting that runs now (of several the one that began last), else the next one, else the last one.
pub(super) fn shown(day: &Day, section: SectionId, now: UtcMillis) -> Shown {
    let mut chosen = Shown { place: None, state: MeetingState::None };
    for (place, planned) in day.plan.meetings.iter().enumerate() {
        if planned.meeting.section != section {
            continue;
        }
        let span = planned.meeting.span;
        let state = if span.contains(now) {
            MeetingState::Running
        } else if now < span.starts {
            MeetingState::Before
        } else {
            MeetingState::Over
        };
        // Meetings come in order of their start: the first one still to come stands unless one is running.
        let better = match (chosen.state, state) {
            (MeetingState::None | MeetingState::Over, _) | (MeetingState::Running, MeetingState::Running) => true,
            (MeetingState::Running | MeetingState::Before, _) => false,
        };
        if better {
            chosen = Shown { place: Some(place as u32), state };
        }
    }
    chosen
}

pub(super) fn counts_of(day: &Day, shown: Shown) -> Tally {
    shown.place.map_or(Tally::default(), |place| day.tallies[place as usize])
}

/// The whole state of a section's topic.
pub(super) fn section(live: &Live, day: &Day, shown: Shown) -> Changes {
    let mut state = Changes::new();
    state.declare("students");
    for (status, count) in counts_of(day, shown).iter() {
        state.set("counts", status, count);
    }
    state.set("meta", "date", day.key.date).set("meta", "state", shown.state);
    let Some(place) = shown.place else {
        for key in ["period", "period_name", "starts", "ends"] {
            state.set("meta", key, ());
        }
        return state;
    };
    let planned = &day.plan.meetings[place as usize];
    let span = planned.meeting.span;
    state
        .set("meta", "period", planned.meeting.period)
        .set("meta", "period_name", planned.period_name.clone())
        .set("meta", "starts", Instant(span.starts))
        .set("meta", "ends", Instant(span.ends));
    for (id, places) in &day.plan.students {
        let Ok(index) = places.binary_search(&place) else { continue };
        if let Some(entry) = entry(live, day, *id, index) {
            state.set("students", id.to_string(), entry);
        }
    }
    state
}

/// The entry of a student in the window `index` of their day.
pub(super) fn entry(live: &Live, day: &Day, id: PersonId, index: usize) -> Option<Entry> {
    let school = live.schools.get(&(day.key.district, day.key.school))?;
    let (concluded, detail) = day.detail(id, index, &school.coverage)?;
    let day_status = day.people.get(&id)?.windows.last()?.concluded.map(|concluded| concluded.status);
    Some(Entry { status: concluded.status, since: concluded.since, rule: concluded.rule, detail, day_status })
}

/// The whole state of a school's topic.
pub(super) fn school(live: &Live, day: &Day) -> Changes {
    let mut state = Changes::new();
    state.declare("sections").declare("feed").declare("building").declare("devices");
    for section in day.plan.sections.keys() {
        state.set("sections", section.to_string(), section_line(live, day, *section));
    }
    for entry in &day.feed {
        state.set("feed", entry.offset.to_string(), *entry);
    }
    for (id, inside) in &day.inside {
        state.set("building", id.to_string(), BuildingEntry::from(inside));
    }
    for (id, device) in &live.devices {
        if (device.info.district, device.info.school) == (day.key.district, day.key.school) {
            state.set("devices", id.to_string(), device.entry(live.behind(device)));
        }
    }
    school_counts(day, &mut state);
    state
}

pub(super) fn school_counts(day: &Day, changes: &mut Changes) {
    for (status, count) in day.total.iter() {
        changes.set("counts", status, count);
    }
    changes.set("counts", "students", day.plan.students.len()).set("counts", "in_building", day.inside.len());
}

pub(super) fn section_line(live: &Live, day: &Day, section: SectionId) -> SectionLine {
    let shown = shown(day, section, live.now);
    let planned = shown.place.map(|place| &day.plan.meetings[place as usize]);
    let info = day.plan.sections.get(&section);
    SectionLine {
        title: info.map_or_else(String::new, |info| info.title.clone()),
        room: info.and_then(|info| info.room.clone()),
        period: planned.map(|planned| planned.meeting.period),
        period_name: planned.map(|planned| planned.period_name.clone()),
        state: shown.state,
        counts: counts_of(day, shown),
        roll_taken: shown.place.is_some_and(|place| day.roll_taken[place as usize]),
    }
}

/// The whole state of a district's topic, or of that in groups, by the lines of its schools. Schools whose day is not in memory yet follow
/// when it is.
pub(super) fn district(lines: &BTreeMap<SchoolId, SchoolLine>) -> Changes {
    let mut state = Changes::new();
    state.declare("schools");
    for (school, line) in lines {
        state.set("schools", school.to_string(), line.clone());
    }
    state
}

/// Of each school of a district.
pub(super) fn lines(live: &Live, id: DistrictId, line: impl Fn(&Live, SchoolKey) -> Option<SchoolLine>) -> BTreeMap<SchoolId, SchoolLine> {
    let of_district = live.schools.keys().filter(|key| key.0 == id);
    of_district.filter_map(|key| Some((key.1, line(live, *key)?))).collect()
}

/// `None` (null) only for a school that is unknown.
pub(super) fn district_entry(live: &Live, key: SchoolKey) -> Option<SchoolLine> {
    let school = live.schools.get(&key)?;
    let day = live.today_of(&key);
    Some(SchoolLine {
        name: school.info.name.clone(),
        date: school.today.date,
        counts: day.map_or(Tally::default(), |day| day.total),
        in_building: Some(day.map_or(0, |day| day.inside.len() as u32)),
        rounded_to: 1,
    })
}

/// The same for who may see groups only: in tens, so that no single student's coming shows, and nothing of schools of fewer students.
pub(super) fn district_group(live: &Live, key: SchoolKey) -> Option<SchoolLine> {
    let exact = district_entry(live, key)?;
    let is_small = (1..GROUP_MIN).contains(&exact.counts.students());
    let counts = if is_small { Tally::default() } else { exact.counts.rounded_to(GROUP_MIN) };
    let in_building = exact.in_building.filter(|_| !is_small).map(|inside| rounded(inside, GROUP_MIN));
    Some(SchoolLine { counts, in_building, rounded_to: GROUP_MIN, ..exact })
}

pub(super) fn district_devices(live: &Live, id: DistrictId) -> Changes {
    let mut state = Changes::new();
    state.declare("devices");
    for (device_id, device) in live.devices.iter().filter(|(_, device)| device.info.district == id) {
        state.set("devices", device_id.to_string(), device.entry(live.behind(device)));
    }
    device_counts(live, id, &mut state);
    state
}

pub(super) fn device_counts(live: &Live, id: DistrictId, changes: &mut Changes) {
    let devices = || live.devices.values().filter(|device| device.info.district == id && !device.info.disabled);
    changes
        .set("counts", "devices", devices().count())
        .set("counts", "connected", devices().filter(|device| device.is_connected()).count())
        .set("counts", "behind", devices().filter(|device| live.behind(device).is_some()).count());
}

/// The state of a student's topic: the day's conclusion as keys of one collection.
pub(super) fn student(live: &Live, id: PersonId) -> Option<Changes> {
    let today = student_today(live, None, id)?;
    let (arrival, departure) = today.seen.map_or((None, None), |(arrival, departure)| (Some(arrival), departure));
    let mut state = Changes::new();
    state
        .set("day", "date", today.date)
        .set("day", "zone", today.zone.name())
        .set("day", "inside_since", today.inside_since.map(Instant))
        .set("day", "arrival", arrival.map(Instant))
        .set("day", "departure", departure.map(Instant));
    let Some(day) = today.day else {
        for key in ["status", "since", "rule", "detail"] {
            state.set("day", key, ());
        }
        return Some(state);
    };
    state
        .set("day", "status", day.status)
        .set("day", "since", day.since.map(Instant))
        .set("day", "rule", day.rule)
        .set("day", "detail", day.detail);
    Some(state)
}

/// A student's day: of several schools the one that has the student in class today.
pub(super) fn student_today(live: &Live, district: Option<DistrictId>, id: PersonId) -> Option<StudentToday> {
    let schools = live.schools.iter().filter(|(key, _)| district.is_none_or(|district| key.0 == district));
    let days = schools.filter_map(|(key, school)| Some((school, live.today_of(key).filter(|day| day.settled)?)));
    let enrolled = days.filter_map(|(school, day)| Some((school, day, day.plan.students.get(&id)?.len())));
    let (school, day, meetings) = enrolled.max_by_key(|(_, day, meetings)| (*meetings, day.key))?;
    let window = |index: usize| {
        let (concluded, detail) = day.detail(id, index, &school.coverage)?;
        let place = day.plan.students[&id].get(index);
        let meeting = place.map(|place| day.plan.meetings[*place as usize].meeting);
        Some(WindowToday {
            section: meeting.map(|meeting| meeting.section),
            period: meeting.map(|meeting| meeting.period),
            status: concluded.status,
            since: concluded.since,
            rule: concluded.rule,
            detail,
        })
    };
    Some(StudentToday {
        school: day.key.school,
        date: day.key.date,
        zone: school.info.zone,
        seen: day.people.get(&id)?.evidence.seen(&day.plan.policy),
        inside_since: day.people.get(&id)?.evidence.inside_since(&day.plan.policy).map(|(since, _)| since),
        day: window(meetings),
        periods: (0..meetings).filter_map(window).collect(),
    })
}

/// An instant as text of RFC 3339.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct Instant(#[serde(with = "rfc3339")] pub UtcMillis);
