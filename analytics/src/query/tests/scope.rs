//! What a caller sees, and that no text widens it.

use proptest::prelude::*;
use rollcall_store::account::Role;
use uuid::Uuid;

use super::world::{Event, caller, engine, engine_with, events, id, one, rows, school_office, teacher};
use crate::query::{EngineConfig, QueryError};

#[tokio::test]
async fn each_role_sees_its_own() {
    let engine = engine();
    let count = "select count(*), count(distinct person) from events";
    assert_eq!(one(&engine, &caller(Role::Office), count).await, "80 40");
    assert_eq!(one(&engine, &school_office(), count).await, "40 20");
    assert_eq!(one(&engine, &teacher(), count).await, "20 10");
    for (role, table) in [(Role::It, "events"), (Role::It, "places"), (Role::Teacher, "things")] {
        let error = rows(&engine, &caller(role), &format!("select * from {table}")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("there is no table {table:?}"), "{role:?}");
    }
    assert_eq!(one(&engine, &caller(Role::It), "select count(*) from things").await, "80");
    assert!(matches!(rows(&engine, &caller(Role::Guardian), "select 1").await, Err(QueryError::Forbidden)));
    assert_eq!(engine.catalog(&caller(Role::It)).len(), 1);
    assert_eq!(engine.catalog(&caller(Role::Office)).len(), 3);
}

/// Ways to ask for another district's rows: each finds none of them, or is refused.
#[tokio::test]
async fn no_text_removes_the_scope() {
    let engine = engine();
    let (other, foreign) = (Uuid::from_bytes(id(1, 2)), Uuid::from_bytes(id(4, 120)));
    let attempts = [
        format!("select person from events where district = '{other}'"),
        format!("select person from events where person = '{foreign}'"),
        format!("select person from events where true or district = '{other}'"),
        "select person from events where 1 = 1 or 1 = 2".to_owned(),
        "select person from (select * from events) where true".to_owned(),
        "with events as (select * from events) select person from events".to_owned(),
        "with x as (select * from events union all select * from events) select person from x".to_owned(),
        "select person from rollcall.public.events".to_owned(),
        "select person from public.events".to_owned(),
        "select a.person from events a full join events b on a.person = b.person".to_owned(),
        "select b.person from places a cross join events b".to_owned(),
        "select person from events where not exists (select 1 from events where false)".to_owned(),
        "select person from events where district in (select district from places)".to_owned(),
        "select (select max(person) from events e where e.minutes = 1000) as person".to_owned(),
        format!("select person from events where district <> '{}'", Uuid::from_bytes(id(1, 1))),
        "select person from events where minutes = 1000".to_owned(),
        "select person from events where minutes / (minutes - 1000) = 0 or minutes > 0".to_owned(),
        "select person from events where case when district is not null then true else true end".to_owned(),
        "with recursive r as (select person, 1 as n from events union all select person, n + 1 from r where n < 2) select person from r"
            .to_owned(),
        "select person from events union select person from places union select person from things".to_owned(),
        "select arg from (select unnest(array_agg(person)) as arg from events)".to_owned(),
        "select person from events -- where district".to_owned(),
        "select first_value(person) over (order by minutes desc) from events".to_owned(),
        "table events".to_owned(),
    ];
    let own: Vec<String> = (0..40).map(|person| Uuid::from_bytes(id(4, person)).to_string()).collect();
    let mut answered = 0;
    for sql in &attempts {
        let Ok(rows) = rows(&engine, &caller(Role::Office), sql).await else { continue };
        answered += 1;
        for value in rows.concat() {
            let is_foreign = value.parse::<Uuid>().is_ok_and(|value| value.as_bytes()[0] == 4 && !own.contains(&value.to_string()));
            assert!(!is_foreign && value != "1000" && value != other.to_string(), "{sql}: {value}");
        }
    }
    assert!(answered >= 15, "only {answered} of the attempts ran at all");
}

