//! How often sign-in may be tried, so that guessing is hopeless and nobody can lock another person out for ever.
//!
//! Three bounds, all in memory, all refilled by time alone:
//! - An address may fail [`ADDRESS_BURST`] times at once and then once in [`ADDRESS_REFILL`].
//! - An account from one address: after [`PAIR_FREE`] failures each further try waits, doubling up to [`PAIR_WAIT_MAX`].
//!   Whoever guesses from elsewhere does not slow this down for the account's owner.
//! - An account from all addresses together may fail [`ACCOUNT_BURST`] times at once and then once in
//!   [`ACCOUNT_REFILL`]. An address from which the account has signed in lately is exempt, so a guesser with many
//!   addresses cannot keep the owner out of the usual place, and from a new one only while the guessing goes on.
//!
//! A refused try costs no password check and counts as no failure. At most [`REMEMBERED_MAX`] of each kind are
//! remembered; the one least lately used is forgotten first.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

pub const ADDRESS_BURST: u32 = 60;
pub const ADDRESS_REFILL: Duration = Duration::from_secs(5);
pub const PAIR_FREE: u32 = 5;
pub const PAIR_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
pub const ACCOUNT_BURST: u32 = 100;
pub const ACCOUNT_REFILL: Duration = Duration::from_secs(10);
pub const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// A pair that has been quiet for this long starts anew.
const PAIR_FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// Failures so far, drained by time.
struct Bucket {
    used: f64,
    at: Instant,
}

impl Bucket {
    fn drain(&mut self, refill: Duration, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.used = (self.used - passed.as_secs_f64() / refill.as_secs_f64()).max(0.0);
        self.at = now;
    }

    fn wait(&self, burst: u32, refill: Duration) -> Option<Duration> {
        let over = self.used - f64::from(burst) + 1.0;
        (over > 0.0).then(|| refill.mul_f64(over))
    }
}

/// Failures of one account from one address in a row.
struct Pair {
    failures: u32,
    not_before: Instant,
    last: Instant,
}

struct Inner {
    addresses: LruCache<IpAddr, Bucket>,
    accounts: LruCache<Box<str>, Bucket>,
    pairs: LruCache<(Box<str>, IpAddr), Pair>,
    /// Where accounts have signed in from.
    known: LruCache<(Box<str>, IpAddr), ()>,
}

/// The memory of failed sign-ins.
pub struct SignInThrottle(Mutex<Inner>);

impl Default for SignInThrottle {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            addresses: LruCache::new(REMEMBERED_MAX),
            accounts: LruCache::new(REMEMBERED_MAX),
            pairs: LruCache::new(REMEMBERED_MAX),
            known: LruCache::new(REMEMBERED_MAX),
        }))
    }
}

fn bucket<K: Hash + Eq>(cache: &mut LruCache<K, Bucket>, key: K, refill: Duration, now: Instant) -> &mut Bucket {
    let bucket = cache.get_or_insert_mut(key, || Bucket { used: 0.0, at: now });
    bucket.drain(refill, now);
    bucket
}

impl SignInThrottle {
    /// Counts a try before its password is checked: as a failure, which [`SignInThrottle::succeeded`] takes back, so that
    /// a thousand tries at once are bounded like a thousand in a row. `Err`: how long to wait.
    pub fn begin(&self, email: &str, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut inner = self.0.lock();
        let pair_key = (Box::from(email), address);
        let is_known = inner.known.contains(&pair_key);
        if let Some(wait) = bucket(&mut inner.addresses, address, ADDRESS_REFILL, now).wait(ADDRESS_BURST, ADDRESS_REFILL) {
            return Err(wait);
        }
        let account = bucket(&mut inner.accounts, Box::from(email), ACCOUNT_REFILL, now);
        if let Some(wait) = account.wait(ACCOUNT_BURST, ACCOUNT_REFILL).filter(|_| !is_known) {
            return Err(wait);
        }
        let pair = inner.pairs.get_or_insert_mut(pair_key, || Pair { failures: 0, not_before: now, last: now });
        if now.saturating_duration_since(pair.last) > PAIR_FORGOTTEN {
            pair.failures = 0;
        }
        if pair.not_before > now {
            return Err(pair.not_before - now);
        }
        pair.failures += 1;
        pair.last = now;
        if pair.failures >= PAIR_FREE {
            let doublings = (pair.failures - PAIR_FREE).min(16);
            pair.not_before = now + Duration::from_secs(1 << doublings).min(PAIR_WAIT_MAX);
        }
        bucket(&mut inner.addresses, address, ADDRESS_REFILL, now).used += 1.0;
        bucket(&mut inner.accounts, Box::from(email), ACCOUNT_REFILL, now).used += 1.0;
        Ok(())
    }

    /// The password was right: the try was no failure, and the address is known for this account.
    pub fn succeeded(&self, email: &str, address: IpAddr, now: Instant) {
        let mut inner = self.0.lock();
        let key = (Box::from(email), address);
        inner.pairs.pop(&key);
        inner.known.put(key, ());
        let address = bucket(&mut inner.addresses, address, ADDRESS_REFILL, now);
        address.used = (address.used - 1.0).max(0.0);
        let account = bucket(&mut inner.accounts, Box::from(email), ACCOUNT_REFILL, now);
        account.used = (account.used - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn elsewhere(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + number))
    }

    #[test]
    fn a_thousand_wrong_passwords_cost_few_checks() {
        let throttle = SignInThrottle::default();
        let start = Instant::now();
        let checks = (0..1000).filter(|n| throttle.begin("a@b.c", HOME, start + Duration::from_millis(n * 10)).is_ok()).count();
        assert!((5..15).contains(&checks), "{checks} checks in ten seconds");
    }

    #[test]
    fn many_accounts_from_one_address_are_bounded() {
        let throttle = SignInThrottle::default();
        let now = Instant::now();
        let checks = (0..1000).filter(|n| throttle.begin(&format!("{n}@b.c"), HOME, now).is_ok()).count();
        assert_eq!(checks as u32, ADDRESS_BURST);
    }

    #[test]
    fn guessing_from_everywhere_does_not_lock_the_owner_out() {
        let throttle = SignInThrottle::default();
        let now = Instant::now();
        throttle.begin("a@b.c", HOME, now).unwrap();
        throttle.succeeded("a@b.c", HOME, now);
        let checks = (0..5000).filter(|n| throttle.begin("a@b.c", elsewhere(*n), now).is_ok()).count();
        assert_eq!(checks as u32, ACCOUNT_BURST);
        assert!(throttle.begin("a@b.c", elsewhere(9999), now).is_err());
        assert!(throttle.begin("a@b.c", HOME, now).is_ok(), "a known address is let through");
        assert!(throttle.begin("a@b.c", elsewhere(9999), now + ACCOUNT_REFILL * 2).is_ok(), "a new one after a while");
    }

    #[test]
    fn a_right_password_clears_the_waiting() {
        let throttle = SignInThrottle::default();
        let mut now = Instant::now();
        for _ in 0..PAIR_FREE {
            throttle.begin("a@b.c", HOME, now).unwrap();
        }
        assert!(throttle.begin("a@b.c", HOME, now).is_err());
        now += Duration::from_secs(2);
        throttle.begin("a@b.c", HOME, now).unwrap();
        throttle.succeeded("a@b.c", HOME, now);
        assert!(throttle.begin("a@b.c", HOME, now).is_ok());
    }
}
