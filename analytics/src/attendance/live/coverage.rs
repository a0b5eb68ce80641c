//! What a school's scanners have said between them, and what must be concluded anew when that changes.

use rollcall_model::attendance::Coverage;
use rollcall_model::policy::AttendancePolicy;

use super::{Due, Live, SchoolKey};

/// How often a school is concluded anew because a gate that drains its queue is complete a little further.
pub(in crate::attendance) const COVERAGE_STEP_MS: i64 = 1_000;

impl Live {
    pub(super) fn assess_all(&mut self) {
        let keys: Vec<SchoolKey> = self.schools.keys().copied().collect();
        keys.into_iter().for_each(|key| self.assess(key));
    }

    /// Sums up a school's scanners and concludes anew whatever rested on what they had not said.
    pub(super) fn assess(&mut self, key: SchoolKey) {
        let Some(school) = self.schools.get(&key) else { return };
        let default = AttendancePolicy::default();
        let policy = self.days.get(&school.today).map_or(&default, |day| &day.plan.policy);
        let states = school.sources.iter().filter_map(|id| Some((*id, self.devices.get(id)?.source)));
        let coverage = Coverage::assess(states, policy, self.now);
        let ids = |coverage: &Coverage| -> Vec<_> { coverage.behind.iter().map(|b| (b.device, b.reason)).collect() };
        let old = &school.coverage;
        let same = old.has_source == coverage.has_source && old.behind == coverage.behind;
        let same_devices = old.has_source == coverage.has_source && ids(old) == ids(&coverage);
        let Some(school) = self.schools.get_mut(&key) else { return };
        let mut due = coverage.valid_until;
        if !same && same_devices && self.now < school.coverage_at.plus_ms(COVERAGE_STEP_MS) {
            due = [due, Some(school.coverage_at.plus_ms(COVERAGE_STEP_MS))].into_iter().flatten().min();
        } else if !same {
            let devices = school.coverage.behind.iter().chain(&coverage.behind).map(|behind| behind.device);
            self.touched_devices.extend(devices);
            school.coverage = coverage;
            school.coverage_at = self.now;
            for day in self.days.values_mut().filter(|day| (day.key.district, day.key.school) == key) {
                day.mark_dirty_by_coverage();
                self.busy.insert(day.key);
            }
        }
        if let Some(at) = due.filter(|at| school.coverage_due.is_none_or(|due| *at < due)) {
            school.coverage_due = Some(at);
            self.deadlines.push(at, Due::Coverage(key.0, key.1));
        }
    }
}
