//! An event enters the log once, whatever connections it comes through and however often we restart.

use std::sync::atomic::Ordering;

use rollcall_model::event::Kind;

use crate::harness::{Hello, Server, scan};

#[tokio::test]
async fn it_survives_a_restart_with_and_without_a_snapshot() {
    let mut server = Server::start().await;
    let who = server.device();
    for round in 0..3 {
        let mut device = server.v4(&who).await;
        for (pkid, seq) in [(1, 1), (2, 2), (3, 100 + round)] {
            device.publish(1, "v1/scan", pkid, scan(seq)).await;
            device.expect(0x40).await;
        }
        if round == 0 {
            server.admission.snapshot().await.unwrap();
            assert!(server.log.committed("dedup").unwrap().0 > 0);
        }
        drop(device);
        server = server.restart().await;
    }
    assert_eq!(server.seqs(Kind::Scan), [1, 2, 100, 101, 102]);
}

/// Sent again because the acknowledgement was lost, or for ever because the device knows no better.
#[tokio::test]
async fn a_dead_letter_is_kept_once_also_across_restarts() {
    let mut server = Server::start().await;
    let who = server.device();
    let unknown_badge = scan(5).replace("b_known", "b_other");
    for round in 0..3 {
        let mut device = server.v5(&who).await;
        for (pkid, payload) in [(1, unknown_badge.as_str()), (2, "{"), (3, "[1")] {
            device.publish(1, "v1/scan", pkid, payload).await;
            assert_eq!(device.expect(0x40).await.len(), 3, "it is refused every time");
        }
        if round == 0 {
            server.admission.snapshot().await.unwrap();
        }
        drop(device);
        server = server.restart().await;
    }
    assert_eq!(server.dead_codes().len(), 3, "{:?}", server.dead_codes());
    // A log without room leaves no memory of what it did not take.
    let mut device = server.v5(&who).await;
    server.door.shut.store(true, Ordering::SeqCst);
    device.publish(1, "v1/scan", 4, "{{").await;
    device.silent().await;
    server.door.shut.store(false, Ordering::SeqCst);
    device.expect(0x40).await;
    assert_eq!(server.dead_codes().len(), 4);
    // The number that was refused is still free for the event once it is right.
    device.publish(1, "v1/scan", 5, scan(5)).await;
    assert_eq!(device.expect(0x40).await, [0, 5]);
    assert_eq!(server.seqs(Kind::Scan), [5]);
}

#[tokio::test]
async fn it_survives_a_takeover_in_the_middle_of_a_resend() {
    let server = Server::start().await;
    let who = server.device();
    let mut old = server.v5(&who).await;
    server.rows(Kind::Status, 1).await;
    server.log.hold();
    for seq in 1..=50u16 {
        old.publish(1, "v1/scan", seq, scan(seq.into())).await;
    }
    let mut new = server.v5(&who).await;
    for seq in 1..=60u16 {
        new.publish(1, "v1/scan", seq, scan(seq.into())).await;
    }
    assert_eq!(old.expect(0xe0).await, [0x8e]);
    old.closed().await;
    new.silent().await;
    server.log.release();
    for pkid in 1..=60u16 {
        assert_eq!(new.expect(0x40).await, pkid.to_be_bytes());
    }
    let mut seqs = server.seqs(Kind::Scan);
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn qos_2_is_exactly_once_across_a_reconnect() {
    let server = Server::start().await;
    let who = server.device();
    let hello = Hello { clean: false, ..Hello::new(&who) };
    let mut device = server.raw().await;
    assert_eq!(device.connect(&hello).await, [0, 0]);
    device.publish(2, "v1/scan", 5, scan(1)).await;
    assert_eq!(device.expect(0x50).await, [0, 5]);
    drop(device);
    let mut again = server.raw().await;
    assert_eq!(again.connect(&hello).await, [1, 0]);
    // The number differs, so only the packet id can tell that this is the same publish.
    let repeated = again.publish_bytes(0x3c, "v1/scan", 5, &[], scan(2).as_bytes());
    again.send(&repeated).await;
    assert_eq!(again.expect(0x50).await, [0, 5]);
    again.send(&[0x62, 2, 0, 5]).await;
    assert_eq!(again.expect(0x70).await, [0, 5]);
    again.publish(2, "v1/scan", 5, scan(3)).await;
    assert_eq!(again.expect(0x50).await, [0, 5]);
    assert_eq!(server.seqs(Kind::Scan), [1, 3]);
}
