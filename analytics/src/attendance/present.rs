//! Who is present in which meeting, for engagement, whose classes are made of those who are there.

use rollcall_model::schedule::Span;

use super::day::Day;
use crate::engagement::{DayPresence, Present, present_span};

impl Day {
    /// Everybody who is present in a meeting of the day, unless nothing has changed since the version `known`.
    pub(super) fn presence(&self, known: u64) -> DayPresence {
        if self.version == known {
            return DayPresence { version: known, present: None };
        }
        let mut all = Vec::new();
        for (id, places) in &self.plan.students {
            let Some(person) = self.people.get(id) else { continue };
            for (place, window) in places.iter().zip(&person.windows) {
                let Some(concluded) = window.concluded else { continue };
                let meeting = &self.plan.meetings[*place as usize].meeting;
                let Some(whole) = present_span(concluded.status, concluded.since, concluded.arrival, meeting.span) else { continue };
                let present = |span| Present { section: meeting.section, period: meeting.period, student: *id, span };
                let before = all.len();
                if concluded.mark.is_none() {
                    // Whoever left and came back was not there meanwhile.
                    let seen = person.evidence.intervals(&self.plan.policy);
                    let within = seen.map(|seen| Span::new(seen.from.max(whole.starts), seen.until.unwrap_or(whole.ends).min(whole.ends)));
                    all.extend(within.filter(|span| span.length_ms() > 0).map(present));
                }
                if all.len() == before {
                    all.push(present(whole));
                }
            }
        }
        DayPresence { version: self.version, present: Some(all) }
    }
}
