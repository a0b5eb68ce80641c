//! MQTT 3.1.1 by rumqttc.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rumqttc::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use rumqttc::{AsyncClient, ConnAck, Event, EventLoop, LastWill, MqttOptions, Packet, Publish, SubscribeReasonCode};

use crate::clients::Line;
use crate::harness::{Hello, Server, TOKEN};
use crate::open;

struct Three {
    client: AsyncClient,
    line: Line<Packet, Publish>,
    connack: ConnAck,
}

fn options(server: &Server, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, "127.0.0.1", server.port);
    options.set_keep_alive(Duration::from_secs(60)).set_clean_session(true);
    options
}

/// What the client says next of its connection; see [`Line::new`].
fn poll(events: &mut EventLoop) -> BoxFuture<'_, Option<Option<Packet>>> {
    async {
        match events.poll().await {
            Ok(Event::Incoming(packet)) => Some(Some(packet)),
            Ok(Event::Outgoing(_)) => Some(None),
            Err(_) => None,
        }
    }
    .boxed()
}

fn lasting(server: &Server, id: &str) -> MqttOptions {
    let mut options = options(server, id);
    options.set_clean_session(false);
    options
}

impl Three {
    async fn with(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 64);
        let Event::Incoming(Packet::ConnAck(connack)) = events.poll().await.unwrap() else { panic!("no CONNACK") };
        let message = |packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None };
        Self { client, line: Line::new(events, poll, message), connack }
    }

    async fn new(server: &Server, id: &str) -> Self {
        Self::with(options(server, id)).await
    }

    async fn subscribe(&mut self, topic: &str, qos: QoS) {
        assert_eq!(self.subscribe_code(topic, qos).await, SubscribeReasonCode::Success(qos));
    }

    async fn subscribe_code(&mut self, topic: &str, qos: QoS) -> SubscribeReasonCode {
        self.client.subscribe(topic, qos).await.unwrap();
        let code = |packet: &Packet| if let Packet::SubAck(ack) = packet { Some(ack.return_codes[0]) } else { None };
        self.line.until("SUBACK", code).await
    }

    async fn publish(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.send(topic, qos, false, payload).await;
    }

    async fn send(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str) {
        self.client.publish(topic, qos, retain, payload).await.unwrap();
        let done = |packet: &Packet| matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(());
        if qos != AtMostOnce {
            self.line.until("an acknowledgement", done).await;
        }
    }

    /// Everything that came until now: `from` publishes a mark behind it, for which this client has subscribed to `end`.
    async fn all(&mut self, from: &mut Self) -> Vec<Publish> {
        from.publish("end", AtLeastOnce, "").await;
        let mut all = Vec::new();
        loop {
            let message = self.line.message().await;
            if message.topic == "end" {
                return all;
            }
            all.push(message);
        }
    }

    async fn payloads(&mut self, from: &mut Self) -> Vec<String> {
        self.all(from).await.iter().map(text).collect()
    }

    async fn disconnect(mut self) {
        self.client.disconnect().await.unwrap();
        self.line.ended().await;
    }
}

fn text(message: &Publish) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

shared_messages!(Three);
shared_sessions!(Three);

#[tokio::test]
async fn retained_messages() {
    let server = open().await;
    let mut a = Three::new(&server, "a").await;
    let kinds = [("r/1", AtMostOnce), ("r/2", AtLeastOnce), ("r/3", ExactlyOnce)];
    for (topic, qos) in kinds {
        a.send(topic, qos, true, topic).await;
    }
    let mut b = Three::new(&server, "b").await;
    b.subscribe("r/+", ExactlyOnce).await;
    b.subscribe("end", AtLeastOnce).await;
    let got: Vec<_> = b.all(&mut a).await.iter().map(|message| (message.topic.clone(), message.qos, message.retain)).collect();
    assert_eq!(got, kinds.map(|(topic, qos)| (topic.to_owned(), qos, true)));
    for (topic, qos) in kinds {
        a.send(topic, qos, true, "").await;
    }
    let mut c = Three::new(&server, "c").await;
    c.subscribe("r/+", ExactlyOnce).await;
    c.subscribe("end", AtLeastOnce).await;
    assert!(c.all(&mut a).await.is_empty());
}

