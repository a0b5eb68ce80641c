//! A bounded memory of whose a badge is, so that a badge scanned again costs a look-up and not a hash of its token.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use rollcall_model::ids::DistrictId;
use rollcall_model::limits::BADGE_BYTES_MAX;
use smallvec::SmallVec;

use crate::directory::{BadgeHolder, Directory};

/// Shards keep connections from waiting for one another; each holds the badges used last.
const SHARDS: usize = 16;
const BADGES_PER_SHARD_MAX: NonZeroUsize = NonZeroUsize::new(8_192).expect("not zero");

struct Shard {
    version: u64,
    holders: LruCache<Box<[u8]>, BadgeHolder>,
}

/// Shared by all connections. A change of the directory empties it, so a revoked badge is refused at once.
/// Unknown badges are not remembered: nobody can fill it with guesses.
pub struct BadgeCache {
    directory: Arc<dyn Directory>,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl BadgeCache {
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        let shard = |_| Mutex::new(Shard { version: 0, holders: LruCache::new(BADGES_PER_SHARD_MAX) });
        Self { directory, shards: std::array::from_fn(shard), hasher: RandomState::new() }
    }

    pub fn holder(&self, district: DistrictId, token: &str) -> Option<BadgeHolder> {
        let mut key = SmallVec::<[u8; 16 + BADGE_BYTES_MAX]>::from_slice(district.as_bytes());
        key.extend_from_slice(token.as_bytes());
        let shard = &self.shards[self.hasher.hash_one(key.as_slice()) as usize % SHARDS];
        let version = self.directory.version();
        let mut shard = shard.lock();
        if shard.version != version {
            shard.holders.clear();
            shard.version = version;
        }
        if let Some(holder) = shard.holders.get(key.as_slice()) {
            return Some(*holder);
        }
        let holder = self.directory.badge(district, token)?;
        shard.holders.put(key.into_vec().into_boxed_slice(), holder);
        Some(holder)
    }
}
