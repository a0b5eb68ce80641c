//! Which days and meetings are in memory: today of every school, past days that late events touch, and what of them is dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rollcall_model::limits::CLOCK_SKEW_MAX_MS;
use rollcall_model::schedule::{Span, date_span, local_date};
use rollcall_model::time::UtcMillis;

use super::{Class, Day, Held, Live, Load, Place, School, SchoolKey, WindowKey};
use crate::attendance::DayKey;
use crate::engagement::meeting::MeetingPlan;
use crate::engagement::seam::ClassDay;

/// Most events of all meetings together that are kept before meetings that are over are dropped, longest over first. At
/// 48 bytes an event this is 400 MB; a district of 3,000 running classes keeps about a tenth of it.
pub const EVENTS_KEPT_MAX: usize = 8_000_000;

/// Most days that are kept besides each school's today: for late events.
pub const PAST_DAYS_MAX: usize = 64;

impl Live {
    /// Drops past days that were used longest ago and the events of meetings that are over, beyond the limits.
    pub fn keep_house(&mut self) {
        let todays: HashSet<DayKey> = self.schools.values().map(|school| school.today).collect();
        let busy: HashSet<DayKey> = self.busy.iter().map(|(day, _)| *day).collect();
        let past = self.days.values().filter(|day| !todays.contains(&day.key) && !busy.contains(&day.key));
        let mut past: Vec<(u64, DayKey)> = past.map(|day| (day.used, day.key)).collect();
        past.sort_unstable();
        for (_, key) in past.iter().take(past.len().saturating_sub(PAST_DAYS_MAX)) {
            self.days.remove(key);
        }
        self.shed(EVENTS_KEPT_MAX);
    }

    /// Drops the events of meetings that are over and saved, longest over first, until few enough are left.
    pub(in crate::engagement) fn shed(&mut self, events_max: usize) {
        let mut over: Vec<(UtcMillis, Place, usize)> = Vec::new();
        let mut kept = 0;
        for day in self.days.values() {
            for (held, place) in day.meetings.iter().zip(0..) {
                let size = held.meeting.size();
                kept += size;
                if size > 0 && held.load == Load::Whole && !self.busy.contains(&(day.key, place)) {
                    over.push((held.meeting.plan.reach().ends, (day.key, place), size));
                }
            }
        }
        over.sort_unstable();
        for (ends, place, size) in over {
            if kept <= events_max || ends > self.now {
                return;
            }
            kept -= size;
            if let Some(day) = self.days.get_mut(&place.0) {
                let held = &mut day.meetings[place.1 as usize];
                *held = Held::new(held.meeting.plan.clone(), Load::Needed);
                day.presence = None;
            }
        }
    }

    pub(super) fn open_schools(&mut self) {
        let infos = self.view.schools();
        let known: HashSet<SchoolKey> = infos.iter().map(|info| (info.district, info.id)).collect();
        self.schools.retain(|key, _| known.contains(key));
        for info in infos {
            let key = (info.district, info.id);
            let moved = self.schools.get(&key).is_none_or(|school| school.info.zone != info.zone);
            let nowhere = DayKey { district: info.district, school: info.id, date: chrono::NaiveDate::MIN };
            let closed = Span::new(UtcMillis(0), UtcMillis(0));
            let school = self.schools.entry(key).or_insert_with(|| School { info: info.clone(), today: nowhere, span: closed });
            school.info = info;
            if moved {
                self.turn_day(key);
            }
        }
    }

    pub(super) fn turn_day(&mut self, key: SchoolKey) {
        let Some(school) = self.schools.get_mut(&key) else { return };
        let Some(date) = local_date(self.now, school.info.zone) else { return };
        school.today = DayKey { district: key.0, school: key.1, date };
        school.span = date_span(date, school.info.zone);
        let today = school.today;
        self.open_day(today);
    }

    pub(super) fn open_day(&mut self, key: DayKey) {
        if self.days.contains_key(&key) {
            return;
        }
        let plan = self.view.day(key).unwrap_or_default();
        let (meetings, by_class, by_person) = Default::default();
        self.days.insert(key, Day { key, meetings, by_class, by_person, is_planned: false, presence: None, used: self.turns });
        self.replan(key, &plan);
    }

