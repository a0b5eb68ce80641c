//! `mqtt-batch` and `arrow-batch`: many events a publish, as devices send them that were offline, and gateways.

use anyhow::Result;

use super::{CONNECTIONS, Flow, Stage, Total};
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::scenarios::Settings;
use crate::table::Row;

const ROUNDS: usize = 2;

/// A device that sends five thousand events at once is a gateway; there are fewer of them.
const GATEWAYS: usize = 16;

/// The share of the greatest rate at which latency is measured.
const OPEN_SHARE: f64 = 0.5;

pub async fn mqtt(settings: Settings) -> Result<Vec<Row>> {
    let flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Json, events_per_message: 100, window: 10 };
    let stage = Stage::start(CONNECTIONS, true)?;
    measure(settings, stage, "mqtt-batch", "100 events a publish, JSON", flow, 1e6).await
}

pub async fn arrow(settings: Settings) -> Result<Vec<Row>> {
    let flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Arrow, events_per_message: 5_000, window: 2 };
    let stage = Stage::start(GATEWAYS, false)?;
    measure(settings, stage, "arrow-batch", "5,000 events a publish, Arrow IPC", flow, 3e6).await
}

async fn measure(settings: Settings, mut stage: Stage, scenario: &'static str, what: &str, flow: Flow, bar_per_s: f64) -> Result<Vec<Row>> {
    let seconds = settings.seconds as f64 / (2 * (ROUNDS + 1)) as f64;
    let mut total = Total::default();
    let mut behind_s = 0.0_f64;
    for _ in 0..ROUNDS {
        total.add(&stage.flood(flow, seconds, 0.0).await?);
        behind_s = behind_s.max(stage.settle().await?.as_secs_f64());
    }
    let rate = total.rate();
    let open_rate = rate * OPEN_SHARE;
    let open = stage.flood(flow, seconds, open_rate).await?.0;
    stage.verify().await?;
    let mut row = total
        .row(scenario, what)
        .bar(format!("{} million events/s", bar_per_s / 1e6), rate >= bar_per_s)
        .note(format!("latency of a publish at {open_rate:.0} events/s; the sink was done {behind_s:.1} s after a run"));
    row.latency = open.latency;
    Ok(vec![row])
}
