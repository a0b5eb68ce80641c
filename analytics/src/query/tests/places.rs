//! Where wrong texts are wrong, and that nothing said of them speaks of the library.

use std::time::Duration;

use rollcall_store::account::Role;

use super::world::{caller, engine, rows};
use crate::query::{Limits, Place, QueryError, Question};

/// Each with the fault between two marks, or with one mark where something is missing.
const WRONG: [&str; 82] = [
    // Constants that are not what they stand for.
    "select * from events where minutes > «'yesterday'»",
    "select * from events where now() > «'yesterday'»",
    "select * from events\nwhere word = 'yesterday'\n  and now() > «'yesterday'» and now() < 'tomorrow'",
    "select * from events where now() > «'yesterday'» and word = 'yesterday'",
    "select count(*) from events where minutes between «'a'» and 5",
    "select count(*) from events where minutes in (1, «'x'»)",
    "select interval «'1 foo'»",
    "select now() - interval «'x days'»",
    "select date «'2026-13-45'»",
    "select timestamp «'x'»",
    "select cast(«'x'» as date)",
    "select «'x'»::int",
    "select cast(«300» as tinyint)",
    "select array[1, «'x'»]",
    "select greatest(1, «'x'»)",
    "select coalesce(minutes, «'x'») from events",
    "select nullif(minutes, «'x'») from events",
    "select 1 + «'x'»",
    "select * from events limit «99999999999999999999»",
    "select * from events limit «9223372036854775808»",
    "select * from events limit «'x'»",
    "select * from events limit -«1»",
    "select * from events offset -«1»",
    "select regexp_like(word, «'((a{1000}){1000}){1000}'») from events",
    "select regexp_replace(word, «'('», '') from events",
    "select count(*) from events where word ~ «'['»",
    // Aggregates, groups, orders.
    "select max(«count(*)») from events",
    "select sum(«sum(minutes)») from events",
    "select * from events where «count(*)» > 1",
    "select * from events order by «99»",
    "select * from events group by «99»",
    "select «school», count(*) from events",
    "select school, «minutes», count(*) from events group by school",
    "select minutes from events union select minutes from events order by «word»",
    "select school, count(*) as n from events group by school having «m» > 1",
    // Functions and operators.
    "select «sum»(word) from events",
    "select sum(minutes), «avg»(word) from events",
    "select upper(word), «upper»(1, 2) from events",
    "select «upper»()",
    "select «round»(1, 2, 3, 4)",
    "select «date_trunc»('day')",
    "select «sqrt»('x')",
    "select «percentile_cont»(0.5) from events",
    "select «nosuch»(1)",
    "select «row_number»() from events",
    "select «lag»(minutes) from events",
    "select «minutes»[1] from events",
    "select «word»->'x' from events",
    "select «word» + 1 from events",
    "select «true» + 1",
    "select * from events where «person = 5»",
    "select * from events where «minutes like 'x'»",
    "select * from events where «word»",
    "select not «minutes» from events",
    "select cast(minutes as «nosuch») from events",
    "select * from «generate_series»()",
    "select * from «nosuch»(1)",
    "select «top» 5 * from events",
    "select * from events «pivot» (sum(minutes) for word in ('a'))",
    // Names.
    "select «minuets» from events",
    "select «\"Minutes\"» from events",
    "select «person» from events a join events b on a.person = b.person",
    "select «nosuch.minutes» from events",
    "select «e».* from events",
    "select * from events e where «e.nosuch» = 1",
    "select minutes as a, word as «a» from events",
    "select a from (select minutes as a, word as «a» from events)",
    "select * from events e join places «e» on true",
    "with a as (select 1), «a» as (select 2) select * from a",
    "with a as (select 1) select * from «b»",
    "select evnts.minutes /* evnts */\nfrom «evnts»",
    "select * from events natural join «nosuch»",
    "select minutes from events where exists (select 1 from places p where p.minutes = «nosuch»)",
    // Shapes.
    "select 1 where 1 = («select 1, 2»)",
    "select 1 where 1 in (select «minutes», word from events)",
    "«select 1 union select 1, 2»",
    "select * from (values (1, 2), («3»)) t",
    "select 1;\n -- and\n «select 2»",
    "select «'abc",
    "select * from events where«",
    "select (1 + 2«  \n",
    "select * «form» events",
];

