//! `rollcall simulate`: real MQTT and WebSocket clients that act out a school morning.
//!
//! The plan names the server, the devices with their tokens and the badges. Gates and rooms speak MQTT, wearables and tablets
//! one WebSocket each; every device is a connection of its own over TCP. Students arrive in a random order that the seed
//! fixes; a few badges are read twice, one gate loses the network for a while and sends its queue when it returns. Of days
//! before this one the gates have kept their scans, and send them first.
//! Sequence numbers start at the wall clock's milliseconds, so that a simulator that is started again goes on above them.

mod passages;
mod past;
mod tablets;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rumqttc::{AsyncClient, Event, MqttOptions, QoS};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

use self::passages::{Passage, Passages};
pub use self::past::PastDay;
use self::tablets::Arrived;
use crate::cli::Simulate;

/// Scans that wait in one simulated gate; a real one has megabytes for them.
const GATE_QUEUE_MAX: usize = 10_000;
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long the unlucky gate is without network.
const OUTAGE: Duration = Duration::from_secs(25);
/// Share of badges that are read twice.
const READ_TWICE: f64 = 0.03;
/// Share of students who stay away.
const STAY_AWAY: f64 = 0.06;
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// `host:port` of MQTT.
    pub mqtt: String,
    /// `http://host:port` of the server.
    pub http: String,
    pub devices: Vec<PlannedDevice>,
    pub badges: Vec<PlannedBadge>,
    /// Days of which the gates have kept their scans.
    #[serde(default)]
    pub past: Vec<PastDay>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedDevice {
    pub id: String,
    pub token: String,
    pub kind: String,
    pub school: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedBadge {
    pub badge: String,
    pub school: String,
}

impl Plan {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a plan", path.display()))
    }
}

#[derive(Clone, Debug)]
struct Scan {
    badge: String,
    ts_ms: i64,
    direction: &'static str,
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Runs until the plan is played, the time is over or the token is cancelled. Says how many scans went out.
pub async fn run(options: &Simulate, stop: CancellationToken) -> Result<u64> {
    let plan = Plan::read(&options.plan)?;
    if plan.devices.iter().all(|device| device.kind != "gate") {
        bail!("the plan has no gate");
    }
    let mut tasks = JoinSet::new();
    let mut kept = past::scans(&plan, options.seed);
    let mut gates: Vec<(String, mpsc::Sender<Scan>)> = Vec::new();
    for device in plan.devices.iter().filter(|device| device.kind == "gate") {
        let (scans, queue) = mpsc::channel(GATE_QUEUE_MAX);
        // The first gate is the one with the bad network.
        let outage_after = gates.is_empty().then_some(Duration::from_secs(40));
        gates.push((device.school.clone(), scans));
        let kept = kept.remove(&device.id).unwrap_or_default();
        tasks.spawn(gate(device.clone(), plan.mqtt.clone(), kept, queue, outage_after, stop.clone()));
    }
    let wearables: Vec<&PlannedDevice> = plan.devices.iter().filter(|device| device.kind == "wearable").collect();
    let telemetry_per_s = options.telemetry_per_s / wearables.len().max(1) as f64;
    for device in wearables {
        tasks.spawn(wearable(device.clone(), plan.http.clone(), telemetry_per_s, stop.clone()));
    }
    let arrived = Arrived::default();
    let tablets: Vec<&PlannedDevice> = plan.devices.iter().filter(|device| device.kind == "tablet").collect();
    let activity_per_s = options.activity_per_s / tablets.len().max(1) as f64;
    for (device, seed) in tablets.into_iter().zip(options.seed..) {
        tasks.spawn(tablets::tablet(device.clone(), plan.http.clone(), activity_per_s, seed, arrived.clone(), stop.clone()));
    }
    let sent = morning(options, &plan, gates, &arrived, &stop).await;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.context("a simulated device panicked")?;
    }
    Ok(sent)
}

/// Lets the students arrive, then leave or stay, and hands each scan to a gate of their school.
async fn morning(
    options: &Simulate,
    plan: &Plan,
    gates: Vec<(String, mpsc::Sender<Scan>)>,
    arrived: &Arrived,
    stop: &CancellationToken,
) -> u64 {
    // Of its own, so that who has a tablet does not change who comes when.
    let mut tablets = StdRng::seed_from_u64(options.seed.wrapping_add(1));
    let mut random = StdRng::seed_from_u64(options.seed);
    let mut badges: Vec<&PlannedBadge> = plan.badges.iter().collect();
    badges.shuffle(&mut random);
    badges.retain(|_| !random.random_bool(STAY_AWAY));
    let end = options.run_for_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut sent = 0;
    let mut passages = Passages::new(badges.len(), options.stay);
    while let Some(Passage { who, direction, pauses }) = passages.next(&mut random) {
        let badge = badges[who];
        let pause = -random.random_range(f64::EPSILON..1.0).ln() * pauses / options.arrivals_per_s.max(0.001);
        let due = Instant::now() + Duration::from_secs_f64(pause);
        tokio::select! {
            () = sleep_until(end.map_or(due, |end| end.min(due))) => {}
            () = stop.cancelled() => return sent,
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return sent;
        }
        let of_school: Vec<_> = gates.iter().filter(|(school, _)| *school == badge.school).collect();
        let Some((_, gate)) = of_school.get(random.random_range(0..of_school.len().max(1))) else { continue };
        let scan = Scan { badge: badge.badge.clone(), ts_ms: now_ms(), direction };
        match direction {
            "in" => arrived.add(&badge.badge, &badge.school, &mut tablets),
            _ => arrived.remove(&badge.badge),
        }
        let times = if random.random_bool(READ_TWICE) { 2 } else { 1 };
        for _ in 0..times {
            // A full queue means a gate that cannot send: a real one would drop its oldest, this one the newest.
            if gate.try_send(scan.clone()).is_ok() {
                sent += 1;
            }
        }
    }
    sent
}

