//! The topics of the product and who may use them. The broker knows nothing of this.

use rollcall_model::event::Kind;
use rollcall_model::ids::DeviceId;

/// What a topic of events holds: `Some(None)` where each event names its kind. `None`: devices do not publish there.
pub fn events(topic: &str) -> Option<Option<Kind>> {
    match topic {
        "v1/scan" => Some(Some(Kind::Scan)),
        "v1/telemetry" => Some(Some(Kind::Telemetry)),
        "v1/activity" => Some(Some(Kind::Activity)),
        "v1/status" => Some(Some(Kind::Status)),
        "v1/batch" => Some(None),
        _ => None,
    }
}

/// The topic of a message to a device.
pub fn device_topic(device: DeviceId, suffix: &str) -> String {
    format!("v1/device/{device}/{suffix}")
}

/// Whether a filter lies inside the device's own topics. Its id must stand there in full, so no wildcard can reach further.
pub fn may_subscribe(device: DeviceId, filter: &str) -> bool {
    let own = device_topic(device, "");
    filter.strip_prefix(&own).is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own() {
        let (own, other) = (DeviceId::random(), DeviceId::random());
        assert!(may_subscribe(own, &format!("v1/device/{own}/#")));
        assert!(may_subscribe(own, &format!("v1/device/{own}/command")));
        for foreign in [format!("v1/device/{other}/#"), "v1/device/+/#".into(), "#".into(), format!("v1/device/{own}"), "v1/scan".into()] {
            assert!(!may_subscribe(own, &foreign), "{foreign}");
        }
    }
}
