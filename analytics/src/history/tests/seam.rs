//! The seam while everything moves: whoever asks at whichever moment sees each row once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::prelude::SessionContext;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_model::event::Kind;

use super::town::{DAY_MS, START, Town, config};
use crate::history::{HistoryConfig, QueryWarnings};

/// Answers that each asker must have, and steps that there are at least meanwhile.
const ANSWERS_MIN: u64 = 40;
const STEPS_MIN: u64 = 200;
const ASKERS: u64 = 2;

/// Rows whose day is kept, numbered as they came: those that are being written, and those that are durable.
#[derive(Default)]
struct Written {
    begun: AtomicU64,
    done: AtomicU64,
    answers: AtomicU64,
    has_ended: AtomicBool,
}

/// Asks until the end. The rows are a beginning of all that were ever written: their numbers say whether one is missing or there twice.
async fn ask(context: SessionContext, warnings: Arc<QueryWarnings>, written: Arc<Written>) -> u64 {
    let sql = format!(
        "select count(*), count(distinct seq), coalesce(sum(seq), arrow_cast(0, 'UInt64')), count(distinct \"offset\")
             from scans where ts >= to_timestamp_millis({})",
        START.0
    );
    let mut answers = 0;
    while !written.has_ended.load(Ordering::SeqCst) {
        let before = written.done.load(Ordering::SeqCst);
        let rows = context.sql(&sql).await.unwrap().collect().await.unwrap();
        let after = written.begun.load(Ordering::SeqCst);
        let number = |column: usize| rows[0].column(column).as_primitive::<Int64Type>().value(0) as u64;
        let (count, sum) = (number(0), rows[0].column(2).as_primitive::<UInt64Type>().value(0));
        assert!(before <= count && count <= after, "{count} rows, of {before} before the question and {after} after it");
        assert_eq!((number(1), number(3)), (count, count), "rows are there twice");
        assert_eq!(sum, count * count.saturating_sub(1) / 2, "other rows than the first {count}");
        assert_eq!(warnings.all(), vec![]);
        answers += 1;
        written.answers.fetch_add(1, Ordering::SeqCst);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rows_are_there_once_while_they_are_written_merged_and_forgotten() {
    let keep_days = BTreeMap::from([(Kind::Scan, 5)]);
    let mut town = Town::on(Arc::new(InMemory::new()), HistoryConfig { keep_days, ..config() });
    town.history.open().await.unwrap();
    let written = Arc::new(Written::default());
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let (context, warnings) = town.context();
            tokio::spawn(ask(context, warnings, Arc::clone(&written)))
        })
        .collect();
    let mut random = StdRng::seed_from_u64(7);
    let (mut steps, mut next, mut expired, mut merged) = (0, 0, 0, 0);
    while (steps < STEPS_MIN || written.answers.load(Ordering::SeqCst) < ASKERS * ANSWERS_MIN)
        && askers.iter().all(|asker| !asker.is_finished())
    {
        steps += 1;
        match random.random_range(0..10) {
            0..5 => {
                // Rows of a day that is not kept stand between the others, so that files come that retention takes.
                let old: Vec<(u8, u64)> = (0..random.random_range(0..5)).map(|seq| (1, seq)).collect();
                let new: Vec<(u8, u64)> = (next..next + random.random_range(1..20)).map(|seq| ((seq % 5) as u8, seq)).collect();
                if !old.is_empty() {
                    town.append(Kind::Scan, 0, &old, -10);
                }
                next += new.len() as u64;
                written.begun.store(next, Ordering::SeqCst);
                town.append(Kind::Scan, (steps % 2) as u8, &new, (steps % 3) as i64);
                written.done.store(next, Ordering::SeqCst);
                town.move_window(random.random_range(0..3));
            }
            5..7 => drop(town.history.flush().await.unwrap()),
            7 => merged += u64::from(town.history.compact().await.unwrap()),
            8 => expired += town.history.retain().await.unwrap(),
            _ => {
                town.history.sweep().await.unwrap();
                town.clock.set(START.plus_ms(DAY_MS / 1_000 * steps as i64 % DAY_MS));
            }
        }
        tokio::task::yield_now().await;
    }
    written.has_ended.store(true, Ordering::SeqCst);
    for asker in askers {
        asker.await.unwrap();
    }
    assert!(expired > 0 && merged > 0, "{expired} files expired, {merged} merges");
}
