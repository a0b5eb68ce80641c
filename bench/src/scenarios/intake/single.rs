//! `mqtt-single`: one event a publish, each decoded, its badge resolved, deduplicated and durable before its PUBACK, while sink
//! and live attendance follow. Other servers get the same bytes from the same generator in turn; they keep no event.

use anyhow::Result;

use super::peers::Peer;
use super::{CONNECTIONS, Flow, Stage, Total};
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::scenarios::Settings;
use crate::table::Row;

const SCENARIO: &str = "mqtt-single";

const FLOW: Flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Json, events_per_message: 1, window: 100 };

/// How often the systems take turns.
const ROUNDS: usize = 2;

/// The share of the greatest rate at which latency is measured.
const OPEN_SHARE: f64 = 0.5;

pub async fn run(settings: Settings) -> Result<Vec<Row>> {
    let mut stage = Stage::start(CONNECTIONS, true)?;
    let peers = if settings.peers { vec![Peer::mosquitto()?, Peer::nats()?] } else { Vec::new() };
    // Every system's rounds, and one open loop each.
    let seconds = settings.seconds as f64 / ((peers.len() + 1) * (ROUNDS + 1)) as f64;
    let (mut ours, mut theirs) = (Total::default(), peers.iter().map(|_| Total::default()).collect::<Vec<_>>());
    let mut behind_s = 0.0_f64;
    for _ in 0..ROUNDS {
        ours.add(&stage.flood(FLOW, seconds, 0.0).await?);
        behind_s = behind_s.max(stage.settle().await?.as_secs_f64());
        for (peer, total) in peers.iter().zip(&mut theirs) {
            total.add(&stage.flood_peer(peer, FLOW, seconds, 0.0)?);
        }
    }
    // Latency at the same rate for all, which the slowest can carry.
    let slowest = theirs.iter().map(Total::rate).fold(ours.rate(), f64::min);
    let open_rate = slowest * OPEN_SHARE;
    let open = stage.flood(FLOW, seconds, open_rate).await?.0;
    let mut peers_open = Vec::new();
    stage.settle().await?;
    for peer in &peers {
        peers_open.push(stage.flood_peer(peer, FLOW, seconds, open_rate)?.0);
    }
    stage.verify().await?;
    drop(stage);

    let rate = ours.rate();
    let open_note = format!("latency at {open_rate:.0}/s; {}", if peers.is_empty() { "no peers" } else { "the same for all" });
    let mut row = ours.row(SCENARIO, "rollcall (fsynced, in the database)").note(open_note);
    row.latency = open.latency;
    row = row.note(format!("every acknowledged event is in the database once; the sink was done {behind_s:.1} s after a run"));
    let mut rows = Vec::new();
    for ((peer, total), open) in peers.iter().zip(theirs).zip(peers_open) {
        let ratio = rate / total.rate();
        if peer.name.starts_with("mosquitto") {
            row = row.against(&peer.name, ratio).bar("at least 1.0 x mosquitto, then 2 x", ratio >= 1.0);
        } else {
            row = row.note(format!("{ratio:.2} x {}", peer.name));
        }
        let mut other = total.row(SCENARIO, &peer.name);
        other.latency = open.latency;
        rows.push(other);
    }
    rows.insert(0, row);
    Ok(rows)
}
