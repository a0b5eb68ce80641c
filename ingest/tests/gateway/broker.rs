//! The MQTT standard, in a namespace where every topic is free: what a broker owes its clients.

use std::sync::atomic::Ordering;

use rollcall_ingest::{GatewayConfig, Namespace};

use crate::harness::{Hello, Raw, Received, Server};

async fn open() -> Server {
    Server::with(GatewayConfig { namespace: Namespace::Open, ..GatewayConfig::default() }).await
}

async fn client(server: &Server, hello: Hello) -> Raw {
    let mut raw = server.raw().await;
    assert_eq!(raw.connect(&hello).await[1], 0);
    raw
}

async fn fresh(server: &Server, id: &str) -> Raw {
    client(server, Hello::anonymous(id)).await
}

/// A session that outlives its connection by an hour.
fn lasting(id: &str) -> Hello {
    Hello { clean: false, properties: vec![17, 0, 0, 14, 16], ..Hello::anonymous(id) }
}

fn brief(message: &Received) -> (u8, &str, &[u8]) {
    (message.first, &message.topic, &message.payload)
}

#[tokio::test]
async fn every_qos_both_ways() {
    let server = open().await;
    let (mut from, mut to) = (fresh(&server, "from").await, fresh(&server, "to").await);
    assert_eq!(to.subscribe("a/+", 2).await, 2);
    for qos in 0..3u8 {
        from.publish(qos, "a/b", 7, [qos]).await;
        match qos {
            1 => assert_eq!(from.expect(0x40).await, [0, 7]),
            2 => {
                assert_eq!(from.expect(0x50).await, [0, 7]);
                from.send(&[0x62, 2, 0, 7]).await;
                assert_eq!(from.expect(0x70).await, [0, 7]);
            }
            _ => {}
        }
        let message = to.message().await;
        assert_eq!(brief(&message), (0x30 | qos << 1, "a/b", &[qos][..]));
        let [high, low] = message.pkid.to_be_bytes();
        match qos {
            1 => to.send(&[0x40, 2, high, low]).await,
            2 => {
                to.send(&[0x50, 2, high, low]).await;
                assert_eq!(to.expect(0x62).await, [high, low]);
                to.send(&[0x70, 2, high, low]).await;
            }
            _ => {}
        }
    }
    to.silent().await;
    assert_eq!(to.unsubscribe("a/+").await[3..], [0]);
    assert_eq!(to.unsubscribe("a/+").await[3..], [0x11]);
    from.publish(1, "a/b", 8, "x").await;
    assert_eq!(from.expect(0x40).await, [0, 8, 0x10]);
    to.silent().await;
}

#[tokio::test]
async fn retained_messages() {
    let server = open().await;
    let mut from = fresh(&server, "from").await;
    for (topic, payload) in [("r/1", "one"), ("r/2", "two"), ("r/2", "")] {
        let bytes = from.publish_bytes(0x33, topic, 1, &[], payload.as_bytes());
        from.send(&bytes).await;
        from.expect(0x40).await;
    }
    let mut to = fresh(&server, "to").await;
    to.subscribe("r/#", 1).await;
    assert_eq!(brief(&to.message().await), (0x33, "r/1", &b"one"[..]));
    to.silent().await;
    // Handling 1: not for a subscription that exists; handling 2: never.
    to.subscribe("r/#", 1 | 1 << 4).await;
    to.subscribe("r/1", 1 | 2 << 4).await;
    to.silent().await;
    // A live message shows RETAIN only to those who asked to see it.
    let mut seeing = fresh(&server, "seeing").await;
    seeing.subscribe("live", 0x08).await;
    to.subscribe("live", 0).await;
    let bytes = from.publish_bytes(0x31, "live", 0, &[], b"x");
    from.send(&bytes).await;
    assert_eq!(brief(&seeing.message().await), (0x31, "live", &b"x"[..]));
    assert_eq!(brief(&to.message().await), (0x30, "live", &b"x"[..]));
}

