//! `connections`: what fifty thousand connected and silent devices cost, and whether all of them can speak afterwards.

use anyhow::{Result, ensure};

use super::Settings;
use crate::fresh::Fresh;
use crate::load::{self, Running, idle};
use crate::machine;
use crate::table::Row;

const CONNECTIONS_WANTED: usize = 50_000;

/// Files that server and clients need beside the connections.
const OTHER_FILES: usize = 1_000;

/// Sessions of one device at once, as the gateway permits them; so a quarter as many devices need to be registered.
const SESSIONS_PER_DEVICE: usize = 4;

const BYTES_MAX: f64 = 10.0 * 1024.0;
const STALL_MAX_MS: f64 = 100.0;

/// The default limit of connections from one address is lower, and the loopback has few addresses.
const CONFIG: &str = "[ingest]\nconnections_max = 100000\nconnections_per_address_max = 20000\n";

pub async fn run(_settings: Settings) -> Result<Vec<Row>> {
    let files = machine::raise_descriptors() as usize;
    let count = CONNECTIONS_WANTED.min(files.saturating_sub(OTHER_FILES)) / SESSIONS_PER_DEVICE * SESSIONS_PER_DEVICE;
    let server = Fresh::start(CONFIG)?;
    let district = server.district(60)?;
    let devices = server.dir().join("devices");
    load::write_devices(&devices, &server.devices(&district, "tablet", "Tablet", count / SESSIONS_PER_DEVICE)?)?;
    // The directory has grown by the devices; what it takes is not the connections'.
    server.settled_memory().await?;
    let meter = server.meter()?;
    let before_mib = machine::memory_mib(server.instance.pid())?;
    let options = idle::Options { address: server.instance.mqtt.clone(), devices, sessions: SESSIONS_PER_DEVICE };
    let mut clients = Running::start(&options.args())?;
    let connected: idle::Connected = clients.report()?;
    ensure!(connected.connections == count as u64, "{} of {count} connections stand", connected.connections);
    server.settled_memory().await?;
    let after_mib = machine::memory_mib(server.instance.pid())?;
    let cost = meter.end(count as u64)?;
    clients.go_on()?;
    let spoke: idle::Spoke = clients.finish()?;

    let bytes = (after_mib - before_mib) * 1024.0 * 1024.0 / count as f64;
    let stall_ms = connected.latency.max_ms;
    let first = Row::new("connections", format!("{count} connect"), count as u64, connected.seconds)
        .latency(connected.latency)
        .cost(cost)
        .bar(format!("under 10 KB a connection: {:.1} KB", bytes / 1024.0), bytes < BYTES_MAX)
        .note(format!(
            "longest from connecting to CONNACK {stall_ms:.0} ms: bar {STALL_MAX_MS:.0} ms {}",
            if stall_ms <= STALL_MAX_MS { "reached" } else { "NOT REACHED" }
        ));
    let second = Row::new("connections", "one message each", count as u64, spoke.seconds)
        .latency(spoke.latency)
        .note("all acknowledged; latency from when the first of them was sent");
    let first = match count {
        CONNECTIONS_WANTED => first,
        _ => first.note(format!("this machine permits {files} open files a process; {CONNECTIONS_WANTED} connections need more")),
    };
    Ok(vec![first, second])
}
