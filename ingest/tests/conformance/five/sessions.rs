//! Sessions: how they begin, wait, are lost and end, and how fast they may go.

use super::client::*;

shared_sessions!(Five);

#[tokio::test]
async fn offline_message_queueing() {
    let server = open().await;
    let mut a = Five::with(lasting(&server, "a")).await;
    a.subscribe("queue/#", ExactlyOnce).await;
    a.subscribe("end", AtLeastOnce).await;
    a.disconnect().await;
    let mut b = Five::new(&server, "b").await;
    for (qos, payload) in [(AtMostOnce, "0"), (AtLeastOnce, "1"), (ExactlyOnce, "2")] {
        b.publish("queue/x", qos, payload).await;
    }
    let mut a = Five::with(lasting(&server, "a")).await;
    assert!(a.connack.session_present);
    assert_eq!(a.payloads(&mut b).await, ["1", "2"], "QoS 0 does not wait for a client that is away");
}

#[tokio::test]
async fn will_message() {
    let server = open().await;
    let mut watcher = Five::new(&server, "watcher").await;
    watcher.subscribe("will/#", AtLeastOnce).await;
    watcher.subscribe("end", AtLeastOnce).await;
    let mut dying = options(&server, "dying");
    dying.set_last_will(will("will/a", delay(0)));
    drop(Five::with(dying).await);
    let message = watcher.line.message().await;
    assert_eq!((&*message.topic, text(&message)), (&b"will/a"[..], "gone".into()));
    let told = properties(&message);
    assert_eq!((told.content_type.as_deref(), told.payload_format_indicator), (Some("text/plain"), Some(1)));
    assert_eq!(told.user_properties, [("why".to_owned(), "lost".to_owned())]);
    // An orderly end discards it.
    let mut polite = options(&server, "polite");
    polite.set_last_will(will("will/b", None));
    Five::with(polite).await.disconnect().await;
    let mut other = Five::new(&server, "other").await;
    assert!(watcher.all(&mut other).await.is_empty());
}

#[tokio::test]
async fn will_delay() {
    let server = open().await;
    let mut watcher = Five::new(&server, "watcher").await;
    watcher.subscribe("will/#", AtLeastOnce).await;
    let mut dying = lasting(&server, "dying");
    dying.set_last_will(will("will/late", delay(2)));
    let mut back = lasting(&server, "back");
    back.set_last_will(will("will/never", delay(1)));
    let (dying, gone) = (Five::with(dying).await, Five::with(back).await);
    let lost_at = Instant::now();
    drop((dying, gone));
    let _back = Five::with(lasting(&server, "back")).await;
    let message = watcher.line.message().await;
    assert_eq!(&*message.topic, b"will/late", "the other client came back before its delay was over");
    assert!(lost_at.elapsed() >= Duration::from_secs(2), "{:?}", lost_at.elapsed());
    // The end of the session comes before the delay is over, and the will with it.
    let mut brief = options(&server, "brief");
    brief.set_session_expiry_interval(Some(1)).set_last_will(will("will/end", delay(60)));
    drop(Five::with(brief).await);
    assert_eq!(&*watcher.line.message().await.topic, b"will/end");
}

/// A client that is silent for one and a half times its keep-alive is lost.
async fn silent_client(server: &Server, keep_alive_s: u64) -> Duration {
    let mut watcher = Five::new(server, "watcher").await;
    watcher.subscribe("will", AtLeastOnce).await;
    let mut silent = options(server, "silent");
    silent.set_keep_alive(Duration::from_secs(keep_alive_s)).set_last_will(will("will", None));
    let silent = Five::with(silent).await;
    silent.line.freeze();
    let since = Instant::now();
    watcher.line.message().await;
    since.elapsed()
}

#[tokio::test]
async fn keepalive() {
    let server = open().await;
    // The shortest that rumqttc asks for.
    let after = silent_client(&server, 5).await;
    assert!((Duration::from_millis(7_400)..Duration::from_secs(13)).contains(&after), "{after:?}");
}

