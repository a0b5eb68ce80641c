//! Keeps the newest [`Directory`] in memory and answers for devices from it.
//!
//! The database notifies of every change ([`CHANNEL`], payload `<district>/<table>`). A notice is waited on for
//! [`DEBOUNCE`], so that an import of a thousand schools is one reload, and only the parts that it names are read again. When
//! the connection is lost, everything is read again, because notices may have been missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rollcall_model::ids::{DeviceId, DistrictId};
use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::load::{self, Parts};
use super::{BadgeEntry, DeviceEntry, Directory};
use crate::connection::Store;
use crate::error::StoreError;
use crate::secret;

/// The channel on which migrations' triggers tell of changes.
const CHANNEL: &str = "rollcall_directory";

/// How long further notices are waited for after the first.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// Bounds of the pause between two attempts to listen again.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Direct look-ups of unknown devices per second, and how many may come at once. A flood of invented ids must not become
/// a flood of queries.
const LOOKUPS_PER_S: f64 = 50.0;
const LOOKUPS_BURST: f64 = 100.0;

/// Why a device may not speak.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    #[error("no such device")]
    Unknown,
    #[error("the device's token is wrong")]
    WrongToken,
    #[error("the device is disabled")]
    Disabled,
    /// The device is not known here and the database cannot be asked now; it should try again.
    #[error("the directory cannot be asked now")]
    Unavailable,
}

/// What has been reported to be stale.
#[derive(Default)]
struct Stale {
    /// Everything, and which districts there are.
    everything: bool,
    districts: HashMap<DistrictId, Parts>,
}

/// The newest directory. Shared behind an `Arc`; [`DirectoryCache::run`] keeps it fresh.
pub struct DirectoryCache {
    store: Store,
    current: RwLock<Arc<Directory>>,
    version: watch::Sender<u64>,
    /// One reload at a time, so that an older one can never overwrite a newer.
    reloading: tokio::sync::Mutex<()>,
    lookups: Mutex<Allowance>,
}

impl DirectoryCache {
    /// Reads the whole directory.
    pub async fn load(store: Store) -> Result<Arc<Self>, StoreError> {
        let cache = Self {
            store,
            current: RwLock::new(Arc::new(Directory::default())),
            version: watch::Sender::new(0),
            reloading: tokio::sync::Mutex::new(()),
            lookups: Mutex::new(Allowance::new(Instant::now())),
        };
        cache.refresh_now().await?;
        Ok(Arc::new(cache))
    }

    /// The newest snapshot; take it once for all look-ups that must agree.
    pub fn current(&self) -> Arc<Directory> {
        Arc::clone(&self.current.read())
    }

    /// The version of the newest snapshot. Moves also when only accounts changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Reads everything again and returns when it is in place: for a caller that has just changed something.
    pub async fn refresh_now(&self) -> Result<(), StoreError> {
        self.reload(Stale { everything: true, ..Stale::default() }).await
    }

    /// Reads one district again and returns when it is in place.
    pub async fn refresh_district(&self, district: DistrictId) -> Result<(), StoreError> {
        self.reload(Stale { districts: HashMap::from([(district, Parts::ALL)]), ..Stale::default() }).await
    }

    /// Checks a device's token. A device that is not known here is looked up in the database, because it may have been
    /// registered a moment ago.
    pub async fn authenticate(&self, device: DeviceId, token: &str) -> Result<DeviceEntry, AuthenticateError> {
        let known = self.current().device(device).map(|(_, entry)| entry.clone());
        let entry = match known {
            Some(entry) => entry,
            None => self.look_up(device).await?,
        };
        if !secret::matches(token, &entry.token_hash) {
            return Err(AuthenticateError::WrongToken);
        }
        if entry.disabled {
            return Err(AuthenticateError::Disabled);
        }
        Ok(entry)
    }

    /// Whose badge this secret is, unless revoked.
    pub fn badge(&self, district: DistrictId, token: &str) -> Option<BadgeEntry> {
        self.current().district(district)?.badge_by_hash(&secret::hash(token))
    }

