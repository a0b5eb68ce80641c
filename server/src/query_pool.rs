//! Threads for queries and calculations, so that a heavy one never delays a board or an acknowledgement.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own. What still runs when it is dropped is abandoned, never waited for.
pub struct QueryPool(Option<Runtime>);

impl QueryPool {
    /// Half of the processors, at least one.
    pub fn new() -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1);
        let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name("query").enable_all().build();
        Ok(Self(Some(runtime.context("cannot start the threads for queries")?)))
    }

    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("the runtime is taken only by drop").handle().clone()
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        // Waiting for threads is not allowed inside a runtime, and there is nothing to wait for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
