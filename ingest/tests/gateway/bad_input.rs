//! Malformed, hostile and forbidden input: the sender is told, others notice nothing.

use std::sync::atomic::Ordering;

use rollcall_ingest::GatewayConfig;
use rollcall_model::event::Kind;
use rollcall_model::ids::DeviceId;

use crate::harness::{BADGE, Hello, NOW, Server, packet, scan};

#[tokio::test]
async fn streams_that_are_not_mqtt_are_closed_and_a_witness_goes_on() {
    let server = Server::start().await;
    let mut witness = server.v4(&server.device()).await;
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let announced: Vec<u8> = vec![0x10, 0x80, 0x80, 0x80, 0x30];
    for bytes in [http, announced, vec![0xff; 8], vec![0x30, 0], vec![0x10, 0xff, 0xff, 0xff, 0xff], vec![0x20, 2, 0, 0]] {
        let mut raw = server.raw().await;
        raw.send(&bytes).await;
        raw.closed().await;
    }
    witness.publish(1, "v1/scan", 1, scan(1)).await;
    witness.expect(0x40).await;
}

#[tokio::test]
async fn violations_of_a_connected_client_end_it_with_their_reason() {
    let server = Server::start().await;
    let cases: &[(&str, Vec<u8>, u8)] = &[
        ("server packet", vec![0x90, 3, 0, 1, 0], 0x81),
        ("auth", vec![0xf0, 0], 0x82),
        ("bad flags", vec![0x80, 0], 0x81),
        ("qos 3", vec![0x36, 3, 0, 1, b'a'], 0x81),
        ("100 MB announced", vec![0x32, 0x80, 0xc2, 0xd7, 0x2f], 0x95),
        ("short publish", vec![0x32, 1, 0], 0x81),
        ("bad utf-8 topic", packet(0x30, &[0, 1, 0xff, 0]), 0x81),
        ("nul in topic", packet(0x30, &[0, 1, 0, 0]), 0x81),
        ("wildcard topic", packet(0x30, &[0, 1, b'#', 0]), 0x90),
        ("no topic", packet(0x30, &[0, 0, 0]), 0x82),
        ("packet id 0", packet(0x32, &[0, 1, b'a', 0, 0, 0]), 0x82),
        ("alias above maximum", packet(0x30, &[0, 0, 3, 35, 0, 99]), 0x94),
        ("alias 0", packet(0x30, &[0, 0, 3, 35, 0, 0]), 0x94),
        ("unset alias", packet(0x30, &[0, 0, 3, 35, 0, 2]), 0x82),
        ("second connect", packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\0"), 0x82),
        ("subscribe to nothing", packet(0x82, &[0, 1, 0]), 0x82),
        ("forbidden topic at qos 0", packet(0x30, b"\0\x01x\0{}"), 0x87),
    ];
    for (what, bytes, reason) in cases {
        let mut raw = server.v5(&server.device()).await;
        raw.send(bytes).await;
        assert_eq!(raw.expect(0xe0).await, [*reason], "{what}");
        raw.closed().await;
    }
}

#[tokio::test]
async fn nobody_speaks_or_listens_where_it_may_not() {
    let server = Server::start().await;
    let (who, other) = (server.device(), server.device());
    let mut v5 = server.v5(&who).await;
    v5.publish(1, &format!("v1/device/{}/command", other.device), 1, "{}").await;
    assert_eq!(v5.expect(0x40).await, [0, 1, 0x87]);
    for filter in [format!("v1/device/{}/#", other.device), "v1/device/+/reject".into(), "#".into(), "$share/g/#".into()] {
        assert_eq!(v5.subscribe(&filter, 0).await, 0x87, "{filter}");
    }
    assert_eq!(v5.subscribe("a/#/b", 0).await, 0x8f);
    assert_eq!(v5.subscribe(&format!("v1/device/{}/#", who.device), 2).await, 2);
    let mut v4 = server.v4(&other).await;
    assert_eq!(v4.subscribe("#", 0).await, 0x80);
    v4.publish(1, "v1/other", 1, "{}").await;
    v4.closed().await;
    assert_eq!(server.dead_codes(), ["forbidden_topic", "forbidden_topic"]);
}

#[tokio::test]
async fn connects_that_are_refused_are_told_why() {
    let server = Server::start().await;
    let who = server.device();
    let stranger = rollcall_ingest::DeviceIdentity { device: DeviceId::random(), ..who };
    let good = Hello::new(&who);
    let cases = [
        (Hello { password: "wrong".into(), ..good.clone() }, 4, 0x86),
        (Hello::new(&stranger), 4, 0x86),
        (Hello { user: "nobody".into(), ..good.clone() }, 4, 0x86),
        (Hello { client_id: stranger.device.to_string(), ..good.clone() }, 2, 0x85),
        (Hello { will: Some((vec![], "foreign".into(), vec![])), ..good.clone() }, 5, 0x87),
    ];
    for (hello, v4, v5) in cases {
        let mut raw = server.raw().await;
        assert_eq!(raw.connect(&hello).await, [0, v4]);
        raw.closed().await;
        let mut raw = server.raw().await;
        assert_eq!(raw.connect(&Hello { v5: true, ..hello }).await[..2], [0, v5]);
        raw.closed().await;
    }
    let mut raw = server.raw().await;
    let method = Hello { v5: true, properties: vec![21, 0, 1, b'x'], ..good };
    assert_eq!(raw.connect(&method).await[1], 0x8c);
    let mut raw = server.raw().await;
    raw.send(b"\x10\x0d\0\x04MQTT\x07\x02\0\0\0\0\0").await;
    assert_eq!(raw.expect(0x20).await, [0, 1]);
}

#[tokio::test]
async fn a_wrong_password_a_thousand_times_has_a_bounded_cost() {
    let server = Server::start().await;
    let who = server.device();
    let mut raw = server.raw().await;
    let wrong = Hello { v5: true, password: "guess".into(), ..Hello::new(&who) };
    assert_eq!(raw.connect(&wrong).await[1], 0x86);
    for _ in 0..1_000 {
        let mut raw = server.raw().await;
        raw.connect(&wrong).await;
    }
    let looked = server.directory.authentications.load(Ordering::SeqCst);
    assert!(looked <= 2 * GatewayConfig::default().auth_failures_per_minute_max as usize, "{looked}");
}

#[tokio::test]
async fn content_is_refused_with_its_code() {
    let server = Server::start().await;
    let mut device = server.v5(&server.device()).await;
    let deep = format!(r#"{{"seq":1,"x":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let many = format!("[{}]", vec!["0"; 10_001].join(","));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("v1/scan", b"\xff\xfe".to_vec(), "invalid_utf8"),
        ("v1/scan", b"".to_vec(), "json_syntax"),
        ("v1/scan", deep.into(), "json_depth"),
        ("v1/telemetry", many.into(), "too_many_events"),
        ("v1/scan", vec![b' '; 256 * 1024 + 1], "payload_too_large"),
        ("v1/scan", scan(2).replace("1795150000000", "\"yesterday\"").into(), "wrong_type"),
        ("v1/scan", scan(3).replace("1795150000000", "1795150300001").into(), "time_in_future"),
        ("v1/scan", scan(4).replace("1795150000000", "1000").into(), "time_too_old"),
        ("v1/scan", scan(5).replace("\"in\"", "\"sideways\"").into(), "out_of_range"),
        ("v1/scan", format!(r#"{{"ts":{NOW},"badge":"{BADGE}"}}"#).into(), "missing_field"),
        ("v1/batch", br#"[{"type":"mark","seq":1}]"#.to_vec(), "unknown_type"),
        ("v1/batch", vec![0xff; 64], "arrow_invalid"),
    ];
    for (pkid, (topic, payload, _)) in (1..).zip(&cases) {
        device.publish(1, topic, pkid, payload).await;
        let body = device.expect(0x40).await;
        assert_eq!((body.len(), &body[..2]), (3, &pkid.to_be_bytes()[..]), "{topic}");
    }
    // A refused payload of 10,001 events leaves one dead letter: its whole was refused.
    assert_eq!(server.dead_codes(), cases.iter().map(|(_, _, code)| *code).collect::<Vec<_>>());
    device.publish(1, "v1/scan", 99, scan(1)).await;
    assert_eq!(device.expect(0x40).await, [0, 99]);
    assert_eq!(server.seqs(Kind::Scan), [1]);
}

#[tokio::test]
async fn one_that_sends_nothing_is_closed() {
    let server = Server::with(GatewayConfig { connect_timeout_ms: 50, ..GatewayConfig::default() }).await;
    let mut silent = server.raw().await;
    silent.closed().await;
    let mut slow = server.raw().await;
    slow.send(&[0x10]).await;
    slow.closed().await;
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_and_places_come_back() {
    let server = Server::with(GatewayConfig { connections_per_address_max: 1, ..GatewayConfig::default() }).await;
    let who = server.device();
    let first = server.v4(&who).await;
    let mut second = server.raw().await;
    second.closed().await;
    drop(first);
    server.rows(Kind::Status, 2).await;
    loop {
        let mut third = server.raw().await;
        if third.connect(&Hello::new(&who)).await == [0, 0] {
            break;
        }
    }
}

#[tokio::test]
async fn one_that_never_reads_is_cut_off_and_others_are_served() {
    let config = GatewayConfig { write_timeout_ms: 100, output_bytes_max: 64 * 1024, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let who = server.device();
    let mut deaf = server.v4(&who).await;
    assert_eq!(deaf.subscribe(&format!("v1/device/{}/#", who.device), 0).await, 0);
    let handle = server.gateway.handle();
    let mut witness = server.v4(&server.device()).await;
    let mut pkid = 0u16;
    while handle.is_connected(who.device) {
        for _ in 0..64 {
            handle.publish_to_device(who.device, "command", vec![0; 16 * 1024].into(), 0, false);
        }
        pkid += 1;
        witness.publish(1, "v1/scan", pkid, scan(pkid.into())).await;
        witness.expect(0x40).await;
    }
}
