//! What survives the process: persistent sessions, the messages in them, wills and retained messages.

use rollcall_ingest::{GatewayConfig, Namespace};
use rollcall_model::event::Kind;

use crate::harness::{Hello, NOW, Raw, Server, scan};

async fn open() -> Server {
    Server::with(GatewayConfig { namespace: Namespace::Open, ..GatewayConfig::default() }).await
}

/// Connects and says whether the session was there.
async fn connect(server: &Server, hello: &Hello) -> (Raw, bool) {
    let mut raw = server.raw().await;
    let answer = raw.connect(hello).await;
    assert_eq!(answer[1], 0);
    (raw, answer[0] == 1)
}

/// A session that outlives its connection by an hour.
fn lasting(id: &str) -> Hello {
    Hello { clean: false, properties: vec![17, 0, 0, 14, 16], ..Hello::anonymous(id) }
}

fn id(pkid: u16) -> [u8; 2] {
    pkid.to_be_bytes()
}

#[tokio::test]
async fn a_session_with_its_messages_survives_an_orderly_stop_and_a_kill() {
    let server = open().await;
    let (mut to, _) = connect(&server, &lasting("to")).await;
    assert_eq!(to.subscribe_with("q/#", 2, &[11, 9]).await, 2);
    assert_eq!(to.subscribe("gone", 1).await, 1);
    to.unsubscribe("gone").await;
    let (mut from, _) = connect(&server, &Hello::anonymous("from")).await;
    // One that is on its way, one of which only the release is left, one that is acknowledged.
    for pkid in 1..=3u16 {
        from.publish(2, "q/x", pkid, id(pkid)).await;
        from.expect(0x50).await;
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(to.message().await.pkid);
    }
    for pkid in &ids[1..] {
        to.send(&[[0x50, 2], id(*pkid)].concat()).await;
        assert_eq!(to.expect(0x62).await, id(*pkid));
    }
    to.send(&[[0x70, 2], id(ids[2])].concat()).await;
    to.send(&[0xe0, 0]).await;
    to.closed().await;
    // Two that wait, one of them not for long.
    from.publish(1, "q/y", 4, "waits").await;
    from.expect(0x40).await;
    let bytes = from.publish_bytes(0x32, "q/y", 5, &[2, 0, 0, 0, 5], b"expires");
    from.send(&bytes).await;
    from.expect(0x40).await;
    // A clean session leaves nothing.
    from.subscribe("q/#", 1).await;
    settled(&server, "expires").await;
    server.clock.set(rollcall_model::time::UtcMillis(NOW + 6_000));
    let after_kill = server.killed().await;
    let after_stop = server.restart().await;
    for server in [after_kill, after_stop] {
        let (mut to, present) = connect(&server, &lasting("to")).await;
        assert!(present);
        let again = to.message().await;
        assert_eq!((again.first, again.pkid, &*again.payload), (0x3c, ids[0], &[0, 1][..]));
        assert_eq!(again.properties, [11, 9]);
        assert_eq!(to.expect(0x62).await, id(ids[1]));
        let waited = to.message().await;
        assert_eq!((waited.first, &*waited.payload, &*waited.properties), (0x32, &b"waits"[..], &[11, 9][..]));
        to.silent().await;
        // The subscriptions are as they were.
        let (mut from, present) = connect(&server, &Hello { clean: false, ..Hello::anonymous("from") }).await;
        assert!(!present);
        from.publish(1, "gone", 1, "x").await;
        assert_eq!(from.expect(0x40).await, [0, 1, 0x10]);
        from.publish(1, "q/z", 2, "new").await;
        assert_eq!(from.expect(0x40).await, [0, 2]);
        assert_eq!(to.message().await.payload, b"new");
    }
}

