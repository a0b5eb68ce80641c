//! Every route of the document for every role. A route without an entry here fails the test.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::town::{As, Ids, PASSWORD, ROLES, Town};

/// One operation: its path in the document, how it is asked, and the statuses for [`ROLES`] in their order.
struct Entry {
    method: Method,
    pattern: &'static str,
    /// With `{...}` for the ids of [`filled`]. A query may follow.
    path: &'static str,
    body: fn(&Ids) -> Option<Value>,
    expected: [u16; 7],
}

fn none(_: &Ids) -> Option<Value> {
    None
}

const fn get(path: &'static str, expected: [u16; 7]) -> Entry {
    Entry { method: Method::GET, pattern: "", path, body: none, expected }
}

const fn change(method: Method, path: &'static str, body: fn(&Ids) -> Option<Value>, expected: [u16; 7]) -> Entry {
    Entry { method, pattern: "", path, body, expected }
}

const ALL: [u16; 7] = [401, 200, 200, 200, 200, 200, 200];
/// Teacher and office.
const STAFF: [u16; 7] = [401, 200, 200, 200, 403, 403, 403];
const STAFF_WRITE: [u16; 7] = [401, 201, 201, 201, 403, 403, 403];
/// And the guardian.
const STUDENT: [u16; 7] = [401, 200, 200, 200, 403, 200, 403];
const OFFICE: [u16; 7] = [401, 403, 200, 200, 403, 403, 403];
/// Teacher, office and analyst.
const REPORT: [u16; 7] = [401, 200, 200, 200, 200, 403, 403];
/// Everybody but the guardian.
const QUERY: [u16; 7] = [401, 200, 200, 200, 200, 403, 200];
const ANALYSTS: [u16; 7] = [401, 403, 403, 403, 200, 403, 403];
/// The analyst's own; the district's office may export and has none of this id.
const EXPORT: [u16; 7] = [401, 403, 403, 404, 200, 403, 403];
/// The analyst and the district's office.
const DISTRICT: [u16; 7] = [401, 403, 403, 200, 200, 403, 403];
const DISTRICT_OFFICE: [u16; 7] = [401, 403, 403, 200, 403, 403, 403];
const IT: [u16; 7] = [401, 403, 403, 403, 403, 403, 200];

