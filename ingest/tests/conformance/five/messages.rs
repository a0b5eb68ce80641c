//! Messages: who gets them, how often, and what travels with them.

use super::client::*;

shared_messages!(Five);

#[tokio::test]
async fn retained_messages() {
    let server = open().await;
    let mut a = Five::new(&server, "a").await;
    for topic in ["fromb/1", "fromb/2", "fromb/3"] {
        a.retain(topic, topic).await;
    }
    let mut b = Five::new(&server, "b").await;
    b.subscribe("fromb/+", ExactlyOnce).await;
    b.subscribe("end", AtLeastOnce).await;
    let got = b.all(&mut a).await;
    assert!(got.len() == 3 && got.iter().all(|message| message.retain));
    for topic in ["fromb/1", "fromb/2", "fromb/3"] {
        a.retain(topic, "").await;
    }
    let mut c = Five::new(&server, "c").await;
    c.subscribe("fromb/+", ExactlyOnce).await;
    c.subscribe("end", AtLeastOnce).await;
    assert!(c.all(&mut a).await.is_empty());
}

#[tokio::test]
async fn overlapping_subscriptions() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    a.subscribe_to(Filter::new("topic/#", ExactlyOnce), Some(1)).await;
    a.subscribe_to(Filter::new("topic/+", AtLeastOnce), Some(2)).await;
    a.subscribe("end", AtLeastOnce).await;
    b.publish("topic/x", ExactlyOnce, "once").await;
    let got = a.all(&mut b).await;
    assert_eq!((got.len(), got[0].qos), (1, ExactlyOnce), "one copy, of the highest QoS");
    let mut ids = properties(&got[0]).subscription_identifiers;
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn unsubscribe() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    for topic in ["t/a", "t/b", "t/c", "end"] {
        a.subscribe(topic, AtLeastOnce).await;
    }
    for (topic, expected) in [("t/a", UnsubAckReason::Success), ("t/a", UnsubAckReason::NoSubscriptionExisted)] {
        a.client.unsubscribe(topic).await.unwrap();
        let code = |packet: &Packet| if let Packet::UnsubAck(ack) = packet { Some(ack.reasons[0].clone()) } else { None };
        assert_eq!(a.line.until("UNSUBACK", code).await, expected);
    }
    for topic in ["t/a", "t/b", "t/c"] {
        b.publish(topic, AtLeastOnce, topic).await;
    }
    assert_eq!(a.payloads(&mut b).await, ["t/b", "t/c"]);
}

#[tokio::test]
async fn subscribe_failure() {
    let server = Server::start().await;
    let who = server.device();
    let mut options = options(&server, &who.device.to_string());
    options.set_credentials(who.device.to_string(), TOKEN);
    let mut a = Five::with(options).await;
    let forbidden = a.subscribe_code(Filter::new("v1/scan", AtLeastOnce), None).await;
    assert_eq!(forbidden, SubscribeReasonCode::NotAuthorized);
    a.subscribe(&format!("v1/device/{}/#", who.device), AtLeastOnce).await;
    a.client.publish("v1/device/other", AtLeastOnce, false, "{}").await.unwrap();
    let reason = |packet: &Packet| if let Packet::PubAck(ack) = packet { Some(ack.reason) } else { None };
    assert_eq!(a.line.until("PUBACK", reason).await, PubAckReason::NotAuthorized);
}

#[tokio::test]
async fn shared_subscriptions() {
    let server = open().await;
    let (mut a, mut b, mut c) = (Five::new(&server, "a").await, Five::new(&server, "b").await, Five::new(&server, "c").await);
    assert_ne!(a.offered().shared_subscription_available, Some(0));
    c.retain("share/old", "retained").await;
    for member in [&mut a, &mut b] {
        member.subscribe("$share/group/share/#", AtLeastOnce).await;
        member.subscribe("end", AtLeastOnce).await;
    }
    let mut sent: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    for payload in &sent {
        c.publish("share/x", AtLeastOnce, payload).await;
    }
    let (by_a, by_b) = (a.payloads(&mut c).await, b.payloads(&mut c).await);
    assert!(!by_a.is_empty() && !by_b.is_empty());
    let mut got = [by_a, by_b].concat();
    got.sort_unstable();
    sent.sort_unstable();
    assert_eq!(got, sent, "each once, and no retained message");
    b.disconnect().await;
    c.publish("share/x", AtLeastOnce, "left").await;
    // Before it `a` gets the mark that was meant for `b`.
    while text(&a.line.message().await) != "left" {}
}

