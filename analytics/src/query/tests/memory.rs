//! No text takes more memory than a query may have by much, whatever it makes, repeats or holds back.

use rollcall_store::account::Role;

use super::world::{caller, engine, one, rows};
use crate::query::{Bound, Limits, QueryEngine, QueryError};

/// What ends with the memory limit.
const BOMBS: [&str; 18] = [
    "select length(string_agg(repeat('x', 1000000), '')) from generate_series(1, 2000)",
    "select length(string_agg(lpad(cast(value as varchar), 20000, 'x'), '')) from generate_series(1, 100000)",
    "select length(concat(repeat('x', 60000), repeat('y', 60000)))",
    "select max(length(concat(x, x, x, x))) from (select lpad('x', 3000 + value % 2) as x from generate_series(1, 100000)) a",
    "select max(length(x || x || x)) from (select lpad('x', 4000 + value % 2) as x from generate_series(1, 100000)) a",
    "select max(length(overlay(x placing x from 1))) from (select lpad('x', 6000 + value % 2) as x from generate_series(1, 100000)) a",
    "select max(length(concat_ws(repeat('-', 30000), x, x, x))) from (select cast(value as varchar) as x from generate_series(1, 100000)) a",
    "select max(length(translate(repeat(cast(value as varchar), 1000), '01', '\u{1F600}\u{1F600}'))) from generate_series(1, 100000)",
    "select max(length(regexp_replace(repeat(cast(value as varchar), 300), '', 'abcdefghijkl\\0', 'g'))) from generate_series(1, 100000)",
    "select max(cardinality(string_to_array(repeat(cast(value as varchar) || ',', 300), ','))) from generate_series(1, 100000)",
    "select max(length(array_to_string(string_to_array(repeat(word || ',', 100), ','), repeat('x', 10000)))) from events",
    "select max(length(left(repeat('x', 32000), value))) from generate_series(1, 100000)",
    "select max(cardinality([x, x, x, x, x])) from (select lpad('x', 4000 + value % 2) as x from generate_series(1, 100000)) a",
    "select max(length(x)) from (select repeat(word, 30000) as x from events limit 1) a cross join generate_series(1, 1000000)",
    "select count(*) from (select string_agg(lpad('x', 100), '') as x from generate_series(1, 1000)) a
        cross join generate_series(1, 1000000) b where length(x) <> b.value",
    "select count(*) from generate_series(1, 1000000) b where length((select string_agg(lpad('x', 1000), '') from generate_series(1, 1000))) <> value",
    "select max(cardinality(l)) from (select array_agg(value) l from generate_series(1, 100000)) a cross join generate_series(1, 1000000)",
    "select length(x), unnest(l) from (select lpad('x', 30000) as x, array_agg(value) as l from generate_series(1, 100000)) a",
];

/// What a window of two million rows holds.
const WINDOWS: [&str; 4] = [
    "select max(n) from (select value, count(value) over () as n from generate_series(1, 2000000)) a",
    "select max(n) from (select value, max(value) over (rows between 1900000 preceding and current row) as n from generate_series(1, 2000000)) a",
    "select max(n) from (select value, first_value(value) over (rows between 1900000 following and 1900001 following) as n
        from generate_series(1, 2000000)) a",
    "select max(n) from (select value, sum(value) over (order by 1) as n from generate_series(1, 1000000)) a",
];