#[tokio::test]
async fn offline_message_queueing() {
    let server = open().await;
    let mut a = Three::with(lasting(&server, "a")).await;
    assert!(!a.connack.session_present);
    a.subscribe("queue/#", ExactlyOnce).await;
    a.subscribe("end", AtLeastOnce).await;
    a.disconnect().await;
    let mut b = Three::new(&server, "b").await;
    for (qos, payload) in [(AtMostOnce, "0"), (AtLeastOnce, "1"), (ExactlyOnce, "2")] {
        b.publish("queue/x", qos, payload).await;
    }
    let mut a = Three::with(lasting(&server, "a")).await;
    assert!(a.connack.session_present);
    assert_eq!(a.payloads(&mut b).await, ["1", "2"]);
    a.disconnect().await;
    // A clean session forgets it.
    Three::new(&server, "a").await.disconnect().await;
    assert!(!Three::with(lasting(&server, "a")).await.connack.session_present);
}

#[tokio::test]
async fn will_message() {
    let server = open().await;
    let mut watcher = Three::new(&server, "watcher").await;
    watcher.subscribe("will/#", ExactlyOnce).await;
    watcher.subscribe("end", AtLeastOnce).await;
    let with_will = |id: &str| {
        let mut options = options(&server, id);
        options.set_last_will(LastWill::new(format!("will/{id}"), "gone", ExactlyOnce, true));
        options
    };
    drop(Three::with(with_will("lost")).await);
    let message = watcher.line.message().await;
    assert_eq!((&*message.topic, text(&message), message.qos, message.retain), ("will/lost", "gone".into(), ExactlyOnce, false));
    Three::with(with_will("polite")).await.disconnect().await;
    let mut other = Three::new(&server, "other").await;
    assert!(watcher.all(&mut other).await.is_empty(), "an orderly end discards it");
    other.subscribe("will/lost", AtLeastOnce).await;
    assert!(other.line.message().await.retain);
}

#[tokio::test]
async fn overlapping_subscriptions() {
    let server = open().await;
    let (mut a, mut b) = (Three::new(&server, "a").await, Three::new(&server, "b").await);
    a.subscribe("topic/#", ExactlyOnce).await;
    a.subscribe("topic/+", AtLeastOnce).await;
    a.subscribe("end", AtLeastOnce).await;
    b.publish("topic/x", ExactlyOnce, "once").await;
    let got = a.all(&mut b).await;
    assert_eq!((got.len(), got[0].qos), (1, ExactlyOnce), "one copy, of the highest QoS");
}

#[tokio::test]
async fn keepalive() {
    let server = open().await;
    let mut watcher = Three::new(&server, "watcher").await;
    watcher.subscribe("will", AtLeastOnce).await;
    // rumqttc knows no keep-alive below a second in this version, and none at all is a promise of its own.
    let mut silent = options(&server, "silent");
    silent.set_keep_alive(Duration::from_secs(1)).set_last_will(LastWill::new("will", "gone", AtLeastOnce, false));
    let silent = Three::with(silent).await;
    silent.line.freeze();
    let since = Instant::now();
    watcher.line.message().await;
    let after = since.elapsed();
    assert!((Duration::from_millis(1_400)..Duration::from_secs(6)).contains(&after), "{after:?}");
    let mut never = options(&server, "never");
    never.set_keep_alive(Duration::ZERO);
    let mut never = Three::with(never).await;
    never.subscribe("t", AtLeastOnce).await;
}

#[tokio::test]
async fn zero_length_client_id() {
    let server = open().await;
    let mut a = Three::new(&server, "").await;
    a.subscribe("t", AtLeastOnce).await;
    a.publish("t", AtLeastOnce, "x").await;
    assert_eq!(text(&a.line.message().await), "x");
    // Without a clean session nobody could come back to it. rumqttc does not let one ask, so the raw client does.
    let mut raw = server.raw().await;
    assert_eq!(raw.connect(&Hello { v5: false, clean: false, ..Hello::anonymous("") }).await, [0, 2]);
    raw.closed().await;
}

#[tokio::test]
async fn unsubscribe() {
    let server = open().await;
    let (mut a, mut b) = (Three::new(&server, "a").await, Three::new(&server, "b").await);
    for topic in ["t/a", "t/b", "t/c", "end"] {
        a.subscribe(topic, AtLeastOnce).await;
    }
    a.client.unsubscribe("t/a").await.unwrap();
    a.line.until("UNSUBACK", |packet| matches!(packet, Packet::UnsubAck(_)).then_some(())).await;
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
    let mut a = Three::with(options).await;
    assert_eq!(a.subscribe_code("v1/scan", AtLeastOnce).await, SubscribeReasonCode::Failure);
    a.subscribe(&format!("v1/device/{}/#", who.device), AtLeastOnce).await;
    // A publish cannot be refused in this version, so the connection ends.
    a.client.publish("v1/device/other", AtLeastOnce, false, "{}").await.unwrap();
    a.line.ended().await;
}
