//! Clients that others wrote: rumqttc with MQTT 3.1.1 and 5, and the whole way of a command to a device.

use std::time::Duration;

use rollcall_model::event::Kind;

use crate::harness::{Server, TOKEN, scan};

#[tokio::test]
async fn rumqttc_with_3_1_1() {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let server = Server::start().await;
    let who = server.device();
    let mut options = MqttOptions::new(who.device.to_string(), "127.0.0.1", server.port);
    options.set_credentials(who.device.to_string(), TOKEN).set_keep_alive(Duration::from_secs(10));
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe(format!("v1/device/{}/#", who.device), QoS::AtLeastOnce).await.unwrap();
    for (seq, qos) in [(1, QoS::AtMostOnce), (2, QoS::AtLeastOnce), (3, QoS::ExactlyOnce)] {
        client.publish("v1/scan", qos, false, scan(seq)).await.unwrap();
    }
    let handle = server.gateway.handle();
    let (mut acked, mut commanded, mut asked) = (0, false, false);
    while acked < 2 || !commanded {
        match events.poll().await.unwrap() {
            Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => acked += 1,
            Event::Incoming(Packet::SubAck(_)) => {
                asked = handle.publish_to_device(who.device, "command", "open".into(), 1, false);
            }
            Event::Incoming(Packet::Publish(message)) => commanded = message.payload == "open",
            _ => {}
        }
    }
    assert!(asked);
    assert_eq!(server.seqs(Kind::Scan), [1, 2, 3]);
}

#[tokio::test]
async fn rumqttc_with_5_gets_retained_configuration_and_is_disconnected_by_hand() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{AsyncClient, Event, MqttOptions};
    let server = Server::start().await;
    let who = server.device();
    let handle = server.gateway.handle();
    assert!(!handle.publish_to_device(who.device, "config", "{\"volume\":3}".into(), 1, true));
    let mut options = MqttOptions::new(who.device.to_string(), "127.0.0.1", server.port);
    options.set_credentials(who.device.to_string(), TOKEN).set_keep_alive(Duration::from_secs(10));
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe(format!("v1/device/{}/config", who.device), QoS::AtLeastOnce).await.unwrap();
    client.publish("v1/scan", QoS::AtLeastOnce, false, scan(1)).await.unwrap();
    let (mut acked, mut configured) = (false, false);
    while !acked || !configured {
        match events.poll().await.unwrap() {
            Event::Incoming(Packet::PubAck(_)) => acked = true,
            Event::Incoming(Packet::Publish(message)) => configured = message.retain && message.payload == "{\"volume\":3}",
            _ => {}
        }
    }
    assert_eq!(handle.disconnect(who.device), 1);
    while events.poll().await.is_ok() {}
    assert_eq!(server.seqs(Kind::Scan), [1]);
}
