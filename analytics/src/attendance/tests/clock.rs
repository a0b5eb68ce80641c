//! Days of 23 and 25 hours, and clocks that are set. However the clock got there, the boards are those of an engine that has
//! just been started at this instant with the same log.

use chrono::{NaiveDate, NaiveTime};
use proptest::prelude::*;
use rollcall_model::event::Direction;
use rollcall_model::schedule::{Bell, Span, date_span};
use rollcall_model::status::Status;
use rollcall_model::time::UtcMillis;
use rollcall_stream::scan::ScanRow;
use serde_json::Value as Json;

use super::restart::all_boards;
use super::town::*;
use crate::attendance::live::coverage::COVERAGE_STEP_MS;

const MINUTE_MS: i64 = 60_000;
/// Classes by day, and a night school whose periods meet the hour that is left out or occurs twice.
const BELLS: [[BellTimes; 2]; 2] = [[((8, 0), (9, 0)), ((9, 15), (10, 15))], [((1, 15), (2, 15)), ((2, 30), (3, 30))]];

fn town_on(date: NaiveDate, bells: [BellTimes; 2]) -> Town {
    Town { date, bells, ..Town::new(1) }
}

fn span(town: &Town, index: usize) -> Span {
    let time = |(hour, minute)| NaiveTime::from_hms_opt(hour, minute, 0).unwrap();
    let (starts, ends) = town.bells[index];
    Bell { period: period(0), starts: time(starts), ends: time(ends), instructional: true }.span_on(town.date, BERLIN)
}

/// What an engine says that is started now with what has been scanned so far.
async fn started_now(town: &Town, scans: &[ScanRow], now: UtcMillis) -> Vec<Json> {
    let fresh = Running::start(town.clone(), now).await;
    fresh.connection(0, true).await;
    for scan in scans {
        fresh.scan(scan.clone()).await;
    }
    settled(&fresh).await
}

/// How far the evidence of a gate reaches is passed on in steps.
async fn settled(town: &Running) -> Vec<Json> {
    town.go_to(town.clock.now().plus_ms(COVERAGE_STEP_MS)).await;
    all_boards(town).await
}

#[tokio::test]
async fn both_daylight_saving_days_are_taken_minute_by_minute() {
    let days = [(NaiveDate::from_ymd_opt(2027, 3, 28).unwrap(), 23), (NaiveDate::from_ymd_opt(2026, 10, 25).unwrap(), 25)];
    for ((date, hours), bells) in days.into_iter().flat_map(|day| BELLS.map(|bells| (day, bells))) {
        let town = town_on(date, bells);
        let day = date_span(date, BERLIN);
        assert_eq!(day.ends.0 - day.starts.0, hours * 60 * MINUTE_MS, "{date} has {hours} hours");
        let running = Running::start(town.clone(), day.starts.plus_ms(-60 * MINUTE_MS)).await;
        running.connection(0, true).await;
        let meeting = span(&town, 0);
        let arrivals = [(0, meeting.starts.plus_min(1)), (1, meeting.starts.plus_min(12)), (3, meeting.starts.plus_min(2))];
        let mut scans = Vec::new();
        while running.clock.now() < day.ends.plus_ms(60 * MINUTE_MS) {
            let now = running.clock.now().plus_ms(MINUTE_MS);
            running.go_to(now).await;
            // A new date is loaded beside the engine, which goes on meanwhile.
            while running.handle.student_day(DISTRICT, student(2)).await.is_none() {
                tokio::task::yield_now().await;
            }
            for (person, _) in arrivals.iter().filter(|(_, at)| *at == now) {
                let scan = scanned(0, student(*person), scans.len() as u64 + 1, now, Direction::In);
                running.scan(scan.clone()).await;
                scans.push(scan);
            }
            let since_start = (now.0 - meeting.starts.0) / MINUTE_MS;
            // Nobody is late, absent or present before the bell, by which hour the clocks ever call it.
            let expected = match since_start {
                -30..0 => Some(Status::Expected),
                22..25 => Some(Status::Absent),
                _ => None,
            };
            if let Some(expected) = expected {
                assert_eq!(running.status(student(2), Some(0)).await, expected, "{since_start} min after the bell on {date} {bells:?}");
            }
            if (15..25).contains(&since_start) {
                assert_eq!(running.status(student(0), Some(0)).await, Status::Present);
                assert_eq!(running.status(student(1), Some(0)).await, Status::Tardy);
            }
        }
        assert_eq!(scans.len(), arrivals.len());
        // At the end of the date, which is not 24 hours after its beginning.
        for at in [meeting.ends.plus_ms(MINUTE_MS), day.ends.plus_ms(-MINUTE_MS)] {
            running.go_to(at).await;
            let fresh = started_now(&town, &scans, at).await;
            assert_eq!(settled(&running).await, fresh, "{at:?} on {date} {bells:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A clock that is set forward and back, by seconds and by hours, with scans in between.
    #[test]
    fn steps_of_the_clock_leave_no_trace(
        night: bool,
        steps in prop::collection::vec((-180i64..180, prop::option::of((0u8..STUDENTS, prop::sample::select(Direction::ALL)))), 1..40),
        end_min in 0i64..300,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let town = town_on(NaiveDate::from_ymd_opt(2026, 10, 25).unwrap(), BELLS[usize::from(night)]);
            let from = span(&town, 0).starts.plus_ms(-60 * MINUTE_MS);
            let running = Running::start(town.clone(), from).await;
            running.connection(0, true).await;
            let mut scans = Vec::new();
            for (minutes, scan) in steps {
                running.go_to(running.clock.now().plus_ms(minutes * MINUTE_MS)).await;
                if let Some((person, direction)) = scan {
                    let scan = scanned(0, student(person), scans.len() as u64 + 1, running.clock.now(), direction);
                    running.scan(scan.clone()).await;
                    scans.push(scan);
                }
            }
            let end = from.plus_ms(end_min * MINUTE_MS);
            running.go_to(end).await;
            let fresh = started_now(&town, &scans, end).await;
            assert_eq!(settled(&running).await, fresh);
        });
    }
}
