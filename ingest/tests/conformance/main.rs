//! The behaviours of MQTT 3.1.1 and 5 that the Eclipse Paho project checks a broker for, against clients that others wrote:
//! rumqttc for both versions, mosquitto's command line for what a person types. Topics are free (`Namespace::Open`), except
//! where a refusal is tested. What is the same in both versions stands once, in [`both`].
//!
//! | behaviour | MQTT 3.1.1, [`three`] | MQTT 5, [`five`] |
//! | --- | --- | --- |
//! | basic | `basic` | `basic` |
//! | retained messages | `retained_messages` | `retained_messages` |
//! | offline message queueing | `offline_message_queueing` | `offline_message_queueing` |
//! | will message | `will_message` | `will_message` |
//! | will delay | | `will_delay` |
//! | overlapping subscriptions | `overlapping_subscriptions` | `overlapping_subscriptions` |
//! | keep-alive | `keepalive` | `keepalive`, `server_keep_alive` |
//! | redelivery on reconnect | `redelivery_on_reconnect` | `redelivery_on_reconnect` |
//! | zero-length client id | `zero_length_client_id` | `zero_length_client_id`, `assigned_client_id` |
//! | dollar topics | `dollar_topics` | `dollar_topics` |
//! | unsubscribe | `unsubscribe` | `unsubscribe` |
//! | refused subscription | `subscribe_failure` | `subscribe_failure` |
//! | session expiry | | `session_expiry` |
//! | shared subscriptions | | `shared_subscriptions` |
//! | user properties | | `user_properties` |
//! | payload format and content type | | `payload_format` |
//! | publication expiry | | `publication_expiry` |
//! | subscribe options | | `subscribe_options_no_local`, `subscribe_options_retain_as_published`, `subscribe_options_retain_handling` |
//! | subscribe identifiers | | `subscribe_identifiers` |
//! | request and response | | `request_response` |
//! | client topic alias | | `client_topic_alias` |
//! | server topic alias | | `server_topic_alias` |
//! | maximum packet size | | `maximum_packet_size_of_the_client`, `maximum_packet_size_of_the_server` |
//! | flow control | | `flow_control_towards_the_client`, `flow_control_towards_the_server` |
//!
//! Both versions by mosquitto's clients: [`typed`]. No client sends what the standard forbids, so a client above the receive
//! maximum and other violations are played by the raw client of the gateway's own tests.

#[macro_use]
mod both;
mod clients;
mod five;
#[path = "../gateway/harness.rs"]
#[allow(dead_code, reason = "the harness serves two test programs")]
mod harness;
mod three;
mod typed;

use harness::Server;
use rollcall_ingest::{GatewayConfig, Namespace};

async fn open() -> Server {
    Server::with(GatewayConfig { namespace: Namespace::Open, ..GatewayConfig::default() }).await
}
