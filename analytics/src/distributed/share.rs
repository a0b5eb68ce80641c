//! A part of a plan that may run elsewhere, and one partition of it as a plan of its own.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;

/// The scan of Parquet files that a plan is, if it is one. History's are the only ones that the engine makes.
pub(super) fn scan_of(plan: &dyn ExecutionPlan) -> Option<(&FileScanConfig, &ParquetSource)> {
    plan.downcast_ref::<DataSourceExec>()?.downcast_to_file_source::<ParquetSource>()
}

/// Whether the step makes each of its partitions of one partition of its only input, so that it may run where that one is.
pub(super) fn is_local(plan: &dyn ExecutionPlan) -> bool {
    let is_partial = |step: &AggregateExec| *step.mode() == AggregateMode::Partial;
    // A sort of everything would hold all rows; the first few of an order do not.
    let is_top = |step: &SortExec| step.preserve_partitioning() && step.fetch().is_some();
    plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<LocalLimitExec>()
        || plan.downcast_ref::<AggregateExec>().is_some_and(is_partial)
        || plan.downcast_ref::<SortExec>().is_some_and(is_top)
}

/// The scan at the end of local steps, if that is all there is.
pub(super) fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    if let Some((config, _)) = scan_of(plan.as_ref()) {
        return Some(config);
    }
    match plan.children()[..] {
        [input] if is_local(plan.as_ref()) => scan_below(input),
        _ => None,
    }
}

/// Whether a share gives groups, which come all at once at its end.
pub(super) fn has_groups(share: &Arc<dyn ExecutionPlan>) -> bool {
    share.is::<AggregateExec>() || share.children().into_iter().any(has_groups)
}

/// Bytes of the files, or of the ranges of them, that a scan reads.
pub(super) fn bytes_of(config: &FileScanConfig) -> u64 {
    config.file_groups.iter().flat_map(|group| group.iter()).map(|file| file.effective_size()).sum()
}

/// One partition of a share as a plan with that one partition.
///
/// It is what a worker will have when it has decoded it: other steps' filters that move while the query runs stand still as
/// they are now, and nothing of the reader but its options is kept. So two runs give the same rows in the same order.
pub(super) fn partition(share: &Arc<dyn ExecutionPlan>, partition: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let one = Arc::clone(share).transform_up(|plan| {
        let Some((config, source)) = scan_of(plan.as_ref()) else { return Ok(Transformed::no(plan)) };
        let Some(group) = config.file_groups.get(partition) else {
            return internal_err!("a share has no partition {partition}");
        };
        let scan = FileScanConfigBuilder::new(config.object_store_url.clone(), still(source)?)
            .with_file_groups(vec![group.clone()])
            .with_statistics(Statistics::new_unknown(config.file_schema()))
            .with_limit(config.limit)
            .with_batch_size(config.batch_size)
            .build();
        Ok(Transformed::yes(DataSourceExec::from_data_source(scan) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(one.data)
}

/// The source with its filters as they are now.
fn still(source: &ParquetSource) -> Result<Arc<dyn FileSource>> {
    let mut still = ParquetSource::new(source.table_schema().clone()).with_table_parquet_options(source.table_parquet_options().clone());
    if let Some(readers) = source.parquet_file_reader_factory() {
        still = still.with_parquet_file_reader_factory(Arc::clone(readers));
    }
    if let Some(predicate) = source.filter() {
        still = still.with_predicate(snapshot_physical_expr(predicate)?);
    }
    let still: Arc<dyn FileSource> = Arc::new(still);
    match source.projection() {
        Some(columns) => Ok(still.try_pushdown_projection(columns)?.unwrap_or(still)),
        None => Ok(still),
    }
}
