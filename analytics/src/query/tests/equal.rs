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
