//! Live SQL over what is read from the database: facts, views, engagement and the directory tell when they change.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::{Method, Request, StatusCode};
use futures_util::StreamExt;
use rollcall_analytics::attendance::DayKey;
use rollcall_analytics::engagement::WindowRecord;
use rollcall_analytics::engagement::calculate::WindowValue;
use rollcall_analytics::engagement::definition::Parameters;
use rollcall_analytics::engagement::store::StoreEngagement;
use rollcall_model::event::Direction;
use rollcall_model::ids::Offset;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::Span;
use rollcall_store::Store;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::town::{As, PATIENCE, Town};

/// A followed text, update by update.
struct Followed(BodyDataStream);

impl Followed {
    /// Follows a text; what it gives first, without a warning.
    async fn begin(town: &Town, sql: &str) -> (Self, Value) {
        let coded: String = sql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request =
            Request::builder().uri(format!("/live/v1/events?topic=sql&sql={coded}")).header("cookie", &town.cookies[&As::DistrictOffice]);
        let response = town.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{sql}");
        let mut followed = Self(response.into_body().into_data_stream());
        let snapshot = followed.next("snapshot").await;
        assert_eq!(snapshot["result"]["warnings"], json!([]), "{sql}");
        let rows = snapshot["rows"].clone();
        (followed, rows)
    }

    async fn next(&mut self, event: &str) -> Value {
        let said = async {
            loop {
                let text = String::from_utf8(self.0.next().await.unwrap().unwrap().to_vec()).unwrap();
                if !text.starts_with(": ") {
                    return text;
                }
            }
        };
        let text = tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("no {event} came"));
        assert!(text.contains(&format!("event: {event}\n")), "{text}");
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        serde_json::from_str::<Value>(data).unwrap()["data"].clone()
    }

    /// Waits until the one row of the text is this.
    async fn until(&mut self, row: Value) {
        while self.next("delta").await["rows"]["[]"] != row {}
    }
}

#[tokio::test]
async fn facts_follow_scans_and_marks() {
    let town = Town::start().await;
    let (student, today) = (town.own.student, town.date);
    let of = |table: &str| format!("from {table} where student = '{student}' and date = date '{today}'");
    let arrived = format!("select count(arrival) {}", of("attendance_day"));
    let (mut day, before) = Followed::begin(&town, &arrived).await;
    assert_eq!(before, json!({"[]": [0]}));
    let absent = format!("select count(*) {} and section = '{}' and status = 'absent'", of("attendance_period"), town.own.section);
    let (mut period, before) = Followed::begin(&town, &absent).await;
    assert_eq!(before, json!({"[]": [0]}));
    // What replaces a conclusion of the same instant is recorded a moment later, which a clock that stands still would never see.
    let later = || town.clock.set(town.clock.now().plus_ms(1_000));
    later();
    town.scan(1, student, town.clock.now().plus_ms(-60_000), Direction::In).await;
    day.until(json!([1])).await;
    later();
    let body = json!({"section": town.own.section, "marks": [{"student": student, "status": "absent_unexcused"}]});
    assert_eq!(town.ask(As::Office, Method::POST, "/api/v1/marks", Some(body)).await.status, StatusCode::CREATED);
    period.until(json!([1])).await;
}

/// A view has closed days only: a scan that a device had kept since yesterday.
#[tokio::test]
async fn a_view_follows_late_evidence() {
    let town = Town::start().await;
    let yesterday = town.date.pred_opt().unwrap();
    let school = town.own.school;
    let attended =
        format!("select sum(attended_half_days) from attendance_by_week where school = '{school}' and week <= date '{yesterday}'");
    let (mut view, before) = Followed::begin(&town, &attended).await;
    let before = before["[]"][0].as_i64().unwrap();
    town.scan(1, town.own.student, town.clock.now().plus_ms(-25 * 3_600_000), Direction::In).await;
    let after = view.next("delta").await;
    assert!(after["rows"]["[]"][0].as_i64().unwrap() > before, "{before} and {after}");
}

#[tokio::test]
async fn engagement_follows_its_windows() {
    let town = Town::start().await;
    let (mut windows, before) = Followed::begin(&town, "select count(*), sum(events) from engagement").await;
    assert_eq!(before, json!({"[]": [0, null]}));
    let slot = town.clock.now().plus_ms(-town.clock.now().0.rem_euclid(300_000));
    let record = WindowRecord {
        day: DayKey { district: town.own.district, school: town.own.school, date: town.date },
        section: town.own.section,
        period: town.own.period,
        slot,
        span: Span::new(slot, slot.plus_ms(300_000)),
        parameters: Parameters::from(&AttendancePolicy::default()),
        value: WindowValue { present: 10, with_data: 4, events: 7, ..WindowValue::default() },
        students: Vec::new(),
        recorded: town.clock.now(),
    };
    let store = Store::connect(&town.config).await.unwrap();
    town.saves.of_engagement(StoreEngagement { store }).save(Arc::new(vec![record]), Offset(0)).await.unwrap();
    windows.until(json!([1, 7])).await;
}

#[tokio::test]
async fn the_directory_follows_the_roster() {
    let town = Town::start().await;
    let student = town.own.student;
    let (mut grades, before) =
        Followed::begin(&town, &format!("select count(*) from students where person = '{student}' and grade = '99'")).await;
    assert_eq!(before, json!({"[]": [0]}));
    let (mut rooms, _) =
        Followed::begin(&town, &format!("select count(*) from sections where room = 'Attic' and school = '{}'", town.own.school)).await;
    town.as_owner(&format!("update rollcall.person set grade = '99' where id = '{student}'")).await;
    grades.until(json!([1])).await;
    town.as_owner(&format!("update rollcall.section set room = 'Attic' where id = '{}'", town.own.section)).await;
    rooms.until(json!([1])).await;
}
