//! Which devices are connected, told to the log as rows of `Kind::Status` with `connected`.
//!
//! What is written is the present state and not each step: a device that comes and goes faster than the log takes rows
//! leaves one row, and the memory is bounded by the number of devices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::DeviceId;
use rollcall_stream::AppendError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::directory::DeviceIdentity;

/// How soon rows are offered again to a log that has no room.
const RETRY: Duration = Duration::from_millis(50);

struct Entry {
    identity: DeviceIdentity,
    connections: usize,
    /// What the log says.
    logged: bool,
}

pub struct Presence {
    devices: Mutex<Devices>,
    changed: Notify,
}

#[derive(Default)]
struct Devices {
    entries: HashMap<DeviceId, Entry>,
    /// Devices whose state may differ from the log's.
    touched: Vec<DeviceId>,
}

impl Presence {
    /// Begins with what the log says: devices whose connections ended with an earlier process are called disconnected.
    pub fn new(admission: &Admission) -> Self {
        let mut devices = Devices::default();
        for (device, district, school) in admission.connected() {
            let identity = DeviceIdentity::new(device, district, school, DeviceKind::Gate);
            devices.entries.insert(device, Entry { identity, connections: 0, logged: true });
            devices.touched.push(device);
        }
        let changed = Notify::new();
        changed.notify_one();
        Self { devices: Mutex::new(devices), changed }
    }

    pub fn joined(&self, who: &DeviceIdentity) {
        let mut devices = self.devices.lock();
        let entry = devices.entries.entry(who.device).or_insert(Entry { identity: *who, connections: 0, logged: false });
        entry.connections += 1;
        entry.identity = *who;
        self.touch(&mut devices, who.device);
    }

    pub fn left(&self, device: DeviceId) {
        let mut devices = self.devices.lock();
        if let Some(entry) = devices.entries.get_mut(&device) {
            entry.connections = entry.connections.saturating_sub(1);
        }
        self.touch(&mut devices, device);
    }

    fn touch(&self, devices: &mut Devices, device: DeviceId) {
        devices.touched.push(device);
        self.changed.notify_one();
    }

    /// Devices that are connected now.
    pub fn count(&self) -> usize {
        self.devices.lock().entries.values().filter(|entry| entry.connections > 0).count()
    }

    pub fn is_connected(&self, device: DeviceId) -> bool {
        self.devices.lock().entries.get(&device).is_some_and(|entry| entry.connections > 0)
    }

    /// Writes changes until shutdown and once more after it; returns early when the log has stopped.
    pub async fn run(&self, admission: Arc<Admission>, shutdown: CancellationToken) {
        loop {
            let stop = tokio::select! {
                () = self.changed.notified() => false,
                () = shutdown.cancelled() => true,
            };
            while let Err(error) = self.write(&admission) {
                if matches!(error, AppendError::Stopped(_)) || stop {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            if stop {
                return;
            }
        }
    }

    fn write(&self, admission: &Admission) -> Result<(), AppendError> {
        let (touched, changes) = self.differences();
        if changes.is_empty() {
            return Ok(());
        }
        let written = admission.admit_presence(&changes).map(drop);
        let mut devices = self.devices.lock();
        match written {
            Ok(()) => {
                for (who, connected) in &changes {
                    if let Some(entry) = devices.entries.get_mut(&who.device) {
                        entry.logged = *connected;
                    }
                }
                devices.forget(&changes);
            }
            Err(_) => devices.touched.extend(touched),
        }
        written
    }

    fn differences(&self) -> (Vec<DeviceId>, Vec<(DeviceIdentity, bool)>) {
        let mut devices = self.devices.lock();
        let mut touched = std::mem::take(&mut devices.touched);
        touched.sort_unstable();
        touched.dedup();
        let entries = touched.iter().filter_map(|device| devices.entries.get(device));
        let changes = entries.filter(|entry| entry.logged != (entry.connections > 0));
        let changes = changes.map(|entry| (entry.identity, entry.connections > 0)).collect();
        (touched, changes)
    }
}

impl Devices {
    /// A device that is away and written so needs no entry.
    fn forget(&mut self, changes: &[(DeviceIdentity, bool)]) {
        for (who, _) in changes {
            if self.entries.get(&who.device).is_some_and(|entry| entry.connections == 0 && !entry.logged) {
                self.entries.remove(&who.device);
            }
        }
    }
}