#[tokio::test]
async fn overlapping_filters_give_one_copy_with_every_identifier() {
    let server = open().await;
    let mut to = fresh(&server, "to").await;
    to.subscribe_with("o/#", 0, &[11, 1]).await;
    to.subscribe_with("o/+", 1, &[11, 2]).await;
    to.publish(1, "o/x", 1, "x").await;
    let (mut message, mut acked) = (None, false);
    for _ in 0..2 {
        match to.next().await.unwrap() {
            (0x40, _) => acked = true,
            (0x32, body) => message = Some(body),
            other => panic!("{other:x?}"),
        }
    }
    let body = message.unwrap();
    let mut ids = [body[9], body[11]];
    ids.sort_unstable();
    assert!(acked && body[7] == 4 && ids == [1, 2], "{body:x?}");
    to.silent().await;
    // No local: not what one published oneself.
    to.subscribe("own", 0x04).await;
    to.publish(0, "own", 0, "x").await;
    to.silent().await;
}

#[tokio::test]
async fn a_session_keeps_messages_and_sends_unfinished_ones_again() {
    let server = open().await;
    let mut to = client(&server, lasting("to")).await;
    to.subscribe("q", 2).await;
    let mut from = fresh(&server, "from").await;
    from.publish(1, "q", 1, "first").await;
    from.expect(0x40).await;
    let first = to.message().await;
    assert_eq!(brief(&first), (0x32, "q", &b"first"[..]));
    drop(to);
    from.publish(2, "q", 2, "second").await;
    from.expect(0x50).await;
    let mut to = server.raw().await;
    assert_eq!(to.connect(&lasting("to")).await[..2], [1, 0]);
    let again = to.message().await;
    assert_eq!((brief(&again), again.pkid), ((0x3a, "q", &b"first"[..]), first.pkid));
    let second = to.message().await;
    assert_eq!(brief(&second), (0x34, "q", &b"second"[..]));
    let [high, low] = second.pkid.to_be_bytes();
    to.send(&[0x50, 2, high, low]).await;
    to.expect(0x62).await;
    drop(to);
    // Released but not finished: only the release comes again.
    let mut to = client(&server, lasting("to")).await;
    to.message().await;
    assert_eq!(to.expect(0x62).await, [high, low]);
    // A clean start ends the session.
    let mut to = server.raw().await;
    assert_eq!(to.connect(&Hello { clean: true, ..lasting("to") }).await[..2], [0, 0]);
    from.publish(1, "q", 3, "third").await;
    assert_eq!(from.expect(0x40).await, [0, 3, 0x10]);
    to.silent().await;
}

#[tokio::test]
async fn a_takeover_ends_the_older_connection() {
    let server = open().await;
    let mut old = fresh(&server, "same").await;
    let mut new = fresh(&server, "same").await;
    assert_eq!(old.expect(0xe0).await, [0x8e]);
    old.closed().await;
    new.silent().await;
}

/// What a load generator did that gave up connecting and tried again before its first CONNECT was answered.
#[tokio::test]
async fn a_connection_that_was_given_up_does_not_take_the_session_from_its_successor() {
    let server = Server::start().await;
    let who = server.device();
    server.directory.slow.store(1, Ordering::SeqCst);
    let mut given_up = server.raw().await;
    given_up.send(&Hello::new(&who).encode()).await;
    while server.directory.authentications.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut successor = server.v4(&who).await;
    server.directory.permits.add_permits(1);
    assert_eq!(given_up.expect(0x20).await, [0, 3]);
    given_up.closed().await;
    successor.silent().await;
}

fn with_will(id: &str, delay_s: u8) -> Hello {
    let will = Some((vec![24, 0, 0, 0, delay_s], "will".into(), b"gone".to_vec()));
    Hello { properties: vec![17, 0, 0, 0, 60], will, ..Hello::anonymous(id) }
}

#[tokio::test]
async fn wills() {
    let server = open().await;
    let mut watcher = fresh(&server, "watcher").await;
    watcher.subscribe("will", 0).await;
    drop(client(&server, with_will("a", 0)).await);
    assert_eq!(brief(&watcher.message().await), (0x30, "will", &b"gone"[..]));
    // An orderly DISCONNECT discards it, reason 4 does not.
    let mut polite = client(&server, with_will("b", 0)).await;
    polite.send(&[0xe0, 0]).await;
    polite.closed().await;
    watcher.silent().await;
    let mut asking = client(&server, with_will("b", 0)).await;
    asking.send(&[0xe0, 1, 4]).await;
    assert_eq!(watcher.message().await.topic, "will");
    // A delayed will comes later, and not at all when its client is back before.
    drop(client(&server, with_will("c", 1)).await);
    drop(client(&server, with_will("d", 2)).await);
    let hello = Hello { clean: false, properties: vec![17, 0, 0, 0, 60], ..Hello::anonymous("d") };
    let mut back = server.raw().await;
    while back.connect(&hello).await[0] == 0 {
        back = server.raw().await;
    }
    let started = std::time::Instant::now();
    assert_eq!(watcher.message().await.topic, "will");
    assert!(started.elapsed().as_millis() > 500);
    watcher.silent().await;
    // Ending the session by a clean start sends it at once.
    drop(client(&server, with_will("e", 60)).await);
    drop(client(&server, Hello::anonymous("e")).await);
    assert_eq!(watcher.message().await.topic, "will");
}

