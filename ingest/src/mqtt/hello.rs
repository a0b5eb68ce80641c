//! From a fresh stream to a client: CONNECT, who it is, what it may, CONNACK.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_model::ids::DeviceId;
use rumqttd::protocol::{ConnAck, ConnAckProperties, ConnectReturnCode, Packet};
use tokio::io::{AsyncRead, AsyncWrite};

use super::broker::{Arrival, Attached, Will};
use super::packet::{self, Hello};
use super::session::Message;
use super::wire::{Progress, Wire};
use super::{Version, Violation, frame};
use crate::config::Namespace;
use crate::directory::{AuthError, DeviceIdentity};
use crate::gateway::Gateway;
use crate::permission;

/// Who is at the other end of a stream, as far as the transport knows.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: Option<IpAddr>,
    pub transport: &'static str,
    /// Its place in the order in which the server accepted connections; the later one keeps a session.
    pub arrival: u64,
    /// The device that a verified client certificate names.
    pub certificate: Option<DeviceId>,
}

/// A client that was let in.
pub struct Client {
    pub version: Version,
    pub identity: Option<DeviceIdentity>,
    pub attached: Attached,
    pub keep_alive: Option<Duration>,
    pub receive_max: u16,
    pub packet_bytes_max: usize,
    pub topic_alias_max: u16,
    pub started_with_expiry: bool,
}

/// Reads CONNECT and answers it. `None`: the client was refused and told so as far as its version can.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(gateway: &Gateway, wire: &mut Wire<S>, peer: &Peer) -> Option<Client> {
    let at = loop {
        match frame::next(&wire.input, gateway.config.connect_bytes_max) {
            Ok(Some(at)) => break at,
            Ok(None) => match wire.progress(true).await {
                Ok(Progress::Ended) | Err(_) => return None,
                Ok(_) => {}
            },
            Err(violation) => return refuse_stream(gateway, peer, violation),
        }
    };
    if at.kind() != frame::CONNECT {
        return refuse_stream(gateway, peer, Violation::protocol("the first packet is not CONNECT"));
    }
    let version = match packet::connect_level(&wire.input[..at.total], at) {
        Some(4) => Version::V4,
        Some(5) => Version::V5,
        Some(_) => {
            refuse(wire, Version::V4, 0x84);
            return refuse_stream(gateway, peer, Violation::new(0x84, "an unknown protocol level"));
        }
        None => return refuse_stream(gateway, peer, Violation::malformed("not MQTT")),
    };
    let hello = match packet::connect(&wire.input[..at.total], at, version) {
        Ok(hello) => hello,
        Err(violation) => {
            if version == Version::V5 {
                refuse(wire, version, violation.reason);
            }
            return refuse_stream(gateway, peer, violation);
        }
    };
    wire.input.drain(..at.total);
    match admit(gateway, peer, hello).await {
        Ok((client, connack)) => {
            write_connack(wire, version, client.attached.present, ConnectReturnCode::Success, Some(connack));
            Some(client)
        }
        Err(reason) => {
            gateway.metrics.connections_refused.with_label_values(&[reason_word(reason)]).inc();
            refuse(wire, version, reason);
            None
        }
    }
}

fn refuse_stream(gateway: &Gateway, peer: &Peer, violation: Violation) -> Option<Client> {
    tracing::debug!(address = ?peer.address, what = violation.what, "refused before CONNECT was complete");
    gateway.metrics.protocol_errors.inc();
    None
}

fn reason_word(reason: u8) -> &'static str {
    match reason {
        0x85 => "client_id",
        0x86 => "credentials",
        0x87 => "not_authorised",
        0x88 => "unavailable",
        0x8b => "shutting_down",
        0x8c => "authentication_method",
        0x8e => "superseded",
        0x97 => "quota",
        0x9f => "rate",
        _ => "other",
    }
}