/// The own school, section and student.
fn entries() -> Vec<Entry> {
    vec![
        change(Method::POST, "/api/v1/session", |_| Some(json!({"email": "analyst@here.example", "password": PASSWORD})), [200; 7]),
        get("/api/v1/session", ALL),
        change(Method::DELETE, "/api/v1/session", none, [401, 204, 204, 204, 204, 204, 204]),
        get("/api/v1/tokens", ALL),
        change(Method::POST, "/api/v1/tokens", |_| Some(json!({"days": 1})), [401, 201, 201, 201, 201, 201, 201]),
        change(Method::DELETE, "/api/v1/tokens/{id=token}", none, [401, 404, 404, 404, 404, 404, 404]),
        get("/api/v1/schools", ALL),
        get("/api/v1/schools/{id=school}", ALL),
        get("/api/v1/schools/{id=school}/sections", STAFF),
        get("/api/v1/sections", STAFF),
        get("/api/v1/sections/{id=section}", STAFF),
        get("/api/v1/sections/{id=section}/students", STAFF),
        get("/api/v1/sections/{id=section}/attendance", STAFF),
        get("/api/v1/sections/{id=section}/engagement", [401, 200, 403, 403, 403, 403, 403]),
        get("/api/v1/sections/{id=section}/engagement/settings", STAFF),
        change(
            Method::PUT,
            "/api/v1/sections/{id=section}/engagement/settings",
            |_| Some(json!({"resources": ["reader", "quiz:*"], "physical": false})),
            STAFF,
        ),
        get("/api/v1/schools/{id=school}/consents", OFFICE),
        change(
            Method::POST,
            "/api/v1/schools/{id=school}/consents",
            |ids| Some(json!({"student": ids.student, "purpose": "activity", "granted": true})),
            [401, 403, 201, 201, 403, 403, 403],
        ),
        get("/api/v1/students/{id=student}", STUDENT),
        get("/api/v1/students/{id=student}/days", STUDENT),
        get("/api/v1/students/{id=student}/days/{date}", STUDENT),
        change(Method::PUT, "/api/v1/students/{id=former}/erasure", none, [401, 403, 403, 202, 403, 403, 403]),
        get("/api/v1/students/{id=former}/erasure", DISTRICT_OFFICE),
        get("/api/v1/former-students", DISTRICT_OFFICE),
        get("/api/v1/people?school={school}", OFFICE),
        get("/api/v1/me/students", [401, 403, 403, 403, 403, 200, 403]),
        change(
            Method::POST,
            "/api/v1/marks",
            |ids| Some(json!({"section": ids.section, "marks": [{"student": ids.student, "status": "present"}]})),
            STAFF_WRITE,
        ),
        get("/api/v1/marks?section={section}", STAFF),
        change(Method::POST, "/api/v1/marks/{id=mark}/undo", none, STAFF_WRITE),
        get("/api/v1/devices?school={school}", [401, 403, 200, 200, 403, 403, 200]),
        change(
            Method::POST,
            "/api/v1/devices",
            |ids| Some(json!({"school": ids.school, "kind": "gate", "name": "Another gate"})),
            [401, 403, 403, 403, 403, 403, 201],
        ),
        change(Method::PATCH, "/api/v1/devices/{id=device}", |_| Some(json!({"name": "Main gate"})), IT),
        get("/api/v1/devices/{id=device}/days", IT),
        get("/api/v1/badges?person={student}", OFFICE),
        change(Method::POST, "/api/v1/badges", |ids| Some(json!({"person": ids.student})), [401, 403, 201, 201, 403, 403, 403]),
        change(Method::POST, "/api/v1/badges/{id=badge}/revoke", none, OFFICE),
        get("/api/v1/dead-letters?device={device}", IT),
        get("/api/v1/accounts", IT),
        change(Method::PATCH, "/api/v1/accounts/{id=spare}", |_| Some(json!({"disabled": true})), IT),
        get("/api/v1/audit", [401, 403, 403, 200, 403, 403, 200]),
        get("/api/v1/districts/{id=district}/attendance", [401, 403, 403, 200, 200, 403, 403]),
        get("/api/v1/reports/attendance?by=section&section={section}", REPORT),
        get("/api/v1/reports/tardies?by=section&section={section}", REPORT),
        get("/api/v1/reports/late-arrivals?by=section&section={section}", REPORT),
        get("/api/v1/reports/unexplained-absences?by=section&section={section}", REPORT),
        get("/api/v1/reports/chronic-absence?by=section&section={section}", REPORT),
        get("/api/v1/reports/chronic-absence/students?tier=chronic&section={section}", STAFF),
        get("/api/v1/reports/explain?figure=absent&section={section}", STAFF),
        get("/api/v1/sql/catalog", QUERY),
        get("/api/v1/saved-queries", QUERY),
        change(
            Method::POST,
            "/api/v1/saved-queries",
            |_| Some(json!({"title": "One", "sql": "SELECT 1"})),
            [401, 201, 201, 201, 201, 403, 201],
        ),
        get("/api/v1/saved-queries/{id=saved}", QUERY),
        // The analyst's, shared: others see it and change nothing.
        change(Method::PATCH, "/api/v1/saved-queries/{id=saved}", |_| Some(json!({"version": 1, "title": "Two"})), ANALYSTS),
        change(Method::DELETE, "/api/v1/saved-queries/{id=saved}", none, [401, 403, 403, 403, 204, 403, 403]),
        get("/api/v1/exports", DISTRICT),
        change(
            Method::POST,
            "/api/v1/exports",
            |_| Some(json!({"query": "{saved}", "rhythm": {"every": "daily", "at": "06:00"}, "format": "csv"})),
            [401, 403, 403, 403, 201, 403, 403],
        ),
        change(Method::PATCH, "/api/v1/exports/{id=export}", |_| Some(json!({"version": 1, "enabled": false})), EXPORT),
        change(Method::DELETE, "/api/v1/exports/{id=export}", none, [401, 403, 403, 404, 204, 403, 403]),
        change(Method::POST, "/api/v1/exports/{id=export}/run", none, [401, 403, 403, 404, 202, 403, 403]),
        get("/api/v1/overview/arrivals?school={school}", [401, 403, 200, 200, 200, 403, 403]),
        change(Method::POST, "/api/v1/sql", |_| Some(json!({"sql": "SELECT 1 AS one"})), QUERY),
    ]
}