/// Waits until the journal holds a text.
async fn settled(server: &Server, text: &str) {
    let journal = server.folder.path().join("sessions/journal");
    let holds = || std::fs::read(&journal).unwrap().windows(text.len()).any(|w| w == text.as_bytes());
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_the_client_was_told_is_on_the_disk() {
    let server = open().await;
    for round in 0..20 {
        let hello = lasting(&format!("c{round}"));
        let (mut raw, _) = connect(&server, &hello).await;
        // The kill comes right behind the SUBACK.
        raw.subscribe("a", 1).await;
        let after = server.killed().await;
        let (mut back, present) = connect(&after, &hello).await;
        assert!(present, "round {round}");
        back.publish(1, "a", 1, "x").await;
        let (mut acked, mut came) = (false, false);
        while !(acked && came) {
            match back.next().await.unwrap() {
                (0x40, body) => acked = body == [0, 1],
                (0x32, _) => came = true,
                other => panic!("{other:x?}"),
            }
        }
    }
}

#[tokio::test]
async fn sessions_end_when_their_time_is_over_also_while_the_server_is_away() {
    let server = open().await;
    let will = Some((vec![24, 0, 0, 0, 100], "will".into(), b"gone".to_vec()));
    let mut bytes = Hello { will, ..lasting("brief") }.encode();
    // The will's QoS 1, so that it waits for a watcher who is away.
    bytes[9] |= 0x08;
    let mut brief = server.raw().await;
    brief.send(&bytes).await;
    brief.expect(0x20).await;
    drop(brief);
    let (mut watcher, _) = connect(&server, &lasting("watcher")).await;
    watcher.subscribe("will", 1).await;
    drop(watcher);
    server.clock.set(rollcall_model::time::UtcMillis(NOW + 3_000_000));
    let server = server.restart().await;
    // The will's delay was over during the stop; the session is not.
    let (mut watcher, present) = connect(&server, &lasting("watcher")).await;
    assert!(present);
    assert_eq!(watcher.message().await.payload, b"gone");
    assert!(connect(&server, &lasting("brief")).await.1);
    server.clock.set(rollcall_model::time::UtcMillis(NOW + 9_000_000));
    let server = server.restart().await;
    assert!(!connect(&server, &lasting("other")).await.1);
    let (mut again, _) = connect(&server, &Hello::anonymous("x")).await;
    again.publish(1, "will", 1, "x").await;
    // The watcher was connected until now; `brief` too: their time begins with the stop.
    assert_eq!(again.expect(0x40).await, [0, 1]);
    drop(watcher);
    server.clock.set(rollcall_model::time::UtcMillis(NOW + 20_000_000));
    let server = server.restart().await;
    let (mut again, _) = connect(&server, &Hello::anonymous("x")).await;
    again.publish(1, "will", 1, "x").await;
    // They were away since the second stop, which is more than their hour ago.
    assert_eq!(again.expect(0x40).await, [0, 1, 0x10]);
    assert!(!connect(&server, &lasting("watcher")).await.1);
}

#[tokio::test]
async fn retained_messages_survive_and_expire() {
    let server = Server::start().await;
    let who = server.device();
    let handle = server.gateway.handle();
    for (suffix, payload) in [("config", "first"), ("config", "second"), ("gone", "x"), ("gone", "")] {
        handle.publish_to_device(who.device, suffix, payload.into(), 1, true);
    }
    let server = server.restart().await;
    let mut device = server.v4(&who).await;
    assert_eq!(device.subscribe(&format!("v1/device/{}/#", who.device), 1).await, 1);
    let message = device.message().await;
    assert_eq!((message.first, &*message.payload), (0x33, &b"second"[..]));
    device.silent().await;
}

/// A tablet with a standing session misses no command, and what it published in QoS 2 is one event.
#[tokio::test]
async fn a_devices_command_waits_over_a_restart() {
    let mut server = Server::start().await;
    let who = server.device();
    let hello = Hello { clean: false, ..Hello::new(&who) };
    let mut device = server.raw().await;
    assert_eq!(device.connect(&hello).await, [0, 0]);
    device.subscribe(&format!("v1/device/{}/#", who.device), 1).await;
    device.publish(2, "v1/scan", 7, scan(1)).await;
    device.expect(0x50).await;
    drop(device);
    server = server.restart().await;
    assert!(server.gateway.handle().publish_to_device(who.device, "command", "open".into(), 1, false));
    server = server.restart().await;
    let mut device = server.raw().await;
    assert_eq!(device.connect(&hello).await, [1, 0]);
    assert_eq!(device.message().await.payload, b"open");
    let again = device.publish_bytes(0x3c, "v1/scan", 7, &[], scan(1).as_bytes());
    device.send(&again).await;
    assert_eq!(device.expect(0x50).await, [0, 7]);
    device.send(&[0x62, 2, 0, 7]).await;
    device.expect(0x70).await;
    assert_eq!(server.seqs(Kind::Scan), [1]);
}

#[tokio::test]
async fn the_file_stays_small_however_often_things_change() {
    let server = open().await;
    let (mut to, _) = connect(&server, &lasting("to")).await;
    to.subscribe("t", 1).await;
    let (mut from, _) = connect(&server, &Hello::anonymous("from")).await;
    let journal = server.folder.path().join("sessions/journal");
    for round in 0..400u16 {
        from.publish(1, "t", round + 1, vec![7; 10_000]).await;
        from.expect(0x40).await;
        let message = to.message().await;
        to.send(&[[0x40, 2], id(message.pkid)].concat()).await;
        assert!(std::fs::metadata(&journal).unwrap().len() < 2_000_000, "round {round}");
    }
    let after = server.killed().await;
    assert!(connect(&after, &lasting("to")).await.1);
}

#[tokio::test]
async fn a_torn_file_loses_its_last_lines_and_a_foreign_one_stops_the_start() {
    let mut server = open().await;
    let (mut raw, _) = connect(&server, &lasting("a")).await;
    raw.subscribe("t", 1).await;
    drop(raw);
    server.stop().await;
    let journal = server.folder.path().join("sessions/journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[40, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&journal, &bytes).unwrap();
    let server = server.killed().await;
    assert!(connect(&server, &lasting("a")).await.1);
    std::fs::write(&journal, b"something else").unwrap();
    let metrics = std::sync::Arc::new(rollcall_ingest::Metrics::new(&prometheus::Registry::new()).unwrap());
    let refused = rollcall_ingest::Gateway::open(
        GatewayConfig::default(),
        server.directory.clone(),
        server.admission.clone(),
        metrics,
        journal.parent().unwrap(),
    );
    assert!(refused.err().unwrap().to_string().contains("not a journal"));
}
