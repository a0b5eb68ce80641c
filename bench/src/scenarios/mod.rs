//! The scenarios. Each is a file with a `run` that starts what it needs, loads it for at most [`Settings::seconds`] and
//! returns its rows; an error where a promise of the product was broken, so that a wrong answer is never a fast one.

mod connections;
mod intake;
mod scan_to_board;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::table::Row;

/// What the caller asked for.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Seconds of load over all runs of one scenario.
    pub seconds: u64,
    /// Whether other systems run beside ours.
    pub peers: bool,
}

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(Settings) -> Pin<Box<dyn Future<Output = Result<Vec<Row>>>>>,
}

/// In the order in which they run when none is named.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "mqtt-single",
        about: "QoS 1, one event a publish, beside mosquitto and nats-server",
        run: |settings| Box::pin(intake::single::run(settings)),
    },
    Scenario { name: "mqtt-batch", about: "QoS 1, 100 events a publish", run: |settings| Box::pin(intake::batch::mqtt(settings)) },
    Scenario {
        name: "arrow-batch",
        about: "QoS 1, 5,000 events a publish as an Arrow IPC stream",
        run: |settings| Box::pin(intake::batch::arrow(settings)),
    },
    Scenario {
        name: "ws-ingest",
        about: "the same events over WebSocket, beside MQTT",
        run: |settings| Box::pin(intake::doors::websocket(settings)),
    },
    Scenario {
        name: "http-ingest",
        about: "the same events over HTTP, beside MQTT",
        run: |settings| Box::pin(intake::doors::http(settings)),
    },
    Scenario {
        name: "scan-to-board",
        about: "scan published to delta received by a WebSocket subscriber, idle and beside telemetry",
        run: |settings| Box::pin(scan_to_board::run(settings)),
    },
    Scenario {
        name: "connections",
        about: "50,000 idle MQTT connections, then a message from each",
        run: |settings| Box::pin(connections::run(settings)),
    },
];