#[tokio::test]
async fn user_properties() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    b.subscribe("t", ExactlyOnce).await;
    let pairs = vec![("a".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned()), ("a".to_owned(), "2".to_owned())];
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let sent = PublishProperties { user_properties: pairs.clone(), ..PublishProperties::default() };
        a.publish_with("t", qos, false, "x", sent).await;
        assert_eq!(properties(&b.line.message().await).user_properties, pairs, "in their order, repeated ones too");
    }
}

#[tokio::test]
async fn payload_format() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    b.subscribe("t", ExactlyOnce).await;
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/json".into()),
        ..PublishProperties::default()
    };
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        a.publish_with("t", qos, false, "{}", sent.clone()).await;
        let got = properties(&b.line.message().await);
        assert_eq!((got.payload_format_indicator, got.content_type.as_deref()), (Some(1), Some("application/json")));
    }
}

#[tokio::test]
async fn publication_expiry() {
    let server = open().await;
    let mut away = Five::with(lasting(&server, "away")).await;
    away.subscribe("t", ExactlyOnce).await;
    away.subscribe("end", AtLeastOnce).await;
    away.disconnect().await;
    let mut b = Five::new(&server, "b").await;
    b.subscribe("over", AtLeastOnce).await;
    let life = |seconds| PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
    for (qos, payload, seconds) in [(AtLeastOnce, "1 s", 1), (ExactlyOnce, "also 1 s", 1), (AtLeastOnce, "100 s", 100)] {
        b.publish_with("t", qos, false, payload, life(seconds)).await;
    }
    b.publish("t", AtLeastOnce, "for ever").await;
    b.publish_with("retained", AtLeastOnce, true, "1 s", life(1)).await;
    // A session that is over after more than a second tells that theirs is over too.
    let mut clock = options(&server, "clock");
    clock.set_session_expiry_interval(Some(2)).set_last_will(will("over", delay(100)));
    drop(Five::with(clock).await);
    b.line.message().await;
    let mut away = Five::with(lasting(&server, "away")).await;
    let got = away.all(&mut b).await;
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["100 s", "for ever"]);
    let left = properties(&got[0]).message_expiry_interval.expect("what is left of its life");
    assert!((90..100).contains(&left), "{left}");
    assert_eq!(properties(&got[1]).message_expiry_interval, None);
    away.subscribe("retained", AtLeastOnce).await;
    assert!(away.all(&mut b).await.is_empty());
}

#[tokio::test]
async fn subscribe_options_no_local() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    a.subscribe_to(Filter { nolocal: true, ..Filter::new("t", AtLeastOnce) }, None).await;
    a.subscribe("end", AtLeastOnce).await;
    a.publish("t", AtLeastOnce, "own").await;
    b.publish("t", AtLeastOnce, "other's").await;
    assert_eq!(a.payloads(&mut b).await, ["other's"]);
}

#[tokio::test]
async fn subscribe_options_retain_as_published() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    a.subscribe_to(Filter { preserve_retain: true, ..Filter::new("t/1", AtLeastOnce) }, None).await;
    a.subscribe("t/2", AtLeastOnce).await;
    a.subscribe("end", AtLeastOnce).await;
    for topic in ["t/1", "t/2"] {
        b.retain(topic, topic).await;
        b.publish(topic, AtLeastOnce, topic).await;
    }
    let flags: Vec<_> = a.all(&mut b).await.iter().map(|message| message.retain).collect();
    assert_eq!(flags, [true, false, false, false]);
}

#[tokio::test]
async fn subscribe_options_retain_handling() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    b.retain("t", "kept").await;
    a.subscribe("end", AtLeastOnce).await;
    let asked = |rule| Filter { retain_forward_rule: rule, ..Filter::new("t", AtLeastOnce) };
    for (rule, expected) in [
        (RetainForwardRule::Never, 0),
        (RetainForwardRule::OnNewSubscribe, 0),
        (RetainForwardRule::OnEverySubscribe, 1),
        (RetainForwardRule::OnEverySubscribe, 1),
    ] {
        a.subscribe_to(asked(rule.clone()), None).await;
        assert_eq!(a.all(&mut b).await.len(), expected, "{rule:?} of one that exists");
    }
    let mut fresh = Five::new(&server, "fresh").await;
    fresh.subscribe("end", AtLeastOnce).await;
    fresh.subscribe_to(asked(RetainForwardRule::OnNewSubscribe), None).await;
    assert_eq!(fresh.all(&mut b).await.len(), 1);
}

