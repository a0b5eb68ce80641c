//! Queries over history that other machines help with.
//!
//! Worker processes (`rollcall worker`) read history's files beside the server, by datafusion-distributed: its protocol, its
//! plans in protobuf, its streams of Arrow batches. What they are given and what not is decided here (ADR 0030).
//!
//! # Promises
//! - A worker gets one kind of work: a **share**, which is a scan of some of history's files with the filters, columns and
//!   partial aggregates that stand right above it in the plan ([`spread`]). The caller's scope is part of the filters before a
//!   share is made; hot rows, the log, the directory, joins, final aggregates, suppression and every limit stay with the
//!   server. A worker decides nothing about who may see what, and learns no privacy key.
//! - A share that a worker does not finish is done by the server instead, from the same files ([`exec`]): rows that were handed
//!   on already are left out of the second run, after a proof that they are the same. The answer is the same or the query
//!   fails; it is never a part of the answer. The query says so as a warning, the metrics count it.
//! - A worker that does not answer gets no shares for [`workers::REST`].
//! - Only who knows the token may give shares, over TLS wherever another machine can reach the worker. A worker reads files of
//!   its place of history and nothing else ([`guard`]).

mod counted;
mod exec;
mod guard;
mod metrics;
mod seen;
mod share;
mod spread;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use spread::Spread;
pub use worker::{WorkerConfig, WorkerMetrics, WorkerTls, run};
pub use workers::{Workers, WorkersConfig};

/// The version of the program, which server and worker must share: what a partial aggregate gives is no format that is kept.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const VERSION_HEADER: &str = "rollcall-version";

/// Why there are no workers, or why one does not start.
#[derive(Debug, thiserror::Error)]
pub enum DistributedError {
    #[error("{0}")]
    Configuration(String),
    #[error("the metrics of workers: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the worker cannot go on: {0}")]
    Io(#[from] std::io::Error),
    #[error("the worker's memory and disk: {0}")]
    Runtime(#[from] datafusion::error::DataFusionError),
}
