//! Where in a plan memory is watched.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::logical_expr::{WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions};

use super::size::can_be_wide;
use super::watch::{Disk, Held, Look, Watch};

type Node = Arc<dyn ExecutionPlan>;

/// The plan with watched joins, lists and windows. `row_bytes` is what a row that is repeated may have in texts and lists, and
/// `batch_bytes` what the rows of a batch may become when each is repeated for the elements of its lists.
pub fn watched(plan: Node, row_bytes: usize, batch_bytes: usize) -> Result<Node> {
    let rows = Look::Rows { bytes: row_bytes as u64 };
    let watched = plan.transform_up(|plan| {
        if let Some(unnest) = plan.downcast_ref::<UnnestExec>() {
            let columns = unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect();
            let look = Look::Lists { columns, bytes: batch_bytes as u64 };
            return with_inputs(plan, |_, input| Watch::new(input, look.clone()));
        }
        let repeated = |input: Node| if has_wide(&input) { Watch::new(input, rows.clone()) } else { input };
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            let spills = spills_right(join);
            let plan = with_inputs(plan, |place, input| {
                let input = repeated(input);
                if place == 0 { Watch::new(input, Look::Again(Arc::new(AtomicBool::new(false)))) } else { input }
            })?;
            return if spills { Ok(plan) } else { without_disk(plan.data) };
        }
        if plan.is::<HashJoinExec>() || plan.is::<CrossJoinExec>() || plan.is::<SortMergeJoinExec>() {
            return with_inputs(plan, |_, input| repeated(input));
        }
        if plan.is::<ScalarSubqueryExec>() {
            // The first input gives the rows; what the others give is repeated for each.
            return with_inputs(plan, |place, input| if place == 0 { input } else { repeated(input) });
        }
        let lookback = if plan.is::<WindowAggExec>() {
            Some(usize::MAX)
        } else {
            plan.downcast_ref::<BoundedWindowAggExec>().map(|window| window.window_expr().iter().map(lookback).max().unwrap_or(0))
        };
        let Some(lookback) = lookback else { return Ok(Transformed::no(plan)) };
        let held = Arc::new(Held::new(lookback));
        let window = with_inputs(plan, |_, input| Watch::new(input, Look::Into(Arc::clone(&held))))?.data;
        Ok(Transformed::yes(Watch::new(window, Look::OutOf(held))))
    })?;
    Ok(watched.data)
}

fn has_wide(plan: &Node) -> bool {
    plan.schema().fields().iter().any(|field| can_be_wide(field.data_type()))
}

fn with_inputs(plan: Node, watch: impl Fn(usize, Node) -> Node) -> Result<Transformed<Node>> {
    let inputs = plan.children().into_iter().enumerate().map(|(place, input)| watch(place, Arc::clone(input))).collect();
    Ok(Transformed::yes(plan.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?))
}

/// Whether a nested loop join whose left side does not fit into memory gives the right rows from disk. DataFusion 55 keeps a book of
/// the matched rows of the left side for each partition of the right one then, so that a row without a match would come once a
/// partition.
fn spills_right(join: &NestedLoopJoinExec) -> bool {
    let of_left =
        matches!(join.join_type(), JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark | JoinType::Full);
    !of_left || join.right().output_partitioning().partition_count() == 1
}

/// The step without files of its own, so that it ends at its memory; its inputs have theirs.
fn without_disk(plan: Node) -> Result<Transformed<Node>> {
    let disk = Arc::new(Disk::default());
    let plan = with_inputs(plan, |_, input| Watch::new(input, Look::WithDisk(Arc::clone(&disk))))?.data;
    Ok(Transformed::yes(Watch::new(plan, Look::WithoutDisk(disk))))
}

/// Rows behind the one that is being looked at that a window still needs.
fn lookback(window: &Arc<dyn WindowExpr>) -> usize {
    let frame = window.get_window_frame();
    match &frame.start_bound {
        WindowFrameBound::Preceding(value) if value.is_null() => 0,
        WindowFrameBound::CurrentRow | WindowFrameBound::Following(_) => 0,
        WindowFrameBound::Preceding(value) if frame.units == WindowFrameUnits::Rows => match value.cast_to(&DataType::UInt64) {
            Ok(ScalarValue::UInt64(Some(rows))) => usize::try_from(rows).unwrap_or(usize::MAX),
            _ => usize::MAX,
        },
        // By values: as many rows as there are.
        WindowFrameBound::Preceding(_) => usize::MAX,
    }
}
