//! A restart anywhere, with the sink anywhere, gives the boards and the rows of a process that never stopped.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use rollcall_model::event::Direction;
use rollcall_model::ids::Offset;
use rollcall_model::status::MarkStatus;
use rollcall_model::time::UtcMillis;
use rollcall_stream::Log;
use serde_json::Value as Json;

use super::town::*;

#[derive(Clone, Debug)]
enum Step {
    /// Somebody is scanned so many minutes before now. A number that was used before is that event sent again: admission
    /// lets a number into the log with one content only.
    Scan {
        person: u8,
        seq: u64,
        minutes_ago: i64,
        direction: Direction,
    },
    Mark {
        person: u8,
        period: u8,
        status: MarkStatus,
    },
    Connection(bool),
    Heartbeat(i64),
    Minutes(i64),
    /// The process is killed or stopped; the sink stands so far behind the log's end.
    Restart {
        kill: bool,
        behind: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let direction = prop::sample::select(Direction::ALL);
    let mark = prop::sample::select(MarkStatus::ALL);
    prop_oneof![
        6 => (0u8..STUDENTS, 0u64..12, 0i64..40, direction)
            .prop_map(|(person, seq, minutes_ago, direction)| Step::Scan { person, seq, minutes_ago, direction }),
        2 => (0u8..STUDENTS, 0u8..2, mark).prop_map(|(person, period, status)| Step::Mark { person, period, status }),
        1 => any::<bool>().prop_map(Step::Connection),
        1 => (0i64..3).prop_map(Step::Heartbeat),
        5 => (1i64..25).prop_map(Step::Minutes),
        2 => (any::<bool>(), 0u64..20).prop_map(|(kill, behind)| Step::Restart { kill, behind }),
    ]
}

/// Minutes grow with the clock and are published only with a change.
fn without_minutes(mut json: Json) -> Json {
    fn strip(json: &mut Json) {
        match json {
            Json::Object(map) => {
                map.remove("present_min");
                map.values_mut().for_each(strip);
            }
            Json::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut json);
    json
}

pub(super) async fn all_boards(town: &Running) -> Vec<Json> {
    let mut boards = Vec::new();
    for period in 0..2 {
        boards.push(without_minutes(town.board(section(0, period)).await));
    }
    for person in 0..STUDENTS {
        let today = town.handle.student_day(DISTRICT, student(person)).await.unwrap();
        boards.push(without_minutes(serde_json::to_value(today).unwrap()));
    }
    boards.push(serde_json::to_value(town.handle.building(DISTRICT, school(0)).await.unwrap()).unwrap());
    boards
}

type Written = BTreeMap<String, String>;

async fn live_through(steps: &[Step], restarts: bool) -> (Vec<Json>, Written) {
    let mut town = Running::start(Town::new(1), at(0, 7, 30)).await;
    let mut sent = HashMap::new();
    for (number, step) in steps.iter().enumerate() {
        let now = town.clock.now();
        match step.clone() {
            Step::Scan { person, seq, minutes_ago, direction } => {
                let mut row = scanned(0, student(person), seq, now.plus_ms(-minutes_ago * 60_000), direction);
                row.evidence.received = now;
                town.scan(sent.entry(seq).or_insert(row).clone()).await;
            }
            Step::Mark { person, period, status } => {
                town.mark(marked(number as u8, 0, student(person), period, status, now)).await;
            }
            Step::Connection(connected) => town.connection(0, connected).await,
            Step::Heartbeat(queued) => town.heartbeat(0, queued).await,
            Step::Minutes(minutes) => town.go_to(UtcMillis(now.0 + minutes * 60_000)).await,
            Step::Restart { kill, behind } => {
                if restarts {
                    let sunk = Offset(town.log.end().0.saturating_sub(behind));
                    let sunk = sunk.max(*town.database.sunk.lock());
                    town = town.restart(kill, sunk).await;
                }
            }
        }
    }
    // How far a device that is behind has come is passed on in steps; a restart begins a step of its own.
    town.go_to(town.clock.now().plus_ms(crate::attendance::live::coverage::COVERAGE_STEP_MS)).await;
    let mut boards = all_boards(&town).await;
    // Periods are on record from their start on, so the rows are compared at the end of the day.
    town.go_to(town.clock.now().max(at(0, 11, 0))).await;
    boards.extend(all_boards(&town).await);
    let (_, database, ..) = town.stop(false).await;
    let mut last: HashMap<WindowKey, String> = HashMap::new();
    for row in database.rows.lock().iter() {
        let minutes = if row.meeting.is_none() && row.recorded >= row.detail.ends.unwrap() { row.detail.present_min } else { 0 };
        let d = &row.detail;
        let says = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {minutes}",
            row.status,
            row.rule,
            row.since,
            d.flags,
            d.mark.as_ref().map(|m| m.id),
            d.arrival,
            d.departure
        );
        let key = (row.day, row.student, row.meeting);
        let before = last.insert(key, says.clone());
        // A day that ends says the same once more with its final minutes.
        assert!(before.as_ref() != Some(&says) || row.meeting.is_none(), "written twice: {key:?} {says}");
    }
    // That somebody was expected again says no more than no row.
    last.retain(|_, says| !says.starts_with("Expected"));
    (boards, last.into_iter().map(|(key, says)| (format!("{key:?}"), says)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_changes_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let uninterrupted = runtime.block_on(live_through(&steps, false));
        let restarted = runtime.block_on(live_through(&steps, true));
        prop_assert_eq!(uninterrupted, restarted);
    }
}
