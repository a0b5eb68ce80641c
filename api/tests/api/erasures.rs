//! Erasing a student who has left: who may, what is gone, and how far it is.

use axum::http::{Method, StatusCode};
use rollcall_analytics::history::{History, HistoryConfig, Place};
use rollcall_api::Eraser;
use rollcall_model::event::{Direction, Method as Read};
use rollcall_model::ids::{DistrictId, PersonId};
use rollcall_model::status::ScanEvidence;
use rollcall_store::engagement::EngagementWindow;
use rollcall_store::erasure::{self, OPEN_MAX};
use rollcall_store::{Store, Tenant};
use rollcall_stream::Log;
use rollcall_stream::scan::{self, ScanRow};
use serde_json::Value;
use sqlx::Row;
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
    let history = written(&town, dir.path()).await;
    let rows = || history.state().unwrap().files.values().map(|file| file.rows).sum::<u64>();
    assert_eq!(rows(), 2);

    let refused = town.ask(As::DistrictOffice, Method::PUT, &path, None).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (StatusCode::CONFLICT, Some("student_attends")), "{}", refused.body);
    for table in ["membership", "enrolment"] {
        town.as_owner(&format!("update rollcall.{table} set ends = '{}' where person = '{student}'", town.date)).await;
    }
    town.cache.refresh_now().await.unwrap();
    assert_eq!(town.get(As::DistrictOffice, &path).await.status, StatusCode::NOT_FOUND);
    let listed = async || {
        let former = town.get(As::DistrictOffice, "/api/v1/former-students").await.body;
        let mut items = former["items"].as_array().unwrap().clone();
        assert_eq!((items.len(), &items[0]["id"]), (1, &student.to_string().into()), "{former}");
        items.remove(0)
    };
    let found = listed().await;
    assert_eq!(
        (&found["school"], &found["left"], &found["erasure"]),
        (&town.own.school.to_string().into(), &town.date.to_string().into(), &Value::Null)
    );
    assert!(found["family"].as_str().is_some_and(|family| !family.is_empty()), "{found}");

    for _ in 0..2 {
        let erased = town.ask(As::DistrictOffice, Method::PUT, &path, None).await;
        assert_eq!((erased.status, &erased.body["history"]), (StatusCode::ACCEPTED, &Value::Null), "{}", erased.body);
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
    assert!(done["rows_until"].as_str().is_some_and(|date| date > done["asked"].as_str().unwrap()), "{done}");
    assert_eq!(listed().await["erasure"], done);
    let version = history.state().unwrap().version;
    eraser.look(&never).await.unwrap();
    assert_eq!(history.state().unwrap().version, version, "it is done once");
}

/// History of the town in a folder, with everything in files that the log has.
async fn written(town: &Town, dir: &std::path::Path) -> History {
    let place = Place::folder(dir).unwrap();
    let history =
        History::new(place, town.log.clone(), town.clock.clone(), HistoryConfig::default(), &prometheus::Registry::new()).unwrap();
    while history.flush().await.unwrap() {}
    history
}

async fn asked(store: &Store, district: DistrictId, person: PersonId, before: rollcall_model::ids::Offset) {
    let mut tenant: Tenant = store.tenant(district).await.unwrap();
    erasure::erase(&mut tenant, person, before).await.unwrap();
    tenant.commit().await.unwrap();
}

