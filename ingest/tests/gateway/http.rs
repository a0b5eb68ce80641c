//! POST, the ingest WebSocket and MQTT over WebSocket.

use futures_util::{SinkExt, StreamExt};
use rollcall_ingest::GatewayConfig;
use rollcall_model::event::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::{NOW, Server, TOKEN, scan};

async fn routes(server: &Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = rollcall_ingest::http::router(server.gateway.clone());
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    port
}

async fn post(port: u16, bearer: &str, body: &[u8]) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "POST /ingest/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {bearer}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses by the length may close before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head[9..12].parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn typed(seq: u64) -> String {
    scan(seq).replacen('{', "{\"type\":\"scan\",", 1)
}

#[tokio::test]
async fn post_takes_one_many_and_lines() {
    let server = Server::start().await;
    let port = routes(&server).await;
    let who = server.device();
    let bearer = format!("{}:{TOKEN}", who.device);
    let (status, body) = post(port, &bearer, typed(1).as_bytes()).await;
    assert_eq!((status, body), (200, serde_json::json!({"accepted": 1, "duplicates": 0, "rejected": []})));
    let (_, body) = post(port, &bearer, format!("[{},{}]", typed(1), typed(2)).as_bytes()).await;
    assert_eq!((&body["accepted"], &body["duplicates"]), (&1.into(), &1.into()));
    let (_, body) = post(port, &bearer, format!("{}\n{{\"type\":\"scan\",\"seq\":9}}\n{}\n", typed(3), typed(4)).as_bytes()).await;
    assert_eq!(
        (&body["accepted"], &body["rejected"][0]["seq"], &body["rejected"][0]["code"]),
        (&2.into(), &9.into(), &"missing_field".into())
    );
    assert_eq!(server.seqs(Kind::Scan), [1, 2, 3, 4]);
    assert_eq!(post(port, "nonsense", b"{}").await.0, 401);
    assert_eq!(post(port, &format!("{}:wrong", who.device), b"{}").await.0, 401);
    assert_eq!(post(port, &bearer, &vec![b' '; 300_000]).await.0, 413);
    server.door.shut.store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, body) = post(port, &bearer, typed(5).as_bytes()).await;
    assert_eq!((status, &body["code"]), (429, &"overloaded".into()));
    server.door.shut.store(false, std::sync::atomic::Ordering::SeqCst);
    // What was not taken left no trace: the same event is new.
    assert_eq!(post(port, &bearer, typed(5).as_bytes()).await.1["accepted"], 1);
    server.log.fail();
    assert_eq!(post(port, &bearer, typed(6).as_bytes()).await.0, 503);
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn upgrade(port: u16, path: &str, headers: &[(&'static str, String)]) -> Request {
    let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn socket(port: u16, path: &str, headers: &[(&'static str, String)]) -> Socket {
    tokio_tungstenite::connect_async(upgrade(port, path, headers)).await.unwrap().0
}

/// An ingest WebSocket of a device.
async fn feed(server: &Server, port: u16) -> Socket {
    let who = server.device();
    socket(port, "/ingest/v1", &[("authorization", format!("Bearer {}:{TOKEN}", who.device))]).await
}

async fn next(socket: &mut Socket) -> Message {
    let next = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next());
    next.await.expect("a frame").unwrap().unwrap()
}

async fn answer(socket: &mut Socket) -> serde_json::Value {
    let next = tokio::time::timeout(std::time::Duration::from_secs(10), socket.next());
    serde_json::from_str(next.await.expect("an answer").unwrap().unwrap().to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn frames_are_answered_in_order_once_durable() {
    let server = Server::start().await;
    let port = routes(&server).await;
    let who = server.device();
    let mut socket = socket(port, "/ingest/v1", &[("authorization", format!("Bearer {}:{TOKEN}", who.device))]).await;
    server.rows(Kind::Status, 1).await;
    server.log.hold();
    for frame in [typed(1), "[".into(), format!("[{},{}]", typed(2), typed(1))] {
        socket.send(Message::text(frame)).await.unwrap();
    }
    socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    // The pong shows that the frames before the ping were read; no answer came ahead of it.
    socket.send(Message::Ping(Bytes::new())).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Pong(_)))));
    server.log.release();
    assert_eq!(answer(&mut socket).await, serde_json::json!({"ack": 1}));
    let refused = answer(&mut socket).await;
    assert_eq!((&refused["reject"], &refused["code"]), (&2.into(), &"json_syntax".into()));
    assert_eq!(answer(&mut socket).await, serde_json::json!({"ack": 3}));
    assert_eq!(answer(&mut socket).await["code"], "arrow_invalid");
    assert_eq!(server.seqs(Kind::Scan), [1, 2]);
    socket.close(None).await.unwrap();
    server.rows(Kind::Status, 2).await;
}

#[tokio::test]
async fn mqtt_over_websocket() {
    let server = Server::start().await;
    let port = routes(&server).await;
    let who = server.device();
    let mut socket = socket(port, "/mqtt", &[("sec-websocket-protocol", "mqtt".into())]).await;
    let id = who.device.to_string();
    let mut body = b"\0\x04MQTT\x04\xc2\0\x3c".to_vec();
    for field in [&id, &id, &TOKEN.to_owned()] {
        body.extend_from_slice(&(field.len() as u16).to_be_bytes());
        body.extend_from_slice(field.as_bytes());
    }
    let connect = crate::harness::packet(0x10, &body);
    let heartbeat = format!("{{\"seq\":1,\"ts\":{NOW},\"battery\":0.6,\"fw\":\"2.4.1\",\"queued\":0,\"uptime_s\":9}}");
    let publish = crate::harness::packet(0x32, &[b"\0\x09v1/status\0\x05", heartbeat.as_bytes()].concat());
    // Packets do not align with frames.
    for piece in [&connect[..7], &[&connect[7..], &publish[..20]].concat(), &publish[20..]] {
        socket.send(Message::binary(piece.to_vec())).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < 8 {
        answers.extend_from_slice(&socket.next().await.unwrap().unwrap().into_data());
    }
    assert_eq!(answers, [0x20, 2, 0, 0, 0x40, 2, 0, 5]);
    assert!(server.seqs(Kind::Status).contains(&1));
}

#[tokio::test]
async fn websockets_count_in_the_limits() {
    let server = Server::with(GatewayConfig { connections_max: 2, ..GatewayConfig::default() }).await;
    let port = routes(&server).await;
    let first = feed(&server, port).await;
    let _second = socket(port, "/mqtt", &[("sec-websocket-protocol", "mqtt".into())]).await;
    let who = server.device();
    for (path, header, value) in
        [("/mqtt", "sec-websocket-protocol", "mqtt".to_owned()), ("/ingest/v1", "authorization", format!("Bearer {}:{TOKEN}", who.device))]
    {
        let refused = tokio_tungstenite::connect_async(upgrade(port, path, &[(header, value)])).await;
        assert!(matches!(refused, Err(tokio_tungstenite::tungstenite::Error::Http(answer)) if answer.status() == 503), "{path}");
    }
    server.raw().await.closed().await;
    drop(first);
    server.rows(Kind::Status, 2).await;
    loop {
        let mut third = server.raw().await;
        if third.connect(&crate::harness::Hello::new(&who)).await == [0, 0] {
            break;
        }
    }
}

#[tokio::test]
async fn at_a_shutdown_websockets_are_answered_and_closed_at_once() {
    let mut server = Server::start().await;
    let port = routes(&server).await;
    let mut idle = feed(&server, port).await;
    let mut greeting = socket(port, "/mqtt", &[("sec-websocket-protocol", "mqtt".into())]).await;
    let mut busy = feed(&server, port).await;
    server.rows(Kind::Status, 2).await;
    server.log.hold();
    busy.send(Message::text(typed(1))).await.unwrap();
    busy.send(Message::Ping(Bytes::new())).await.unwrap();
    assert!(matches!(next(&mut busy).await, Message::Pong(_)));
    let (log, gateway) = (server.log.clone(), server.gateway.clone());
    let started = std::time::Instant::now();
    let client = async move {
        // The idle ones hear of it while the busy one still waits for its frame.
        for socket in [&mut idle, &mut greeting] {
            assert!(matches!(next(socket).await, Message::Close(Some(frame)) if frame.code == CloseCode::Away));
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
        }
        log.release();
        assert_eq!(next(&mut busy).await, Message::text("{\"ack\":1}"));
        assert!(matches!(next(&mut busy).await, Message::Close(Some(frame)) if frame.code == CloseCode::Away));
        while busy.next().await.is_some_and(|message| message.is_ok()) {}
    };
    tokio::join!(server.stop(), client);
    assert!(started.elapsed().as_secs() < 3, "nobody had to be cut");
    assert_eq!(gateway.handle().connected_devices(), 0);
    assert_eq!(server.seqs(Kind::Scan), [1]);
}

#[tokio::test]
async fn a_stalled_feed_answers_pings_and_reads_no_more_than_its_limit() {
    use std::sync::atomic::{AtomicU64, Ordering};
    const FRAMES: u64 = 3_000;
    let server = Server::start().await;
    let port = routes(&server).await;
    let mut feed = feed(&server, port).await;
    server.rows(Kind::Status, 1).await;
    server.door.shut.store(true, Ordering::SeqCst);
    for seq in 1..=10 {
        feed.send(Message::text(typed(seq))).await.unwrap();
        feed.send(Message::Ping(Bytes::new())).await.unwrap();
        assert!(matches!(next(&mut feed).await, Message::Pong(_)));
    }
    let (mut sink, mut stream) = feed.split();
    let sent = std::sync::Arc::new(AtomicU64::new(0));
    let sender = tokio::spawn({
        let sent = sent.clone();
        async move {
            for seq in 11..=FRAMES {
                sink.send(Message::text(format!("{}{}", typed(seq), " ".repeat(20_000)))).await.unwrap();
                sent.store(seq, Ordering::SeqCst);
            }
            sink
        }
    });
    // 60 MB are far above the limit and what the kernel holds: the sender gets stuck, while others are served.
    let mut witness = server.v4(&server.device()).await;
    let (mut before, mut turns) = (0, 0);
    while turns < 50 {
        witness.silent().await;
        let now = sent.load(Ordering::SeqCst);
        turns = if now == before && now > 0 { turns + 1 } else { 0 };
        before = now;
    }
    assert!(before < FRAMES, "all {before} frames were read");
    server.door.shut.store(false, Ordering::SeqCst);
    for number in 1..=FRAMES {
        let message = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next()).await.expect("an answer").unwrap().unwrap();
        assert_eq!(message.to_text().unwrap(), format!("{{\"ack\":{number}}}"));
    }
    drop(sender.await.unwrap());
    assert_eq!(server.seqs(Kind::Scan), (1..=FRAMES).collect::<Vec<_>>());
}
