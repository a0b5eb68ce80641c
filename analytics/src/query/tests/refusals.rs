//! What does not run, and what is said of it.

use rollcall_store::account::Role;

use super::world::{caller, engine, one, rows};
use crate::query::{Bound, Place, QueryError};

#[tokio::test]
async fn everything_but_a_query_is_refused() {
    let engine = engine();
    let refused = [
        "insert into events select * from events",
        "update events set minutes = 0",
        "delete from events",
        "create table x as select * from events",
        "create view x as select * from events",
        "create external table x stored as parquet location '/etc'",
        "drop table events",
        "truncate table events",
        "copy (select * from events) to '/tmp/x.csv'",
        "copy events to 's3://bucket/x'",
        "set datafusion.execution.batch_size = 1",
        "set time zone = 'UTC'",
        "reset datafusion.execution.batch_size",
        "show all",
        "show datafusion.execution.batch_size",
        "select * into x from events",
        "select * from events for update",
        "grant select on events to x",
        "begin",
        "prepare p as select 1",
        "execute p",
        "explain explain select 1",
        "explain delete from events",
        "with x as (insert into events select * from events) select 1",
    ];
    for sql in refused {
        let error = rows(&engine, &caller(Role::Office), sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Refused { .. } | QueryError::Invalid { .. }), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn no_function_reads_a_file_or_the_network() {
    let engine = engine();
    let tried = [
        "select * from '/etc/passwd'",
        "select * from 'x.parquet'",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('/etc/passwd')",
        "select * from parquet_metadata('/etc/passwd')",
        "select * from glob('/*')",
        "select pg_read_file('/etc/passwd')",
        "select getenv('HOME')",
        "select * from httpfs('x')",
    ];
    for sql in tried {
        assert!(rows(&engine, &caller(Role::Office), sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn errors_name_the_place_and_the_nearest_name() {
    let engine = engine();
    let place = |line, column| Some(Place { line, column });
    let cases = [
        ("selct 1", place(1, 1), None),
        ("select minutes,\n  from from events", place(2, 3), None),
        ("select minuets from events", place(1, 8), Some("did you mean \"minutes\"?")),
        ("select minutes\nfrom evnts", place(2, 6), Some("did you mean \"events\"?")),
        (
            "select p.minutes from events a join (select section from places) p on p.section = a.section",
            place(1, 8),
            Some("did you mean \"a.minutes\"?"),
        ),
        ("select e.minutes,\n  e.scool from events e", place(2, 3), Some("did you mean \"school\"?")),
    ];
    for (sql, place, hint) in cases {
        match rows(&engine, &caller(Role::Office), sql).await.unwrap_err() {
            QueryError::Invalid { message, place: found, hint: said } => {
                if sql.contains("from from") {
                    // Which of the two words is wrong is the parser's choice; that it is on the second line is not.
                    assert_eq!(found.map(|found| found.line), Some(2), "{message}");
                } else {
                    assert_eq!(found, place, "{sql}: {message}");
                }
                assert_eq!(said.as_deref(), hint, "{sql}: {message}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
    for sql in ["", "  ", "select 1; select 2"] {
        assert!(matches!(rows(&engine, &caller(Role::Office), sql).await, Err(QueryError::Invalid { .. })), "{sql:?}");
    }
}

#[tokio::test]
async fn hostile_texts_end_in_an_error() {
    let engine = engine();
    let deep = format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let long = format!("select '{}'", "x".repeat(100_000));
    let many = format!("select {}", vec!["1"; 9_000].join(" + "));
    for sql in [deep.as_str(), long.as_str(), "select '\u{0}", "select \u{202e}1 from", "/* ", "select * from events where minutes = 'x'"] {
        assert!(rows(&engine, &caller(Role::Office), sql).await.is_err(), "{}", &sql[..sql.len().min(40)]);
    }
    // Long but sound: it may run or be refused, and the engine answers afterwards.
    let _ = rows(&engine, &caller(Role::Office), &many).await;
    assert_eq!(rows(&engine, &caller(Role::Office), "select 1").await.unwrap(), [["1"]]);
}

/// What a WITH names twice is planned twice, and so is what that names.
#[tokio::test]
async fn names_that_multiply_are_refused_before_they_are_planned() {
    let engine = engine();
    let doubling = |levels: usize| {
        let steps: Vec<String> = (1..=levels).map(|step| format!("a{step} as (select l.x from a{} l, a{} r)", step - 1, step - 1)).collect();
        format!("with a0 as (select 1 as x), {} select count(*) from a{levels}", steps.join(", "))
    };
    let begun = std::time::Instant::now();
    // A small one of nearly the same name beside each does not hide it, nor do quotes.
    let hidden: Vec<String> = (1..=23)
        .map(|step| format!("\"A{step}\" as (select l.x from \"A{}\" l, \"A{}\" r), a{step} as (select 1 as x)", step - 1, step - 1))
        .collect();
    let hidden = format!("with \"A0\" as (select 1 as x), {} select count(*) from \"A23\"", hidden.join(", "));
    for sql in [doubling(23), doubling(60), format!("select * from ({}) t", doubling(30)), hidden] {
        let answer = rows(&engine, &caller(Role::Office), &sql).await;
        assert!(matches!(&answer, Err(QueryError::Limit { bound: Bound::Text, .. })), "{answer:?}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(one(&engine, &caller(Role::Office), &doubling(4)).await, "1");
    // So is an expression wherever its column stands, when a condition goes down to the rows.
    let sum = |levels: usize| {
        let steps: Vec<String> = (1..=levels).map(|step| format!("a{step} as (select x + x as x from a{})", step - 1)).collect();
        format!("with a0 as (select minutes as x from events), {} select count(*) from a{levels} where x > 1", steps.join(", "))
    };
    let begun = std::time::Instant::now();
    let answer = rows(&engine, &caller(Role::Office), &sum(24)).await;
    assert!(matches!(&answer, Err(QueryError::Limit { bound: Bound::Text, .. })), "{answer:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(one(&engine, &caller(Role::Office), &sum(6)).await, "79");
}

#[tokio::test]
async fn what_would_be_passed_over_in_silence_is_refused() {
    let engine = engine();
    for sql in ["select count(*) from events tablesample (10)", "explain verbose select count(*) from events"] {
        let answer = rows(&engine, &caller(Role::Office), sql).await;
        assert!(matches!(answer, Err(QueryError::Refused { .. })), "{sql}: {answer:?}");
    }
    // No place of the audit takes it.
    let answer = rows(&engine, &caller(Role::Office), "select 1,\n 'a\0b'").await;
    assert!(matches!(&answer, Err(QueryError::Invalid { place: Some(Place { line: 2, column: 4 }), .. })), "{answer:?}");
}
