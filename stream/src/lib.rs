//! The event log: what every acknowledged event is read from, and the only place where order is decided.
//!
//! [`Log`] is the contract, [`embedded::EmbeddedLog`] the implementation on local files, [`memory::MemoryLog`] the
//! one for tests, [`Tail`] the way to follow either. [`scan`], [`mark`], [`heartbeat`], [`activity`] and
//! [`telemetry`] turn the rows of a batch into the model's words at the edges that need single rows.

pub mod activity;
pub mod batch;
mod column;
pub mod embedded;
pub mod heartbeat;
pub mod lag;
pub mod log;
pub mod mark;
pub mod memory;
pub mod scan;
pub mod schema;
pub mod tail;
pub mod telemetry;

pub use batch::EventBatch;
pub use log::{AppendError, KindSet, Log, LogError, LogStatus, ReadBatch};
pub use tail::Tail;
