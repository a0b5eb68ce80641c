//! A file of which less is there than its footer says.

use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rollcall_model::event::Kind;

use super::town::{Town, config};
use crate::history::blooms::Blooms;

/// The store gives what there is of a range. Filters that are not whole are an error of the query and no panic, and nothing that is kept:
/// when the file is whole again, so are they.
#[tokio::test]
async fn a_file_that_ends_within_its_filters_is_an_error_and_is_read_anew() {
    let store = Arc::new(InMemory::new());
    let mut town = Town::on(store.clone(), config());
    town.append(Kind::Scan, 0, &[(0, 10), (2, 20), (4, 30)], 0);
    town.history.flush().await.unwrap();
    let place = Path::from(format!("history/{}", town.history.state().unwrap().files.keys().next().unwrap()));
    let whole = store.get(&place).await.unwrap().bytes().await.unwrap();

    let footers = RuntimeEnv::default().cache_manager.get_file_metadata_cache();
    let blooms = Blooms::new();
    let readers = blooms.readers(Arc::clone(&store) as Arc<dyn ObjectStore>, footers);
    let file = PartitionedFile::new_from_meta(store.head(&place).await.unwrap());
    let mut reader = readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new()).unwrap();
    let metadata = reader.get_metadata(None).await.unwrap();
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let filters = columns.filter_map(|column| Some((u64::try_from(column.bloom_filter_offset()?).ok()?, column.bloom_filter_length()?)));
    let filters: Vec<_> = filters.map(|(start, length)| start..start + u64::try_from(length).unwrap()).collect();
    assert!(filters.len() > 1, "{filters:?}");
    let last = filters.iter().max_by_key(|filter| filter.end).unwrap();
    for missing in [1, last.end - last.start - 1] {
        store.put(&place, whole.slice(..(last.end - missing) as usize).into()).await.unwrap();
        for filter in &filters {
            let error = reader.get_bytes(filter.clone()).await.unwrap_err();
            assert!(error.to_string().contains("ends within its filters"), "{error}");
        }
    }
    store.put(&place, whole.clone().into()).await.unwrap();
    for filter in &filters {
        assert_eq!(reader.get_bytes(filter.clone()).await.unwrap(), whole.slice(filter.start as usize..filter.end as usize));
    }
}
