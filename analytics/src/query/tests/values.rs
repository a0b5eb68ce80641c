//! Figures of how many values there are, about students: those that enough students have.

use rollcall_store::account::Role;
use uuid::Uuid;

use super::world::{Event, caller, engine_with, id, rows};
use crate::query::{EngineConfig, QueryEngine, QueryError};

fn small(events: &[Event]) -> QueryEngine {
    engine_with(EngineConfig { threads: 2, ..EngineConfig::default() }, events)
}

async fn figures(engine: &QueryEngine, sql: &str) -> Vec<Vec<String>> {
    match rows(engine, &caller(Role::Analyst), sql).await {
        Ok(rows) => rows,
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

/// Students of a section with an event on each day, which is its minutes.
fn days(section: u8, students: std::ops::Range<u8>, days: std::ops::Range<i64>) -> impl Iterator<Item = Event> {
    days.flat_map(move |day| students.clone().map(move |student| (1, 1, section, student, day)))
}

#[tokio::test]
async fn days_in_session_are_counted_as_they_are() {
    let events: Vec<Event> = days(10, 0..30, 1..6).chain(days(11, 40..70, 1..4)).collect();
    let engine = small(&events);
    let by_section = "select section, count(distinct minutes), count(distinct person) from events group by section";
    let shown = figures(&engine, by_section).await;
    let counted: Vec<&str> = shown.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(counted, ["5", "3"], "{shown:?}");
    // Of any type, with a condition, and of columns that are made.
    for (what, expected) in [
        ("minutes", "5"),
        ("section", "2"),
        ("minutes * 1.5", "5"),
        ("minutes > 2", "2"),
        ("null", "null"),
        ("cast(minutes as varchar)", "5"),
        ("case when minutes < 3 then minutes end", "2"),
        ("minutes) filter (where minutes > 3", "2"),
    ] {
        let sql = format!("select count(distinct {what}), count(*) from events");
        assert_eq!(figures(&engine, &sql).await[0][0], expected, "{what}");
    }
    // Figures are divided by it.
    let daily = "select section, sum(minutes * 0 + 2) / 2.0 / count(distinct minutes) as adm from events group by section";
    for row in figures(&engine, daily).await {
        let adm: f64 = row[1].parse().unwrap();
        assert!((adm - 30.0).abs() < 12.0, "{row:?}");
    }
    let sum =
        figures(&engine, "select sum(days) from (select section, count(distinct minutes) as days from events group by section)").await;
    assert_eq!(sum, [["8"]]);
}

#[tokio::test]
async fn a_day_that_only_a_few_have_is_not_counted() {
    for few in 1..10 {
        let events: Vec<Event> = days(10, 0..30, 1..6).chain(days(10, 0..few, 6..7)).collect();
        assert_eq!(figures(&small(&events), "select count(distinct minutes) from events").await, [["5"]], "{few}");
    }
    let everybody: Vec<Event> = days(10, 0..30, 1..7).collect();
    assert_eq!(figures(&small(&everybody), "select count(distinct minutes) from events").await, [["6"]]);
    // More students have each day than are kept of it.
    let many: Vec<Event> = days(10, 0..100, 1..6).chain(days(10, 0..4, 6..7)).collect();
    assert_eq!(figures(&small(&many), "select count(distinct minutes) from events").await, [["5"]]);
}

/// Whoever asks with and without one student reads the same number: the student's own days do not show.
#[tokio::test]
async fn one_student_more_or_less_makes_no_difference() {
    let all: Vec<Event> = days(10, 0..40, 1..6).collect();
    for victim in 0..40_u8 {
        let without: Vec<Event> = all.iter().filter(|event| event.3 != victim).copied().collect();
        let alone: Vec<Event> = all.iter().copied().chain([(1, 1, 99, victim, 7)]).collect();
        for events in [without, alone] {
            assert_eq!(figures(&small(&events), "select count(distinct minutes) from events").await, [["5"]], "{victim}");
        }
    }
    // At the threshold it is as uncertain as a group there is: of nine known students and one, hardly ever.
    let mut shown = 0;
    for set in 0..50_u8 {
        let events: Vec<Event> = (0..40).map(|n| (1, 1, 10, n + 4 * set, if n < 10 { 2 } else { 1 })).collect();
        shown += usize::from(figures(&small(&events), "select count(distinct minutes) from events").await == [["2"]]);
    }
    assert!(shown <= 3, "{shown} of 50 values of ten students are counted");
}

/// The number is that of the groups which a grouping by the value gives, where no total would give a small one away.
#[tokio::test]
async fn a_value_counts_when_its_group_is_shown() {
    let mut counted = 0;
    for set in 0..20_u8 {
        // Each value has between ten and eighteen students, about whom a draw decides.
        let events: Vec<Event> =
            (0..10_u8).flat_map(|value| days(10, value..value * 2 + set / 3 + 12, i64::from(value)..i64::from(value) + 1)).collect();
        let engine = small(&events);
        let number: usize = figures(&engine, "select count(distinct minutes) from events").await[0][0].parse().unwrap();
        let groups = figures(&engine, "select minutes, count(distinct person) from events group by minutes").await.len();
        // Of groups, one that is left out alone takes another along.
        assert!(number >= groups && number <= groups + 1, "{number} values, {groups} groups");
        counted += number;
    }
    assert!((20..200).contains(&counted), "{counted}");
}

#[tokio::test]
async fn groups_that_are_too_small_tell_no_number_of_values() {
    let events: Vec<Event> = days(10, 0..9, 1..6).collect();
    assert!(figures(&small(&events), "select count(distinct minutes) from events").await.is_empty());
    let events: Vec<Event> = days(10, 0..30, 1..6).chain(days(11, 0..9, 1..6)).collect();
    let section = Uuid::from_bytes(id(3, 11));
    let of_few = format!("select count(distinct case when section = '{section}' then minutes end), count(*) from events");
    assert_eq!(figures(&small(&events), &of_few).await[0][0], "null");
    // Days that each another one has are nobody's.
    let scattered: Vec<Event> = (0..30).map(|student| (1, 1, 10, student, i64::from(student))).collect();
    assert_eq!(figures(&small(&scattered), "select count(distinct minutes) from events").await, [["0"]]);
}

#[tokio::test]
async fn students_are_counted_where_a_condition_holds() {
    let events: Vec<Event> = days(10, 0..40, 1..6).chain(days(10, 0..25, 6..7)).collect();
    let engine = small(&events);
    let by_case = "select count(distinct case when minutes = 6 then person end) from events";
    let told: f64 = figures(&engine, by_case).await[0][0].parse().unwrap();
    assert!((told - 25.0).abs() < 12.0, "{told}");
    for same in [
        "select count(distinct person) filter (where minutes = 6) from events",
        "select count(distinct case when minutes = 6 then person else null end) from events",
        "select count(distinct person) from events where minutes = 6",
    ] {
        assert_eq!(figures(&engine, same).await, figures(&engine, by_case).await, "{same}");
    }
    // The condition may not fail, nor be about who it is.
    let fails = "select count(distinct case when exp(minutes) > 1 then person end) from events";
    let answer = rows(&engine, &caller(Role::Analyst), fails).await;
    assert!(matches!(answer, Err(QueryError::Refused { .. })), "{answer:?}");
}
