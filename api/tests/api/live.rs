//! The live stream over real sockets: snapshot, deltas, resume, and the end of rights, sessions and slow readers.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use futures_util::{SinkExt, StreamExt};
use rollcall_analytics::hub::Changes;
use rollcall_api::ApiConfig;
use rollcall_model::event::Direction;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::ServiceExt;

use crate::reasons::students;
use crate::town::{As, PATIENCE, Town};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, id: u64, topic: &str, since: Option<u64>) {
        self.say(json!({"op": "subscribe", "id": id, "topic": topic, "since": since})).await;
    }

    /// The next message of the protocol, or the close code.
    async fn next(&mut self) -> Result<Value, Option<CloseCode>> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                    Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code)),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a message")
    }
}

pub(crate) async fn serve(town: &Town) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = town.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn connect(address: &str, cookie: &str, origin: &str) -> Result<Client, tungstenite::Error> {
    let mut request = format!("ws://{address}/live/v1").into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request.headers_mut().insert("origin", origin.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| Client(socket))
}

async fn client(town: &Town, address: &str, who: As) -> Client {
    connect(address, &town.cookies[&who], &format!("http://{address}")).await.unwrap()
}

async fn mark(town: &Town, status: &str) {
    let body = json!({"section": town.own.section, "marks": [{"student": town.own.student, "status": status}]});
    let answer = town.post(As::Office, "/api/v1/marks", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
}

#[tokio::test]
async fn a_board_is_followed_and_resumed() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let topic = format!("section/{}/attendance", town.own.section);
    let mut page = client(&town, &address, As::Teacher).await;
    page.subscribe(1, &topic, None).await;
    let snapshot = page.next().await.unwrap();
    assert_eq!((snapshot["op"].as_str(), snapshot["id"].as_u64()), (Some("snapshot"), Some(1)), "{snapshot}");
    let version = snapshot["version"].as_u64().unwrap();
    mark(&town, "tardy").await;
    let delta = page.next().await.unwrap();
    assert_eq!((delta["op"].as_str(), delta["version"].as_u64()), (Some("delta"), Some(version + 1)), "{delta}");
    assert_eq!(delta["data"]["students"][town.own.student.to_string()]["status"], "tardy");
    page.say(json!({"op": "ping"})).await;
    assert_eq!(page.next().await.unwrap(), json!({"op": "pong"}));
    drop(page);

    mark(&town, "present").await;
    let mut again = client(&town, &address, As::Teacher).await;
    again.subscribe(7, &topic, Some(version + 1)).await;
    let missed = again.next().await.unwrap();
    assert_eq!((missed["op"].as_str(), missed["version"].as_u64()), (Some("delta"), Some(version + 2)), "{missed}");
    again.say(json!({"op": "unsubscribe", "id": 7})).await;
    again.subscribe(7, &topic, None).await;
    assert_eq!(again.next().await.unwrap()["op"], "snapshot", "an id is free after its end");
}

#[tokio::test]
async fn topics_are_for_those_the_protocol_names() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let own = &town.own;
    let topics = [
        (format!("section/{}/attendance", own.section), vec![As::Teacher, As::Office, As::DistrictOffice]),
        (format!("section/{}/attendance", town.other_section), vec![As::DistrictOffice]),
        (format!("school/{}/attendance", own.school), vec![As::Office, As::DistrictOffice]),
        (format!("school/{}/attendance", town.other_school), vec![As::DistrictOffice]),
        (format!("district/{}/attendance", own.district), vec![As::DistrictOffice, As::Analyst]),
        (format!("student/{}/day", own.student), vec![As::Guardian]),
        (format!("student/{}/day", town.other_student), vec![]),
        (format!("district/{}/devices", own.district), vec![As::It]),
    ];
    let foreign = [
        format!("section/{}/attendance", town.foreign.section),
        format!("school/{}/attendance", town.foreign.school),
        format!("district/{}/attendance", town.foreign.district),
        format!("student/{}/day", town.foreign.student),
        format!("district/{}/devices", town.foreign.district),
    ];
    for who in [As::Teacher, As::Office, As::DistrictOffice, As::Analyst, As::Guardian, As::It] {
        let mut page = client(&town, &address, who).await;
        for (id, (topic, allowed)) in topics.iter().enumerate() {
            page.subscribe(id as u64, topic, None).await;
            let answer = page.next().await.unwrap();
            let expected = if allowed.contains(&who) { ("snapshot", "") } else { ("error", "forbidden") };
            assert_eq!((answer["op"].as_str().unwrap(), answer["code"].as_str().unwrap_or("")), expected, "{topic} as {who:?}: {answer}");
            page.say(json!({"op": "unsubscribe", "id": id})).await;
        }
        for topic in &foreign {
            page.subscribe(99, topic, None).await;
            assert_eq!(page.next().await.unwrap()["code"], "not_found", "{topic} as {who:?}");
        }
        for (wrong, code) in
            [(json!({"op": "subscribe", "id": 99, "topic": "nothing/at/all"}), "unknown_topic"), (json!({"op": "dance"}), "malformed")]
        {
            page.say(wrong).await;
            assert_eq!(page.next().await.unwrap()["code"], code);
        }
    }
    let evil = connect(&address, &town.cookies[&As::Teacher], "https://evil.example").await;
    assert!(matches!(evil, Err(tungstenite::Error::Http(response)) if response.status() == 403));
    let stranger = connect(&address, "rollcall_session=rs_x", &format!("http://{address}")).await;
    assert!(matches!(stranger, Err(tungstenite::Error::Http(response)) if response.status() == 401));
}

