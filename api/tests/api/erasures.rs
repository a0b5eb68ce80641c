//! Erasing a student who has left: who may, what is gone, and how far it is.

use axum::http::{Method, StatusCode};
use rollcall_analytics::history::{History, HistoryConfig, Place};
use rollcall_api::Eraser;
use rollcall_model::event::Direction;
use rollcall_store::Store;
use tokio_util::sync::CancellationToken;

use crate::rollups::roll_up;
use crate::town::{As, Town};

#[tokio::test]
async fn a_student_who_has_left_is_erased_and_one_who_attends_is_not() {
    let town = Town::start().await;
    let (student, other, now) = (town.own.student, town.other_student, town.clock.now());
    let path = format!("/api/v1/students/{student}/erasure");
    town.scan(1, student, now.plus_ms(-20 * 60_000), Direction::In).await;
    town.scan(2, other, now.plus_ms(-10 * 60_000), Direction::In).await;
    roll_up(&town).await;
    let dir = tempfile::tempdir().unwrap();
    let place = Place::folder(dir.path()).unwrap();
    let (log, registry) = (town.log.clone(), prometheus::Registry::new());
    let history = History::new(place, log, town.clock.clone(), HistoryConfig::default(), &registry).unwrap();
    while history.flush().await.unwrap() {}
    let rows = || history.state().unwrap().files.values().map(|file| file.rows).sum::<u64>();
    assert_eq!(rows(), 2);

    let refused = town.ask(As::DistrictOffice, Method::PUT, &path, None).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("student_attends")), "{}", refused.body);
    for table in ["membership", "enrolment"] {
        town.as_owner(&format!("update rollcall.{table} set ends = '{}' where person = '{student}'", town.date)).await;
    }
    town.cache.refresh_now().await.unwrap();
    assert_eq!(town.get(As::DistrictOffice, &path).await.status, StatusCode::NOT_FOUND);

    for _ in 0..2 {
        let erased = town.ask(As::DistrictOffice, Method::PUT, &path, None).await;
        assert_eq!((erased.status, &erased.body["history"]), (StatusCode::ACCEPTED, &serde_json::Value::Null), "{}", erased.body);
    }
    let store = Store::connect(&town.config).await.unwrap();
    let mut tenant = store.tenant(town.own.district).await.unwrap();
    for table in ["scan where person", "student_day where student"] {
        for (id, left) in [(student, 0), (other, 1)] {
            let sql = sqlx::AssertSqlSafe(format!("select count(*) from rollcall.{table} = '{id}'"));
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tenant).await.unwrap();
            assert_eq!(count, left, "{table} {id}");
        }
    }
    drop(tenant);
    let told = town.get(As::It, &format!("/api/v1/audit?subject={student}&action=student.erase")).await.body;
    let days: Vec<_> = told["items"].as_array().unwrap().iter().map(|row| row["detail"]["days"].as_u64()).collect();
    assert_eq!(days, [Some(0), Some(1)], "{told}");

    let (eraser, never) = (Eraser::new(store, history.clone()), CancellationToken::new());
    eraser.look(&never).await.unwrap();
    assert_eq!(rows(), 1);
    let done = town.get(As::DistrictOffice, &path).await.body;
    assert!(done["history"].is_string() && done["asked"].is_string() && done["asked_by"].is_string(), "{done}");
    let version = history.state().unwrap().version;
    eraser.look(&never).await.unwrap();
    assert_eq!(history.state().unwrap().version, version, "it is done once");
}
