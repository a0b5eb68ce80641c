//! What a query does not need is not read.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
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

/// Twenty-one people, each with a device and a school: `rows` readings that come in turns.
fn worn(rows: std::ops::Range<u64>) -> Vec<(u8, u64)> {
    rows.map(|seq| ((seq % 21) as u8, seq)).collect()
}

/// How many rows of files were looked at for a person, and how many were theirs.
async fn looked_at(town: &Town, number: u8) -> (usize, u64) {
    let sql = format!("select seq from telemetry where person = {}", id(person(number).as_bytes()));
    let (plan, context) = plan(town, &sql).await;
    let rows = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await.unwrap();
    let ran = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true).to_string();
    let told = |name: &str| {
        let values = ran.split(name).skip(1).filter_map(|rest| rest.split([',', ']', '\n']).next());
        values.map(|value| value.trim().parse::<usize>().unwrap()).sum::<usize>()
    };
    let seqs = rows.iter().flat_map(|rows| rows.column(0).as_primitive::<UInt64Type>().values().to_vec());
    let count = seqs.inspect(|seq| assert_eq!(*seq % 21, u64::from(number))).count();
    // Picked by the index, or else left and taken out by the filter of a scan.
    (
        told("PickedRows: files=2, rows=")
            + told("PickedRows: files=1, rows=")
            + told("pushdown_rows_matched=")
            + told("pushdown_rows_pruned="),
        count as u64,
    )
}

#[tokio::test]
async fn only_where_a_person_stands_is_looked_at() {
    let store = Arc::new(InMemory::new());
    let mut town = Town::on(store.clone(), HistoryConfig { file_rows_max: 5_000, compact_files_min: 2, ..config() });
    town.append(Kind::Telemetry, 0, &worn(0..420), 0);
    town.history.flush().await.unwrap();
    town.append(Kind::Telemetry, 0, &worn(420..840), 0);
    town.history.flush().await.unwrap();
    // Gates see everybody at any time, so their files have no such index.
    let seen: Vec<(u8, u64)> = (0..420).map(|seq| ((seq / 21) as u8, seq)).collect();
    town.append(Kind::Scan, 0, &seen, 0);
    town.history.flush().await.unwrap();
    town.move_window(usize::MAX);
    let files = town.history.state().unwrap().files.clone();
    assert!(files.values().all(|file| file.runs.is_some() == (file.kind == Kind::Telemetry)), "{files:?}");
    assert_eq!(looked_at(&town, 5).await, (40, 40));
    let (plan, _) = plan(&town, &format!("select seq from telemetry where person = {}", id(person(21).as_bytes()))).await;
    assert!(shown(&plan).contains("EmptyExec"), "nobody's files are not opened: {}", shown(&plan));

    for (asked, expected) in [
        (format!("person in ({}, {})", id(person(5).as_bytes()), id(person(6).as_bytes())), 80),
        (format!("person = {} and device = {}", id(person(5).as_bytes()), id(&[5; 16])), 40),
        (format!("person = {} and device = {}", id(person(5).as_bytes()), id(&[6; 16])), 0),
        (format!("person = {} and seq < 420", id(person(5).as_bytes())), 20),
    ] {
        let rows = town.query(&format!("select count(*) from telemetry where {asked}")).await.0;
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), expected, "{asked}");
    }

    // Merged, and written again without somebody, files have an index of their own.
    while town.history.compact().await.unwrap() {}
    assert_eq!(looked_at(&town, 5).await, (40, 40));
    town.history.erase(district(0), person(4)).await.unwrap();
    assert_eq!(town.history.state().unwrap().files.values().filter(|file| file.kind == Kind::Telemetry).count(), 1);
    assert_eq!(looked_at(&town, 5).await, (40, 40));
    assert_eq!(looked_at(&town, 4).await, (0, 0));

    // An index that is not what was written is not used, and the rows are found all the same.
    let file = town.history.state().unwrap().files.values().find(|file| file.kind == Kind::Telemetry).unwrap().clone();
    let location = Path::from(format!("history/{}", file.path));
    let mut bytes = store.get(&location).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[file.runs.unwrap().start as usize + 20] ^= 1;
    store.put(&location, bytes.into()).await.unwrap();
    town.restart();
    town.move_window(usize::MAX);
    town.history.open().await.unwrap();
    assert_eq!(looked_at(&town, 5).await, (800, 40));
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
    assert_eq!(first - second, 2, "the footer with its indexes, and three filters at once; all are kept: {asked:?}");
    let there = format!("select count(*) as n, count(distinct seq) from scans where person = {}", id(person(50).as_bytes()));
    let rows = town.query(&there).await.0;
    let count = |column| rows[0].column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((count(0), count(1)), (6_000, 6_000));
}