/// No single student's coming shows to who may see groups only: neither in a number nor in that something is told.
#[tokio::test]
async fn an_analyst_follows_the_district_in_tens() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let topic = format!("district/{}/attendance", town.own.district);
    let (mut office, mut analyst) = (client(&town, &address, As::DistrictOffice).await, client(&town, &address, As::Analyst).await);
    let line = |message: &Value| message["data"]["schools"][town.own.school.to_string()].clone();
    let counted = |line: &Value| line["counts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).collect::<Vec<_>>();
    for (page, rounded_to) in [(&mut office, 1), (&mut analyst, 10)] {
        page.subscribe(1, &topic, None).await;
        let whole = line(&page.next().await.unwrap());
        assert_eq!((counted(&whole).iter().sum::<u64>(), &whole["rounded_to"]), (40, &rounded_to.into()), "{whole}");
    }
    for (seq, student) in students(&town).into_iter().take(8).enumerate() {
        town.scan(1 + seq as u64, student, town.clock.now(), Direction::In).await;
    }
    let mut told = 0;
    loop {
        let whole = line(&office.next().await.unwrap());
        told += 1;
        if whole["in_building"] == 8 {
            break;
        }
    }
    assert!(told > 3, "{told} messages of eight arrivals");
    // What follows on the same connection is told after what came before.
    analyst.subscribe(2, &topic, None).await;
    let (mut changes, mut last) = (0, analyst.next().await.unwrap());
    while last["op"] == "delta" {
        let whole = line(&last);
        assert!(counted(&whole).iter().chain([&whole["in_building"].as_u64().unwrap()]).all(|count| count % 10 == 0), "{whole}");
        (changes, last) = (changes + 1, analyst.next().await.unwrap());
    }
    assert!((1..=3).contains(&changes), "{changes} messages of eight arrivals");
    assert_eq!(line(&last)["in_building"], 10, "{last}");
    let path = format!("/api/v1/districts/{}/attendance", town.own.district);
    assert_eq!(line(&town.get(As::Analyst, &path).await.body), line(&last));
    assert_eq!(line(&town.get(As::DistrictOffice, &path).await.body)["in_building"], 8);
}

#[tokio::test]
async fn a_revoked_right_ends_the_subscription_and_a_sign_out_the_connection() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let topic = format!("section/{}/attendance", town.own.section);
    let cookie = town.sign_in("teacher@here.example").await;
    let mut page = connect(&address, &cookie, &format!("http://{address}")).await.unwrap();
    page.subscribe(1, &topic, None).await;
    assert_eq!(page.next().await.unwrap()["op"], "snapshot");
    town.as_owner(&format!(
        "update rollcall.enrolment set ends = '{}' where role = 'teacher' and section = '{}'",
        town.date, town.own.section
    ))
    .await;
    let ended = page.next().await.unwrap();
    assert_eq!(
        (ended["op"].as_str(), ended["id"].as_u64(), ended["code"].as_str()),
        (Some("error"), Some(1), Some("forbidden")),
        "{ended}"
    );
    mark(&town, "tardy").await;
    page.say(json!({"op": "ping"})).await;
    assert_eq!(page.next().await.unwrap(), json!({"op": "pong"}), "nothing of the section came in between");

    let out = town.send(Method::DELETE, "/api/v1/session", Some(&cookie), None, &[]).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert_eq!(page.next().await, Err(Some(CloseCode::Policy)));

    // Disabled by another process: only the database knows.
    let mut guardian = client(&town, &address, As::Guardian).await;
    town.as_owner("update rollcall.account set disabled = true where email = 'guardian@here.example'").await;
    assert_eq!(guardian.next().await, Err(Some(CloseCode::Policy)));
}