/// One gate: sends what is in its queue, keeps it while the network is away. What was sent and not acknowledged is sent again
/// by the client after a reconnect, as a real gate does.
async fn gate(
    device: PlannedDevice,
    mqtt: String,
    kept: Vec<Scan>,
    mut queue: mpsc::Receiver<Scan>,
    outage_after: Option<Duration>,
    stop: CancellationToken,
) {
    let Some((host, port)) = mqtt.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) else {
        tracing::error!(mqtt, "the plan's MQTT address is not host:port");
        return;
    };
    let mut options = MqttOptions::new(&device.id, host, port);
    options.set_credentials(&device.id, &device.token).set_keep_alive(Duration::from_secs(15)).set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 256);
    // What it kept had its numbers before.
    let seq = now_ms() - kept.len() as i64;
    let held = kept.into_iter().map(|scan| (scan, true)).collect();
    let mut state = GateState { client, seq, online: false, blocked: false, held };
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = outage_after.map(|after| Instant::now() + after);
    let mut dark_until = None;
    loop {
        let wake = dark_until.or(outage).unwrap_or_else(|| Instant::now() + HEARTBEAT);
        tokio::select! {
            event = events.poll(), if dark_until.is_none() => match event {
                Ok(Event::Incoming(rumqttc::Packet::ConnAck(_))) => state.online = true,
                Ok(_) => state.blocked = false,
                Err(error) => {
                    tracing::warn!(device = device.id, %error, "the simulated gate lost its connection");
                    state.online = false;
                    dark_until = Some(Instant::now() + RECONNECT);
                }
            },
            scan = queue.recv(), if !queue.is_closed() || !queue.is_empty() => if let Some(scan) = scan {
                state.held.push_back((scan, !state.online));
            },
            _ = heartbeat.tick(), if state.online => state.heartbeat(),
            () = sleep_until(wake) => {
                let now = Instant::now();
                if dark_until.take_if(|until| now >= *until).is_none() && outage.take_if(|at| now >= *at).is_some() {
                    tracing::info!(device = device.id, seconds = OUTAGE.as_secs(), "the simulated gate loses the network");
                    events.clean();
                    state.online = false;
                    dark_until = Some(now + OUTAGE);
                }
            }
            () = stop.cancelled() => {
                let _ = state.client.try_disconnect();
                let _ = tokio::time::timeout(RECONNECT, events.poll()).await;
                return;
            }
        }
        state.flush();
    }
}

struct GateState {
    client: AsyncClient,
    seq: i64,
    online: bool,
    /// The client's own queue was full; try again once it has moved.
    blocked: bool,
    /// Scans not handed to the client yet, and whether they were made without network. Bounded by the queue before it and by what the
    /// gate had kept.
    held: VecDeque<(Scan, bool)>,
}

impl GateState {
    fn flush(&mut self) {
        while self.online && !self.blocked {
            let Some((scan, offline)) = self.held.front() else { return };
            let seq = self.seq + 1;
            let event =
                json!({"seq": seq, "ts": scan.ts_ms, "badge": scan.badge, "dir": scan.direction, "method": "qr", "offline": offline});
            if self.client.try_publish("v1/scan", QoS::AtLeastOnce, false, event.to_string()).is_err() {
                self.blocked = true;
            } else {
                self.seq = seq;
                self.held.pop_front();
            }
        }
    }

    fn heartbeat(&mut self) {
        let event =
            json!({"seq": self.seq + 1, "ts": now_ms(), "battery": 0.87, "fw": "2.4.1", "queued": self.held.len(), "uptime_s": 3600});
        if self.client.try_publish("v1/status", QoS::AtLeastOnce, false, event.to_string()).is_ok() {
            self.seq += 1;
        }
    }
}

/// One wearable on the ingest WebSocket: a reading at its pace, at most 100 frames unacknowledged.
async fn wearable(device: PlannedDevice, http: String, per_s: f64, stop: CancellationToken) {
    let mut seq = now_ms();
    while !stop.is_cancelled() {
        if let Err(error) = wearable_connection(&device, &http, per_s, &mut seq, &stop).await {
            tracing::warn!(device = device.id, %error, "the simulated wearable lost its connection");
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn wearable_connection(device: &PlannedDevice, http: &str, per_s: f64, seq: &mut i64, stop: &CancellationToken) -> Result<()> {
    const UNACKNOWLEDGED_MAX: u64 = 100;
    let mut request = format!("{}/ingest/v1", http.replacen("http", "ws", 1)).into_client_request()?;
    request.headers_mut().insert("Authorization", format!("Bearer {}:{}", device.id, device.token).parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let mut pace = interval(Duration::from_secs_f64(1.0 / per_s.max(0.01)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            _ = pace.tick(), if sent - acknowledged < UNACKNOWLEDGED_MAX => {
                *seq += 1;
                let steps = rand::random_range(0..30);
                let event = json!({"type": "telemetry", "seq": *seq, "ts": now_ms(), "m": {"worn": 1, "steps": steps, "battery": 0.8}});
                socket.send(Message::text(event.to_string())).await?;
                sent += 1;
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(_))) => acknowledged += 1,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            () = stop.cancelled() => { socket.close(None).await?; return Ok(()) }
        }
    }
}
