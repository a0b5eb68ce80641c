//! What an analyst gets, and what two queries together do not give.

use rollcall_store::account::Role;
use uuid::Uuid;

use super::world::{Event, caller, engine, engine_with, id, one, rows};
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

#[tokio::test]
async fn rows_about_single_students_are_refused() {
    let engine = engine();
    let person = Uuid::from_bytes(id(4, 3));
    let refused = [
        "select * from events".to_owned(),
        "select minutes from events limit 1".to_owned(),
        "select person, count(*) from events group by person".to_owned(),
        format!("select count(*) from events where person = '{person}'"),
        format!("select count(*) from events where person <> '{person}'"),
        format!("select sum(case when person = '{person}' then minutes else 0 end) from events"),
        format!("select sum(minutes) filter (where person = '{person}') from events"),
        "select max(minutes) from events".to_owned(),
        "select min(person) from events".to_owned(),
        "select array_agg(minutes) from events".to_owned(),
        "select count(distinct minutes) from events".to_owned(),
        "select first_value(minutes) from events".to_owned(),
        "select row_number() over (order by minutes) from events".to_owned(),
        "select sum(minutes) over (partition by person) from events".to_owned(),
        "select count(*) from (select * from events limit 5)".to_owned(),
        "select count(*) from (select * from events order by minutes limit 5)".to_owned(),
        "select school, count(*) from events group by rollup(school)".to_owned(),
        "select sum(minutes) from (select person, sum(minutes) as minutes from events group by person)".to_owned(),
        "with x as (select id_text(person) as p, minutes from events) select p, sum(minutes) from x group by p".to_owned(),
        "select count(*) from places p where exists (select 1 from events e where e.section = p.section and e.minutes > 35)".to_owned(),
        "select p.school from places p where p.section in (select section from events where minutes > 35)".to_owned(),
        "select count(*) from events a join events b on a.section = b.section".to_owned(),
        "select minutes from events union all select minutes from events".to_owned(),
        "select word from events".to_owned(),
        "explain analyze select count(*) from events".to_owned(),
    ];
    for sql in refused {
        let answer = rows(&engine, &caller(Role::Analyst), &sql).await;
        assert!(matches!(answer, Err(QueryError::Refused { .. } | QueryError::Invalid { .. })), "{sql}: {answer:?}");
    }
}

#[tokio::test]
async fn figures_about_groups_are_near_and_the_same_each_time() {
    let engine = engine();
    let sql = "select school, count(distinct person), count(*), sum(minutes), avg(minutes) from events group by school";
    let first = figures(&engine, sql).await;
    assert_eq!(first.len(), 2);
    for row in &first {
        let value = |place: usize| row[place].parse::<f64>().unwrap();
        assert!((value(1) - 20.0).abs() < 15.0 && (value(2) - 40.0).abs() < 25.0, "{row:?}");
        assert!(value(3) > 0.0 && value(4) > 0.0, "{row:?}");
    }
    assert_eq!(figures(&engine, sql).await, first);
    // The same groups, asked for in another way.
    let other = "with x as (select * from events where true) select e.school, count(distinct e.person), count(e.minutes), sum(minutes), avg(minutes) from x e group by e.school";
    assert_eq!(figures(&engine, other).await, first);
    assert_eq!(one(&engine, &caller(Role::Office), "select count(*) from events").await, "80", "others get exact figures");
}

/// Ten students in each of five groups, but the last has `last`.
fn groups(last: u8) -> Vec<Event> {
    let mut events = Vec::new();
    for group in 0..5_u8 {
        let count = if group == 4 { last } else { 10 + group };
        events.extend((0..count).map(|person| (1, 1, 10 + group, group * 30 + person, 5)));
    }
    events
}

#[tokio::test]
async fn small_groups_are_left_out_and_a_second_one_with_a_single_one() {
    let sql = "select section, count(distinct person) from events group by section";
    assert_eq!(figures(&small(&groups(14)), sql).await.len(), 5);
    // Section 14 has nine students; section 10, the smallest of the others, leaves with it.
    let shown: Vec<String> = figures(&small(&groups(9)), sql).await.into_iter().map(|row| row[0].clone()).collect();
    let expected: Vec<String> = (11..14).map(|section| Uuid::from_bytes(id(3, section)).to_string()).collect();
    assert_eq!(shown, expected);
    // A total of fewer than ten is not shown at all.
    let few: Vec<Event> = groups(9).into_iter().filter(|event| event.2 == 14).collect();
    assert!(figures(&small(&few), "select count(*), sum(minutes) from events").await.is_empty());
}