/// What only the library's authors know.
const INSIDES: [&str; 14] = [
    "DataFusion",
    "Internal",
    "Int64",
    "Utf8",
    "Float64",
    "Span(",
    "planning",
    "Optimizer",
    "Coercible",
    "FixedSizeBinary",
    "signature",
    "Arrow",
    "ast node",
    "CompiledTooBig",
];

/// Of a text with marks, the text and the place of the first.
fn unmarked(marked: &str) -> (String, Place) {
    let before = marked.split('«').next().unwrap();
    let column = before.rsplit('\n').next().unwrap().chars().count() as u64 + 1;
    (marked.replace(['«', '»'], ""), Place { line: before.matches('\n').count() as u64 + 1, column })
}

#[tokio::test]
async fn wrong_texts_are_told_their_place_in_plain_words() {
    let engine = engine();
    let mut wrong = Vec::new();
    for marked in WRONG {
        let (sql, place) = unmarked(marked);
        match rows(&engine, &caller(Role::Office), &sql).await {
            Err(QueryError::Invalid { message, place: found, hint }) => {
                let said = format!("{message} {}", hint.unwrap_or_default());
                if found != Some(place) || INSIDES.iter().any(|inside| said.contains(inside)) {
                    wrong.push(format!("{marked}: {said} at {found:?}"));
                }
            }
            other => wrong.push(format!("{marked}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where two places would do and neither is certain, none is told.
#[tokio::test]
async fn no_place_is_better_than_a_wrong_one() {
    let engine = engine();
    for sql in [
        "select * from events group by school",
        "select distinct on (school) minutes from events order by minutes",
        "with a(x, y) as (select 1) select * from a",
        "select minutes from events where word = 'minutes' union all select minutes, word from events",
    ] {
        match rows(&engine, &caller(Role::Office), sql).await {
            Err(QueryError::Invalid { place, message, .. }) => {
                assert!(place.is_none() || place == Some(Place { line: 1, column: 1 }), "{sql}: {message} at {place:?}");
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

/// Values of parameters and ids stand where the text has them.
#[tokio::test]
async fn a_value_that_is_bound_is_wrong_at_its_parameter() {
    let engine = engine();
    let values = [datafusion::common::ScalarValue::from("even"), datafusion::common::ScalarValue::from("yesterday")];
    let question = Question { sql: "select * from events\nwhere word = ? and now() > ?", values: &values, ..Question::default() };
    match engine.ask(&caller(Role::Office), &question, &Limits::default()).await.map(drop) {
        Err(QueryError::Invalid { place, .. }) => assert_eq!(place, Some(Place { line: 2, column: 28 })),
        other => panic!("{other:?}"),
    }
    let id = "select 1\nfrom events where now() > '00000000-0000-4000-8000-000000000000'";
    match rows(&engine, &caller(Role::Office), id).await {
        Err(QueryError::Invalid { place, .. }) => assert!(place.is_none_or(|place| place.line == 2), "{place:?}"),
        other => panic!("{other:?}"),
    }
}

/// An analyst reads of a constant what the text says anyhow, and of a row nothing.
#[tokio::test]
async fn an_analyst_is_told_of_constants_and_not_of_values() {
    let engine = engine();
    let (sql, place) = unmarked("select count(*) from events where minutes > «'yesterday'»");
    match rows(&engine, &caller(Role::Analyst), &sql).await {
        Err(QueryError::Invalid { message, place: found, .. }) => {
            assert!(found == Some(place) && message.contains("yesterday"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let answer = rows(&engine, &caller(Role::Analyst), "select cast(id_text(school) as int) from events group by school").await;
    let Err(fault @ QueryError::Data { .. }) = answer else { panic!("{answer:?}") };
    assert!(fault.place().is_none() && !fault.to_string().contains("Cannot cast"), "{fault}");
}

/// Looking for a place has an end, however long the text is.
#[tokio::test]
async fn a_long_wrong_text_is_refused_soon() {
    let engine = engine();
    let many = vec!["minutes between 1 and 2"; 300].join(" or ");
    let sql = format!("select * from events where {many} or minutes = (select 1, 2) or minutes > 'x' or word and minutes");
    let begun = std::time::Instant::now();
    let answer = rows(&engine, &caller(Role::Office), &sql).await;
    assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
