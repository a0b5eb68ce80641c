//! The client that the tests share, and what they need of rumqttc.

pub use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
pub use rollcall_ingest::{GatewayConfig, Namespace};
pub use rumqttc::v5::mqttbytes::QoS::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
pub use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Filter, LastWill, LastWillProperties, Packet, PubAckReason, Publish, PublishProperties,
    RetainForwardRule, SubscribeProperties, SubscribeReasonCode, UnsubAckReason,
};
pub use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions, StateError};

use crate::clients::Line;
pub use crate::harness::{Server, TOKEN};
pub(crate) use crate::open;

pub struct Five {
    pub client: AsyncClient,
    pub line: Line<Packet, Publish>,
    pub connack: ConnAck,
}

pub fn options(server: &Server, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, "127.0.0.1", server.port);
    options.set_keep_alive(Duration::from_secs(60)).set_clean_start(true);
    options
}

/// What the client says next of its connection; see [`Line::new`].
pub fn poll(events: &mut EventLoop) -> BoxFuture<'_, Option<Option<Packet>>> {
    async {
        match events.poll().await {
            Ok(Event::Incoming(packet)) => Some(Some(packet)),
            Ok(Event::Outgoing(_)) => Some(None),
            Err(_) => None,
        }
    }
    .boxed()
}

/// A session that is taken up again and outlives its connection by a minute.
pub fn lasting(server: &Server, id: &str) -> MqttOptions {
    let mut options = options(server, id);
    options.set_clean_start(false).set_session_expiry_interval(Some(60));
    options
}

impl Five {
    pub async fn with(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, 64);
        let Event::Incoming(Packet::ConnAck(connack)) = events.poll().await.unwrap() else { panic!("no CONNACK") };
        let message = |packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None };
        Self { client, line: Line::new(events, poll, message), connack }
    }

    pub async fn new(server: &Server, id: &str) -> Self {
        Self::with(options(server, id)).await
    }

    pub fn offered(&self) -> ConnAckProperties {
        self.connack.properties.clone().expect("CONNACK has properties")
    }

    pub async fn subscribe(&mut self, topic: &str, qos: QoS) {
        self.subscribe_to(Filter::new(topic, qos), None).await;
    }

    pub async fn subscribe_to(&mut self, filter: Filter, id: Option<usize>) {
        let qos = filter.qos;
        assert_eq!(self.subscribe_code(filter, id).await, SubscribeReasonCode::Success(qos));
    }

    pub async fn subscribe_code(&mut self, filter: Filter, id: Option<usize>) -> SubscribeReasonCode {
        match id {
            None => self.client.subscribe_many([filter]).await.unwrap(),
            Some(_) => {
                let properties = SubscribeProperties { id, user_properties: vec![] };
                self.client.subscribe_many_with_properties([filter], properties).await.unwrap();
            }
        }
        let code = |packet: &Packet| if let Packet::SubAck(ack) = packet { Some(ack.return_codes[0]) } else { None };
        self.line.until("SUBACK", code).await
    }

    /// Publishes and waits for the acknowledgement that the QoS has.
    pub async fn publish(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.publish_with(topic, qos, false, payload, PublishProperties::default()).await;
    }

    pub async fn retain(&mut self, topic: &str, payload: &str) {
        self.publish_with(topic, AtLeastOnce, true, payload, PublishProperties::default()).await;
    }

    pub async fn publish_with(&mut self, topic: &str, qos: QoS, retain: bool, payload: &str, properties: PublishProperties) {
        self.client.publish_with_properties(topic, qos, retain, payload.to_owned(), properties).await.unwrap();
        let done = |packet: &Packet| matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)).then_some(());
        if qos != AtMostOnce {
            self.line.until("an acknowledgement", done).await;
        }
    }

    /// Everything that came until now: `from` publishes a mark behind it, for which this client has subscribed to `end`.
    pub async fn all(&mut self, from: &mut Self) -> Vec<Publish> {
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

    pub async fn payloads(&mut self, from: &mut Self) -> Vec<String> {
        self.all(from).await.into_iter().map(|message| text(&message)).collect()
    }

    pub async fn disconnect(mut self) {
        self.client.disconnect().await.unwrap();
        self.line.ended().await;
    }
}

pub fn text(message: &Publish) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

pub fn properties(message: &Publish) -> PublishProperties {
    message.properties.clone().unwrap_or_default()
}

pub fn will(topic: &str, properties: Option<LastWillProperties>) -> LastWill {
    LastWill::new(topic, "gone", AtLeastOnce, false, properties)
}

pub fn delay(seconds: u32) -> Option<LastWillProperties> {
    Some(LastWillProperties {
        delay_interval: Some(seconds),
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        content_type: Some("text/plain".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: vec![("why".into(), "lost".into())],
    })
}
