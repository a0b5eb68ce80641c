//! The files that a query reads, so that of a query that failed it can be told which of them it was.
//!
//! What is looked at before a query can be gone or changed while it runs. Then it fails somewhere in the middle of its plan, with an error
//! that seldom names a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;
use tokio::task::JoinError;
use tokio::time::timeout;

use super::blooms::Readers;
use super::manifest::FileEntry;
use super::marks::Glance;
use super::verify::{CHECK_WAIT, Looked};
use super::{Core, History};

/// How old a sign may be that the store is lost.
const JUST_NOW: Duration = Duration::from_secs(1);

/// A step of a plan that panicked: it may have been a decoder that met bytes which nobody wrote.
#[derive(Debug, thiserror::Error)]
#[error("a step panicked: {0}")]
pub(crate) struct Panicked(pub String);

/// What one scan of a query has read so far.
pub(super) struct Reads {
    history: History,
    opened: Mutex<BTreeSet<String>>,
    /// Those of which not even the bytes could be had.
    failed: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reads").field(&self.opened.lock().len()).finish()
    }
}

impl Reads {
    pub fn of(history: &History) -> Arc<Self> {
        Arc::new(Self { history: history.clone(), opened: Mutex::default(), failed: Mutex::default() })
    }

    /// Readers that note what they read.
    pub fn noting(self: &Arc<Self>, readers: Readers) -> Noting {
        Noting { readers, reads: Arc::clone(self) }
    }

    /// What of history made a query fail, if it was history. The next plan leaves it out.
    pub async fn cause(&self, error: &DataFusionError) -> Option<String> {
        let core = &self.history.0;
        let failed = std::mem::take(&mut *self.failed.lock());
        if failed.is_empty() && is_panic(error) {
            let opened = self.opened.lock().clone();
            return core.find_rotten(&opened).await.map(|(path, reason)| format!("{path}: {reason}"));
        }
        if failed.is_empty() && !is_of_files(error) {
            return None;
        }
        // Whoever waited in vain has asked already.
        let mut away = core.away(JUST_NOW).await;
        if away.is_none() {
            away = core.away(Duration::ZERO).await;
        }
        if let Some(reason) = away {
            return Some(format!("history does not answer: {reason}"));
        }
        let paths = if failed.is_empty() { self.opened.lock().clone() } else { failed.clone() };
        let found = core.look_at_suspects(&paths).await;
        // A file that is gone from the manifest, or right after all, was in the way for the moment only.
        let unread = failed.into_iter().filter(|path| !found.contains_key(path)).map(|path| format!("{path} could not be read"));
        let words: Vec<String> = found.iter().map(|(path, reason)| format!("{path}: {reason}")).chain(unread).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// What the read gives, unless the store is lost meanwhile.
    async fn note<T>(&self, path: &str, read: BoxFuture<'_, ParquetResult<T>>) -> ParquetResult<T> {
        let lost = |error| Err(ParquetError::External(Box::new(error)));
        let read = self.history.0.while_alive(read).await.unwrap_or_else(lost);
        if read.is_err() {
            self.failed.lock().insert(path.to_owned());
        }
        read
    }
}

impl Core {
    /// Reads files whole, one after the other and for as long as a query waits for that, until one is found to be wrong. A panic is a
    /// fault of the program more often than of a file, so that meanwhile others go on using them.
    async fn find_rotten(&self, paths: &BTreeSet<String>) -> Option<(String, String)> {
        let files: Vec<Arc<FileEntry>> = {
            let state = self.published.lock().state.clone()?;
            paths.iter().filter_map(|path| state.files.get(path)).cloned().collect()
        };
        let search = async {
            for file in files {
                if let Ok(Glance::Wrong(reason)) = self.check_again(&file).await {
                    self.found_damaged(&file.path, &reason);
                    return Some((file.path.clone(), reason));
                }
            }
            None
        };
        timeout(CHECK_WAIT, search).await.ok().flatten()
    }

    /// Reads files whole that may have made a query fail, and says what is wrong with them.
    async fn look_at_suspects(&self, paths: &BTreeSet<String>) -> BTreeMap<String, String> {
        let files: Vec<Arc<FileEntry>> = {
            let Some(state) = self.published.lock().state.clone() else { return BTreeMap::new() };
            paths.iter().filter_map(|path| state.files.get(path)).cloned().collect()
        };
        files.iter().for_each(|file| self.verified.suspect(&file.path));
        let Ok(Looked { damaged, unchecked, .. }) = self.look(files).await else { return BTreeMap::new() };
        damaged.iter().for_each(|(file, reason)| self.found_damaged(&file.path, reason));
        let unchecked = unchecked.into_iter().map(|file| (file.path.clone(), "it has yet to be checked".to_owned()));
        damaged.into_iter().map(|(file, reason)| (file.path.clone(), reason)).chain(unchecked).collect()
    }
}

/// Whether a step of the plan panicked, in the query's own task or in one that it waited for.
fn is_panic(error: &DataFusionError) -> bool {
    let DataFusionError::External(error) = error.find_root() else { return false };
    error.is::<Panicked>() || error.downcast_ref::<Arc<JoinError>>().is_some_and(|error| error.is_panic())
}

/// Whether an error came up while bytes of a file were made into rows.
fn is_of_files(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(**error, ArrowError::ParquetError(_)),
        DataFusionError::External(error) => error.is::<ParquetError>() || error.is::<object_store::Error>(),
        _ => false,
    }
}

#[derive(Debug)]
pub(super) struct Noting {
    readers: Readers,
    reads: Arc<Reads>,
}

impl ParquetFileReaderFactory for Noting {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = self.reads.history.0.place.path(&file.object_meta.location);
        self.reads.opened.lock().insert(path.clone());
        let inner = self.readers.create_reader(partition, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { inner, path, reads: Arc::clone(&self.reads) }))
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    path: String,
    reads: Arc<Reads>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.reads.note(&self.path, self.inner.get_bytes(range)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.reads.note(&self.path, self.inner.get_byte_ranges(ranges)).boxed()
    }

    fn get_metadata<'a>(&'a mut self, options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.reads.note(&self.path, self.inner.get_metadata(options)).boxed()
    }
}
