//! The limits of the log on local files.

use std::time::Duration;

/// Each limit says what happens when it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment file that would grow beyond this is ended and the next one begun; a single group may exceed it.
    /// At most a quarter of the budget and a sixteenth of the file system, so that whole segments can be deleted before
    /// either is used up.
    pub segment_bytes_max: u64,
    /// Bytes of all segments together; beyond it appends are refused as full until the readers have committed.
    pub budget_bytes: u64,
    /// Bytes and number of appended batches that are not durable yet; beyond either appends are refused as busy.
    pub queue_bytes_max: usize,
    pub queue_batches_max: usize,
    /// Bytes written between two fsyncs; what waits beyond it goes into the next group.
    pub group_bytes_max: usize,
    /// Bytes of the newest rows that are kept in memory for readers; older rows are read from the files.
    pub cache_bytes_max: usize,
    /// How long the writer waits before it tries again on a disk without space, unless a segment is deleted earlier.
    pub full_retry: Duration,
    /// How long no row must have come before the last group is sealed, see the module.
    pub seal_after: Duration,
    /// Readers without whose word nothing is trimmed, even before they have registered: what makes the rows survive
    /// elsewhere may start later than a reader that is already done with them.
    pub readers: Vec<String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            segment_bytes_max: 64 * MIB as u64,
            budget_bytes: 8 * 1024 * MIB as u64,
            queue_bytes_max: 32 * MIB,
            queue_batches_max: 65_536,
            group_bytes_max: 8 * MIB,
            cache_bytes_max: 32 * MIB,
            full_retry: Duration::from_millis(250),
            seal_after: Duration::from_secs(1),
            readers: vec!["sink".to_owned()],
        }
    }
}

impl LogConfig {
    /// Keeps the segments small enough that deleting whole ones can always make room, under the budget and on a file
    /// system of so many bytes.
    pub(super) fn checked(mut self, total_bytes: u64) -> Self {
        self.segment_bytes_max = self.segment_bytes_max.min(self.budget_bytes / 4).min(total_bytes / 16);
        self
    }
}
