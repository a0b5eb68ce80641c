//! The files of a snapshot as scans: pruned by the manifest first, and then by DataFusion's own Parquet source (row
//! groups by statistics and bloom filters, pages by the page index, the columns of a test of ids before the others), or read
//! where people's rows stand.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileGroupPartitioner, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectMeta;

use super::Core;
use super::id_filter::IdFilter;
use super::manifest::FileEntry;
use super::picked::Picked;
use super::place::Place;
use super::reads::Reads;
use crate::distributed::Workers;
use crate::hot::scan;
use crate::sealed::Sealed;

/// Footer and indexes of a file of a million rows; saves a request a file when the guess is enough.
const FOOTER_BYTES: usize = 64 * 1024;

/// Files of which picked rows are read at the same time. There is more to wait for than to do: each is a short request.
const PICKED_AT_ONCE: usize = 8;

/// What the manifest knows of each file, column by column.
struct Known<'a>(&'a [Arc<FileEntry>], &'a SchemaRef);

impl Known<'_> {
    fn ids(&self, id: impl Fn(&FileEntry) -> [u8; 16]) -> Option<ArrayRef> {
        let ids = FixedSizeBinaryArray::try_from_iter(self.0.iter().map(|file| id(file))).ok()?;
        Some(Arc::new(ids))
    }

    fn instants(&self, ms: impl Fn(&FileEntry) -> i64) -> Option<ArrayRef> {
        let instants = Int64Array::from_iter_values(self.0.iter().map(|file| ms(file)));
        cast(&instants, self.1.field_with_name("ts").ok()?.data_type()).ok()
    }

    fn numbers(&self, number: impl Fn(&FileEntry) -> u64) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|file| number(file)))))
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "district" => self.ids(|file| *file.district.as_bytes()),
            "school" => self.ids(|file| *file.school_min.as_bytes()),
            "ts" => self.instants(|file| file.ts_min.0),
            "offset" => self.numbers(|file| file.first.0),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match column.name() {
            "district" => self.ids(|file| *file.district.as_bytes()),
            "school" => self.ids(|file| *file.school_max.as_bytes()),
            "ts" => self.instants(|file| file.ts_max.0),
            "offset" => self.numbers(|file| file.end.0 - 1),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        self.numbers(|file| file.rows)
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// All filters as one expression over the table's columns; `None`: there are none.
fn conjoined(session: &dyn Session, schema: &SchemaRef, filters: impl Iterator<Item = Expr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters) else { return Ok(None) };
    session.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(schema))?).map(Some)
}

/// Tests that the table answers for every row, as one expression; `None`: there are none.
fn tests(session: &dyn Session, schema: &SchemaRef, exact: Vec<Expr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let columns = DFSchema::try_from(Arc::clone(schema))?;
    let test = |filter: Expr| {
        let test = scan::id_test(schema, &filter);
        let written = session.create_physical_expr(filter, &columns)?;
        Ok(match test {
            Some(test) => IdFilter::of(&test, written),
            None => written,
        })
    };
    Ok(conjunction_opt(exact.into_iter().map(test).collect::<Result<Vec<_>>>()?))
}

/// The files that may hold rows for which all filters are true.
pub(super) fn prune(
    session: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
    files: Vec<Arc<FileEntry>>,
) -> Result<Vec<Arc<FileEntry>>> {
    let Some(filter) = conjoined(session, schema, filters.iter().cloned())? else { return Ok(files) };
    let Some(predicate) = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).build(filter) else { return Ok(files) };
    if files.is_empty() {
        return Ok(files);
    }
    let keep = predicate.prune(&Known(&files, schema))?;
    Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
}

/// What a scan asks of the files.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    /// Notes what is read.
    pub reads: &'a Arc<Reads>,
    pub schema: &'a SchemaRef,
    pub projection: Option<&'a Vec<usize>>,
    /// Filters that nobody looks at again.
    pub exact: Vec<Expr>,
    pub limit: Option<usize>,
}

/// History's files as DataFusion reads them.
fn source(core: &Core, session: &dyn Session, Asked { schema, reads, .. }: &Asked<'_>, pushdown: bool) -> ParquetSource {
    let store = core.place.store();
    session.runtime_env().register_object_store(core.place.store_url().as_ref(), Arc::clone(store));
    let mut options = session.table_options().parquet.clone();
    options.global.pushdown_filters = pushdown;
    options.global.enable_page_index = true;
    options.global.bloom_filter_on_read = true;
    options.global.metadata_size_hint = Some(FOOTER_BYTES);
    let readers = Arc::new(reads.noting(core.blooms.readers(Arc::clone(store), Arc::clone(&core.footers))));
    ParquetSource::new(Arc::clone(*schema))
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(readers)
        .with_metadata_size_hint(FOOTER_BYTES)
}