/// Checks everything about a client that is not its form. `Err` is the MQTT 5 reason code.
async fn admit(gateway: &Gateway, peer: &Peer, hello: Hello) -> Result<(Client, ConnAckProperties), u8> {
    if hello.has_authentication_method {
        return Err(0x8c);
    }
    let identity = match gateway.config.namespace {
        Namespace::Open => None,
        Namespace::Devices => Some(authenticate(gateway, peer, &hello).await?),
    };
    let (client_id, assigned) = client_id(&hello, identity.as_ref())?;
    let config = &gateway.config;
    let expiry_s = match hello.session_expiry_s {
        0 => 0,
        // The open namespace is for tests of the standard, which know "never" too.
        u32::MAX if config.namespace == Namespace::Open => u32::MAX,
        asked => asked.min(config.session_expiry_max_s),
    };
    let will = hello.will.as_ref().map(|will| {
        if config.namespace == Namespace::Devices && permission::events(&will.topic).is_none() {
            return Err(0x87);
        }
        let (topic, payload, properties) = (Arc::from(&*will.topic), will.payload.clone(), will.properties.clone());
        let message = Message { topic, payload, qos: will.qos, retain: will.retain, properties, expires: None, from: None };
        let owner = identity.map(|who| who.device);
        Ok(Will { message: Arc::new(message), delay_s: will.delay_s, expiry_s: will.expiry_s, owner })
    });
    let will = will.transpose()?;
    let owner = identity.map(|who| who.device);
    let (number, clean_start) = (peer.arrival, hello.clean_start);
    let arrival = Arrival { client_id: client_id.as_str().into(), number, owner, clean_start, expiry_s, will };
    let attached = gateway.broker.attach(arrival)?;
    let keep_alive_s = match (config.keep_alive_max_s, hello.keep_alive_s, hello.version) {
        (0, asked, _) | (_, asked, Version::V4) => asked,
        (max, 0, _) => max,
        (max, asked, _) => asked.min(max),
    };
    let own = identity.map_or_else(|| "response".into(), |who| format!("v1/device/{}/response", who.device));
    let connack = ConnAckProperties {
        session_expiry_interval: (expiry_s != hello.session_expiry_s).then_some(expiry_s),
        receive_max: Some(config.receive_max),
        max_packet_size: u32::try_from(config.packet_bytes_max).ok(),
        assigned_client_identifier: assigned.then(|| client_id.clone()),
        topic_alias_max: (config.topic_alias_max > 0).then_some(config.topic_alias_max),
        server_keep_alive: (keep_alive_s != hello.keep_alive_s).then_some(keep_alive_s),
        response_information: hello.wants_response_information.then_some(own),
        ..ConnAckProperties::default()
    };
    let client = Client {
        version: hello.version,
        identity,
        attached,
        // The standard allows one and a half times the interval.
        keep_alive: (keep_alive_s > 0).then(|| Duration::from_millis(u64::from(keep_alive_s) * 1_500)),
        receive_max: hello.receive_max,
        packet_bytes_max: hello.packet_bytes_max,
        topic_alias_max: hello.topic_alias_max,
        started_with_expiry: hello.session_expiry_s != 0,
    };
    Ok((client, connack))
}

async fn authenticate(gateway: &Gateway, peer: &Peer, hello: &Hello) -> Result<DeviceIdentity, u8> {
    let named: Option<DeviceId> = hello.user.as_deref().filter(|user| !user.is_empty()).map(str::parse).transpose().map_err(|_| 0x86)?;
    if let Some(device) = peer.certificate {
        if named.is_some_and(|name| name != device) {
            return Err(0x86);
        }
        return gateway.directory.device(device).ok_or(0x87);
    }
    let device = named.ok_or(0x86)?;
    let token = hello.password.as_deref().unwrap_or_default();
    gateway.authenticate(peer.address, device, token).await.map_err(|error| match error {
        None => 0x9f,
        Some(AuthError::BadCredentials) => 0x86,
        Some(AuthError::Disabled) => 0x87,
        Some(AuthError::Unavailable) => 0x88,
    })
}

/// The client's id, and whether the server chose it. A device's id must be, or begin with, the device's own.
fn client_id(hello: &Hello, identity: Option<&DeviceIdentity>) -> Result<(String, bool), u8> {
    let asked = &hello.client_id;
    if asked.is_empty() {
        if hello.version == Version::V4 && !hello.clean_start {
            return Err(0x85);
        }
        let random = uuid::Uuid::new_v4().simple().to_string();
        return Ok((identity.map_or(random.clone(), |who| format!("{}-{}", who.device, &random[..8])), true));
    }
    let own = identity.map(|who| who.device.to_string());
    let begins = own.is_none_or(|own| asked.get(..own.len()).is_some_and(|head| head.eq_ignore_ascii_case(&own)));
    if begins { Ok((asked.clone(), false)) } else { Err(0x85) }
}

fn write_connack<S>(wire: &mut Wire<S>, version: Version, present: bool, code: ConnectReturnCode, properties: Option<ConnAckProperties>) {
    let properties = properties.filter(|_| version == Version::V5);
    packet::write(&mut wire.output, version, Packet::ConnAck(ConnAck { session_present: present, code }, properties));
}

fn refuse<S>(wire: &mut Wire<S>, version: Version, reason: u8) {
    use ConnectReturnCode as Code;
    let code = match (version, reason) {
        (Version::V4, 0x84) => Code::RefusedProtocolVersion,
        (Version::V4, 0x85) => Code::ClientIdentifierNotValid,
        (Version::V4, 0x86) => Code::BadUserNamePassword,
        (Version::V4, 0x88 | 0x8b | 0x8e | 0x97) => Code::ServiceUnavailable,
        (Version::V4, _) => Code::NotAuthorized,
        (Version::V5, 0x81) => Code::MalformedPacket,
        (Version::V5, 0x82) => Code::ProtocolError,
        (Version::V5, 0x85) => Code::ClientIdentifierNotValid,
        (Version::V5, 0x86) => Code::BadUserNamePassword,
        (Version::V5, 0x87) => Code::NotAuthorized,
        (Version::V5, 0x88 | 0x8b | 0x8e) => Code::ServerUnavailable,
        (Version::V5, 0x8c) => Code::BadAuthenticationMethod,
        (Version::V5, 0x90) => Code::TopicNameInvalid,
        (Version::V5, 0x97) => Code::QuotaExceeded,
        (Version::V5, 0x9f) => Code::ConnectionRateExceeded,
        (Version::V5, _) => Code::UnspecifiedError,
    };
    write_connack(wire, version, false, code, None);
}

/// The instant at which a message published now expires.
pub fn expiry(expiry_s: Option<u32>) -> Option<Instant> {
    expiry_s.map(|s| Instant::now() + Duration::from_secs(s.into()))
}
