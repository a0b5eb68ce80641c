//! The bounds of a query, and that the others are unharmed.

use std::time::Duration;

use futures_util::StreamExt;
use rollcall_store::account::Role;

use super::world::{caller, engine, engine_with, events, one};
use crate::query::{Bound, Caller, EngineConfig, Limits, QueryEngine, QueryError};

const BOMB: &str =
    "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where a.value + b.value < 0";

async fn bound(engine: &QueryEngine, sql: &str, limits: &Limits) -> Bound {
    let asks = caller(Role::Office);
    let ended = match engine.run(&asks, sql, limits).await {
        Ok(stream) => stream.collect().await.map(|batches| batches.len()),
        Err(error) => Err(error),
    };
    match ended {
        Err(QueryError::Limit { bound, .. }) => bound,
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn each_limit_ends_the_query_with_its_name() {
    let engine = engine();
    let rows = Limits { rows: 1_000, ..Limits::default() };
    assert_eq!(bound(&engine, "select value from generate_series(1, 100000)", &rows).await, Bound::Rows);
    let bytes = Limits { result_bytes: 100_000, ..Limits::default() };
    assert_eq!(bound(&engine, "select value from generate_series(1, 1000000)", &bytes).await, Bound::Bytes);
    let time = Limits { time: Duration::from_millis(200), ..Limits::default() };
    assert_eq!(bound(&engine, BOMB, &time).await, Bound::Time);
    let memory = Limits { memory_bytes: 1_000_000, ..Limits::default() };
    let grouped = "select value, array_agg(value) from generate_series(1, 1000000) group by value";
    assert!(matches!(bound(&engine, grouped, &Limits { spill_bytes: 1_000, ..memory }).await, Bound::Memory | Bound::Spill));
    let long = "select 1".to_owned() + &" ".repeat(100_000);
    assert_eq!(bound(&engine, &long, &Limits::default()).await, Bound::Text);
}

#[tokio::test]
async fn no_function_makes_more_than_there_is_room_for() {
    let engine = engine();
    let asks = caller(Role::Office);
    for sql in [
        "select repeat('x', 2000000000)",
        "select repeat(cast(value as varchar), 100000000) from generate_series(1, 10)",
        "select lpad('x', 2000000000)",
        "select rpad('x', 2000000000, 'y')",
        "select replace(repeat('x', 10000000), 'x', repeat('y', 100000))",
        "select range(1, 100000000000)",
        "select generate_series(1, 100000000000)",
        "select array_repeat(1, 100000000000)",
        "select array_resize([1], 100000000000)",
    ] {
        let ended = super::world::rows(&engine, &asks, sql).await;
        assert!(matches!(ended, Err(QueryError::Limit { bound: Bound::Memory, .. } | QueryError::Invalid { .. })), "{sql}: {ended:?}");
    }
    let fine = "select repeat('ab', 2) || lpad('x', 3, '-') || rpad('x', 3) || replace('aXa', 'X', 'bb')";
    assert_eq!(one(&engine, &asks, fine).await, "abab--xx  abba");
}

#[tokio::test]
async fn a_sort_larger_than_its_memory_spills_and_is_right() {
    let engine = engine();
    let limits = Limits { memory_bytes: 24_000_000, ..Limits::default() };
    let sql = "select value, repeat('x', 40) as pad from generate_series(1, 500000) order by value desc";
    let mut stream = engine.run(&caller(Role::Office), sql, &limits).await.unwrap();
    let (mut seen, mut expected) = (0, 500_000);
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        let values = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0)).clone();
        for value in values.values() {
            assert_eq!(*value, expected);
            expected -= 1;
        }
        seen += batch.num_rows();
    }
    assert_eq!(seen, 500_000);
    // It does spill: with next to no disk the same question ends there.
    let no_disk = Limits { spill_bytes: 1_000, ..limits };
    assert_eq!(bound(&engine, sql, &no_disk).await, Bound::Spill);
}

/// More rows than wait for a reader: it runs until they are taken.
const LONG: &str = "select value from generate_series(1, 1000000)";

fn another(asks: &Caller) -> Caller {
    Caller { account: rollcall_model::ids::AccountId::from_bytes([8; 16]), ..asks.clone() }
}

#[tokio::test]
async fn a_bomb_leaves_the_others_unharmed_and_ends_when_it_is_dropped() {
    let engine =
        engine_with(EngineConfig { threads: 2, concurrent_max: 3, concurrent_per_account_max: 3, ..EngineConfig::default() }, &events());
    let asks = caller(Role::Office);
    let bomb = engine.run(&asks, BOMB, &Limits::default()).await.unwrap();
    assert_eq!(one(&engine, &asks, "select count(*) from events").await, "80");
    drop(bomb);
    // All three turns are free again only when the bomb has let go of its own.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(engine.run(&asks, LONG, &Limits::default()).await.unwrap());
    }
}

#[tokio::test]
async fn a_join_that_gives_no_row_ends_when_nobody_wants_it() {
    let hash = "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b on a.value % 2 = b.value % 2";
    let cross = "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b";
    for sql in [BOMB, cross, &format!("{hash} where a.value + b.value < 0")] {
        // One thread: whatever is inside a join keeps everything else from running.
        let engine = engine_with(EngineConfig { threads: 1, ..EngineConfig::default() }, &events());
        let stream = engine.run(&caller(Role::Office), sql, &Limits::default()).await.unwrap();
        for _ in 0..20 {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let asked = async move {
                let _ = answer.send(());
            };
            engine.spawn(asked).unwrap();
            if tokio::time::timeout(Duration::from_millis(100), answered).await.is_err() {
                break;
            }
        }
        drop(stream);
        let asks = caller(Role::Office);
        let after = tokio::time::timeout(Duration::from_secs(10), one(&engine, &asks, "select 1")).await;
        assert_eq!(after.unwrap_or_else(|_| panic!("{sql} goes on")), "1");
    }
}

#[tokio::test]
async fn too_many_at_a_time_are_refused_as_busy() {
    let config = EngineConfig { threads: 1, concurrent_per_account_max: 1, wait: Duration::from_millis(20), ..EngineConfig::default() };
    let engine = engine_with(config, &events());
    let asks = caller(Role::Office);
    let first = engine.run(&asks, LONG, &Limits::default()).await.unwrap();
    assert!(matches!(engine.run(&asks, "select 1", &Limits::default()).await, Err(QueryError::Busy)));
    assert_eq!(one(&engine, &another(&asks), "select 1").await, "1", "another account has its own turns");
    drop(first);
    let again = async { while engine.run(&asks, "select 1", &Limits::default()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

/// Two readers that take nothing have results open as long as they like; the others need their turns.
#[tokio::test]
async fn who_does_not_read_keeps_nobody_waiting() {
    let config = EngineConfig {
        concurrent_max: 2,
        concurrent_per_account_max: 2,
        open_per_account_max: 6,
        wait: Duration::from_secs(10),
        ..EngineConfig::default()
    };
    let engine = engine_with(config, &events());
    let asks = caller(Role::Office);
    let mut unread = Vec::new();
    for _ in 0..6 {
        unread.push(engine.run(&asks, "select 1", &Limits::default()).await.unwrap());
    }
    assert_eq!(one(&engine, &another(&asks), "select count(*) from events").await, "80");
    assert!(matches!(engine.run(&asks, "select 1", &Limits::default()).await, Err(QueryError::Busy)), "so many results wait to be read");
    let first = unread.remove(0).collect().await.unwrap();
    assert_eq!(first[0].num_rows(), 1);
    assert_eq!(one(&engine, &asks, "select 1").await, "1");
}
