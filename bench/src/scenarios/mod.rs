//! The scenarios. Each is a file with a `run` that starts what it needs, loads it for at most [`Settings::seconds`] and
//! returns its rows; an error where a promise of the product was broken, so that a wrong answer is never a fast one.

mod analytics;
mod boards;
mod connections;
mod first_bell;
mod intake;
mod restart;
mod scan_to_board;
mod sink;
mod sql;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::table::Row;

/// What the caller asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds of load over all runs of one scenario.
    pub seconds: u64,
    /// Whether other systems run beside ours.
    pub peers: bool,
    /// An empty PostgreSQL, maybe with TimescaleDB, that `sink` fills instead of the private one.
    pub database_url: Option<String>,
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
        about: "scan published to delta received by a WebSocket subscriber, idle, beside telemetry, beside heavy queries",
        run: |settings| Box::pin(scan_to_board::run(settings)),
    },
    Scenario {
        name: "connections",
        about: "50,000 idle MQTT connections, then a message from each",
        run: |settings| Box::pin(connections::run(settings)),
    },
    Scenario { name: "sink", about: "log to database: a backlog alone, and beside intake", run: |settings| Box::pin(sink::run(settings)) },
    Scenario {
        name: "boards",
        about: "10,000 live subscribers of 300 sections at the first bell",
        run: |settings| Box::pin(boards::run(settings)),
    },
    Scenario {
        name: "first-bell",
        about: "200,000 students imported, and their arrival in a quarter of an hour replayed",
        run: |settings| Box::pin(first_bell::run(settings)),
    },
    Scenario {
        name: "restart",
        about: "kill -9 with ten million events in the log, then start",
        run: |settings| Box::pin(restart::run(settings)),
    },
    Scenario {
        name: "sql",
        about: "ten questions over 10 million rows in memory, beside DuckDB on the same Arrow data",
        run: |settings| Box::pin(sql::run(settings)),
    },
    Scenario {
        name: "sql-hot",
        about: "a section's filter and a school's groups over 10 million hot rows, their memory, and live SQL",
        run: |settings| Box::pin(analytics::hot(settings)),
    },
    Scenario {
        name: "sql-files",
        about: "eleven questions over 50 million rows of Parquet and 100,000 hot ones, beside DuckDB on the same files",
        run: |settings| Box::pin(analytics::files(settings)),
    },
    Scenario {
        name: "engagement",
        about: "turns of the engagement of 3,000 sections",
        run: |settings| Box::pin(analytics::engagement(settings)),
    },
];
