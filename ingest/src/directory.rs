//! What ingest needs to know of the directory, and nothing more: who a device is and whose a badge is. The store
//! implements it, the server wires it; tests write a small one.

use futures_util::future::BoxFuture;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PersonId, SchoolId};
use rollcall_model::limits;

/// A registered device, as its credential proved it. Tenant and school of every row come from here, never from a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    pub device: DeviceId,
    pub district: DistrictId,
    pub school: SchoolId,
    pub kind: DeviceKind,
    /// The one person a tablet or wearable is assigned to; its events may leave the badge out.
    pub person: Option<PersonId>,
    /// The gateway that this device is registered behind, which may speak for it.
    pub gateway: Option<DeviceId>,
    /// How far in the future an event time may lie, in milliseconds; policy of the school.
    pub clock_skew_max_ms: i64,
    /// How old an event may be when it arrives, in milliseconds; policy of the school.
    pub late_max_ms: i64,
}

impl DeviceIdentity {
    /// An identity with the default policy, no person and no gateway.
    pub fn new(device: DeviceId, district: DistrictId, school: SchoolId, kind: DeviceKind) -> Self {
        let (clock_skew_max_ms, late_max_ms) = (limits::CLOCK_SKEW_MAX_MS, limits::LATE_MAX_MS);
        Self { device, district, school, kind, person: None, gateway: None, clock_skew_max_ms, late_max_ms }
    }
}

/// Whose a badge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadgeHolder {
    pub badge: BadgeId,
    pub person: PersonId,
}

/// Why a device may not speak. The first two are told apart in metrics and logs only, never to the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no such device, or a wrong token")]
    BadCredentials,
    #[error("the device is disabled")]
    Disabled,
    /// The directory cannot answer now; the device should try again.
    #[error("the directory is not available")]
    Unavailable,
}

/// The directory as ingest sees it. `device`, `badge` and `version` are called on the path of events: they answer from
/// memory and never block.
pub trait Directory: Send + Sync + 'static {
    /// An enabled device by its id; `None` when it is unknown or disabled.
    fn device(&self, device: DeviceId) -> Option<DeviceIdentity>;

    /// Checks a device's token. Implementations compare hashes in constant time.
    fn authenticate<'a>(&'a self, device: DeviceId, token: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>>;

    /// The holder of a badge that is valid now, by the badge's secret token.
    fn badge(&self, district: DistrictId, token: &str) -> Option<BadgeHolder>;

    /// Grows with every change of the directory. Cached badges are forgotten and connected devices are looked up again.
    fn version(&self) -> u64;
}