#[tokio::test]
async fn an_erasure_that_fails_does_not_keep_the_others_waiting() {
    let town = Town::start().await;
    for (seq, ids) in [(1, &town.own), (2, &town.foreign)] {
        let (ts, received) = (town.clock.now().plus_ms(-60_000), town.clock.now());
        let evidence = ScanEvidence {
            student: ids.student,
            device: ids.device,
            seq,
            ts,
            received,
            direction: Direction::In,
            offline: false,
            offset: Default::default(),
        };
        let row = ScanRow { district: ids.district, school: ids.school, evidence, badge: ids.badge, method: Read::Qr };
        town.log.append(vec![scan::encode(&[row])]).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let history = written(&town, dir.path()).await;
    let store = Store::connect(&town.config).await.unwrap();
    for ids in [&town.own, &town.foreign] {
        asked(&store, ids.district, ids.student, town.log.end()).await;
    }
    let open = async || erasure::open(&store, None).await.unwrap().into_iter().map(|(district, ..)| district).collect::<Vec<_>>();
    let both = open().await;
    assert_eq!(both.len(), 2);
    // The store fails for the file of the one that comes first, which is neither missing nor damaged: a socket stands in its place, which
    // nobody can open, not even root. It is bound under a short name, because sockets have no long ones.
    let state = history.state().unwrap();
    let path = state.files.values().find(|file| file.district == both[0]).map(|file| dir.path().join(file.path.as_str())).unwrap();
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    std::fs::rename(dir.path().join("s"), &path).unwrap();

    let (eraser, never) = (Eraser::new(store.clone(), history.clone()), CancellationToken::new());
    eraser.look(&never).await.expect_err("the first one fails");
    assert_eq!(open().await, both[..1], "the second one is carried out");
    assert!(history.state().unwrap().files.values().all(|file| file.district != both[1]));

    std::fs::remove_file(&path).unwrap();
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    history.finish_erasures().await.unwrap();
    eraser.look(&never).await.unwrap();
    assert_eq!((open().await, history.state().unwrap().files.len()), (Vec::new(), 0));
}

#[tokio::test]
async fn more_open_erasures_than_are_read_at_a_time_are_all_carried_out() {
    let town = Town::start().await;
    let many = OPEN_MAX + 3;
    town.as_owner(&format!(
        "insert into rollcall.erasure (district, person, before) select '{}', gen_random_uuid(), 0 from generate_series(1, {many})",
        town.own.district
    ))
    .await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::connect(&town.config).await.unwrap();
    assert_eq!(erasure::open(&store, None).await.unwrap().len() as i64, OPEN_MAX);
    Eraser::new(store.clone(), written(&town, dir.path()).await).look(&CancellationToken::new()).await.unwrap();
    let mut tenant = store.tenant(town.own.district).await.unwrap();
    let done = sqlx::query("select count(history_at) from rollcall.erasure").fetch_one(&mut *tenant).await.unwrap();
    assert_eq!(done.get::<i64, _>(0), many);
}

/// What each window of engagement has of single students, by its revision.
async fn windows(store: &Store, district: DistrictId) -> Vec<Value> {
    let mut tenant = store.tenant(district).await.unwrap();
    sqlx::query_scalar("select to_jsonb(w) from rollcall.engagement_window w order by revision").fetch_all(&mut *tenant).await.unwrap()
}

#[tokio::test]
async fn an_erased_student_is_taken_out_of_windows_of_engagement_and_does_not_come_back() {
    let town = Town::start().await;
    let (student, other, now) =
        (town.own.student, town.students().into_iter().find(|id| *id != town.own.student).unwrap(), town.clock.now());
    let starts = now.to_chrono().unwrap();
    town.as_owner(&format!(
        "insert into rollcall.engagement_window (district, school, section, period, date, slot, definition, revision, starts, ends, parameters,
             present, with_data, events, late_events, meaningful, active_ms, allowed_ms, students, recorded_at)
         values ('{}', '{}', '{}', '{}', '{}', '{starts}', 1, 1, '{starts}', '{starts}', '{{}}', 2, 2, 6, 0, 6, 90000, 0,
             '[{{\"student\": \"{student}\", \"events\": 4}}, {{\"student\": \"{other}\", \"events\": 2}}]', now())",
        town.own.district, town.own.school, town.own.section, town.own.period, town.date
    ))
    .await;
    let store = Store::connect(&town.config).await.unwrap();
    let mut window: EngagementWindow = serde_json::from_value(windows(&store, town.own.district).await.remove(0)).unwrap();
    asked(&store, town.own.district, student, town.log.end()).await;
    // The database's clock says when it was asked for; the town's stands at nine, which may still be to come.
    town.as_owner(&format!("update rollcall.erasure set asked_at = '{starts}' where person = '{student}'")).await;
    let named = |window: &Value| {
        let students = window["students"].as_array().unwrap().iter();
        students.map(|entry| (entry["student"].as_str().unwrap().to_owned(), entry["events"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    let left = windows(&store, town.own.district).await;
    assert_eq!((left.len(), named(&left[0]), &left[0]["active_ms"]), (1, vec![(other.to_string(), 2)], &90_000.into()));

    // Whoever still holds the window as it was, and corrects it, does not write the student down again.
    window.late_events += 1;
    assert_eq!(store.append_windows(town.own.district, &[window]).await.unwrap(), 1);
    let left = windows(&store, town.own.district).await;
    assert_eq!((left.len(), named(&left[1])), (2, vec![(other.to_string(), 2)]));
}