impl Entry {
    /// The path as it stands in the document.
    fn documented(&self) -> String {
        let path = if self.pattern.is_empty() { self.path } else { self.pattern };
        let path = path.split('?').next().unwrap();
        let mut out = String::new();
        for part in path.split_inclusive('}') {
            match part.split_once("{id=") {
                Some((before, _)) => out.push_str(&format!("{before}{{id}}")),
                None => out.push_str(part),
            }
        }
        out
    }
}

/// The path with ids put in. A mark is made by the teacher for each call, because it can be undone once.
async fn filled(town: &Town, ids: &Ids, path: &str) -> String {
    let mut path = path.replace("{id=", "{");
    if path.contains("{mark}") {
        let marker = if ids.district == town.own.district { As::Teacher } else { As::Foreign };
        let body = json!({"section": ids.section, "marks": [{"student": ids.student, "status": "tardy"}]});
        let marked = town.post(marker, "/api/v1/marks", body).await;
        assert_eq!(marked.status, StatusCode::CREATED, "{}", marked.body);
        path = path.replace("{mark}", marked.body["items"][0]["id"].as_str().unwrap());
    }
    // A student who is at no school any more, with the district's own number.
    let former = ids.district.0;
    if path.contains("{former}") {
        let person = "insert into rollcall.person (district, id, source_id, kind)";
        town.as_owner(&format!("{person} values ('{former}', '{former}', 'former', 'student') on conflict do nothing")).await;
        town.cache.refresh_now().await.unwrap();
    }
    if path.contains("{saved}") || path.contains("{export}") {
        let owner = if ids.district == town.own.district { As::Analyst } else { As::Foreign };
        let body = json!({"title": "Shared", "sql": "SELECT 1", "shared": true});
        let saved = town.post(owner, "/api/v1/saved-queries", body).await.body["id"].as_str().unwrap().to_owned();
        if path.contains("{export}") {
            let body = json!({"query": saved, "rhythm": {"every": "hourly", "at": "00:10"}, "format": "csv"});
            let export = town.post(owner, "/api/v1/exports", body).await.body["id"].as_str().unwrap().to_owned();
            path = path.replace("{export}", &export);
        }
        path = path.replace("{saved}", &saved);
    }
    let names = [
        ("{district}", ids.district.to_string()),
        ("{school}", ids.school.to_string()),
        ("{section}", ids.section.to_string()),
        ("{student}", ids.student.to_string()),
        ("{former}", former.to_string()),
        ("{device}", ids.device.to_string()),
        ("{badge}", ids.badge.to_string()),
        ("{spare}", ids.spare.to_string()),
        ("{token}", "0".repeat(32)),
        ("{date}", town.date.to_string()),
    ];
    names.iter().fold(path, |path, (name, id)| path.replace(name, id))
}

async fn ask(town: &Town, entry: &Entry, who: As, ids: &Ids) -> StatusCode {
    let path = filled(town, ids, entry.path).await;
    let cookie = match (who, &entry.method) {
        (As::Nobody, _) => None,
        // The session ends with it.
        (who, &Method::DELETE) => Some(town.sign_in(Town::email(who)).await),
        (who, _) => town.cookies.get(&who).cloned(),
    };
    let body = match (entry.body)(ids).map(|body| body.to_string()) {
        Some(text) => Some(serde_json::from_str(&filled(town, ids, &text).await).unwrap()),
        None => None,
    };
    let answer = town.send(entry.method.clone(), &path, cookie.as_deref(), body, &[]).await;
    if !answer.status.is_success() {
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{} {path}", entry.method);
        assert!(answer.body["code"].is_string() && answer.body["request_id"].is_string(), "{}", answer.body);
    }
    answer.status
}