    /// Meetings that are as they were keep their events; of the others nothing is kept. Windows of today that the plan
    /// has no longer are withdrawn from history: what was done then counts in the meetings that there are now.
    pub(super) fn replan(&mut self, key: DayKey, plan: &ClassDay) {
        let Some(day) = self.days.get_mut(&key) else { return };
        if day.meetings.iter().map(|held| &held.meeting.plan).eq(&plan.meetings) {
            return;
        }
        let is_replanned = std::mem::replace(&mut day.is_planned, true);
        let before = std::mem::take(&mut day.meetings).into_iter();
        let mut before: HashMap<Class, Held> = before.map(|held| (held.meeting.plan.class(), held)).collect();
        self.busy.retain(|(busy, _)| *busy != key);
        let mut meetings = Vec::with_capacity(plan.meetings.len());
        for (meeting, place) in plan.meetings.iter().zip(0_u32..) {
            let known = before.remove(&meeting.class());
            let was_used = known.as_ref().is_some_and(|held| held.meeting.size() > 0 || !held.windows.is_empty());
            let is_kept = known.as_ref().is_some_and(|held| held.meeting.plan == *meeting);
            // What has begun is calculated anew from what is stored: a consent, a list or a schedule that comes now holds
            // for the day.
            let may_have_begun = meeting.reach().starts <= self.now.plus_ms(CLOCK_SKEW_MAX_MS);
            let mut held = match known {
                Some(held) if is_kept => held,
                replaced => {
                    let load = if may_have_begun || was_used { Load::Needed } else { Load::Whole };
                    self.in_place_of(replaced, key, Held::new(meeting.clone(), load))
                }
            };
            if was_used || is_replanned && !is_kept && may_have_begun {
                self.busy.insert((key, place));
                if held.load == Load::Needed {
                    held.load = Load::Loading;
                }
            }
            if held.load == Load::Loading {
                // One that was on its way may come to another place now.
                self.loads.push((key, place));
            }
            meetings.push(held);
        }
        before.values().for_each(|held| self.withdraw(key, &held.meeting.plan));
        let Some(day) = self.days.get_mut(&key) else { return };
        day.meetings = meetings;
        day.index();
        // The new meetings have not heard who is present.
        day.presence = None;
    }

    /// A meeting that was planned anew: what was published of it is calculated again, also where nothing is left to calculate it from.
    fn in_place_of(&mut self, replaced: Option<Held>, key: DayKey, mut held: Held) -> Held {
        let mut published = BTreeMap::new();
        if let Some(replaced) = replaced {
            self.withdraw(key, &replaced.meeting.plan);
            published = replaced.windows;
        }
        let plan = Arc::clone(&held.meeting.plan);
        for slot in plan.slots() {
            let was_withdrawn = self.withdrawn.remove(&WindowKey::of(key, &plan, slot)).is_some();
            let known = published.remove(&slot);
            if known.is_some() || was_withdrawn {
                held.meeting.touch(slot, None);
            }
            held.windows.extend(known.map(|known| (slot, known)));
        }
        held
    }

    /// Takes the windows of a plan that are over, and so may be in history, out of it. Of a past day none: it is not known whether
    /// its plan was another or the roster has lost it since.
    fn withdraw(&mut self, key: DayKey, plan: &Arc<MeetingPlan>) {
        if self.schools.get(&(key.district, key.school)).is_none_or(|school| school.today != key) {
            return;
        }
        let is_over = |slot: &UtcMillis| plan.window(*slot).ends.plus_ms(plan.parameters.settle_ms) <= self.received_until;
        self.withdrawn.extend(plan.slots().filter(is_over).map(|slot| (WindowKey::of(key, plan, slot), Arc::clone(plan))));
    }
}

impl Day {
    /// Notes where each class and each person is among the meetings.
    fn index(&mut self) {
        self.by_class.clear();
        self.by_person.clear();
        for (held, place) in self.meetings.iter().zip(0_u32..) {
            let plan = &held.meeting.plan;
            self.by_class.insert(plan.class(), place);
            for person in plan.students.iter().map(|student| student.person).chain(plan.teachers.iter().copied()) {
                self.by_person.entry(person).or_default().push(place);
            }
        }
    }
}
