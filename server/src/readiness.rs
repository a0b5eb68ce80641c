//! What `/health/ready` says: each subsystem in a line, answered from memory.

use std::sync::{Arc, OnceLock};

use rollcall_analytics::attendance::EngineHandle;
use rollcall_analytics::history::HistoryStatus;
use rollcall_api::{Check, ReadyChecks};
use rollcall_store::sink::SinkStatus;
use rollcall_stream::Log;
use rollcall_stream::embedded::EmbeddedLog;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Readiness(Arc<Sources>);

struct Sources {
    log: Arc<EmbeddedLog>,
    engine: String,
    sink: OnceLock<watch::Receiver<SinkStatus>>,
    live: OnceLock<EngineHandle>,
    history: OnceLock<watch::Receiver<HistoryStatus>>,
}

impl Readiness {
    pub fn new(log: Arc<EmbeddedLog>, engine: String) -> Self {
        Self(Arc::new(Sources { log, engine, sink: OnceLock::new(), live: OnceLock::new(), history: OnceLock::new() }))
    }

    pub fn watch_sink(&self, status: watch::Receiver<SinkStatus>) {
        let _ = self.0.sink.set(status);
    }

    pub fn watch_live(&self, live: EngineHandle) {
        let _ = self.0.live.set(live);
    }

    pub fn watch_history(&self, status: watch::Receiver<HistoryStatus>) {
        let _ = self.0.history.set(status);
    }

    pub fn checks(&self) -> ReadyChecks {
        let sources = self.0.clone();
        Arc::new(move || vec![sources.log(), sources.database(), sources.live(), sources.history()])
    }
}

fn check(name: &str, ready: bool, detail: String) -> Check {
    Check { name: name.to_owned(), ready, detail }
}

impl Sources {
    fn log(&self) -> Check {
        let status = self.log.status();
        let detail = match &status.stopped {
            Some(reason) => format!("stopped: {reason}"),
            None if status.full => format!("full: {} of {} bytes; devices keep their events", status.disk_bytes, status.budget_bytes),
            None => format!("{} bytes of {}", status.disk_bytes, status.budget_bytes),
        };
        check("log", status.stopped.is_none() && !status.full, detail)
    }

    fn database(&self) -> Check {
        let Some(sink) = self.sink.get() else { return check("database", false, "starting".into()) };
        let status = sink.borrow();
        let lag_rows = self.log.durable().borrow().0.saturating_sub(status.next.0);
        let mut detail = match &status.error {
            Some(error) => format!("{}; away, the log holds {lag_rows} rows: {error}", self.engine),
            None => format!("{}, {lag_rows} rows behind", self.engine),
        };
        if let Some(warning) = status.warning() {
            detail.push_str("; warning: ");
            detail.push_str(&warning);
        }
        check("database", status.error.is_none(), detail)
    }

    /// Files that are left out do not make the server unready: every result that lacks them says so.
    fn history(&self) -> Check {
        let Some(status) = self.history.get() else { return check("history", false, "starting".into()) };
        let status = status.borrow();
        let mut detail = match &status.away {
            Some(reason) => format!("away, the log holds the rows from offset {}: {reason}", status.next),
            None if !status.opened => "opening".to_owned(),
            None => format!("{} rows in {} files, up to offset {}", status.rows, status.files, status.next),
        };
        for warning in &status.warnings {
            detail.push_str("; ");
            detail.push_str(warning);
        }
        check("history", status.opened && status.away.is_none(), detail)
    }

    fn live(&self) -> Check {
        match self.live.get() {
            Some(live) if live.ready() => check("attendance", true, format!("applied up to offset {}", live.applied())),
            _ => check("attendance", false, "loading today".into()),
        }
    }
}