#[tokio::test]
async fn keep_alive_is_kept_and_zero_means_none() {
    let server = open().await;
    let mut never = client(&server, Hello { keep_alive: 0, ..Hello::anonymous("never") }).await;
    let mut lost = client(&server, Hello { keep_alive: 1, ..Hello::anonymous("lost") }).await;
    let started = std::time::Instant::now();
    assert_eq!(lost.expect(0xe0).await, [0x8d]);
    assert!((1_400..5_000).contains(&started.elapsed().as_millis()));
    never.silent().await;
}

#[tokio::test]
async fn the_server_can_impose_a_keep_alive() {
    let config = GatewayConfig { namespace: Namespace::Open, keep_alive_max_s: 30, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let mut raw = server.raw().await;
    let connack = raw.connect(&Hello { keep_alive: 0, ..Hello::anonymous("x") }).await;
    assert!(connack.windows(3).any(|w| w == [19, 0, 30]));
}

#[tokio::test]
async fn receive_maximum_both_ways() {
    let config = GatewayConfig { namespace: Namespace::Open, receive_max: 2, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let mut to = client(&server, Hello { properties: vec![33, 0, 1], ..Hello::anonymous("to") }).await;
    to.subscribe("f", 1).await;
    let mut from = fresh(&server, "from").await;
    for pkid in 1..=2 {
        from.publish(1, "f", pkid, [pkid as u8]).await;
        from.expect(0x40).await;
    }
    let first = to.message().await;
    to.silent().await;
    to.send(&[0x40, 2, (first.pkid >> 8) as u8, first.pkid as u8]).await;
    assert_eq!(to.message().await.payload, [2]);
    // QoS 2 publishes count until they are released.
    for pkid in 1..=3 {
        from.publish(2, "g", pkid, "x").await;
    }
    assert_eq!(from.expect(0x50).await, [0, 1, 0x10]);
}

#[tokio::test]
async fn topic_aliases_both_ways() {
    let server = open().await;
    let mut to = client(&server, Hello { properties: vec![34, 0, 1], ..Hello::anonymous("to") }).await;
    to.subscribe("long/topic", 0).await;
    let mut from = fresh(&server, "from").await;
    for topic in ["long/topic", ""] {
        let bytes = from.publish_bytes(0x30, topic, 0, &[35, 0, 3], b"x");
        from.send(&bytes).await;
    }
    let (first, second) = (to.message().await, to.message().await);
    assert_eq!((&*first.topic, &*first.properties), ("long/topic", &[35, 0, 1][..]));
    assert_eq!((&*second.topic, &*second.properties), ("", &[35, 0, 1][..]));
}

#[tokio::test]
async fn properties_travel_and_a_message_expires() {
    let server = open().await;
    let mut to = client(&server, lasting("to")).await;
    to.subscribe("p", 1).await;
    let mut from = fresh(&server, "from").await;
    let travels = b"\x01\x01\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01k\0\x01v\x26\0\x01k\0\x01w";
    let mut sent = travels.to_vec();
    sent.extend_from_slice(&[2, 0, 0, 0, 100]);
    let bytes = from.publish_bytes(0x32, "p", 1, &sent, b"x");
    from.send(&bytes).await;
    let message = to.message().await;
    let (life, rest) = message.properties.split_at(5);
    assert_eq!((life[0], &life[1..4]), (2, &[0, 0, 0][..]));
    assert!((98..=100).contains(&life[4]));
    assert_eq!(rest, travels);
    from.expect(0x40).await;
    to.send(&[0xe0, 0]).await;
    to.closed().await;
    let bytes = from.publish_bytes(0x32, "p", 2, &[2, 0, 0, 0, 0], b"dead on arrival");
    from.send(&bytes).await;
    from.expect(0x40).await;
    let mut to = client(&server, lasting("to")).await;
    assert_eq!(to.message().await.first, 0x3a, "only what was not acknowledged");
    to.silent().await;
}

#[tokio::test]
async fn what_is_too_large_for_a_client_is_not_sent() {
    let server = open().await;
    let mut to = client(&server, Hello { properties: vec![39, 0, 0, 0, 40], ..Hello::anonymous("to") }).await;
    to.subscribe("s", 1).await;
    let mut from = fresh(&server, "from").await;
    for payload in [vec![0; 100], vec![1; 4]] {
        from.publish(1, "s", 1, &payload).await;
        from.expect(0x40).await;
    }
    assert_eq!(to.message().await.payload, [1; 4]);
}

#[tokio::test]
async fn a_shared_subscription_deals_messages_out() {
    let server = open().await;
    let (mut a, mut b) = (fresh(&server, "a").await, fresh(&server, "b").await);
    a.subscribe("$share/g/t", 0).await;
    b.subscribe("$share/g/t", 0).await;
    let mut from = fresh(&server, "from").await;
    for i in 0..4u8 {
        from.publish(0, "t", 0, [i]).await;
    }
    from.silent().await;
    for member in [&mut a, &mut b] {
        member.message().await;
        member.message().await;
        member.silent().await;
    }
    b.send(&[0xe0, 0]).await;
    b.closed().await;
    for _ in 0..2 {
        from.publish(1, "t", 1, "x").await;
        from.expect(0x40).await;
        a.message().await;
    }
    assert_eq!(a.unsubscribe("$share/g/t").await[3..], [0]);
    from.publish(1, "t", 1, "x").await;
    assert_eq!(from.expect(0x40).await, [0, 1, 0x10]);
}

#[tokio::test]
async fn client_ids_are_assigned_and_dollar_topics_are_hidden() {
    let server = open().await;
    let mut raw = server.raw().await;
    let connack = raw.connect(&Hello::anonymous("")).await;
    assert!(connack[1] == 0 && connack.contains(&18));
    raw.subscribe("#", 0).await;
    raw.subscribe("+/x", 0).await;
    raw.publish(0, "$hidden/x", 0, "x").await;
    raw.silent().await;
    let mut v4 = server.raw().await;
    assert_eq!(v4.connect(&Hello { v5: false, clean: false, ..Hello::anonymous("") }).await, [0, 2]);
    let mut v4 = server.raw().await;
    assert_eq!(v4.connect(&Hello { v5: false, ..Hello::anonymous("") }).await, [0, 0]);
}

#[tokio::test]
async fn a_session_ends_when_its_time_is_over() {
    let server = open().await;
    let short = Hello { clean: false, properties: vec![17, 0, 0, 0, 1], ..Hello::anonymous("short") };
    let mut watcher = fresh(&server, "watcher").await;
    watcher.subscribe("will", 0).await;
    // The will is due with the session's end at the latest, which tells when that was.
    let dying = Hello { will: Some((vec![24, 0, 0, 0, 60], "will".into(), vec![])), ..short.clone() };
    drop(client(&server, dying).await);
    watcher.message().await;
    let mut back = server.raw().await;
    assert_eq!(back.connect(&short).await[..2], [0, 0]);
    // An expiry that CONNECT ruled out cannot be had at DISCONNECT.
    let mut none = fresh(&server, "none").await;
    none.send(&[0xe0, 7, 0, 5, 17, 0, 0, 0, 9]).await;
    assert_eq!(none.expect(0xe0).await, [0x82]);
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest() {
    let config = GatewayConfig { namespace: Namespace::Open, queued_messages_max: 3, ..GatewayConfig::default() };
    let server = Server::with(config).await;
    let mut to = client(&server, lasting("to")).await;
    to.subscribe("q", 1).await;
    to.send(&[0xe0, 0]).await;
    to.closed().await;
    let mut from = fresh(&server, "from").await;
    for pkid in 1..=5 {
        from.publish(1, "q", pkid, [pkid as u8]).await;
        from.expect(0x40).await;
    }
    let mut to = client(&server, lasting("to")).await;
    for expected in 3..=5u8 {
        assert_eq!(to.message().await.payload, [expected]);
    }
    to.silent().await;
}
