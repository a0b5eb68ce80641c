//! Places for connections: so many at once over all ways in, and so many from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts connections. One for the gateway, so that MQTT and WebSocket share the limits.
pub struct Places {
    taken: Mutex<Taken>,
    max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// A connection whose address is not known counts for `None`.
    by_address: HashMap<Option<IpAddr>, usize>,
}

/// One connection's place; given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

impl Places {
    pub fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), max, per_address_max })
    }

    /// `None`: a limit is reached.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let mut taken = self.taken.lock();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= self.max || here >= self.per_address_max {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, here + 1);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_places_come_back() {
        let places = Places::new(3, 2);
        let (a, b) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let first = places.take(a).unwrap();
        let _second = places.take(a).unwrap();
        assert!(places.take(a).is_none(), "two from one address");
        let _third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "three in all");
        drop(first);
        assert!(places.take(b).is_some());
    }
}
