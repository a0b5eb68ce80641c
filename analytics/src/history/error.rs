//! What can go wrong in history, one variant for each thing a caller can do about it.

use rollcall_model::ids::Offset;
use rollcall_stream::LogError;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The object store cannot be reached or refuses work for now. The log keeps the rows; try again later.
    #[error("the object store of history does not answer: {0}")]
    Store(#[from] object_store::Error),
    /// It was found to be lost while something waited for it.
    #[error("the object store of history does not answer: {0}")]
    Away(String),
    /// The same for what the store's interface does not do: fsync and folders of a local store.
    #[error("{path}: {source}")]
    Disk { path: String, source: std::io::Error },
    /// Another program has taken this history over; two writers would destroy it.
    #[error("another program writes to this history ({place}); stop it, or give each its own history.url")]
    Fenced { place: String },
    /// History holds rows that this log never had.
    #[error(
        "history holds the log's rows up to {history}, but the log ends at {log}: this log is not the one that history was written \
         from. Restore the log's folder, or name an empty place in history.url"
    )]
    Ahead { history: Offset, log: Offset },
    /// There are data files but no manifest, or a damaged one: which rows count cannot be known.
    #[error("the manifest of history is damaged: {0}; restore it from a copy, or name an empty place in history.url")]
    Manifest(String),
    /// A data file that is not what was written there.
    #[error("{path} is not the file that was written there: {reason}")]
    Damaged { path: String, reason: String },
    #[error("history cannot be read from the log")]
    Log(#[from] LogError),
    #[error("rows could not be turned into Parquet, or back")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("rows could not be arranged")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the configuration of history: {0}")]
    Configuration(String),
    /// A thread of history panicked; its step is tried again.
    #[error("a step of history failed: {0}")]
    Step(String),
}

impl HistoryError {
    /// Whether going on would lose or double rows, so that the program must stop.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::Ahead { .. })
    }

    /// The message with its causes, for operators.
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let shown = error.to_string();
            if !text.contains(&shown) {
                text.push_str(": ");
                text.push_str(&shown);
            }
            cause = error.source();
        }
        text
    }
}

/// Runs blocking work of history, such as encoding, beside the tasks that must not wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(HistoryError::Step(panic.to_string())))
}