/// The plan that reads the picked rows of files. It holds those files too.
///
/// With its rows known, a file has nothing left that conditions could leave out: looking at statistics and filters of fifty files takes
/// longer than reading twenty rows of each. So the scan has no conditions, and the tests of ids look at what it gives.
pub(super) fn plan_picked(core: &Core, session: &dyn Session, picked: &[Picked], asked: Asked<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    let source = source(core, session, &asked, false);
    let (place, Asked { schema, projection, exact, .. }) = (&core.place, asked);
    let part = |Picked { file, rows, .. }: &Picked| Ok(part(place, schema, file)?.with_extension(rows.clone()));
    let parts = FileGroup::new(picked.iter().map(part).collect::<Result<_>>()?);
    let read = scan::with_columns_of(&exact, schema, projection);
    let scan = FileScanConfigBuilder::new(place.store_url().clone(), Arc::new(source))
        .with_file_groups(parts.split_files(PICKED_AT_ONCE))
        .with_statistics(Statistics::new_unknown(schema))
        .with_projection_indices(Some(read))?
        .build();
    let asked = projection.map_or(schema.fields().len(), Vec::len);
    let tested = scan::tested(session, DataSourceExec::from_data_source(scan), exact, asked)?;
    let rows = picked.iter().map(|picked| picked.count).sum::<u64>();
    let known = Statistics::new_unknown(&tested.schema()).with_num_rows(Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX)));
    Ok(Arc::new(Sealed::new(tested, format!("PickedRows: files={}, rows={rows}", picked.len()), known)))
}

/// The plan that reads the files. It holds them, so they are not deleted before the plan is gone.
pub(super) fn plan(core: &Core, session: &dyn Session, files: &[Arc<FileEntry>], asked: Asked<'_>) -> Result<Arc<dyn ExecutionPlan>> {
    // An id leaves few rows, which stand together. Other conditions leave rows here and there: choosing those one by one while
    // the columns are read takes longer than reading them whole.
    let mut source = source(core, session, &asked, !asked.exact.is_empty());
    let (place, Asked { schema, projection, exact, limit, .. }) = (&core.place, asked);
    if let Some(filter) = tests(session, schema, exact)? {
        source = source.with_predicate(filter);
    }
    let parts = files.iter().map(|file| part(place, schema, file)).collect::<Result<Vec<_>>>()?;
    let groups = divide(session, FileGroup::new(parts));
    let scan = FileScanConfigBuilder::new(place.store_url().clone(), Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics(schema, files))
        .with_projection_indices(projection.cloned())?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}

/// The partitions of a scan: even ones for workers, if there are any for so many bytes, else whole files for the threads here.
fn divide(session: &dyn Session, files: FileGroup) -> Vec<FileGroup> {
    let bytes = files.iter().map(|file| file.effective_size()).sum();
    let parts = session.config().get_extension::<Workers>().and_then(|workers| workers.parts(bytes));
    let even = parts.and_then(|parts| {
        let partitioner = FileGroupPartitioner::new().with_target_partitions(parts).with_repartition_file_min_size(0);
        partitioner.repartition_file_groups(std::slice::from_ref(&files))
    });
    even.unwrap_or_else(|| files.split_files(session.config().target_partitions().max(1)))
}

fn part(place: &Place, schema: &SchemaRef, file: &Arc<FileEntry>) -> Result<PartitionedFile> {
    let location = place.location(&file.path).map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))?;
    // The name is used once, so the instant only has to be always the same for the cache of footers to work.
    let last_modified = DateTime::from_timestamp_millis(file.added.0).unwrap_or_default();
    let meta = ObjectMeta { location, last_modified, size: file.bytes, e_tag: None, version: None };
    let known = statistics(schema, std::slice::from_ref(file));
    Ok(PartitionedFile::new_from_meta(meta).with_statistics(Arc::new(known)).with_extension(Arc::clone(file)))
}

/// What the manifest knows of files together. Bounds are exact: files are written once.
fn statistics(schema: &SchemaRef, files: &[Arc<FileEntry>]) -> Statistics {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let mut statistics = Statistics::new_unknown(schema).with_num_rows(Precision::Exact(rows as usize));
    let bounds = |column: &str, least: Option<ScalarValue>, greatest: Option<ScalarValue>| {
        let (Some(least), Some(greatest), Ok(at)) = (least, greatest, schema.index_of(column)) else { return None };
        let known = ColumnStatistics::new_unknown().with_null_count(Precision::Exact(0));
        Some((at, known.with_min_value(Precision::Exact(least)).with_max_value(Precision::Exact(greatest))))
    };
    let ts_type = schema.field_with_name("ts").map(|field| field.data_type().clone());
    let ts = |ms: Option<i64>| ScalarValue::Int64(Some(ms?)).cast_to(ts_type.as_ref().ok()?).ok();
    let offset = |offset: Option<u64>| offset.map(|offset| ScalarValue::UInt64(Some(offset)));
    let known = [
        bounds("ts", ts(files.iter().map(|file| file.ts_min.0).min()), ts(files.iter().map(|file| file.ts_max.0).max())),
        bounds("offset", offset(files.iter().map(|file| file.first.0).min()), offset(files.iter().map(|file| file.end.0 - 1).max())),
    ];
    for (at, column) in known.into_iter().flatten() {
        statistics.column_statistics[at] = column;
    }
    statistics
}