#[tokio::test]
async fn subscribe_identifiers() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    assert_ne!(a.offered().subscription_identifiers_available, Some(0));
    a.subscribe_to(Filter::new("t/1", AtLeastOnce), Some(456_789)).await;
    a.subscribe("t/2", AtLeastOnce).await;
    a.subscribe_to(Filter::new("t/3", AtLeastOnce), Some(2)).await;
    // Subscribing again replaces the identifier.
    a.subscribe_to(Filter::new("t/3", AtLeastOnce), Some(3)).await;
    for (topic, expected) in [("t/1", vec![456_789]), ("t/2", vec![]), ("t/3", vec![3])] {
        b.publish(topic, AtLeastOnce, "x").await;
        assert_eq!(properties(&a.line.message().await).subscription_identifiers, expected, "{topic}");
    }
}

#[tokio::test]
async fn request_response() {
    let server = open().await;
    let mut asking = options(&server, "asking");
    asking.set_request_response_info(Some(1));
    let mut asking = Five::with(asking).await;
    let place = asking.offered().response_information.expect("it was asked for");
    let mut answering = Five::new(&server, "answering").await;
    assert_eq!(answering.offered().response_information, None, "only who asks is told");
    let reply_to = format!("{place}/asking");
    asking.subscribe(&reply_to, AtLeastOnce).await;
    answering.subscribe("question", AtLeastOnce).await;
    let sent = PublishProperties { response_topic: Some(reply_to), correlation_data: Some("334".into()), ..PublishProperties::default() };
    asking.publish_with("question", AtLeastOnce, false, "?", sent).await;
    let asked = properties(&answering.line.message().await);
    let (topic, correlation_data) = (asked.response_topic.expect("where to answer"), asked.correlation_data);
    let back = PublishProperties { correlation_data, ..PublishProperties::default() };
    answering.publish_with(&topic, AtLeastOnce, false, "!", back).await;
    let answer = asking.line.message().await;
    assert_eq!((text(&answer), properties(&answer).correlation_data), ("!".into(), Some("334".into())));
}

#[tokio::test]
async fn client_topic_alias() {
    let server = open().await;
    let (mut a, mut b) = (Five::new(&server, "a").await, Five::new(&server, "b").await);
    assert!(a.offered().topic_alias_max.is_some_and(|max| max > 1));
    b.subscribe("alias/#", AtLeastOnce).await;
    let by = |alias| PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
    for (topic, alias) in [("alias/one", 1), ("", 1), ("alias/two", 2), ("", 1), ("alias/new", 1), ("", 1), ("", 2)] {
        a.publish_with(topic, AtLeastOnce, false, "x", by(alias)).await;
    }
    let mut topics = Vec::new();
    for _ in 0..7 {
        topics.push(String::from_utf8(b.line.message().await.topic.to_vec()).unwrap());
    }
    let expected = ["one", "one", "two", "one", "new", "new", "two"].map(|last| format!("alias/{last}"));
    assert_eq!(topics, expected);
}

#[tokio::test]
async fn server_topic_alias() {
    let server = open().await;
    let mut with = options(&server, "with");
    with.set_topic_alias_max(Some(1));
    let (mut with, mut without) = (Five::with(with).await, Five::new(&server, "without").await);
    let mut from = Five::new(&server, "from").await;
    for client in [&mut with, &mut without] {
        client.subscribe("t/#", AtLeastOnce).await;
    }
    for topic in ["t/1", "t/1", "t/2", "t/1"] {
        from.publish(topic, AtLeastOnce, topic).await;
    }
    for (alias, topic) in [(Some(1), "t/1"), (Some(1), ""), (None, "t/2"), (Some(1), "")] {
        let message = with.line.message().await;
        assert_eq!((properties(&message).topic_alias, &*message.topic), (alias, topic.as_bytes()));
        assert_eq!(properties(&without.line.message().await).topic_alias, None);
    }
}

#[tokio::test]
async fn maximum_packet_size_of_the_client() {
    let server = open().await;
    let mut small = options(&server, "small");
    small.set_max_packet_size(Some(64));
    let (mut small, mut from) = (Five::with(small).await, Five::new(&server, "from").await);
    small.subscribe("t", ExactlyOnce).await;
    small.subscribe("end", AtLeastOnce).await;
    for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        from.publish("t", qos, &"x".repeat(64)).await;
        from.publish("t", qos, "fits").await;
    }
    assert_eq!(small.payloads(&mut from).await, ["fits"; 3], "what is too large is dropped as if it had been delivered");
}

#[tokio::test]
async fn maximum_packet_size_of_the_server() {
    let server = open().await;
    let mut a = Five::new(&server, "a").await;
    let max = a.offered().max_packet_size.expect("it is announced") as usize;
    a.publish("t", AtLeastOnce, &"x".repeat(max - 64)).await;
    // rumqttc reads it: one above ends on its own side. What the server does to others is tested with the raw client.
    a.client.publish("t", AtLeastOnce, false, vec![b'x'; max]).await.unwrap();
    a.line.ended().await;
}
