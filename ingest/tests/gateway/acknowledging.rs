//! Acknowledged is durable: when, in which order, and what happens when it cannot be.

use std::sync::atomic::Ordering;

use rollcall_model::event::{DeviceKind, Kind};
use rollcall_stream::Log;

use crate::harness::{Hello, NOW, Server, scan};

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable_and_then_all_in_order() {
    let server = Server::start().await;
    let mut device = server.v4(&server.device()).await;
    server.rows(Kind::Status, 1).await;
    server.log.hold();
    for pkid in 1..=20 {
        device.publish(if pkid % 3 == 0 { 2 } else { 1 }, "v1/scan", pkid, scan(pkid.into())).await;
    }
    device.publish(0, "v1/scan", 0, scan(99)).await;
    device.silent().await;
    server.log.release();
    for pkid in 1..=20u16 {
        let body = device.expect(if pkid % 3 == 0 { 0x50 } else { 0x40 }).await;
        assert_eq!(body, pkid.to_be_bytes());
    }
    assert_eq!(server.seqs(Kind::Scan), (1..=20).chain([99]).collect::<Vec<_>>());
}

#[tokio::test]
async fn while_the_log_has_no_room_pings_are_answered_and_nothing_is_lost() {
    let server = Server::start().await;
    let mut device = server.v4(&server.device()).await;
    server.rows(Kind::Status, 1).await;
    server.door.shut.store(true, Ordering::SeqCst);
    for pkid in 1..=100 {
        device.publish(1, "v1/scan", pkid, scan(pkid.into())).await;
        device.silent().await;
    }
    server.door.shut.store(false, Ordering::SeqCst);
    for pkid in 1..=100u16 {
        assert_eq!(device.expect(0x40).await, pkid.to_be_bytes());
    }
    // The pings that were answered ahead are not answered again.
    device.silent().await;
    assert_eq!(server.seqs(Kind::Scan), (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stopped_log_closes_without_acknowledging() {
    let server = Server::start().await;
    let mut device = server.v5(&server.device()).await;
    server.log.hold();
    device.publish(1, "v1/scan", 1, scan(1)).await;
    device.silent().await;
    server.log.fail();
    assert_eq!(device.expect(0xe0).await, [0x8b]);
    device.closed().await;
}

#[tokio::test]
async fn a_duplicate_waits_for_the_first_copy() {
    let server = Server::start().await;
    let who = server.device();
    let mut first = server.v4(&who).await;
    server.rows(Kind::Status, 1).await;
    server.log.hold();
    first.publish(1, "v1/scan", 1, scan(7)).await;
    first.silent().await;
    let mut second = server.raw().await;
    let other = Hello { client_id: format!("{}-b", who.device), ..Hello::new(&who) };
    assert_eq!(second.connect(&other).await, [0, 0]);
    second.publish(1, "v1/scan", 1, scan(7)).await;
    second.silent().await;
    server.log.release();
    second.expect(0x40).await;
    first.expect(0x40).await;
    assert_eq!(server.seqs(Kind::Scan), [7]);
}

#[tokio::test]
async fn refused_content_is_buried_before_it_is_acknowledged_and_told_on_the_reject_topic() {
    let server = Server::start().await;
    let who = server.device();
    let mut device = server.v5(&who).await;
    let reject = format!("v1/device/{}/reject", who.device);
    assert_eq!(device.subscribe(&reject, 1).await, 1);
    server.rows(Kind::Status, 1).await;
    server.log.hold();
    device.publish(1, "v1/scan", 1, "{").await;
    device.publish(1, "v1/scan", 2, scan(5).replace("b_known", "b_other")).await;
    device.publish(1, "v1/scan", 3, format!("[{},{{\"seq\":9}}]", scan(8))).await;
    device.silent().await;
    server.log.release();
    assert_eq!(device.expect(0x40).await, [0, 1, 0x99]);
    assert_eq!(device.expect(0x40).await, [0, 2, 0x83]);
    assert_eq!(device.expect(0x40).await, [0, 3, 0x99]);
    let mut told = Vec::new();
    for _ in 0..3 {
        let message = device.message().await;
        assert_eq!(message.topic, reject);
        let body: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        told.push((body["seq"].as_u64(), body["code"].as_str().unwrap().to_owned()));
        device.send(&[0x40, 2, (message.pkid >> 8) as u8, message.pkid as u8]).await;
    }
    let expected = [(None, "json_syntax"), (Some(5), "unknown_badge"), (Some(9), "missing_field")];
    assert_eq!(told, expected.map(|(seq, code)| (seq, code.to_owned())));
    assert_eq!(server.dead_codes(), ["json_syntax", "unknown_badge", "missing_field"]);
    assert_eq!(server.seqs(Kind::Scan), [8]);
}

#[tokio::test]
async fn connecting_and_leaving_are_rows_of_the_log() {
    let server = Server::start().await;
    let who = server.device();
    let device = server.v4(&who).await;
    server.rows(Kind::Status, 1).await;
    assert!(server.gateway.handle().is_connected(who.device));
    drop(device);
    server.rows(Kind::Status, 2).await;
    let connected =
        |i: usize| rollcall_stream::heartbeat::decode(&server.batches(Kind::Status)[i]).map(|row| row.connected).collect::<Vec<_>>();
    assert_eq!([connected(0), connected(1)], [[Some(true)], [Some(false)]]);
    assert_eq!(server.log.end().0, 2);
}

#[tokio::test]
async fn a_restart_says_who_is_gone() {
    let mut server = Server::start().await;
    let who = server.device();
    server.admission.admit_presence(&[(who, true)]).unwrap();
    server = server.restart().await;
    server.rows(Kind::Status, 2).await;
    assert!(server.admission.connected().is_empty());
}

#[tokio::test]
async fn a_gateway_speaks_for_its_own_devices_only() {
    let server = Server::start().await;
    let gateway = server.device_of(DeviceKind::Gateway);
    let mut behind = server.device_of(DeviceKind::Wearable);
    behind.gateway = Some(gateway.device);
    server.directory.devices.lock().insert(behind.device, behind);
    let other = server.device_of(DeviceKind::Wearable);
    let mut client = server.v5(&gateway).await;
    let event = |device, seq| format!(r#"{{"seq":{seq},"ts":{NOW},"device":"{device}","m":{{"steps":3,"worn":1}}}}"#);
    client.publish(1, "v1/telemetry", 1, event(behind.device, 1)).await;
    client.publish(1, "v1/telemetry", 2, event(other.device, 2)).await;
    assert_eq!(client.expect(0x40).await, [0, 1]);
    assert_eq!(client.expect(0x40).await, [0, 2, 0x83]);
    assert_eq!(server.seqs(Kind::Telemetry), [1, 1]);
    let mut plain = server.v5(&server.device()).await;
    plain.publish(1, "v1/telemetry", 1, event(behind.device, 3)).await;
    assert_eq!(plain.expect(0x40).await, [0, 1, 0x83]);
    assert_eq!(server.dead_codes(), ["unknown_device", "not_a_gateway"]);
}

#[tokio::test]
async fn a_disabled_device_is_cut_off_at_its_next_word() {
    let server = Server::start().await;
    let who = server.device();
    let mut device = server.v5(&who).await;
    server.directory.remove(who.device);
    device.publish(1, "v1/scan", 1, scan(1)).await;
    assert_eq!(device.expect(0xe0).await, [0x87]);
    device.closed().await;
    assert!(server.seqs(Kind::Scan).is_empty());
}
