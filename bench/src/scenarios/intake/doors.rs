//! `ws-ingest` and `http-ingest`: the same events through the other doors, in turn with MQTT on the same server.

use anyhow::Result;

use super::{CONNECTIONS, Flow, Stage, Total};
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::scenarios::Settings;
use crate::table::Row;

const ROUNDS: usize = 2;

/// A door may be this much slower than MQTT.
const SLOWER_MAX: f64 = 1.5;

const MQTT: Flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Json, events_per_message: 1, window: 100 };

pub async fn websocket(settings: Settings) -> Result<Vec<Row>> {
    let door = Flow { protocol: Protocol::Websocket, encoding: Encoding::TypedJson, ..MQTT };
    let single = [("one event a frame", door, MQTT)];
    let batch = [("100 events a frame", Flow { events_per_message: 100, window: 10, ..door }, batch_of(MQTT, 10))];
    measure(settings, "ws-ingest", &[single, batch].concat()).await
}

/// HTTP answers one request before it takes the next, so its connections have one message in flight; MQTT gets the same.
pub async fn http(settings: Settings) -> Result<Vec<Row>> {
    let door = Flow { protocol: Protocol::Http, encoding: Encoding::TypedJson, events_per_message: 1, window: 1 };
    let batch = ("100 events a request", Flow { events_per_message: 100, ..door }, batch_of(MQTT, 1));
    measure(settings, "http-ingest", &[("one event a request", door, Flow { window: 1, ..MQTT }), batch]).await
}

fn batch_of(flow: Flow, window: u64) -> Flow {
    Flow { events_per_message: 100, window, ..flow }
}

async fn measure(settings: Settings, scenario: &'static str, pairs: &[(&str, Flow, Flow)]) -> Result<Vec<Row>> {
    let mut stage = Stage::start(CONNECTIONS, true)?;
    let seconds = settings.seconds as f64 / (2 * ROUNDS * pairs.len()) as f64;
    let mut rows = Vec::new();
    for (what, door, mqtt) in pairs {
        let (mut ours, mut other) = (Total::default(), Total::default());
        for _ in 0..ROUNDS {
            ours.add(&stage.flood(*door, seconds, 0.0).await?);
            stage.settle().await?;
            other.add(&stage.flood(*mqtt, seconds, 0.0).await?);
            stage.settle().await?;
        }
        let ratio = ours.rate() / other.rate();
        let bar = format!("within {SLOWER_MAX} x of MQTT with as much in flight");
        rows.push(ours.row(scenario, *what).against("MQTT", ratio).bar(bar, ratio * SLOWER_MAX >= 1.0));
        rows.push(other.row(scenario, format!("MQTT, {}", what.replace("frame", "publish").replace("request", "publish"))));
    }
    stage.verify().await?;
    Ok(rows)
}
