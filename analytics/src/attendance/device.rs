//! Health of devices: their words in the log's order, and what a school's scanners therefore cover.
//!
//! A gate or room scanner that was registered but has never spoken is no source yet: it proves no absence and hides
//! none. The device list says so (`last_seen` is null). Connections of an earlier process have ended with it.

use rollcall_model::attendance::{Behind, BehindReason, SourceState};
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{Offset, SchoolId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_stream::heartbeat::HeartbeatRow;
use serde::Serialize;

use super::seam::DeviceInfo;

/// Pages are not told of every word of a healthy device, only this often.
const LAST_SEEN_STEP_MS: i64 = 10_000;

pub(super) struct Device {
    pub info: DeviceInfo,
    pub source: SourceState,
    view: Seen,
    /// What pages were last told.
    told: Option<(Seen, Option<Behind>)>,
}

#[derive(Clone, Copy, PartialEq, Default)]
struct Seen {
    connected: Option<bool>,
    last_seen: Option<UtcMillis>,
    queued: Option<i64>,
    battery: Option<f64>,
}

/// One device as pages show it.
#[derive(Clone, Serialize)]
pub(super) struct DeviceEntry {
    name: String,
    kind: DeviceKind,
    school: SchoolId,
    disabled: bool,
    /// `null`: it holds no connection, or was never seen.
    connected: Option<bool>,
    #[serde(with = "rfc3339::option")]
    last_seen: Option<UtcMillis>,
    queued: Option<i64>,
    battery: Option<f64>,
    #[serde(with = "rfc3339::option")]
    behind_since: Option<UtcMillis>,
    behind_reason: Option<BehindReason>,
    /// Why its school's evidence does not count on it: registered, but never heard.
    never_seen: bool,
}

impl Device {
    pub fn new(info: DeviceInfo) -> Self {
        Self { info, source: SourceState::default(), view: Seen::default(), told: None }
    }

    /// Whether its silence can hide an arrival.
    pub fn is_source(&self) -> bool {
        matches!(self.info.kind, DeviceKind::Gate | DeviceKind::Room) && !self.info.disabled
    }

    /// A scan that it sent.
    pub fn scanned(&mut self, scan: &ScanEvidence) {
        self.source.scan(scan.ts, scan.received, scan.offline);
        self.seen(scan.received);
    }

    /// A status row of the device. Connections before `connections_since` ended with the process that held them.
    pub fn status(&mut self, row: &HeartbeatRow, connections_since: Offset) {
        match row.connected {
            Some(connected) => self.connection(row, connected, connections_since),
            None => {
                self.source.heartbeat(row.ts.min(row.received), row.queued.unwrap_or(0).max(0) as u64);
                self.view.queued = row.queued.or(self.view.queued);
                self.view.battery = row.battery.or(self.view.battery);
                self.seen(row.received);
            }
        }
    }

    /// The gateway's word about this device's connection, or about that of the gateway it speaks through.
    pub fn connection(&mut self, row: &HeartbeatRow, connected: bool, connections_since: Offset) {
        self.source.connection(row.received, connected);
        self.view.connected = Some(connected);
        self.seen(row.received);
        if connected && row.offset < connections_since {
            self.source.connection(row.received, false);
            self.view.connected = Some(false);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.view.connected == Some(true)
    }

    pub fn entry(&self, behind: Option<&Behind>) -> DeviceEntry {
        DeviceEntry {
            name: self.info.name.clone(),
            kind: self.info.kind,
            school: self.info.school,
            disabled: self.info.disabled,
            connected: self.view.connected,
            last_seen: self.view.last_seen,
            queued: self.view.queued,
            battery: self.view.battery,
            behind_since: behind.map(|behind| behind.since),
            behind_reason: behind.map(|behind| behind.reason),
            never_seen: self.view.last_seen.is_none(),
        }
    }

    /// Whether pages are to be told, and notes that they were.
    pub fn to_tell(&mut self, behind: Option<&Behind>) -> bool {
        let now = (self.view, behind.copied());
        let same = self.told.is_some_and(|(told, told_behind)| {
            let step_ms = self.view.last_seen.map_or(0, |at| at.0) - told.last_seen.map_or(0, |at| at.0);
            let rest = Seen { last_seen: told.last_seen, ..self.view };
            told_behind == now.1 && rest == told && told.last_seen.is_some() && step_ms < LAST_SEEN_STEP_MS
        });
        if !same {
            self.told = Some(now);
        }
        !same
    }

    fn seen(&mut self, at: UtcMillis) {
        self.view.last_seen = self.view.last_seen.max(Some(at));
    }
}
