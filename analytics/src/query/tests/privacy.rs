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
        "select count(distinct id_text(person)) from events".to_owned(),
        "select count(distinct case when minutes > 5 then person else section end) from events".to_owned(),
        "select count(distinct case when person > section then person end) from events".to_owned(),
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
        "explain select count(*) from events".to_owned(),
        format!("explain select count(*) from events where person = '{person}'"),
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

/// Thirty students and more in each of five groups, but the last has `last`.
fn groups(last: u8) -> Vec<Event> {
    let mut events = Vec::new();
    for group in 0..5_u8 {
        let count = if group == 4 { last } else { 30 + group };
        events.extend((0..count).map(|person| (1, 1, 10 + group, group * 40 + person, 5)));
    }
    events
}

#[tokio::test]
async fn small_groups_are_left_out_and_a_second_one_with_a_single_one() {
    let sql = "select section, count(distinct person) from events group by section";
    assert_eq!(figures(&small(&groups(34)), sql).await.len(), 5);
    // Section 14 has nine students; one of the others leaves with it.
    let shown: Vec<String> = figures(&small(&groups(9)), sql).await.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(shown.len(), 3);
    assert!(!shown.contains(&Uuid::from_bytes(id(3, 14)).to_string()));
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
        let students = if cell == 0 { 9 } else { 28 + 2 * cell as u8 };
        events.extend((0..students).map(|person| (1, school, section, cell as u8 * 40 + person, 5)));
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
    let (mut told, mut exact) = (0, 0);
    for victim in 0..40_u8 {
        let events: Vec<Event> = (0..30_u8).map(|n| (1, 1, if n == 7 { 99 } else { 10 }, n + victim, 40)).collect();
        let engine = small(&events);
        let all = figures(&engine, "select sum(minutes) from events").await.concat()[0].parse::<f64>().unwrap();
        let section = Uuid::from_bytes(id(3, 99));
        let but_one = format!("select sum(minutes) from events where section <> '{section}'");
        let rest = figures(&engine, &but_one).await.concat()[0].parse::<f64>().unwrap();
        exact += usize::from((all - rest - 40.0).abs() < f64::EPSILON);
        told += usize::from((all - rest - 40.0).abs() < 4.0);
        // The same by an expression instead of a filter.
        let by_case = format!("select sum(case when section = '{section}' then 0 else minutes end) from events");
        let rest = figures(&engine, &by_case).await.concat()[0].parse::<f64>().unwrap();
        exact += usize::from((all - rest - 40.0).abs() < f64::EPSILON);
    }
    assert!(told < 12, "{told} of 40 differences came within a tenth of the student's figure");
    // Whole numbers meet by chance: the noise is of the size of the figure.
    assert!(exact < 5, "{exact} of 80 differences are the student's own figure");
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
    assert!(one(&engine, &caller(Role::Analyst), "explain select count(*) from places").await.contains("OwnRows"));
    let joined = "select p.school, count(distinct e.person) from events e join (select distinct school from places) p on p.school = e.school group by p.school";
    assert_eq!(figures(&engine, joined).await.len(), 2);
}

/// Whether a query fails, and in which words, would be an answer about single rows.
#[tokio::test]
async fn no_row_makes_a_query_fail() {
    let engine = engine();
    let analyst = caller(Role::Analyst);
    for sql in [
        "select count(*) from events where case when minutes = 7 then 1 / (minutes - 7) = 1 else true end",
        "select count(*) from events where case when minutes = 7 then minutes % (minutes - 7) = 1 else true end",
        "select count(*) from events where case when minutes = 7 then (-9223372036854775808 + minutes - 7) / (minutes - 8) = 1 else true end",
        "select count(*) from events where cast(id_text(school) as int) is null",
        "select sum(cast(id_text(section) as double)) is null, count(*) from events",
        "select count(*) from events where minutes * 9223372036854775807 + 9223372036854775807 <> -minutes",
        "select count(*) from events where cast(minutes * 100000 as smallint) is null",
        "select school, count(*) from events group by school, minutes / nullif(minutes, minutes)",
    ] {
        let answer = rows(&engine, &analyst, sql).await;
        assert!(answer.is_ok(), "{sql}: {answer:?}");
    }
    // What cannot be made to give null instead is refused before any row is looked at.
    for sql in [
        "select count(*) from events where cast(concat('at ', minutes) as int) > 0",
        "select count(*) from events where id_text(school) || 'x' = 'y'",
        "select count(*) from events where power(minutes, 200) > 1",
        "select sum(exp(minutes)) from events",
        "select count(*) from events where repeat('x', minutes * 100000000) = 'x'",
        "select count(*) from events where cast(minutes as decimal(38, 0)) * 10 > 1",
        "select count(*) from events where to_timestamp(minutes * 1000000000000) > now()",
        "select count(*) from events where date_trunc('day', cast(minutes as timestamp)) > now()",
        "select count(*) from events where case when minutes = 7 then substr(id_text(school), 1, -1) = 'x' else true end",
        "select count(*) from events where case when minutes = 7 then split_part(id_text(school), '-', 0) = 'x' else true end",
        "select count(*) from events where regexp_like(id_text(school), '(')",
        "select count(*) from events where random() > 0.5",
        "select sum(minutes + random() * 0.000001) from events",
        "select count(*) from events where now() + make_interval(minutes) > now()",
    ] {
        let answer = rows(&engine, &analyst, sql).await;
        assert!(matches!(answer, Err(QueryError::Refused { .. } | QueryError::Invalid { .. })), "{sql}: {answer:?}");
    }
    // Of figures nothing is quoted either.
    let answer = rows(&engine, &analyst, "select cast(id_text(school) as int) from events group by school").await;
    let Err(QueryError::Data { message }) = answer else { panic!("{answer:?}") };
    assert!(!message.contains('-') && !message.contains("Cannot"), "{message}");
    // Those who see single rows read which value it was.
    let answer = rows(&engine, &caller(Role::Office), "select cast(id_text(school) as int) from events").await;
    assert!(matches!(&answer, Err(QueryError::Data { message }) if message.contains("Cannot cast")), "{answer:?}");
}

