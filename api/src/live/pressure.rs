//! Whether boards are behind: what live queries give way to.

use std::time::Duration;

use rollcall_model::ids::Offset;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::state::ApiState;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(100);

/// A task that runs this much later than it is due has not been given the processor: neither are those of the boards.
const LATE_MAX: Duration = Duration::from_millis(250);

/// Events that are durable must show on the boards within this time.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Boards are taken to be behind this long after the last sign of it.
const CALM_AFTER: Duration = Duration::from_secs(1);

/// What was seen so far.
struct Gauge {
    /// Events that were durable at an instant and did not show yet.
    waited_for: Option<(Offset, Instant)>,
    last_sign: Option<Instant>,
}

impl Gauge {
    /// One look, `late` after it was due: whether boards are behind now.
    fn look(&mut self, now: Instant, late: Duration, durable: Offset, applied: Offset) -> bool {
        match self.waited_for {
            Some((offset, _)) if applied < offset => {}
            _ => self.waited_for = (applied < durable).then_some((durable, now)),
        }
        let is_behind = self.waited_for.is_some_and(|(_, since)| now - since > BEHIND_MAX);
        if late > LATE_MAX || is_behind {
            self.last_sign = Some(now);
        }
        self.last_sign.is_some_and(|sign| now - sign < CALM_AFTER)
    }
}

/// Tells until the server stops.
pub async fn watch(state: ApiState, pressed: watch::Sender<bool>) {
    let mut gauge = Gauge { waited_for: None, last_sign: None };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let durable = state.log.durable();
    loop {
        let due = tokio::select! {
            () = state.shutdown.cancelled() => return,
            due = tick.tick() => due,
        };
        let now = Instant::now();
        let is_behind = gauge.look(now, now - due, *durable.borrow(), state.engine.applied());
        let changed = pressed.send_if_modified(|known| std::mem::replace(known, is_behind) != is_behind);
        if changed {
            tracing::debug!(is_behind, "live queries and boards");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_tasks_and_events_that_do_not_show_are_signs_and_busy_boards_are_none() {
        let mut gauge = Gauge { waited_for: None, last_sign: None };
        let began = Instant::now();
        let mut look = |ms: u64, late_ms: u64, durable: u64, applied: u64| {
            gauge.look(began + Duration::from_millis(ms), Duration::from_millis(late_ms), Offset(durable), Offset(applied))
        };
        assert!(!look(0, 3, 10, 10));
        assert!(look(100, 300, 10, 10), "late");
        assert!(look(1_000, 0, 10, 10), "calm only a while after the last sign");
        assert!(!look(1_101, 0, 10, 10));
        // Much comes and all of it shows in time.
        for step in 0..30 {
            assert!(!look(2_000 + step * 100, 0, 100 + step * 10, 95 + step * 10));
        }
        // One event does not show.
        assert!(!look(6_000, 0, 1_000, 900));
        assert!(!look(6_900, 0, 1_000, 900));
        assert!(look(7_100, 0, 1_000, 900));
        assert!(look(7_200, 0, 1_000, 1_000));
        assert!(!look(8_200, 0, 1_000, 1_000));
    }
}
