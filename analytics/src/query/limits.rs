//! The bounds of one query and of the engine. At each the query ends with [`super::QueryError::Limit`]; none is silent.

use std::path::PathBuf;
use std::time::Duration;

/// What one query may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of planning to the last row.
    pub time: Duration,
    /// Memory of its operators; beyond it they spill to disk where they can.
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    pub rows: usize,
    /// Arrow bytes of the result.
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            time: Duration::from_secs(60),
            memory_bytes: 256 * MIB,
            spill_bytes: 4 * 1024 * MIB as u64,
            rows: 2_000_000,
            result_bytes: 512 * MIB,
        }
    }
}

/// The engine's own bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads of the queries, apart from those of boards and intake.
    pub threads: usize,
    /// Added to the niceness of those threads where the system can: a query yields to a board.
    pub niceness: i32,
    /// Queries that run at a time, over all and of one account; more wait for [`EngineConfig::wait`].
    pub concurrent_max: usize,
    pub concurrent_per_account_max: usize,
    /// Results of one account of which the last rows are not taken yet; a query beyond is refused as busy. Each waits with a few batches.
    pub open_per_account_max: usize,
    /// How long a query waits for its turn before it is refused as busy.
    pub wait: Duration,
    /// Longest text of a query.
    pub sql_bytes_max: usize,
    /// Where operators spill; `None`: the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            niceness: 10,
            concurrent_max: 8,
            concurrent_per_account_max: 4,
            open_per_account_max: 64,
            wait: Duration::from_secs(5),
            sql_bytes_max: 64 * 1024,
            spill_dir: None,
        }
    }
}
