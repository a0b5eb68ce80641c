//! The event log: what every acknowledged event is read from, and the only place where order is decided.

pub mod batch;
pub mod log;
pub mod schema;

pub use batch::EventBatch;
pub use log::{AppendError, Log, LogError, ReadBatch};