#[tokio::test]
async fn every_route_answers_every_role_as_it_should() {
    let town = Town::start().await;
    let entries = entries();
    let document: Value = serde_json::from_str(&rollcall_api::openapi_json()).unwrap();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone())))
        .collect();
    let tested: BTreeSet<(String, String)> = entries.iter().map(|entry| (entry.method.to_string(), entry.documented())).collect();
    assert_eq!(documented, tested, "every operation of the document has one entry in the matrix");

    let mut wrong = Vec::new();
    for entry in &entries {
        for (who, expected) in ROLES.into_iter().zip(entry.expected) {
            let got = ask(&town, entry, who, &town.own).await;
            if got != expected {
                wrong.push(format!("{} {} as {who:?}: {got}, not {expected}", entry.method, entry.path));
            }
            // What lies in the other district does not exist; whether a route is the role's at all may be told.
            let has_id = (entry.body)(&town.own).is_some_and(|body| body.to_string().contains("\"{"));
            let about_somebody = entry.path.contains('{') || has_id || (entry.body)(&town.own) != (entry.body)(&town.foreign);
            if who != As::Nobody && about_somebody {
                let got = ask(&town, entry, who, &town.foreign).await;
                let allowed: &[u16] = if expected < 400 { &[404] } else { &[403, 404] };
                if !allowed.contains(&got.as_u16()) {
                    wrong.push(format!("{} {} of another district as {who:?}: {got}", entry.method, entry.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn an_office_and_a_teacher_see_nothing_of_another_school() {
    let town = Town::start().await;
    let paths = [
        format!("/api/v1/sections/{}", town.other_section),
        format!("/api/v1/sections/{}/students", town.other_section),
        format!("/api/v1/sections/{}/attendance", town.other_section),
        format!("/api/v1/students/{}", town.other_student),
        format!("/api/v1/students/{}/days/{}", town.other_student, town.date),
        format!("/api/v1/marks?section={}", town.other_section),
        format!("/api/v1/schools/{}", town.other_school),
    ];
    for path in &paths {
        for (who, expected) in [(As::Teacher, 403), (As::Office, 403), (As::Guardian, 403), (As::DistrictOffice, 200)] {
            let got = town.get(who, path).await;
            assert_eq!(got.status, expected, "{path} as {who:?}: {}", got.body);
        }
    }
    let sections = town.get(As::Teacher, "/api/v1/sections").await.body;
    let directory = town.cache.current().district(town.own.district).unwrap().clone();
    for section in sections["items"].as_array().unwrap() {
        let id: Uuid = section["id"].as_str().unwrap().parse().unwrap();
        let mut teachers = directory.teachers_of(rollcall_model::ids::SectionId(id), town.date);
        assert!(teachers.any(|teacher| teacher == town.own.teacher), "{section}");
    }
    assert!(sections["items"].as_array().unwrap().iter().any(|section| section["meets_now"] == true), "{sections}");
}

#[tokio::test]
async fn an_analyst_gets_no_name_and_no_student() {
    let town = Town::start().await;
    let students = town.students();
    for path in ["/api/v1/schools", "/api/v1/session"] {
        let text = town.get(As::Analyst, path).await.body.to_string();
        assert!(students.iter().all(|student| !text.contains(&student.to_string())), "{path}");
    }
    let names = town.get(As::Office, &format!("/api/v1/sections/{}/students", town.own.section)).await.body;
    assert_eq!(names["items"].as_array().unwrap().len(), students.len());
    assert!(names["items"][0]["family"].as_str().is_some_and(|name| !name.is_empty()), "{names}");
    let children = town.get(As::Guardian, "/api/v1/me/students").await.body;
    assert!(children["items"].as_array().unwrap().iter().any(|child| child["id"] == town.own.student.to_string()), "{children}");
}
