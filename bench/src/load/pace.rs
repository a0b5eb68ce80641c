//! When each message is to be sent. In an open loop the time is fixed beforehand, and lateness counts against the server.

use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub struct Pace {
    begin: Instant,
    /// Between two messages of one connection; zero: as fast as acknowledgements come.
    interval: Duration,
}

impl Pace {
    pub fn new(begin: Instant, messages_per_s: f64) -> Self {
        let interval = if messages_per_s > 0.0 { Duration::from_secs_f64(1.0 / messages_per_s) } else { Duration::ZERO };
        Self { begin, interval }
    }

    pub fn is_open(&self) -> bool {
        !self.interval.is_zero()
    }

    /// `share` of the interval sets connections apart, so that they do not all send at once.
    pub fn due(&self, index: u64, share: f64) -> Instant {
        self.begin + self.interval.mul_f64(share) + Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(index))
    }

    /// How many messages are due by now.
    pub fn count(&self, now: Instant, share: f64) -> u64 {
        if !self.is_open() {
            return u64::MAX;
        }
        let since = now.checked_duration_since(self.begin + self.interval.mul_f64(share));
        since.map_or(0, |since| (since.as_nanos() / self.interval.as_nanos()) as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_from_the_moment_it_is_due() {
        let begin = Instant::now();
        let pace = Pace::new(begin, 100.0);
        for index in 0..5 {
            let due = pace.due(index, 0.5);
            assert_eq!(pace.count(due - Duration::from_nanos(1), 0.5), index);
            assert_eq!(pace.count(due, 0.5), index + 1);
        }
        assert_eq!(Pace::new(begin, 0.0).count(begin, 0.5), u64::MAX);
    }
}
