//! From the state to live topics: which topics are followed, their first state, and one update a read for each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::ids::{DistrictId, PersonId, SchoolId, SectionId};

use super::board::{self, BuildingEntry, SchoolLine, Shown};
use super::day::Day;
use super::live::{Live, SchoolKey};
use super::pace::{FEW, Held, Pace};
use super::tally::Tally;
use crate::hub::{Changes, Hub};

/// The last part of the name of a district's topic in groups.
const GROUPS: &str = "groups";

/// The topic under which who may see groups only is told a district's attendance.
pub fn groups_topic(district: DistrictId) -> String {
    Topic::Groups(district).name()
}

/// A topic that this engine publishes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Topic {
    Section(SectionId),
    School(SchoolId),
    District(DistrictId),
    /// The district for who may see groups only. No client names it: it is what they get of the other.
    Groups(DistrictId),
    Student(PersonId),
    Devices(DistrictId),
}

impl Topic {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let (kind, id, view) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        match (kind, view) {
            ("section", "attendance") => id.parse().ok().map(Self::Section),
            ("school", "attendance") => id.parse().ok().map(Self::School),
            ("district", "attendance") => id.parse().ok().map(Self::District),
            ("district", GROUPS) => id.parse().ok().map(Self::Groups),
            ("student", "day") => id.parse().ok().map(Self::Student),
            ("district", "devices") => id.parse().ok().map(Self::Devices),
            _ => None,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Section(id) => format!("section/{id}/attendance"),
            Self::School(id) => format!("school/{id}/attendance"),
            Self::District(id) => format!("district/{id}/attendance"),
            Self::Groups(id) => format!("district/{id}/{GROUPS}"),
            Self::Student(id) => format!("student/{id}/day"),
            Self::Devices(id) => format!("district/{id}/devices"),
        }
    }
}

/// What a section's topic shows now.
struct SectionBoard {
    school: SchoolKey,
    shown: Shown,
    counts: Tally,
}

/// The topics that are followed.
pub(super) struct Boards {
    hub: Hub,
    sections: HashMap<SectionId, SectionBoard>,
    /// The offsets of the feed that a school's topic shows.
    schools: HashMap<SchoolKey, BTreeSet<u64>>,
    districts: HashSet<DistrictId>,
    /// With what was told last: a change that shows nothing says nothing either.
    groups: HashMap<DistrictId, BTreeMap<SchoolId, SchoolLine>>,
    students: HashSet<PersonId>,
    devices: HashSet<DistrictId>,
    /// Wanted, but the day is not in memory yet.
    owed: Vec<Arc<str>>,
    /// Sections whose changes are told a little later, because many changed at once.
    pace: Pace,
}