async fn ended(engine: &QueryEngine, sql: &str, limits: &Limits) -> Result<usize, QueryError> {
    let stream = engine.run(&caller(Role::Office), sql, limits).await?;
    stream.collect().await.map(|batches| batches.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test]
async fn what_makes_repeats_or_holds_too_much_ends_with_its_limit() {
    let engine = engine();
    let small = Limits { memory_bytes: 8 * 1024 * 1024, ..Limits::default() };
    let bombs = BOMBS.iter().map(|sql| (sql, Limits::default())).chain(WINDOWS.iter().map(|sql| (sql, small.clone())));
    for (sql, limits) in bombs {
        let ended = ended(&engine, sql, &limits).await;
        assert!(matches!(ended, Err(QueryError::Limit { bound: Bound::Memory, .. })), "{sql}: {ended:?}");
    }
}

#[tokio::test]
async fn a_window_over_many_rows_holds_few_when_it_needs_few() {
    let engine = engine();
    let small = Limits { memory_bytes: 16 * 1024 * 1024, ..Limits::default() };
    for sql in [
        "select max(n) from (select value, row_number() over () as n from generate_series(1, 2000000)) a",
        "select max(n) from (select value, lag(value, 10) over () as n from generate_series(1, 2000000)) a",
        "select max(n) from (select value, sum(value) over (rows between 100 preceding and 100 following) as n from generate_series(1, 2000000)) a",
    ] {
        let ended = ended(&engine, sql, &small).await;
        assert!(matches!(ended, Ok(1)), "{sql}: {ended:?}");
    }
}

/// A left side larger than the memory: from disk it gives the right rows, or the query ends at its limit.
#[tokio::test]
async fn a_join_whose_left_side_does_not_fit_is_right_or_says_so() {
    let engine = engine();
    let small = Limits { memory_bytes: 8 * 1024 * 1024, ..Limits::default() };
    let no_disk = Limits { spill_bytes: 1_000, ..small.clone() };
    let sql = "select a.value from (select distinct value from generate_series(1, 400000)) a KIND join generate_series(1, 3) b on a.value < b.value";
    let all = [("inner", 3), ("right", 4), ("left", 400_001), ("full", 400_002), ("left semi", 2), ("left anti", 399_998)];
    for (kind, rows) in all {
        let sql = sql.replace("KIND", kind);
        let limits = ended(&engine, &sql, &no_disk).await;
        assert!(matches!(limits, Err(QueryError::Limit { .. })), "{kind}: {limits:?}");
        // How much is there at once depends on the threads, so that the left side may fit after all.
        let answer = ended(&engine, &sql, &small).await;
        let says_so = matches!(answer, Err(QueryError::Limit { bound: Bound::Memory, .. })) && !["inner", "right"].contains(&kind);
        assert!(says_so || matches!(answer, Ok(found) if found == rows), "{kind}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_small_is_given_in_every_spelling() {
    let engine = engine();
    let asks = caller(Role::Office);
    for (sql, expected) in [
        ("select 'a' || 'b' || 1", "ab1"),
        ("select 'a' || null", "null"),
        ("select max(word || '-' || upper(word) || ' ' || minutes) from events", "odd-ODD 9"),
        ("select concat('a', null, 'b') || concat_ws('-', 'x', 'y')", "abx-y"),
        ("select array_to_string([1, 2] || [3], ',')", "1,2,3"),
        ("select array_to_string([1, 2] || 3, ',')", "1,2,3"),
        ("select overlay('abcd' placing 'XY' from 2 for 2) || translate('abc', 'ac', 'xz')", "aXYdxbz"),
        ("select string_agg(word, ',' order by word) from (select distinct word from events) a", "even,odd"),
        ("select regexp_replace('aXbXc', 'X', '-', 'g')", "a-b-c"),
        ("select count(*) from events where word || 'x' ~ '^oddx$' and regexp_like(word, 'd{2}')", "20"),
        ("select cardinality(array_agg(word)) from events", "80"),
        ("select sum(n) from (select row_number() over (partition by word order by minutes) as n from events) a", "2040"),
        ("select max(n) from (select count(*) over () as n from generate_series(1, 100000)) a", "100000"),
        ("select count(*) from (select unnest(l) from (select array_agg(value) as l from generate_series(1, 1000)) a) b", "1000"),
        ("select count(*) from events a join events b on a.word = b.word and length(a.word || b.word) = 6", "400"),
        ("select max((select max(word) from events) || word) from events", "oddodd"),
        (
            "select count(distinct cast(person as varchar)) from events where person::text like '04%' and person || '' = id_text(person)",
            "40",
        ),
        ("select count(*) from events where concat(arrow_cast(word, 'Dictionary(Int32, Utf8)'), person) = word || person", "80"),
        ("select length(string_agg(person::text, ',')) from (select distinct person from events) a", "1479"),
        ("select case when word = 'odd' then 'o' || 1 else coalesce(null, word) end from events order by 1 desc limit 1", "o1"),
    ] {
        assert_eq!(one(&engine, &asks, sql).await, expected, "{sql}");
    }
    let named = engine.run(&asks, "select 'a' || word, word || 'b' as c from events limit 1", &Limits::default()).await.unwrap();
    let names: Vec<&str> = named.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["Utf8(\"a\") || events.word", "c"]);
}

#[tokio::test]
async fn what_would_grow_along_a_window_or_compile_for_each_row_is_refused() {
    let engine = engine();
    let asks = caller(Role::Office);
    for sql in [
        "select string_agg(word, '') over (order by minutes) from events",
        "select array_agg(word) over () from events",
        "select count(*) from events where word ~ word",
        "select count(*) from events where regexp_like(word, concat('a', word))",
        "select regexp_replace(word, word, '') from events",
        "select count(*) from events where word similar to word",
    ] {
        let ended = rows(&engine, &asks, sql).await;
        assert!(matches!(ended, Err(QueryError::Refused { .. })), "{sql}: {ended:?}");
    }
}
