//! Limits and policies of the intake. Every value has a default that a district of 1,000 schools can run with.

use std::path::PathBuf;

use rollcall_model::limits;
use serde::{Deserialize, Serialize};

/// Which topics exist and who may use them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The product: registered devices, the event topics, and each device's own `v1/device/<id>/#`.
    #[default]
    Devices,
    /// Every topic for everyone without a credential; only for tests of the MQTT standard's behaviour. It cannot be
    /// set by a configuration file.
    Open,
}

/// Certificate chain and key of the TLS listener, and optionally the authority that signs device certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// When given, a client certificate signed by it whose CN is a device id stands for the token; it stays optional.
    #[serde(default)]
    pub client_authority: Option<PathBuf>,
}

/// Configuration of the gateway. Times are in milliseconds or seconds as their names say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Connections at once over all listeners. The next one is closed without an answer.
    pub connections_max: usize,
    /// Connections at once from one address. A school behind one address has a few hundred devices.
    pub connections_per_address_max: usize,
    /// From accept to a complete CONNECT; a TLS handshake has to fit into it.
    pub connect_timeout_ms: u64,
    /// Largest CONNECT packet, in bytes: before it nothing is known about the sender.
    pub connect_bytes_max: usize,
    /// Largest packet after CONNECT, in bytes; announced to MQTT 5 clients.
    pub packet_bytes_max: usize,
    /// Keep-alive that is imposed on MQTT 5 clients that ask for a longer one or for none; 0 imposes nothing.
    pub keep_alive_max_s: u16,
    /// How long a peer may leave bytes unread that wait for it before it is disconnected.
    pub write_timeout_ms: u64,
    /// Unacknowledged QoS 1 and 2 publishes of one client; announced to MQTT 5 clients.
    pub receive_max: u16,
    /// Topic aliases that a client may set.
    pub topic_alias_max: u16,
    /// Longest session expiry that is granted, in seconds.
    pub session_expiry_max_s: u32,
    /// Sessions kept without a connection. At the limit the one that has waited longest is ended.
    pub sessions_offline_max: usize,
    /// Messages waiting for one client. At the limit QoS 0 is dropped; for QoS 1 and 2 the oldest waiting one is.
    pub queued_messages_max: usize,
    pub queued_bytes_max: usize,
    pub subscriptions_per_client_max: usize,
    /// Bytes of messages that wait in persistent sessions, all together; at the limit new ones are dropped.
    pub kept_bytes_max: usize,
    pub retained_messages_max: usize,
    /// Bytes of retained messages. Where a limit would be passed a message is delivered and not retained.
    pub retained_bytes_max: usize,
    /// Client ids of one device at once.
    pub clients_per_device_max: usize,
    /// Failed sign-ins in a minute, per address and per device, before the next ones are refused without a look.
    pub auth_failures_per_minute_max: u32,
    /// Unwritten outgoing bytes of one connection before reading from it stops.
    pub output_bytes_max: usize,
    pub tls: Option<TlsConfig>,
    #[serde(skip)]
    pub namespace: Namespace,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_address_max: 20_000,
            connect_timeout_ms: 10_000,
            connect_bytes_max: 16 * 1024,
            packet_bytes_max: limits::PAYLOAD_BYTES_MAX + 4 * 1024,
            keep_alive_max_s: 0,
            write_timeout_ms: 30_000,
            receive_max: 1_000,
            topic_alias_max: 16,
            session_expiry_max_s: 7 * 24 * 3600,
            sessions_offline_max: 100_000,
            queued_messages_max: 256,
            queued_bytes_max: 1024 * 1024,
            subscriptions_per_client_max: 32,
            kept_bytes_max: 128 * 1024 * 1024,
            retained_messages_max: 100_000,
            retained_bytes_max: 64 * 1024 * 1024,
            clients_per_device_max: 4,
            auth_failures_per_minute_max: 30,
            output_bytes_max: 256 * 1024,
            tls: None,
            namespace: Namespace::Devices,
        }
    }
}

/// Configuration of admission: the memory of what was already taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// No event older than this is taken, whatever a school's policy says, so older ones need not be remembered.
    pub late_max_ms: i64,
    /// Separate runs of sequence numbers remembered for one device. A device that counts densely needs one.
    pub runs_per_device_max: usize,
    /// How often the memory is written to its file.
    pub snapshot_interval_ms: u64,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { late_max_ms: limits::LATE_MAX_MS, runs_per_device_max: 16_384, snapshot_interval_ms: 10_000 }
    }
}
