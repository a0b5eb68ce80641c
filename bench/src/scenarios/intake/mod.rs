//! Intake at full speed: what the scenarios of each door share. Every run checks afterwards that the database holds exactly
//! what was acknowledged.

pub mod batch;
pub mod doors;
mod peers;
pub mod single;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rollcall_tests::District;
use sqlx::Row as _;

use crate::fresh::Fresh;
use crate::load::flood::{self, Report};
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::load::{self, Running};
use crate::meter::{Cost, Meter};
use crate::table::Row;

pub const CONNECTIONS: usize = 50;

/// The most that a run may leave to the sink; it is reported how long it took.
const CATCH_UP: Duration = Duration::from_secs(90);

/// How long rows may be on their way after the sink said that it was done; what is missing then is lost.
const SETTLE_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// Holds what a run acknowledges while the sink follows: some forty million events.
pub const CONFIG: &str = "[log]\ndisk_budget_bytes = 17179869184\n";

const LOG_BYTES: &str = "rollcall_log_written_bytes_total";

/// How one run sends its events.
#[derive(Clone, Copy)]
pub struct Flow {
    pub protocol: Protocol,
    pub encoding: Encoding,
    pub events_per_message: usize,
    pub window: u64,
}

/// A server with devices, and everything it has acknowledged so far.
pub struct Stage {
    pub server: Fresh,
    devices: PathBuf,
    badge: Option<String>,
    acknowledged: u64,
}

impl Stage {
    /// `badge`: the events name a student's badge, which the server resolves.
    pub fn start(connections: usize, badge: bool) -> Result<Self> {
        let server = Fresh::start(CONFIG)?;
        let district = server.district(60)?;
        Self::equip(server, &district, connections, badge)
    }

    /// On a server that has a district already.
    pub fn equip(server: Fresh, district: &District, connections: usize, badge: bool) -> Result<Self> {
        let devices = server.dir().join("devices");
        load::write_devices(&devices, &server.devices(district, "wearable", "Load", connections)?)?;
        let badge = badge.then(|| district.students[0].badge.clone());
        Ok(Self { server, devices, badge, acknowledged: 0 })
    }

    fn options(&self, address: String, flow: Flow, seconds: f64, events_per_s: f64) -> flood::Options {
        let topic = if flow.encoding == Encoding::Arrow { "v1/batch" } else { "v1/telemetry" };
        flood::Options {
            protocol: flow.protocol,
            address,
            devices: self.devices.clone(),
            encoding: flow.encoding,
            events_per_message: flow.events_per_message,
            badge: self.badge.clone(),
            topic: topic.to_owned(),
            window: flow.window,
            seconds,
            events_per_s,
        }
    }

    /// One run against our server. `events_per_s` 0: as fast as it acknowledges.
    pub async fn flood(&mut self, flow: Flow, seconds: f64, events_per_s: f64) -> Result<(Report, Cost)> {
        let instance = &self.server.instance;
        let address = match flow.protocol {
            Protocol::Mqtt => instance.mqtt.clone(),
            Protocol::Websocket | Protocol::Http => instance.http.trim_start_matches("http://").to_owned(),
        };
        // Segments are preallocated and trimmed again, so their sizes do not tell what was written.
        let before = self.server.metric(LOG_BYTES).await?;
        let mut ran = run(&self.options(address, flow, seconds, events_per_s), &self.server.meter()?)?;
        ran.1.log_mib = (self.server.metric(LOG_BYTES).await? - before) / (1024.0 * 1024.0);
        self.acknowledged += ran.0.acknowledged;
        Ok(ran)
    }

    /// The same load against another system.
    pub fn flood_peer(&self, peer: &peers::Peer, flow: Flow, seconds: f64, events_per_s: f64) -> Result<(Report, Cost)> {
        run(&self.options(peer.address.clone(), flow, seconds, events_per_s), &Meter::begin(peer.pid(), None)?)
    }

    /// Events acknowledged so far, over all runs.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Lets the sink catch up, so that its backlog does not run into the next measurement.
    pub async fn settle(&self) -> Result<Duration> {
        self.server.caught_up(CATCH_UP).await
    }

    /// Rows in the database and duplicates must add up to what was acknowledged.
    pub async fn verify(&self) -> Result<()> {
        self.settle().await?;
        let mut database = self.server.database().await?;
        let (acknowledged, settled) = (self.acknowledged, Instant::now());
        loop {
            let row = sqlx::query("select count(*) from event.telemetry").fetch_one(&mut database).await?;
            let (stored, duplicates) = (row.get::<i64, _>(0) as u64, self.server.metric("rollcall_ingest_duplicates_total").await? as u64);
            if stored + duplicates == acknowledged {
                return Ok(());
            }
            // The sink says how far behind it was when it last committed, so rows that came since may still be on their way.
            let wrong = stored + duplicates > acknowledged || settled.elapsed() > SETTLE_MAX;
            ensure!(!wrong, "{acknowledged} acknowledged, but {stored} rows and {duplicates} duplicates");
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn run(options: &flood::Options, meter: &Meter) -> Result<(Report, Cost)> {
    let report: Report = Running::start(&options.args())?.finish()?;
    let cost = meter.end(report.acknowledged)?;
    Ok((report, cost))
}

/// Runs of one system added up.
#[derive(Default)]
struct Total {
    events: u64,
    seconds: f64,
    load_cpu_s: f64,
    cost: Option<Cost>,
}

impl Total {
    fn add(&mut self, (report, cost): &(Report, Cost)) {
        self.events += report.events;
        self.seconds += report.seconds;
        self.load_cpu_s += report.cpu_s;
        self.cost = Some(match self.cost.take() {
            Some(sum) => sum.and(cost),
            None => cost.clone(),
        });
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds.max(1e-9)
    }

    fn row(self, scenario: &'static str, what: impl Into<String>) -> Row {
        let load_cpu = self.load_cpu_s * 1e6 / self.cost.as_ref().map_or(1, |cost| cost.events.max(1)) as f64;
        let row = Row::new(scenario, what, self.events, self.seconds).note(format!("load generator: {load_cpu:.3} CPU s a million"));
        match self.cost {
            Some(cost) => row.cost(cost),
            None => row,
        }
    }
}