impl Boards {
    pub fn new(hub: Hub) -> Self {
        Self {
            hub,
            sections: HashMap::new(),
            schools: HashMap::new(),
            districts: HashSet::new(),
            groups: HashMap::new(),
            students: HashSet::new(),
            devices: HashSet::new(),
            owed: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// Brings all followed topics up to the state and forgets what was touched. Where many sections change, some are told with the
    /// next calls, see [`Boards::next_due`].
    pub fn publish(&mut self, live: &mut Live) {
        for school in std::mem::take(&mut live.rung) {
            self.ring(live, school);
        }
        self.publish_days(live);
        self.publish_devices(live);
        self.adopt_wanted(live);
        self.tell_due(live);
        live.touched_devices.clear();
    }

    /// How long until more is to be published although nothing has changed.
    pub fn next_due(&self) -> Option<Duration> {
        self.pace.next()
    }

    fn tell_due(&mut self, live: &Live) {
        let hub = &self.hub;
        let due = self.pace.due(Instant::now(), |id| hub.subscribers(&Topic::Section(id).name()));
        for (id, held) in due {
            self.tell(live, id, held);
        }
    }

    fn tell(&mut self, live: &Live, id: SectionId, held: Held) {
        match held {
            Held::Whole(school) => {
                self.show_section(live, id, school);
            }
            Held::Part(changes) => {
                self.hub.update(&Topic::Section(id).name(), changes);
            }
        }
    }

    /// Stops rendering topics that the hub has dropped.
    pub fn forget_dropped(&mut self) {
        let hub = &self.hub;
        let kept = |topic: Topic| hub.is_live(&topic.name());
        self.sections.retain(|id, _| kept(Topic::Section(*id)));
        self.schools.retain(|(_, id), _| kept(Topic::School(*id)));
        self.districts.retain(|id| kept(Topic::District(*id)));
        self.groups.retain(|id, _| kept(Topic::Groups(*id)));
        self.students.retain(|id| kept(Topic::Student(*id)));
        self.devices.retain(|id| kept(Topic::Devices(*id)));
    }

    fn adopt_wanted(&mut self, live: &mut Live) {
        let mut wanted = std::mem::take(&mut self.owed);
        wanted.extend(self.hub.take_wanted());
        for name in wanted {
            let known = Topic::parse(&name).is_some_and(|topic| match self.adopt(live, topic) {
                Adopted::Yes => true,
                Adopted::Later => {
                    self.owed.push(name.clone());
                    true
                }
                Adopted::Unknown => false,
            });
            if !known {
                self.hub.close(&name);
            }
        }
    }

    fn adopt(&mut self, live: &mut Live, topic: Topic) -> Adopted {
        match topic {
            Topic::Section(id) => {
                let Some(school) = live.view.school_of(id) else { return Adopted::Unknown };
                self.show_section(live, id, school)
            }
            Topic::School(id) => {
                let Some(key) = live.schools.keys().find(|key| key.1 == id).copied() else { return Adopted::Unknown };
                self.show_school(live, key)
            }
            Topic::District(id) => {
                let known = live.schools.keys().any(|key| key.0 == id);
                if !known {
                    return Adopted::Unknown;
                }
                self.districts.insert(id);
                self.hub.replace(&topic.name(), board::district(&board::lines(live, id, board::district_entry)));
                Adopted::Yes
            }
            Topic::Groups(id) => {
                let lines = board::lines(live, id, board::district_group);
                if lines.is_empty() {
                    return Adopted::Unknown;
                }
                self.hub.replace(&topic.name(), board::district(&lines));
                self.groups.insert(id, lines);
                Adopted::Yes
            }
            Topic::Student(id) => {
                self.students.insert(id);
                match board::student(live, id) {
                    Some(state) => {
                        self.hub.replace(&topic.name(), state);
                        Adopted::Yes
                    }
                    // The student may be in a school whose day is still being loaded.
                    None if live.is_complete() => Adopted::Unknown,
                    None => Adopted::Later,
                }
            }
            Topic::Devices(id) => {
                self.devices.insert(id);
                self.hub.replace(&topic.name(), board::district_devices(live, id));
                Adopted::Yes
            }
        }
    }

    fn show_section(&mut self, live: &Live, id: SectionId, school: SchoolKey) -> Adopted {
        let Some(day) = live.today_of(&school).filter(|day| day.settled) else { return Adopted::Later };
        // What was held is older than what is shown now.
        self.pace.take(id);
        let shown = board::shown(day, id, live.now);
        let counts = board::counts_of(day, shown);
        self.hub.replace(&Topic::Section(id).name(), board::section(live, day, shown));
        self.sections.insert(id, SectionBoard { school, shown, counts });
        Adopted::Yes
    }

    fn show_school(&mut self, live: &Live, key: SchoolKey) -> Adopted {
        let Some(day) = live.today_of(&key).filter(|day| day.settled) else { return Adopted::Later };
        let feed = day.feed.iter().map(|entry| entry.offset.0).collect();
        self.hub.replace(&Topic::School(key.1).name(), board::school(live, day));
        self.schools.insert(key, feed);
        Adopted::Yes
    }

    /// Another meeting, day or roster: everything that shows the school is rendered anew.
    fn ring(&mut self, live: &mut Live, school: SchoolKey) {
        let Some(day) = live.today_of(&school).filter(|day| day.settled) else { return };
        let sections = self.sections.iter().filter(|(_, board)| board.school == school);
        let moved: Vec<SectionId> = sections
            .filter(|(id, section)| section.shown != board::shown(day, **id, live.now) || !day.touched.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in moved {
            self.pace.hold(id, Held::Whole(school));
        }
        if self.schools.contains_key(&school) {
            self.show_school(live, school);
        }
    }

    fn publish_days(&mut self, live: &mut Live) {
        let changed = std::mem::take(&mut live.changed);
        let mut students = BTreeSet::new();
        let mut districts: HashMap<DistrictId, Changes> = HashMap::new();
        for key in changed.iter().map(|day| (day.district, day.school)).collect::<BTreeSet<_>>() {
            let touched = |day: &&Day| day.settled && !day.touched.is_empty();
            let Some(day) = live.today_of(&key).filter(touched) else { continue };
            self.publish_sections(live, day);
            self.publish_school(live, key, day);
            if !self.students.is_empty() {
                students.extend(day.touched.people.iter().filter(|id| self.students.contains(id)));
            }
            if self.districts.contains(&key.0) && (day.touched.totals || !day.touched.inside.is_empty()) {
                let entry = board::district_entry(live, key);
                districts.entry(key.0).or_default().set("schools", key.1.to_string(), entry);
            }
            if let Some(told) = self.groups.get_mut(&key.0)
                && let Some(line) = board::district_group(live, key)
                && told.get(&key.1) != Some(&line)
            {
                let mut changes = Changes::new();
                changes.set("schools", key.1.to_string(), line.clone());
                self.hub.update(&Topic::Groups(key.0).name(), changes);
                told.insert(key.1, line);
            }
        }
        for (id, changes) in districts {
            self.hub.update(&Topic::District(id).name(), changes);
        }
        for id in students {
            if let Some(state) = board::student(live, id) {
                self.hub.update(&Topic::Student(id).name(), state);
            }
        }
        for key in changed {
            if let Some(day) = live.days.get_mut(&key) {
                day.touched.clear();
            }
        }
    }

    fn publish_sections(&mut self, live: &Live, day: &Day) {
        if self.sections.is_empty() {
            return;
        }
        let mut updates: HashMap<SectionId, Changes> = HashMap::new();
        for id in &day.touched.people {
            let Some(places) = day.plan.students.get(id) else { continue };
            for (index, place) in places.iter().enumerate() {
                let section = day.plan.meetings[*place as usize].meeting.section;
                let Some(board) = self.sections.get(&section) else { continue };
                if board.shown.place == Some(*place)
                    && let Some(entry) = board::entry(live, day, *id, index)
                {
                    updates.entry(section).or_default().set("students", id.to_string(), entry);
                }
            }
        }
        for place in &day.touched.meetings {
            let section = day.plan.meetings[*place as usize].meeting.section;
            let Some(board) = self.sections.get_mut(&section).filter(|board| board.shown.place == Some(*place)) else {
                continue;
            };
            let counts = day.tallies[*place as usize];
            let before = std::mem::replace(&mut board.counts, counts);
            let moved = counts.iter().zip(before.iter()).filter(|(new, old)| new != old);
            for ((status, count), _) in moved {
                updates.entry(section).or_default().set("counts", status, count);
            }
        }
        let are_few = updates.len() <= FEW;
        for (section, changes) in updates {
            self.pace.hold(section, Held::Part(changes));
            if are_few && let Some(held) = self.pace.take(section) {
                self.tell(live, section, held);
            }
        }
    }

    fn publish_school(&mut self, live: &Live, key: SchoolKey, day: &Day) {
        let Some(feed) = self.schools.get_mut(&key) else { return };
        let mut changes = Changes::new();
        for place in &day.touched.meetings {
            let section = day.plan.meetings[*place as usize].meeting.section;
            if board::shown(day, section, live.now).place == Some(*place) {
                changes.set("sections", section.to_string(), board::section_line(live, day, section));
            }
        }
        let newest: BTreeSet<u64> = day.feed.iter().map(|entry| entry.offset.0).collect();
        for gone in feed.difference(&newest) {
            changes.remove("feed", gone.to_string());
        }
        for entry in day.feed.iter().filter(|entry| !feed.contains(&entry.offset.0)) {
            changes.set("feed", entry.offset.to_string(), *entry);
        }
        *feed = newest;
        for id in &day.touched.inside {
            match day.inside.get(id) {
                Some(inside) => changes.set("building", id.to_string(), BuildingEntry::from(inside)),
                None => changes.remove("building", id.to_string()),
            };
        }
        if day.touched.totals || !day.touched.inside.is_empty() {
            board::school_counts(day, &mut changes);
        }
        self.hub.update(&Topic::School(key.1).name(), changes);
    }

    fn publish_devices(&mut self, live: &mut Live) {
        if self.schools.is_empty() && self.devices.is_empty() {
            return;
        }
        let mut updates: HashMap<Topic, Changes> = HashMap::new();
        let mut counted: HashSet<DistrictId> = HashSet::new();
        for id in std::mem::take(&mut live.touched_devices) {
            let Some(device) = live.devices.get(&id) else { continue };
            let behind = live.behind(device).copied();
            let (school, district) = (device.info.school, device.info.district);
            let topics = [
                self.schools.contains_key(&(district, school)).then_some(Topic::School(school)),
                self.devices.contains(&district).then_some(Topic::Devices(district)),
            ];
            if topics == [None, None] {
                continue;
            }
            let Some(device) = live.devices.get_mut(&id) else { continue };
            if !device.to_tell(behind.as_ref()) {
                continue;
            }
            for topic in topics.into_iter().flatten() {
                let entry = device.entry(behind.as_ref());
                updates.entry(topic).or_default().set("devices", id.to_string(), entry);
            }
            counted.insert(district);
        }
        for district in counted.intersection(&self.devices) {
            let changes = updates.entry(Topic::Devices(*district)).or_default();
            board::device_counts(live, *district, changes);
        }
        for (topic, changes) in updates {
            self.hub.update(&topic.name(), changes);
        }
    }
}

enum Adopted {
    Yes,
    /// The day is being loaded.
    Later,
    Unknown,
}