    async fn look_up(&self, device: DeviceId) -> Result<DeviceEntry, AuthenticateError> {
        if !self.lookups.lock().take(Instant::now()) {
            return Err(AuthenticateError::Unavailable);
        }
        let found = look_up_device(&self.store, device).await.map_err(|error| {
            tracing::warn!(%device, %error, "a device could not be looked up");
            AuthenticateError::Unavailable
        })?;
        let entry = found.ok_or(AuthenticateError::Unknown)?;
        // Whoever answers for this device next finds it in the snapshot, even where the notice has not arrived yet.
        let parts = Parts { devices: true, ..Parts::default() };
        let stale = Stale { districts: HashMap::from([(entry.district, parts)]), ..Stale::default() };
        self.reload(stale).await.map_err(|_| AuthenticateError::Unavailable)?;
        Ok(entry)
    }

    /// Follows the changes until shut down. Returns an error only if nothing can be done about it here.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pause = RETRY_MIN;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.follow(&mut pause) => {
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "the directory is not followed; trying again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        }
    }

    /// Listens on a connection of its own until that is lost.
    async fn follow(&self, pause: &mut Duration) -> Result<(), StoreError> {
        let mut listener = PgListener::connect(&self.store.config().url).await?;
        listener.listen(CHANNEL).await?;
        // What changed while nobody listened.
        self.refresh_now().await?;
        *pause = RETRY_MIN;
        loop {
            let Some(first) = listener.try_recv().await? else { return Ok(()) };
            let mut stale = Stale::default();
            stale.note(&first);
            let until = tokio::time::Instant::now() + DEBOUNCE;
            while let Ok(next) = tokio::time::timeout_at(until, listener.try_recv()).await {
                let Some(next) = next? else { return Ok(()) };
                stale.note(&next);
            }
            self.reload(stale).await?;
        }
    }

    async fn reload(&self, stale: Stale) -> Result<(), StoreError> {
        let _one_at_a_time = self.reloading.lock().await;
        let known = self.current();
        let mut next = Directory { version: known.version + 1, districts: known.districts.clone() };
        let all = load::districts(&self.store).await?;
        let present: HashSet<DistrictId> = all.iter().map(|(id, _)| *id).collect();
        next.districts.retain(|id, _| present.contains(id));
        for (id, name) in all {
            let known = known.districts.get(&id);
            let parts = if stale.everything { Some(Parts::ALL) } else { stale.districts.get(&id).copied() };
            if known.is_some() && parts.is_none_or(|parts| parts == Parts::default()) {
                continue;
            }
            let known = known.map(Arc::as_ref);
            match load::district(&self.store, id, name, parts.unwrap_or(Parts::ALL), known).await {
                Ok(loaded) => drop(next.districts.insert(id, Arc::new(loaded))),
                // One district's bad row must not stop the others; it stays as it was.
                Err(error @ StoreError::Unreadable { .. }) => tracing::error!(%error, "a district cannot be loaded"),
                Err(error) => return Err(error),
            }
        }
        let version = next.version;
        *self.current.write() = Arc::new(next);
        self.version.send_replace(version);
        Ok(())
    }
}

impl Stale {
    fn note(&mut self, notice: &PgNotification) {
        let parsed = notice.payload().split_once('/').and_then(|(district, table)| Some((Uuid::parse_str(district).ok()?, table)));
        match parsed {
            Some((district, table)) => {
                let parts = self.districts.entry(DistrictId(district)).or_default();
                *parts = parts.with(Parts::of_table(table));
            }
            None => self.everything = true,
        }
    }
}

async fn look_up_device(store: &Store, device: DeviceId) -> Result<Option<DeviceEntry>, StoreError> {
    let district: Option<Uuid> = sqlx::query_scalar("select rollcall.device_district($1)").bind(device.0).fetch_one(store.pool()).await?;
    let Some(district) = district.map(DistrictId) else { return Ok(None) };
    let mut tenant = store.tenant(district).await?;
    Ok(load::devices(&mut tenant, district, Some(device)).await?.remove(&device))
}

/// A bucket that fills at [`LOOKUPS_PER_S`] up to [`LOOKUPS_BURST`].
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: LOOKUPS_BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * LOOKUPS_PER_S).min(LOOKUPS_BURST);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_are_bounded_and_recover() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let taken = (0..1000).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, 100);
        assert!(!allowance.take(start));
        assert!(allowance.take(start + Duration::from_millis(20)));
        assert!(!allowance.take(start + Duration::from_millis(20)));
    }
}