#[tokio::test]
async fn server_keep_alive() {
    let config = GatewayConfig { namespace: Namespace::Open, keep_alive_max_s: 1, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    assert_eq!(Five::new(&server, "a").await.offered().server_keep_alive, Some(1));
    let after = silent_client(&server, 120).await;
    assert!((Duration::from_millis(1_400)..Duration::from_secs(6)).contains(&after), "the server's holds: {after:?}");
}

#[tokio::test]
async fn zero_length_client_id() {
    let server = open().await;
    let mut a = Five::new(&server, "").await;
    a.subscribe("t", AtLeastOnce).await;
    a.publish("t", AtLeastOnce, "x").await;
    assert_eq!(text(&a.line.message().await), "x");
    // Without a clean start it is given one too: the session is new, and the id says how to come back to it.
    let mut options = lasting(&server, "");
    options.set_clean_start(false);
    assert!(!Five::with(options).await.connack.session_present);
}

#[tokio::test]
async fn assigned_client_id() {
    let server = open().await;
    let mut options = options(&server, "");
    options.set_session_expiry_interval(Some(60));
    let a = Five::with(options).await;
    let id = a.offered().assigned_client_identifier.expect("an id was assigned");
    assert_ne!(Five::new(&server, "").await.offered().assigned_client_identifier, Some(id.clone()));
    a.disconnect().await;
    assert!(Five::with(lasting(&server, &id)).await.connack.session_present);
}

#[tokio::test]
async fn session_expiry() {
    let server = open().await;
    // Zero, and none: gone with the connection.
    for expiry in [None, Some(0)] {
        let mut options = options(&server, "a");
        options.set_clean_start(false).set_session_expiry_interval(expiry);
        let mut a = Five::with(options.clone()).await;
        assert!(!a.connack.session_present);
        a.subscribe("t", AtLeastOnce).await;
        a.disconnect().await;
        assert!(!Five::with(options).await.connack.session_present);
    }
    let mut long = Five::with(lasting(&server, "b")).await;
    long.subscribe("t", AtLeastOnce).await;
    long.disconnect().await;
    assert!(Five::with(lasting(&server, "b")).await.connack.session_present);
    // A second, and the will that is due at its end at the latest says when it is over.
    let mut watcher = Five::new(&server, "watcher").await;
    watcher.subscribe("will", AtLeastOnce).await;
    let mut brief = options(&server, "c");
    brief.set_session_expiry_interval(Some(1)).set_last_will(will("will", delay(100)));
    drop(Five::with(brief).await);
    watcher.line.message().await;
    assert!(!Five::with(lasting(&server, "c")).await.connack.session_present);
    // More than is granted is cut, and the client is told.
    let config = GatewayConfig { session_expiry_max_s: 100, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let who = server.device();
    let mut options = lasting(&server, &who.device.to_string());
    options.set_session_expiry_interval(Some(1_000)).set_credentials(who.device.to_string(), TOKEN);
    assert_eq!(Five::with(options).await.offered().session_expiry_interval, Some(100));
}

#[tokio::test]
async fn flow_control_towards_the_client() {
    let server = open().await;
    let mut slow = options(&server, "slow");
    slow.set_receive_maximum(Some(2)).set_manual_acks(true);
    let (mut slow, mut from) = (Five::with(slow).await, Five::new(&server, "from").await);
    slow.subscribe("t", AtLeastOnce).await;
    slow.subscribe("now", AtMostOnce).await;
    for i in 0..5 {
        from.publish("t", AtLeastOnce, &i.to_string()).await;
    }
    let held = [slow.line.message().await, slow.line.message().await];
    // The answer to this shows that the server has read and written since; it sent no third one.
    slow.subscribe("other", AtMostOnce).await;
    slow.subscribe("another", AtMostOnce).await;
    let more = tokio::time::timeout(Duration::ZERO, slow.line.message()).await;
    assert!(more.is_err(), "only two at once");
    for message in &held {
        slow.client.ack(message).await.unwrap();
    }
    for i in 2..5 {
        let message = slow.line.message().await;
        assert_eq!(text(&message), i.to_string());
        slow.client.ack(&message).await.unwrap();
    }
}

#[tokio::test]
async fn flow_control_towards_the_server() {
    let config = GatewayConfig { namespace: Namespace::Open, receive_max: 3, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let mut a = Five::new(&server, "a").await;
    assert_eq!(a.offered().receive_max, Some(3));
    // A client that keeps to it gets everything through.
    for i in 0..50 {
        let qos = if i % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
        a.client.publish("t", qos, false, i.to_string()).await.unwrap();
    }
    for _ in 0..50 {
        let done = |packet: &Packet| matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(());
        a.line.until("an acknowledgement", done).await;
    }
}

#[tokio::test]
async fn a_refused_connection_says_why() {
    let server = Server::start().await;
    let who = server.device();
    let mut options = options(&server, &who.device.to_string());
    options.set_credentials(who.device.to_string(), "wrong");
    let (_client, mut events) = AsyncClient::new(options, 1);
    let refused = events.poll().await.unwrap_err();
    let reason = match refused {
        rumqttc::v5::ConnectionError::ConnectionRefused(code) => code,
        rumqttc::v5::ConnectionError::MqttState(StateError::ConnFail { reason }) => reason,
        other => panic!("{other}"),
    };
    assert_eq!(reason, ConnectReturnCode::BadUserNamePassword);
}
