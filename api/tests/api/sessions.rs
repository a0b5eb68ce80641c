//! Sign-in, sign-out, tokens, other sites, and what surrounds every answer.

use axum::http::{Method, StatusCode, header};
use serde_json::json;

use crate::town::{As, PASSWORD, Town};

#[tokio::test]
async fn a_session_begins_slides_and_ends() {
    let town = Town::start().await;
    let who = town.get(As::Teacher, "/api/v1/session").await.body;
    assert_eq!(who["account"]["email"], "teacher@here.example");
    assert_eq!(who["account"]["person"], town.own.teacher.to_string());
    assert_eq!(who["district"]["name"], "Here");

    let cookie = town.sign_in("Teacher@Here.Example").await;
    let info = |cookie: String| async {
        let cookie = cookie;
        town.send(Method::GET, "/api/v1/session", Some(&cookie), None, &[]).await
    };
    let first = info(cookie.clone()).await.body["expires"].as_str().unwrap().to_owned();
    town.clock.set(rollcall_model::time::UtcMillis(town.clock.now().0 + 26 * 3600 * 1000));
    info(cookie.clone()).await;
    let slid = info(cookie.clone()).await.body["expires"].as_str().unwrap().to_owned();
    assert!(slid > first, "{first} {slid}");

    let out = town.send(Method::DELETE, "/api/v1/session", Some(&cookie), None, &[]).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(info(cookie).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(info("rollcall_session=rs_nonsense".to_owned()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_passwords_are_told_alike_and_then_wait() {
    let town = Town::start().await;
    let attempt = |email: &'static str, password: &'static str| {
        town.send(Method::POST, "/api/v1/session", None, Some(json!({"email": email, "password": password})), &[])
    };
    let wrong = attempt("office@here.example", "wrong password").await;
    let unknown = attempt("nobody@here.example", "wrong password").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert_eq!((wrong.body["code"].clone(), wrong.body["detail"].clone()), (unknown.body["code"].clone(), unknown.body["detail"].clone()));
    let mut refused = 0;
    for _ in 0..1000 {
        let answer = attempt("office@here.example", "wrong password").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
            refused += 1;
        }
    }
    assert!(refused > 950, "{refused} of 1000 were refused without a check");
    assert_eq!(attempt("teacher@here.example", PASSWORD).await.status, StatusCode::OK, "others are not locked out");
}

#[tokio::test]
async fn another_site_cannot_use_the_cookie() {
    let town = Town::start().await;
    let cookie = Some(town.cookies[&As::Teacher].as_str());
    let body = || Some(json!({"days": 1}));
    let send = |extra: &'static [(&'static str, &'static str)]| town.send(Method::POST, "/api/v1/tokens", cookie, body(), extra);
    for extra in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", ""), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "")],
    ] {
        let answer = send(extra).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (StatusCode::FORBIDDEN, Some("cross_site")), "{extra:?}");
    }
    assert_eq!(send(&[("sec-fetch-site", ""), ("origin", "http://rollcall.example")]).await.status, StatusCode::CREATED);

    let token = send(&[]).await.body["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let by_token = town.send(Method::GET, "/api/v1/session", None, None, &[("authorization", &bearer)]).await;
    assert_eq!(by_token.body["account"]["email"], "teacher@here.example");
    let write = town.send(Method::POST, "/api/v1/tokens", None, body(), &[("authorization", &bearer), ("sec-fetch-site", "")]).await;
    assert_eq!(write.status, StatusCode::CREATED, "a program is no browser");
    let as_cookie = format!("rollcall_session={token}");
    assert_eq!(town.send(Method::GET, "/api/v1/session", Some(&as_cookie), None, &[]).await.status, StatusCode::UNAUTHORIZED);
    let tokens = town.get(As::Teacher, "/api/v1/tokens").await.body;
    for token in tokens["items"].as_array().unwrap() {
        let path = format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
        assert_eq!(town.ask(As::Teacher, Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    }
    let revoked = town.send(Method::GET, "/api/v1/session", None, None, &[("authorization", &bearer)]).await;
    assert_eq!(revoked.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_secret_is_not_kept_for_its_idempotency_key() {
    let town = Town::start().await;
    let send = || {
        let body = json!({"school": town.own.school, "kind": "gate", "name": "Gate 2"});
        town.send(Method::POST, "/api/v1/devices", Some(&town.cookies[&As::It]), Some(body), &[("idempotency-key", "k")])
    };
    let first = send().await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    let again = send().await;
    assert_eq!((again.status, again.body["code"].as_str()), (StatusCode::CONFLICT, Some("secret_shown_once")));
    let named = town.get(As::It, "/api/v1/devices").await.body;
    assert_eq!(named["items"].as_array().unwrap().iter().filter(|device| device["name"] == "Gate 2").count(), 1);
}

#[tokio::test]
async fn a_disabled_account_is_out_at_once() {
    let town = Town::start().await;
    let accounts = town.get(As::It, "/api/v1/accounts?limit=2").await.body;
    assert_eq!(accounts["items"].as_array().unwrap().len(), 2);
    assert!(accounts["next"].is_string(), "{accounts}");
    let office = town.get(As::Office, "/api/v1/session").await.body["account"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/accounts/{office}");
    assert_eq!(town.ask(As::It, Method::PATCH, &path, Some(json!({"disabled": true}))).await.status, StatusCode::OK);
    assert_eq!(town.get(As::Office, "/api/v1/session").await.status, StatusCode::UNAUTHORIZED);
    let attempt = json!({"email": "office@here.example", "password": PASSWORD});
    assert_eq!(town.send(Method::POST, "/api/v1/session", None, Some(attempt), &[]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_answer_has_its_id_and_keeps_browsers_safe() {
    let town = Town::start().await;
    let page = town.send(Method::GET, "/boards/7", None, None, &[("x-request-id", "abc-1")]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["x-request-id"], "abc-1");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let odd = town.send(Method::GET, "/api/v1/session", None, None, &[("x-request-id", "a b<c>")]).await;
    assert_ne!(odd.headers["x-request-id"], "a b<c>");
    assert_eq!(odd.body["request_id"], odd.headers["x-request-id"].to_str().unwrap());

    let unknown = town.get(As::Teacher, "/api/v1/nothing").await;
    assert_eq!((unknown.status, unknown.body["code"].as_str()), (StatusCode::NOT_FOUND, Some("not_found")));
    let large = json!({"days": 1, "x": "y".repeat(300 * 1024)});
    assert_eq!(town.post(As::Teacher, "/api/v1/tokens", large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let odd = town.post(As::Teacher, "/api/v1/tokens", json!({"days": "x"})).await;
    assert_eq!(odd.body["code"], "wrong_type");
    let bad = town.get(As::Teacher, "/api/v1/sections?limit=x").await;
    assert_eq!((bad.status, bad.body["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_query")));

    let ready = town.get(As::Nobody, "/health/ready").await;
    assert_eq!((ready.status, ready.body["ready"].as_bool()), (StatusCode::OK, Some(true)));
    let metrics = town.get(As::Nobody, "/metrics").await.body;
    assert!(metrics.as_str().unwrap().contains("rollcall_http_requests_total{method=\"POST\",route=\"/api/v1/session\",status=\"200\"}"));
    let document = town.get(As::Nobody, "/api/v1/openapi.json").await;
    assert_eq!(document.body["openapi"], "3.1.0");
}
