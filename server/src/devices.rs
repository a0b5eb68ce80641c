//! The directory as intake sees it: the store's snapshot behind ingest's small trait.

use std::sync::Arc;

use chrono::Utc;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rollcall_ingest::{AuthError, BadgeHolder, DeviceIdentity, Directory, GatewayHandle};
use rollcall_model::ids::{DeviceId, DistrictId};
use rollcall_store::directory::{AuthenticateError, DeviceEntry, DirectoryCache};
use tokio_util::sync::CancellationToken;

pub struct Devices {
    cache: Arc<DirectoryCache>,
}

impl Devices {
    pub fn new(cache: Arc<DirectoryCache>) -> Arc<Self> {
        Arc::new(Self { cache })
    }

    /// The device with its school's limits on event time.
    fn identity(&self, device: &DeviceEntry) -> DeviceIdentity {
        let mut identity = DeviceIdentity::new(device.id, device.district, device.school, device.kind);
        identity.person = device.person;
        identity.gateway = device.gateway;
        let directory = self.cache.current();
        if let Some(school) = directory.district(device.district).and_then(|district| district.school(device.school)) {
            // The limits are minutes and days wide; which of two policies holds within the hour of a date line does not matter.
            let policy = school.policy_on(Utc::now().with_timezone(&school.zone).date_naive());
            identity.clock_skew_max_ms = policy.clock_skew_max_ms;
            identity.late_max_ms = policy.late_max_ms;
        }
        identity
    }
}

impl Directory for Devices {
    fn device(&self, device: DeviceId) -> Option<DeviceIdentity> {
        let directory = self.cache.current();
        let (_, entry) = directory.device(device)?;
        (!entry.disabled).then(|| self.identity(entry))
    }

    fn authenticate<'a>(&'a self, device: DeviceId, token: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>> {
        async move {
            match self.cache.authenticate(device, token).await {
                Ok(entry) => Ok(self.identity(&entry)),
                Err(AuthenticateError::Unknown | AuthenticateError::WrongToken) => Err(AuthError::BadCredentials),
                Err(AuthenticateError::Disabled) => Err(AuthError::Disabled),
                Err(AuthenticateError::Unavailable) => Err(AuthError::Unavailable),
            }
        }
        .boxed()
    }

    fn badge(&self, district: DistrictId, token: &str) -> Option<BadgeHolder> {
        self.cache.badge(district, token).map(|badge| BadgeHolder { badge: badge.id, person: badge.person })
    }

    fn version(&self) -> u64 {
        self.cache.current().version
    }
}

/// Ends the connections of devices that were disabled or removed, as soon as the directory says so; an idle connection
/// would notice only at its next packet.
pub async fn cut_disabled(cache: Arc<DirectoryCache>, gateway: GatewayHandle, stop: CancellationToken) {
    let mut changed = cache.changed();
    loop {
        tokio::select! {
            moved = changed.changed() => if moved.is_err() { return },
            () = stop.cancelled() => return,
        }
        let directory = cache.current();
        let disabled = directory.districts.values().flat_map(|district| district.devices.values()).filter(|device| device.disabled);
        for device in disabled.filter(|device| gateway.is_connected(device.id)) {
            tracing::info!(device = %device.id, "disconnected, because it was disabled");
            gateway.disconnect(device.id);
        }
    }
}
