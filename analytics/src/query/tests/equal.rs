//! Whether two figures are equal says nothing of the few students by whom what they count may differ.

use rollcall_store::account::Role;
use uuid::Uuid;

use super::world::{Event, caller, engine_with, id, rows};
use crate::query::{EngineConfig, QueryEngine};

/// A crowd of `n` students in one school. Each has one row by which nobody else can be told, its minutes, and the section stands for what is to
/// be found out.
fn crowd(n: u8) -> QueryEngine {
    let events: Vec<Event> = (0..n).map(|student| (1, 1, 10 + student % 5, student, 1_000 + i64::from(student))).collect();
    engine_with(EngineConfig { threads: 2, ..EngineConfig::default() }, &events)
}

async fn told(engine: &QueryEngine, sql: &str) -> Vec<Vec<String>> {
    rows(engine, &caller(Role::Analyst), sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

fn section(number: u8) -> String {
    format!("'{}'", Uuid::from_bytes(id(3, number)))
}

/// The attack: of everybody but the student, or with the section that is guessed. Answers of wrong guesses are about one set of students; the right
/// guess is about everybody. `ask` makes the query of a guess.
async fn guesses(engine: &QueryEngine, ask: impl Fn(&str) -> String) -> Vec<Vec<Vec<String>>> {
    let mut answers = Vec::new();
    for guess in 10..15 {
        let is_guess = format!("(minutes <> 1007 or section = {})", section(guess));
        answers.push(told(engine, &ask(&is_guess)).await);
    }
    answers
}

#[tokio::test]
async fn the_right_guess_looks_like_the_wrong_ones() {
    let figures = "count(*), count(distinct person), sum(minutes), avg(minutes)";
    for n in [12, 14, 16, 18, 20, 40, 200] {
        let asks: [&dyn Fn(&str) -> String; 6] = [
            &|is| format!("select {figures} from events where {is}"),
            &|is| format!("select count(case when {is} then 1 end), sum(case when {is} then minutes end) from events"),
            &|is| format!("select school, {figures} from events where {is} group by school"),
            &|is| format!("select count(distinct section), count(distinct school) from events where {is}"),
            &|is| format!("select count(*) filter (where {is}), sum(2.5 * minutes) filter (where {is}) from events where minutes > 0"),
            &|is| {
                let of_schools = "select distinct school as s from places";
                format!("select s, count(*), count(distinct person) from ({of_schools}) p join events on school = s where {is} group by s")
            },
        ];
        for ask in asks {
            let engine = crowd(n);
            let answers = guesses(&engine, ask).await;
            assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{n}, {}: {answers:?}", ask("X"));
            // Nor does it differ from the crowd's own, whichever was asked for first.
            let all = [told(&engine, &ask("true")).await, told(&crowd(n), &ask("true")).await];
            assert_eq!(all[0], answers[0], "{n}, {}", ask("X"));
            let engine = crowd(n);
            assert_eq!(told(&engine, &ask("true")).await, all[1]);
            assert!(guesses(&engine, ask).await.iter().all(|answer| *answer == all[1]), "{n}, {}", ask("X"));
        }
    }
}

/// All guesses in one query: as figures, and as groups of a table that is joined with.
#[tokio::test]
async fn the_right_guess_looks_like_the_wrong_ones_within_a_query() {
    let engine = crowd(40);
    let guess = |guess| format!("count(case when minutes <> 1007 or section = {} then 1 end)", section(guess));
    let sql = format!("select {} from events", (10..15).map(guess).collect::<Vec<_>>().join(", "));
    let answers = told(&engine, &sql).await.concat();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let sections = "select distinct section as s from places";
    let sql = format!("select s, count(*), sum(minutes) from events join ({sections}) p on minutes <> 1007 or section = s group by s");
    let answers = told(&engine, &sql).await;
    assert_eq!(answers.len(), 5);
    assert!(answers.iter().all(|answer| answer[1..] == answers[0][1..]), "{answers:?}");
}

/// Sets that differ by one student more and one more: no step is one student's.
#[tokio::test]
async fn a_figure_moves_by_many_students_at_once() {
    let engine = crowd(120);
    let mut steps = 1;
    let mut before = told(&engine, "select count(*) from events where minutes < 1120").await;
    for last in (1_040..1_120).rev() {
        let next = told(&engine, &format!("select count(*) from events where minutes < {last}")).await;
        steps += usize::from(next != before);
        before = next;
    }
    assert!((5..=9).contains(&steps), "{steps} figures for 80 sets");
    let last: f64 = before[0][0].parse().unwrap();
    assert!((last - 40.0).abs() < 30.0, "{last}");
}

/// Nine known students and one more: that a larger group of nearly the same students was shown does not show whether there is a tenth.
#[tokio::test]
async fn a_group_of_ten_is_not_shown_because_a_larger_one_was() {
    let mut shown = 0;
    for set in 0..40_u8 {
        let events: Vec<Event> = (0..18_u8).map(|n| (1, 1, 10, n + 3 * set, 1_000 + i64::from(n))).collect();
        let engine = engine_with(EngineConfig { threads: 2, ..EngineConfig::default() }, &events);
        for last in [1_018, 1_016, 1_014, 1_012, 1_010] {
            shown += told(&engine, &format!("select count(*) from events where minutes < {last}")).await.len() * usize::from(last == 1_010);
        }
        assert_eq!(told(&engine, "select count(*) from events where minutes < 1009").await.len(), 0);
    }
    assert!(shown <= 3, "{shown} of 40 groups of ten are shown");
}

/// What no number holds is neither an answer nor remembered as one.
#[tokio::test]
async fn contributions_without_end_are_cut() {
    let huge = "case when minutes = 1007 then 1.7e308 else 1.0 end";
    let join = "from events a join events b on a.person = b.person";
    for of in [format!("sum({huge}) from events"), format!("sum(a.minutes * 1e300) {join}"), format!("avg({huge}) from events")] {
        let engine = crowd(40);
        for sql in [format!("select {of}"), "select sum(1.0) from events".to_owned()] {
            let sum = told(&engine, &sql).await.concat()[0].clone();
            assert!(sum.parse::<f64>().is_ok_and(f64::is_finite), "{sql}: {sum}");
        }
    }
    let sum = told(&crowd(40), &format!("select sum({huge}) from events")).await.concat()[0].parse::<f64>().unwrap();
    assert!((0.0..100.0).contains(&sum), "{sum}");
}

/// Rows that were told at another time are not what a total is divided by.
#[tokio::test]
async fn an_average_is_of_what_is_there_now() {
    let engine = crowd(60);
    told(&engine, "select count(*) from events where minutes < 1020").await;
    told(&engine, "select count(*) from events where minutes < 1029").await;
    let average = told(&engine, "select avg(minutes) from events where minutes < 1029").await.concat()[0].parse::<f64>().unwrap();
    assert!((900.0..1_150.0).contains(&average), "{average}");
}
