//! What a worker runs: scans of its place of history with local steps above them, and nothing else.
//!
//! Who has the token could send any plan, and a plan could name any file that the process may read. So each is looked at before it
//! runs: a server that was taken over reads history through a worker, which it can without one, and nothing more.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

use super::share::{is_local, scan_of};
use crate::history::Place;

/// # Errors
/// When the plan is more than a share of this place's files.
pub(super) fn check(plan: &Arc<dyn ExecutionPlan>, place: &Place) -> Result<()> {
    plan.apply(|step| {
        if let Some((scan, _)) = scan_of(step.as_ref()) {
            let mut files = scan.file_groups.iter().flat_map(|group| group.iter());
            let is_ours = scan.object_store_url == *place.store_url() && files.all(|file| place.has(&file.object_meta.location));
            if !is_ours {
                return plan_err!("this worker reads history at {} only", place.shown());
            }
        } else if !is_local(step.as_ref()) {
            return plan_err!("this worker does not run {}", step.name());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
