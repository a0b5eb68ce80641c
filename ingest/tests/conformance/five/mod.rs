//! MQTT 5 by rumqttc.

mod client;
mod messages;
mod sessions;