#[tokio::test]
async fn the_catalog_of_a_query_names_only_its_own_tables() {
    let engine = engine();
    let names = one(&engine, &caller(Role::It), "select table_name from information_schema.tables where table_schema = 'public'").await;
    assert_eq!(names, "things");
    let shown = one(&engine, &school_office(), "show tables").await;
    assert!(shown.contains("events") && shown.contains("places"), "{shown}");
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0..1_100_i64).prop_map(|n| format!("minutes > {n}")),
        (0..1_100_i64).prop_map(|n| format!("minutes <= {n}")),
        (1..5_u8).prop_map(|n| format!("school = '{}'", Uuid::from_bytes(id(2, n)))),
        (1..3_u8).prop_map(|n| format!("district = '{}'", Uuid::from_bytes(id(1, n)))),
        (0..140_u8).prop_map(|n| format!("person >= '{}'", Uuid::from_bytes(id(4, n)))),
        Just("word = 'even'".to_owned()),
        Just("person in (select person from places)".to_owned()),
        Just("minutes < (select max(minutes) from places)".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not {a}")),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    (condition(), 0..5_usize).prop_map(|(condition, shape)| match shape {
        0 => format!("select * from events where {condition}"),
        1 => format!("select school, count(*), sum(minutes) from events where {condition} group by school"),
        2 => format!("with x as (select * from events where {condition}) select a.person, b.minutes from x a left join places b using (person)"),
        3 => format!("select word, min(minutes), max(person) from (select * from events union all select * from places) where {condition} group by word"),
        _ => format!("select count(*) from events e where {condition} and exists (select 1 from places p where p.section = e.section)"),
    })
}

fn foreign() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec((2..4_u8, 1..6_u8, 10..30_u8, 0..200_u8, 0..2_000_i64), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Rows of other districts never change an answer, whatever is asked and whatever they hold.
    #[test]
    fn other_districts_change_no_answer(sql in query(), foreign in foreign(), who in 0..3_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asks = [caller(Role::Office), school_office(), teacher()][who].clone();
        let own: Vec<Event> = events().into_iter().filter(|event| event.0 == 1).collect();
        let with: Vec<Event> = own.iter().copied().chain(foreign).collect();
        let config = || EngineConfig { threads: 1, ..EngineConfig::default() };
        let (alone, among) = (engine_with(config(), &own), engine_with(config(), &with));
        let (one, other) = runtime.block_on(async { (rows(&alone, &asks, &sql).await, rows(&among, &asks, &sql).await) });
        prop_assert_eq!(one.map_err(|error| error.to_string()), other.map_err(|error| error.to_string()), "{}", sql);
    }
}

/// A condition of the text is never evaluated for a row of others: it could fail for it, and say its value.
#[tokio::test]
async fn no_condition_meets_a_row_of_others() {
    let engine = engine();
    let foreign = |column: &str, own: &[[u8; 16]]| {
        let own: Vec<String> = own.iter().map(|id| format!("'{}'", &uuid::Uuid::from_bytes(*id).to_string()[..13])).collect();
        let id = format!("substr(id_text({column}), 1, 13)");
        format!("case when {id} not in ({}) then cast(concat('FOREIGN ', {id}) as int) else 1 end > 0", own.join(", "))
    };
    let own_sections = [id(3, 11)];
    for table in ["events", "places"] {
        for (caller, condition) in [
            (caller(Role::Office), foreign("district", &[id(1, 1)])),
            (school_office(), foreign("school", &[id(2, 1)])),
            (teacher(), foreign("section", &own_sections)),
        ] {
            let sql = format!("select count(*) from {table} where {condition}");
            let answer = rows(&engine, &caller, &sql).await;
            assert!(answer.is_ok(), "{sql}: {answer:?}");
            let joined = format!("select count(*) from {table} a join {table} b on a.person = b.person and {}", condition.replace("id_text(", "id_text(b."));
            let answer = rows(&engine, &caller, &joined).await;
            assert!(answer.is_ok(), "{joined}: {answer:?}");
        }
    }
}
