//! The seam under kills: whatever dies at whichever step, a query sees every row once.
//!
//! A seeded history of appends, flushes, merges, deletions and erasures runs on a store that dies at a random operation,
//! in three ways. After each step count, sum and set of offsets of each table equal a naive reference; so do they after
//! each restart. `ROLLCALL_TEST_KILLS` asks for another number of kills.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_model::event::Kind;
use rollcall_stream::Log;

use super::faults::Death;
use super::town::{DAY_MS, START, Town, district, person};
use crate::history::HistoryError;

const KILLS: u32 = 220;
const STEPS_PER_SEED: u32 = 120;
const DISTRICTS: u8 = 2;
const PEOPLE: u8 = 5;
const TABLES: [Kind; 2] = [Kind::Scan, Kind::Telemetry];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_lost_or_doubled_whatever_dies() {
    let wanted = std::env::var("ROLLCALL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let (mut kills, mut seed) = (0, 0);
    while kills < wanted {
        kills += one_history(seed).await;
        seed += 1;
    }
    println!("{kills} kills in {seed} histories");
}

/// Returns how often the process died.
async fn one_history(seed: u64) -> u32 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut town = Town::new();
    let mut kills = 0;
    for step in 0..STEPS_PER_SEED {
        if random.random_bool(0.4) {
            let how = [Death::Before, Death::After, Death::Torn][random.random_range(0..3)];
            town.store.die_at(random.random_range(0..6), how);
        }
        let outcome = step_of(&mut town, &mut random, &mut kills).await;
        if town.store.is_dead() {
            kills += 1;
            town.restart();
        } else {
            outcome.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {}", error.describe()));
        }
        check(&mut town, seed, step, &mut kills).await;
    }
    // Everything that was replaced or orphaned goes in the end, and nothing else.
    town.store.revive();
    town.history.finish_erasures().await.unwrap();
    town.history.sweep().await.unwrap();
    let state = town.history.state().unwrap();
    let listed = town.history.place().list().await.unwrap();
    let data: Vec<&str> = listed.iter().map(|listed| listed.path.as_str()).filter(|path| path.ends_with(".parquet")).collect();
    assert_eq!(data, state.files.keys().map(String::as_str).collect::<Vec<_>>(), "seed {seed}");
    assert!(!state.tombstones.iter().any(|stone| stone.pending), "seed {seed}");
    kills
}

async fn step_of(town: &mut Town, random: &mut StdRng, kills: &mut u32) -> Result<(), HistoryError> {
    match random.random_range(0..100) {
        0..45 => {
            for _ in 0..random.random_range(1..4) {
                let rows: Vec<(u8, u64)> =
                    (0..random.random_range(1..30)).map(|_| (random.random_range(0..PEOPLE), random.random_range(0..100_000))).collect();
                let kind = TABLES[random.random_range(0..TABLES.len())];
                town.append(kind, random.random_range(0..DISTRICTS), &rows, random.random_range(0..3));
            }
            let forget = if random.random_bool(0.3) { random.random_range(1..4) } else { 0 };
            town.move_window(forget);
        }
        45..70 => while town.history.flush().await? {},
        70..82 => while town.history.compact().await? {},
        82..90 => {
            town.history.sweep().await?;
        }
        90..94 => {
            // What the reference forgets is forgotten at the latest when the interrupted erasure is repeated.
            let (where_, who) = (random.random_range(0..DISTRICTS), random.random_range(0..PEOPLE));
            let outcome = town.history.erase(district(where_), person(who)).await;
            town.forget_person(where_, who);
            if outcome.is_err() && town.store.is_dead() {
                *kills += 1;
                town.restart();
                town.history.erase(district(where_), person(who)).await?;
            } else {
                outcome?;
            }
        }
        94..97 => town.clock.set(town.clock.now().plus_ms(DAY_MS / 8)),
        _ => town.restart(),
    }
    Ok(())
}

/// Compares the tables, of one district or of all in turn.
async fn check(town: &mut Town, seed: u64, step: u32, kills: &mut u32) {
    if let Err(error) = town.history.open().await {
        assert!(town.store.is_dead(), "seed {seed}, step {step}: {}", error.describe());
        *kills += 1;
        town.restart();
        town.history.open().await.unwrap();
    }
    let of = Some((step % (u32::from(DISTRICTS) + 1)) as u8).filter(|number| *number < DISTRICTS);
    for kind in TABLES {
        let (found, expected) = (town.totals(kind, of).await, town.expected(kind, of));
        assert_eq!(found, expected, "seed {seed}, step {step}, {kind:?} of district {of:?}");
    }
    let state = town.history.state().unwrap();
    assert_eq!(town.log.oldest(), state.next, "seed {seed}, step {step}: the log keeps what history has not, and nothing else");
}

/// A query that began before its files were merged and deleted still reads all of them.
#[tokio::test]
async fn a_running_query_keeps_its_files_and_its_part_of_the_log() {
    let mut town = Town::new();
    for _ in 0..4 {
        town.append(Kind::Scan, 0, &[(1, 10), (2, 20)], 0);
        town.history.flush().await.unwrap();
    }
    town.append(Kind::Scan, 0, &[(3, 30)], 0);
    town.move_window(100);
    let (context, _) = town.context();
    let plan = context.sql("select seq from scans").await.unwrap().create_physical_plan().await.unwrap();
    town.clock.set(START.plus_ms(DAY_MS));
    town.history.flush().await.unwrap();
    assert!(town.history.compact().await.unwrap());
    assert_eq!(town.history.sweep().await.unwrap(), 1, "only the file that came after the query began");
    assert_eq!(town.log.oldest().0, 8, "the log keeps the row that the query reads from it");
    let rows = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 9);
    drop((rows, context));
    assert_eq!(town.history.sweep().await.unwrap(), 4, "nobody reads the merged files any more");
    assert_eq!(town.log.oldest().0, 9);
}
