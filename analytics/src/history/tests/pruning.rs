//! What a query does not need is not read.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use object_store::memory::InMemory;
use rollcall_model::event::Kind;

use super::town::{DAY_MS, START, Town, config, district, id, person};
use crate::history::HistoryConfig;

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
    let sql = format!(
        "select count(seq) from scans where district = {} and ts >= to_timestamp_millis({}) and ts < to_timestamp_millis({})",
        id(district(1).as_bytes()),
        START.plus_ms(DAY_MS).0,
        START.plus_ms(2 * DAY_MS).0
    );
    let plan = shown(&plan(&town, &sql).await.0);
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
    assert!(plan.contains("date=2026-03-03"), "{plan}");
    assert!(!plan.contains("UnionExec"), "only files are left: {plan}");
}

#[tokio::test]
async fn a_person_is_looked_up_in_bloom_filters() {
    let town = town().await;
    // District 0 has people 0 and 2: person 1 stands between the bounds of its files, but not in their filters.
    let sql =
        format!("select count(seq) from scans where district = {} and person = {}", id(district(0).as_bytes()), id(person(1).as_bytes()));
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

/// Words, instants and dates are the same in a file as they are hot, and prune there.
#[tokio::test]
async fn words_are_read_back_from_files() {
    let town = town().await;
    let sql = "select dir, method, count(*) from scans where dir = 'in' group by dir, method";
    let rows = town.query(sql).await.0;
    let shown = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    assert!(shown.contains("| in  | nfc    | 12       |"), "{shown}");
    let (plan, context) = plan(&town, "select seq from scans where dir = 'out'").await;
    datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
    let ran = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true).to_string();
    assert!(ran.contains("row_groups_pruned_statistics=6 total → 0 matched"), "{ran}");
}

/// The scope of a caller needs no second look: hot rows, files and the log answer it themselves.
#[tokio::test]
async fn a_scope_leaves_no_filter_above_the_parts() {
    let mut town = town().await;
    town.append(Kind::Scan, 1, &[(1, 30)], 0);
    town.move_window(0);
    town.append(Kind::Scan, 1, &[(1, 40), (3, 50)], 0);
    let sql = format!("select seq from scans where district = {} and person = {}", id(district(1).as_bytes()), id(person(1).as_bytes()));
    let shown = shown(&plan(&town, &sql).await.0);
    assert!(["DataSourceExec", "HotScan", "StreamingTableExec"].iter().all(|part| shown.contains(part)), "{shown}");
    assert!(!shown.contains("FilterExec"), "{shown}");
    let rows = town.query(&sql).await.0;
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5, "three days, a hot one and one in the log");
}

#[tokio::test]
async fn filters_are_fetched_once_for_all_row_groups_and_queries() {
    let mut town = Town::on(Arc::new(InMemory::new()), HistoryConfig { file_rows_max: 1_000_000, ..config() });
    // Three row groups: people of district 0 have even numbers.
    let rows: Vec<(u8, u64)> = (0..300_000).map(|row| ((row % 50 * 2) as u8, row)).collect();
    town.append(Kind::Scan, 0, &rows, 0);
    town.history.flush().await.unwrap();
    town.move_window(usize::MAX);
    let absent = format!("select seq from scans where person = {}", id(person(51).as_bytes()));
    let (mut before, mut asked) = (town.store.gets(), Vec::new());
    for _ in 0..3 {
        assert!(town.query(&absent).await.0.iter().all(|rows| rows.num_rows() == 0));
        asked.push(town.store.gets() - std::mem::replace(&mut before, town.store.gets()));
    }
    // A query may look whether the store lives.
    let [first, second, third] = asked[..] else { unreachable!("three queries") };
    assert_eq!(second, third);
    assert_eq!(first - second, 3, "the footer, its indexes, and three filters at once; all are kept: {asked:?}");
    let there = format!("select count(*) as n, count(distinct seq) from scans where person = {}", id(person(50).as_bytes()));
    let rows = town.query(&there).await.0;
    let count = |column| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((count(0), count(1)), (6_000, 6_000));
}