#[tokio::test]
async fn a_slow_reader_is_disconnected_and_costs_no_memory() {
    let config =
        ApiConfig { live_write_timeout: Duration::from_millis(300), session_idle: Duration::from_secs(48 * 3600), ..ApiConfig::default() };
    let town = Town::with(config).await;
    let address = serve(&town).await;
    let topic = format!("section/{}/attendance", town.own.section);
    // A client that shakes hands, asks, and never reads again.
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let handshake = format!(
        "GET /live/v1 HTTP/1.1\r\nHost: {address}\r\nCookie: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        town.cookies[&As::Teacher]
    );
    socket.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    let text = json!({"op": "subscribe", "id": 1, "topic": topic}).to_string();
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    socket.write_all(&frame).await.unwrap();

    let large = "x".repeat(1 << 20);
    let slow = || {
        let families = town.registry.gather();
        let closed = families.iter().find(|family| family.name() == "rollcall_live_closed_total");
        closed.is_some_and(|family| family.get_metric().iter().any(|metric| metric.get_label().iter().any(|label| label.value() == "slow")))
    };
    let disconnected = async {
        while !slow() {
            town.hub.update(&topic, Changes::new().set("test", "large", large.clone()).clone());
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, disconnected).await.expect("the slow reader is disconnected");
    let mut other = client(&town, &address, As::Teacher).await;
    other.subscribe(1, &format!("section/{}/attendance", town.own.section), None).await;
    assert_eq!(other.next().await.unwrap()["op"], "snapshot", "others notice nothing");
}

#[tokio::test]
async fn events_have_the_same_content() {
    let town = Town::start().await;
    let topic = format!("section/{}/attendance", town.own.section);
    let ask = |who: As, since: Option<String>| {
        let mut request = Request::builder().uri(format!("/live/v1/events?topic={topic}")).header("cookie", &town.cookies[&who]);
        if let Some(since) = since {
            request = request.header("last-event-id", since);
        }
        town.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let first = |response: axum::response::Response| async {
        let mut stream = response.into_body().into_data_stream();
        let chunk = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    };
    let response = ask(As::Teacher, None).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let snapshot = first(response).await;
    let id = snapshot.lines().next().unwrap().strip_prefix("id: ").unwrap().to_owned();
    assert!(snapshot.contains("event: snapshot\ndata: {\"op\":\"snapshot\",\"version\":"), "{snapshot}");
    mark(&town, "tardy").await;
    let delta = first(ask(As::Teacher, Some(id)).await.unwrap()).await;
    assert!(delta.contains("event: delta\n") && delta.contains("\"tardy\""), "{delta}");
    assert_eq!(ask(As::It, None).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(As::Foreign, None).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_live_query_comes_as_events_too() {
    let town = Town::start().await;
    let ask = |who: As, query: &str| {
        let request = Request::builder().uri(format!("/live/v1/events?{query}")).header("cookie", &town.cookies[&who]);
        town.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let (student, section) = (town.own.student, town.own.section);
    let sql = format!("select status from attendance_now where student = '{student}' and section = '{section}'");
    let status = format!("topic=sql&sql={}", sql.replace(' ', "%20").replace('=', "%3D"));
    let response = ask(As::Office, &status).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut events = response.into_body().into_data_stream();
    let mut next = async || {
        let chunk = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    };
    let snapshot = next().await;
    assert!(snapshot.contains("event: snapshot\n") && !snapshot.contains("tardy"), "{snapshot}");
    mark(&town, "tardy").await;
    let delta = next().await;
    assert!(delta.contains("event: delta\n") && delta.contains("[\"tardy\"]"), "{delta}");
    let mut wrong = ask(As::Office, "topic=sql&sql=select%20nothing%20from%20attendance_now").await.unwrap().into_body().into_data_stream();
    let error = tokio::time::timeout(PATIENCE, wrong.next()).await.unwrap().unwrap().unwrap();
    let error = String::from_utf8(error.to_vec()).unwrap();
    assert!(error.starts_with("event: error\n") && error.contains("\"column\":8,\"line\":1"), "{error}");
    assert!(wrong.next().await.is_none(), "an error is the end");
    let guardian = ask(As::Guardian, &status).await.unwrap().into_body().into_data_stream().next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&guardian).contains("\"op\":\"error\""), "{guardian:?}");
    for query in ["topic=sql", "topic=section&sql=select%201"] {
        assert_eq!(ask(As::Office, query).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
}
