//! What a query does not need is not read.

use std::sync::Arc;

use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use object_store::memory::InMemory;
use rollcall_model::event::Kind;

use super::town::{DAY_MS, START, Town, config, district, hex, person};

async fn plan(town: &Town, sql: &str) -> (Arc<dyn ExecutionPlan>, SessionContext) {
    let (context, _) = town.context();
    (context.sql(sql).await.unwrap().create_physical_plan().await.unwrap(), context)
}

fn shown(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(true).to_string()
}

async fn town() -> Town {
    let mut town = Town::on(Arc::new(InMemory::new()), config());
    for day in 0..3 {
        for number in 0..2 {
            town.append(Kind::Scan, number, &[(number, 10), (number + 2, 20)], day);
        }
        town.history.flush().await.unwrap();
    }
    town.move_window(0);
    town
}

#[tokio::test]
async fn a_district_and_a_day_name_their_files() {
    let town = town().await;
    let from = START.plus_ms(DAY_MS).0;
    let to = START.plus_ms(2 * DAY_MS).0;
    let sql = format!("select count(seq) from scans where district = X'{}' and ts >= {from} and ts < {to}", hex(district(1).as_bytes()));
    let plan = shown(&plan(&town, &sql).await.0);
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
    assert!(plan.contains("date=2026-03-03"), "{plan}");
    assert!(!plan.contains("UnionExec"), "only files are left: {plan}");
}

#[tokio::test]
async fn a_person_is_looked_up_in_bloom_filters() {
    let town = town().await;
    // District 0 has people 0 and 2: person 1 stands between the bounds of its files, but not in their filters.
    let sql = format!(
        "select count(seq) from scans where district = X'{}' and person = X'{}'",
        hex(district(0).as_bytes()),
        hex(person(1).as_bytes())
    );
    let (plan, context) = plan(&town, &sql).await;
    datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
    let ran = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true).to_string();
    assert!(ran.contains("row_groups_pruned_statistics=3 total → 3 matched"), "{ran}");
    assert!(ran.contains("row_groups_pruned_bloom_filter=3 total → 0 matched"), "{ran}");
}

#[tokio::test]
async fn counting_all_rows_reads_none() {
    let town = town().await;
    let shown = shown(&plan(&town, "select count(*), max(ts) from scans").await.0);
    assert!(shown.contains("PlaceholderRowExec"), "answered from the manifest: {shown}");
}