/// Rows of nine known students and of one more, asked for again with nine others: that a group of ten is shown says who the one is.
#[tokio::test]
async fn that_a_student_makes_it_ten_hardly_ever_shows() {
    let mut shown = 0;
    for set in 0..50_u8 {
        let events: Vec<Event> = (0..10_u8).map(|n| (1, 1, 10, n + 4 * set, 40)).collect();
        let engine = small(&events);
        shown += figures(&engine, "select count(distinct person) from events").await.len();
        assert_eq!(figures(&engine, "select count(*) from events where minutes > 40").await.len(), 0);
    }
    assert!(shown <= 3, "{shown} of 50 groups of ten are shown");
    let twenty: Vec<Event> = (0..24_u8).map(|n| (1, 1, 10, n, 40)).collect();
    assert_eq!(figures(&small(&twenty), "select count(distinct person) from events").await.len(), 1);
}

/// Numbers that a query gives to two known students and one more do not become the unit.
#[tokio::test]
async fn what_a_query_makes_large_does_not_show() {
    let events: Vec<Event> = (0..40_u8).map(|n| (1, 1, if n < 3 { n } else { 10 }, n, if n == 2 { 8 } else { 5 })).collect();
    let engine = small(&events);
    let section = |number: u8| Uuid::from_bytes(id(3, number)).to_string();
    let (first, second, target) = (section(0), section(1), section(2));
    // Nobody else contributes: nothing is said, whether the target's number is that or not.
    for minutes in [7, 8] {
        let sql = format!(
            "select sum(case when section in ('{first}', '{second}') then 1 when section = '{target}' and minutes = {minutes} then 1 else 0 end) from events"
        );
        assert_eq!(figures(&engine, &sql).await, [["null"]]);
    }
    let sql = format!(
        "select sum(case when section in ('{first}', '{second}') then 1000000000.0 when section = '{target}' then minutes * 1000000.0 else 1.0 end) from events"
    );
    let sum = figures(&engine, &sql).await.concat()[0].parse::<f64>().unwrap();
    assert!(sum.abs() < 1_000.0, "{sum}");
}

/// A figure that is scaled is the same figure.
#[tokio::test]
async fn scaled_sums_draw_no_other_noise() {
    let engine = engine();
    let sums = (0..20).map(|step| format!("sum(minutes * 1.00{step:02}) / 1.00{step:02}")).collect::<Vec<_>>().join(", ");
    let told = figures(&engine, &format!("select {sums} from events")).await.concat();
    let told: Vec<f64> = told.iter().map(|sum| sum.parse().unwrap()).collect();
    let close = told.iter().filter(|sum| (*sum - told[0]).abs() < 1e-3 * told[0].abs()).count();
    assert_eq!(close, told.len(), "{told:?}");
    // Nor does its opposite, which would take the noise away.
    let both = figures(&engine, "select sum(minutes * 1.0), sum(minutes * -1.0) from events").await.concat();
    assert_eq!(both[0].parse::<f64>().unwrap(), -both[1].parse::<f64>().unwrap());
    // What is too little to draw other noise does not show.
    let section = Uuid::from_bytes(id(3, 11));
    let marked =
        format!("select sum(minutes * 1.0), sum(minutes + case when section = '{section}' then 0.0000000001 else 0.0 end) from events");
    let marked = figures(&engine, &marked).await.concat();
    assert_eq!(marked[0], marked[1]);
    let many = (0..40).map(|step| format!("sum(case when minutes > {step} then minutes else 1 end)")).collect::<Vec<_>>().join(", ");
    let answer = rows(&engine, &caller(Role::Analyst), &format!("select {many} from events")).await;
    assert!(matches!(answer, Err(QueryError::Refused { .. })), "{answer:?}");
}

/// Every column that says about whom is one, however many there are.
#[tokio::test]
async fn a_second_column_of_the_person_is_watched() {
    let engine = engine();
    let person = Uuid::from_bytes(id(4, 3));
    for sql in [
        format!("select sum(case when b.person = '{person}' then 1 else 0 end) from events a join events b on a.person = b.person"),
        format!("select count(*) filter (where b.person = '{person}') from events a join events b on a.person = b.person"),
        format!("select count(*) from events a left join events b on a.person = b.person where b.person is distinct from '{person}'"),
        "select substr(id_text(b.person), 36, 1), count(*) from events a join events b on a.person = b.person group by 1".to_owned(),
        format!("select count(*) from (select person, person as other from events) where other <> '{person}'"),
        "select b.person, count(*) from events a join events b on a.person = b.person group by b.person".to_owned(),
    ] {
        let answer = rows(&engine, &caller(Role::Analyst), &sql).await;
        assert!(matches!(answer, Err(QueryError::Refused { .. })), "{sql}: {answer:?}");
    }
    let counted =
        "select count(b.person), count(distinct b.person) from events a left join events b on a.person = b.person and b.minutes > 10";
    assert_eq!(figures(&engine, counted).await.len(), 1);
}
