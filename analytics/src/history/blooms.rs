//! Bloom filters, read once a file instead of once a row group and query.
//!
//! Looking for one person in a year of files asks the filter of every row group of every file: thousands of small reads, of an
//! object store thousands of requests. The writer puts a file's filters side by side, so here one read fetches them all, and they
//! are kept for the next query. Everything else is DataFusion's own reader, whose footers are kept as well.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use moka::sync::Cache;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

/// Filters that are kept over all queries; the least recently used go first.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Filters of a file that are fetched together. A file whose filters are larger, or lie apart, is asked group by group.
const TOGETHER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of files, by where they begin. A file is written once under its name, so they never change.
type Kept = Cache<(Path, u64), Bytes>;

/// Makes readers of files that share what was read of footers and filters.
#[derive(Debug)]
pub(super) struct Readers {
    inner: CachedParquetFileReaderFactory,
    kept: Kept,
}

/// The filters that readers have in common.
#[derive(Clone, Debug)]
pub(super) struct Blooms(Kept);

impl Blooms {
    pub fn new() -> Self {
        let weight = |_: &(Path, u64), bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Self(Cache::builder().name("bloom filters of history").weigher(weight).max_capacity(KEPT_BYTES_MAX).build())
    }

    pub fn readers(&self, store: Arc<dyn ObjectStore>, footers: Arc<FileMetadataCache>) -> Readers {
        Readers { inner: CachedParquetFileReaderFactory::new(store, footers), kept: self.0.clone() }
    }
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let inner = self.inner.create_reader(partition, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { inner, path, filters: None, kept: self.kept.clone() }))
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    path: Path,
    /// Where all filters of the file lie; `None` before its footer was read, or when they are not to be fetched together.
    filters: Option<Range<u64>>,
    kept: Kept,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let Some(filters) = self.filters.clone().filter(|filters| filters.start <= range.start && range.end <= filters.end) else {
            return self.inner.get_bytes(range);
        };
        async move {
            let key = (self.path.clone(), filters.start);
            let all = match self.kept.get(&key) {
                Some(all) => all,
                None => {
                    let all = self.inner.get_bytes(filters.clone()).await?;
                    // A store gives what there is of a range. What is not whole is not kept: it may be so the next time.
                    if (all.len() as u64) < filters.end - filters.start {
                        return Err(ParquetError::EOF(format!("{} ends within its filters", self.path)));
                    }
                    self.kept.insert(key, all.clone());
                    all
                }
            };
            Ok(all.slice((range.start - filters.start) as usize..(range.end - filters.start) as usize))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    /// With the indexes of its pages, which the caller asks for only when it is going to prune pages, and would then read each time.
    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let metadata = self.inner.get_metadata(None).await?;
            self.filters = filters_of(&metadata);
            Ok(metadata)
        }
        .boxed()
    }
}

/// Where the filters of a file lie, if they lie side by side and are few enough to be fetched together.
fn filters_of(metadata: &ParquetMetaData) -> Option<Range<u64>> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let (mut all, mut bytes) = (u64::MAX..0, 0);
    for column in columns {
        let (Some(start), Some(length)) = (column.bloom_filter_offset(), column.bloom_filter_length()) else { continue };
        let (start, length) = (u64::try_from(start).ok()?, u64::try_from(length).ok()?);
        all = all.start.min(start)..all.end.max(start.checked_add(length)?);
        bytes += length;
    }
    (bytes > 0 && all.end - all.start == bytes && bytes <= TOGETHER_BYTES_MAX).then_some(all)
}
