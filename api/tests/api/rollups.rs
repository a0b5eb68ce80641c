//! Look-ups in the rollups: a device's week, and the scans beside a student's days.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use rollcall_model::event::Direction;
use rollcall_store::Store;
use rollcall_store::rollup::Rollups;
use rollcall_stream::Log;
use tokio_util::sync::CancellationToken;

use crate::town::{As, PATIENCE, Town};

/// Writes what the log has into the rollups.
pub async fn roll_up(town: &Town) {
    let store = Store::connect(&town.config).await.unwrap();
    let log: Arc<dyn Log> = town.log.clone();
    let rollups = Rollups::new(log, store, town.cache.clone(), &prometheus::Registry::new()).unwrap().every(Duration::from_millis(1));
    let (mut written, mut left) = (rollups.written(), rollups.dates_left());
    let (stop, end) = (CancellationToken::new(), town.log.end());
    let running = tokio::spawn(rollups.run(stop.clone()));
    tokio::time::timeout(PATIENCE, written.wait_for(|written| *written >= end)).await.expect("the rollups get there").unwrap();
    tokio::time::timeout(PATIENCE, left.wait_for(|left| *left == 0)).await.expect("what was there before is in them").unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_devices_week_and_the_scans_of_a_students_days() {
    let town = Town::start().await;
    let (student, device) = (town.own.student, town.own.device);
    let now = town.clock.now();
    town.scan(1, student, now.plus_ms(-20 * 60_000), Direction::In).await;
    town.scan(2, student, now.plus_ms(-60_000), Direction::Out).await;
    roll_up(&town).await;
    let path = format!("/api/v1/devices/{device}/days");
    let week = town.get(As::It, &path).await.body;
    let day = &week["items"][0];
    assert_eq!((&day["date"], &day["scans"]), (&town.date.to_string().into(), &2.into()), "{week}");
    assert_eq!((day["heard_min"].as_u64(), day["silent_min_max"].as_u64()), (Some(10), Some(10)), "{week}");
    assert_eq!(day["heard"].as_str().map(str::len), Some(300));
    let before = town.get(As::It, &format!("{path}?to=2020-01-01")).await.body;
    assert_eq!(before["items"].as_array().map(Vec::len), Some(0), "{before}");
    let wide = town.get(As::It, &format!("{path}?from=2020-01-01")).await;
    assert_eq!(wide.status, StatusCode::UNPROCESSABLE_ENTITY);
    let nobodys = town.get(As::It, &format!("/api/v1/devices/{}/days", town.foreign.device)).await;
    assert_eq!(nobodys.status, StatusCode::NOT_FOUND);

    // The conclusion is recorded a moment after the scan; it is asked for until it is.
    let days = format!("/api/v1/students/{student}/days?from={0}&to={0}", town.date);
    let recorded = async {
        loop {
            let days = town.get(As::Guardian, &days).await.body;
            if days["items"].as_array().is_some_and(|items| !items.is_empty()) {
                break days;
            }
        }
    };
    let days = tokio::time::timeout(PATIENCE, recorded).await.expect("the conclusion is recorded");
    let evidence = &days["items"][0]["evidence"][0];
    assert_eq!((evidence["scans"].as_i64(), evidence["ins"].as_i64(), evidence["outs"].as_i64()), (Some(2), Some(1), Some(1)), "{days}");
    assert_eq!(evidence["first_in"], evidence["first_scan"]);
    assert_eq!(evidence["last_out"], evidence["last_scan"]);
}
