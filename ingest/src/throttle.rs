//! Failed sign-ins cost the sender, not us: after a number of them in one minute the next are refused without a look.
//!
//! Counted per address, and per device and address together. Not per device alone: whoever knows a device's id could then
//! keep the real one out.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Instant;

use lru::LruCache;
use parking_lot::Mutex;
use rollcall_model::ids::DeviceId;

/// Addresses and devices remembered; the ones that failed last stay.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Many devices of a school share its address, so it may fail more often than one of them.
const ADDRESS_FACTOR: u32 = 20;

type Key = (Option<IpAddr>, Option<DeviceId>);

pub struct Throttle {
    failures: Mutex<LruCache<Key, (u64, u32)>>,
    started: Instant,
    failures_max: u32,
}

impl Throttle {
    pub fn new(failures_per_minute_max: u32) -> Self {
        Self { failures: Mutex::new(LruCache::new(ENTRIES_MAX)), started: Instant::now(), failures_max: failures_per_minute_max }
    }

    fn minute(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    /// Whether a sign-in may be looked at.
    pub fn permits(&self, address: Option<IpAddr>, device: DeviceId) -> bool {
        let minute = self.minute();
        let mut failures = self.failures.lock();
        let mut count = |key: Key| failures.get(&key).filter(|(when, _)| *when == minute).map_or(0, |(_, count)| *count);
        count((address, Some(device))) < self.failures_max
            && (address.is_none() || count((address, None)) < self.failures_max.saturating_mul(ADDRESS_FACTOR))
    }

    pub fn failed(&self, address: Option<IpAddr>, device: DeviceId) {
        let minute = self.minute();
        let mut failures = self.failures.lock();
        for key in [(address, Some(device)), (address, None)] {
            let entry = failures.get_or_insert_mut(key, || (minute, 0));
            *entry = if entry.0 == minute { (minute, entry.1 + 1) } else { (minute, 1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guesser_is_stopped_and_the_device_elsewhere_is_not() {
        let (throttle, device) = (Throttle::new(3), DeviceId::random());
        let (attacker, home) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        for _ in 0..3 {
            assert!(throttle.permits(attacker, device));
            throttle.failed(attacker, device);
        }
        assert!(!throttle.permits(attacker, device));
        assert!(throttle.permits(home, device));
        for _ in 0..60 {
            throttle.failed(attacker, DeviceId::random());
        }
        assert!(!throttle.permits(attacker, DeviceId::random()));
    }
}