/// Where groups are cells of a table, a small one is not the rest of its row nor of its column, and neither is one that was left out
/// for it: what it stands for would be computed from the one, and the small one from that.
#[tokio::test]
async fn a_small_cell_takes_others_along_until_no_row_and_no_column_lacks_one() {
    let mut events = Vec::new();
    for (cell, (school, section)) in [(1, 10), (1, 11), (1, 12), (2, 10), (2, 11), (2, 12)].into_iter().enumerate() {
        let students = if cell == 0 { 9 } else { 12 + cell as u8 };
        events.extend((0..students).map(|person| (1, school, section, cell as u8 * 30 + person, 5)));
    }
    let engine = small(&events);
    let cells = figures(&engine, "select school, section, count(distinct person) from events group by school, section").await;
    let cell = |school: u8, section: u8| [id(2, school), id(3, section)].map(|id| Uuid::from_bytes(id).to_string());
    let shown: Vec<[String; 2]> = cells.into_iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
    // The one with nine; the smallest other of its school; the only other of its section; and the one that those two have beside them.
    let hidden = [cell(1, 10), cell(1, 11), cell(2, 10), cell(2, 11)];
    assert_eq!(shown, [cell(1, 12), cell(2, 12)], "without {hidden:?}");
    // In whichever spelling: the columns turned, or with a constant beside them.
    for by in ["section, school", "section, 'x', school, upper(id_text(school))"] {
        let sql = format!("select school, section, count(distinct person) from events group by {by}");
        let turned: Vec<[String; 2]> = figures(&engine, &sql).await.into_iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
        assert_eq!(turned, shown, "{by}");
    }
}

/// A third column that each cell has to itself does not make every cell its own total.
#[tokio::test]
async fn a_cell_of_three_dimensions_is_not_the_rest_of_a_plane() {
    let mut events = Vec::new();
    for (cell, (school, section, minutes, students)) in
        [(1, 10, 5, 9), (1, 11, 6, 20), (2, 10, 6, 21), (2, 11, 5, 22)].into_iter().enumerate()
    {
        events.extend((0..students).map(|person| (1, school, section, cell as u8 * 30 + person, minutes)));
    }
    let engine = small(&events);
    let by_minutes = "select school, section, minutes, count(distinct person) from events group by school, section, minutes";
    assert_eq!(figures(&engine, by_minutes).await, Vec::<Vec<String>>::new());
    let few: Vec<Event> = events.into_iter().filter(|event| event.3 % 30 < 9).collect();
    let all = "select school, section, count(*), sum(minutes) from events group by school, section";
    assert_eq!(figures(&small(&few), all).await, Vec::<Vec<String>>::new(), "all are small");
}

#[tokio::test]
async fn a_condition_on_a_figure_meets_the_given_one_only() {
    let engine = small(&groups(9));
    let hidden = "select section from (select section, count(distinct person) as n from events group by section) where n < 10 and n > 8";
    let section = Uuid::from_bytes(id(3, 14)).to_string();
    assert!(!figures(&engine, hidden).await.concat().contains(&section));
    let having = "select section from events group by section having count(*) = 9";
    assert!(!figures(&engine, having).await.concat().contains(&section));
}

/// Pairs of queries that differ by one student: what the subtraction gives is the noise, not the student's value.
#[tokio::test]
async fn the_difference_of_two_figures_does_not_tell_of_a_student() {
    // One of 30 students, with 40 minutes like everybody, is alone in section 99.
    let mut told = 0;
    for victim in 0..40_u8 {
        let events: Vec<Event> = (0..30_u8).map(|n| (1, 1, if n == 7 { 99 } else { 10 }, n + victim, 40)).collect();
        let engine = small(&events);
        let all = figures(&engine, "select sum(minutes) from events").await.concat()[0].parse::<f64>().unwrap();
        let section = Uuid::from_bytes(id(3, 99));
        let but_one = format!("select sum(minutes) from events where section <> '{section}'");
        let rest = figures(&engine, &but_one).await.concat()[0].parse::<f64>().unwrap();
        assert!((all - rest - 40.0).abs() > f64::EPSILON, "the difference is the student's own figure");
        told += usize::from((all - rest - 40.0).abs() < 4.0);
        // The same by an expression instead of a filter.
        let by_case = format!("select sum(case when section = '{section}' then 0 else minutes end) from events");
        let rest = figures(&engine, &by_case).await.concat()[0].parse::<f64>().unwrap();
        assert!((all - rest - 40.0).abs() > f64::EPSILON);
    }
    assert!(told < 12, "{told} of 40 differences came within a tenth of the student's figure");
}

/// A figure may not depend much on one outlier, whose value the size of the total would give away.
#[tokio::test]
async fn one_outlier_does_not_show() {
    let mut events: Vec<Event> = (0..40_u8).map(|n| (1, 1, 10, n, 10)).collect();
    events[3].4 = 1_000_000;
    let sum = figures(&small(&events), "select sum(minutes) from events").await.concat()[0].parse::<f64>().unwrap();
    assert!(sum.abs() < 1_000.0, "{sum}");
}

#[tokio::test]
async fn tables_about_nobody_are_answered_as_they_are() {
    let engine = engine();
    assert_eq!(one(&engine, &caller(Role::Analyst), "select count(*), max(minutes) from places").await, "80 39");
    let joined = "select p.school, count(distinct e.person) from events e join (select distinct school from places) p on p.school = e.school group by p.school";
    assert_eq!(figures(&engine, joined).await.len(), 2);
}
