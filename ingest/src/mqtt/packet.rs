//! Packets between bytes and what the gateway works with. CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and their answers go
//! through rumqttd's codec, behind checks of what it lets pass. PUBLISH and its acknowledgements are read and written here:
//! the codec keeps their QoS and packet id private, and a publish of events is read where it stands in the buffer.

use bytes::{Bytes, BytesMut};
use rumqttd::protocol::v4::V4;
use rumqttd::protocol::v5::V5;
use rumqttd::protocol::{self, Packet, Protocol};

use super::frame::{self, Frame};
use super::property;
use super::topic;
use super::{Version, Violation};

/// What a CONNECT asks for.
pub struct Hello {
    pub version: Version,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub user: Option<String>,
    pub password: Option<String>,
    pub will: Option<HelloWill>,
    pub session_expiry_s: u32,
    pub receive_max: u16,
    pub packet_bytes_max: usize,
    pub topic_alias_max: u16,
    pub wants_response_information: bool,
    pub has_authentication_method: bool,
}

pub struct HelloWill {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
    /// Properties that travel with the message, as they stood.
    pub properties: Bytes,
}

/// The protocol level of a CONNECT frame; `None` when it is not MQTT at all.
pub fn connect_level(frame: &[u8], at: Frame) -> Option<u8> {
    let mut body = &frame[at.header..];
    let name = property::take_binary(&mut body).ok()?;
    (name == b"MQTT" || name == b"MQIsdp").then(|| body.first().copied()).flatten()
}

/// Reads a CONNECT of level 4 or 5.
pub fn connect(bytes: &[u8], at: Frame, version: Version) -> Result<Hello, Violation> {
    let will_properties = check_connect(&bytes[at.header..], version)?;
    let mut buffer = BytesMut::from(bytes);
    let read = match version {
        Version::V4 => V4.read_mut(&mut buffer, usize::MAX),
        Version::V5 => V5.read_mut(&mut buffer, usize::MAX),
    };
    let Ok(Packet::Connect(connect, properties, will, will_more, login)) = read else {
        return Err(Violation::malformed("CONNECT"));
    };
    let (user, password) = login.map_or((None, None), |l| (Some(l.username), Some(l.password)));
    let will = match will {
        Some(will) => {
            let topic = String::from_utf8(will.topic.to_vec()).ok().filter(|t| topic::is_name(t));
            let topic = topic.ok_or(Violation::new(0x90, "the will's topic"))?;
            let (delay_s, expiry_s) = will_more.map_or((0, None), |p| (p.delay_interval.unwrap_or(0), p.message_expiry_interval));
            let properties = Bytes::from(will_properties);
            Some(HelloWill { topic, payload: will.message, qos: will.qos as u8, retain: will.retain, delay_s, expiry_s, properties })
        }
        None => None,
    };
    let p = properties;
    let clean = connect.clean_session;
    let expiry = p.as_ref().and_then(|p| p.session_expiry_interval);
    Ok(Hello {
        version,
        client_id: connect.client_id,
        clean_start: clean,
        keep_alive_s: connect.keep_alive,
        user,
        password,
        will,
        // In 3.1.1 a session that is not clean has no end of its own.
        session_expiry_s: if version == Version::V4 { if clean { 0 } else { u32::MAX } } else { expiry.unwrap_or(0) },
        receive_max: p.as_ref().and_then(|p| p.receive_maximum).unwrap_or(u16::MAX),
        packet_bytes_max: p.as_ref().and_then(|p| p.max_packet_size).map_or(usize::MAX, |n| n as usize),
        topic_alias_max: p.as_ref().and_then(|p| p.topic_alias_max).unwrap_or(0),
        wants_response_information: p.as_ref().and_then(|p| p.request_response_info) == Some(1),
        has_authentication_method: p.as_ref().is_some_and(|p| p.authentication_method.is_some() || p.authentication_data.is_some()),
    })
}

/// What the codec does not check of a CONNECT; returns the will's properties that travel with its message.
fn check_connect(mut body: &[u8], version: Version) -> Result<Vec<u8>, Violation> {
    const SHORT: Violation = Violation::malformed("CONNECT ends too early");
    property::take_text(&mut body)?;
    let (head, rest) = body.split_first_chunk::<4>().ok_or(SHORT)?;
    body = rest;
    let flags = head[1];
    let has_will = flags & 0b100 != 0;
    if flags & 1 != 0 || (!has_will && flags & 0b11_1000 != 0) || flags & 0b1_1000 == 0b1_1000 {
        return Err(Violation::malformed("the flags of CONNECT"));
    }
    if version == Version::V4 && flags & 0b1100_0000 == 0b0100_0000 {
        return Err(Violation::malformed("a password without a user name"));
    }
    if version == Version::V5 {
        property::take_block(&mut body, property::CONNECT, |_| ())?;
    }
    property::take_text(&mut body)?;
    let mut kept = Vec::new();
    if has_will {
        if version == Version::V5 {
            property::take_block(&mut body, property::WILL, |p| keep(p, &mut kept))?;
        }
        property::take_text(&mut body)?;
        property::take_binary(&mut body)?;
    }
    if flags & 0b1000_0000 != 0 {
        property::take_text(&mut body)?;
    }
    if flags & 0b0100_0000 != 0 {
        property::take_binary(&mut body)?;
    }
    if !body.is_empty() {
        return Err(Violation::malformed("something follows CONNECT"));
    }
    Ok(kept)
}

/// Keeps a property that the receivers of a message get unchanged.
fn keep(property: property::Property<'_>, kept: &mut Vec<u8>) {
    if !matches!(property.id, property::MESSAGE_EXPIRY | property::TOPIC_ALIAS | 24) {
        kept.extend_from_slice(property.raw);
    }
}

/// A PUBLISH where it stands in the read buffer.
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// 0 for QoS 0.
    pub pkid: u16,
    /// Empty when only an alias was given.
    pub topic: &'a str,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    properties: &'a [u8],
    pub payload: &'a [u8],
}

pub fn publish<'a>(bytes: &'a [u8], at: Frame, version: Version) -> Result<Publish<'a>, Violation> {
    const SHORT: Violation = Violation::malformed("PUBLISH ends too early");
    let mut body = &bytes[at.header..];
    let topic = property::take_text(&mut body)?;
    if !topic.is_empty() && !topic::is_name(topic) {
        return Err(Violation::new(0x90, "a topic with a wildcard"));
    }
    let qos = at.first >> 1 & 3;
    let mut pkid = 0;
    if qos > 0 {
        let (id, rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
        (pkid, body) = (u16::from_be_bytes(*id), rest);
        if pkid == 0 {
            return Err(Violation::protocol("packet id 0"));
        }
    }
    let (mut alias, mut expiry_s, mut bad_response) = (None, None, false);
    let properties = body;
    if version == Version::V5 {
        property::take_block(&mut body, property::PUBLISH, |p| match p.id {
            property::TOPIC_ALIAS => alias = Some(p.number as u16),
            property::MESSAGE_EXPIRY => expiry_s = Some(p.number),
            property::RESPONSE_TOPIC => bad_response = p.raw[3..].iter().any(|b| matches!(b, b'+' | b'#')),
            _ => {}
        })?;
    }
    if bad_response {
        return Err(Violation::protocol("a wildcard in the response topic"));
    }
    if topic.is_empty() && alias.is_none() {
        return Err(Violation::protocol("a publish without a topic"));
    }
    let properties = &properties[..properties.len() - body.len()];
    let (dup, retain) = (at.first & 8 != 0, at.first & 1 != 0);
    Ok(Publish { dup, qos, retain, pkid, topic, alias, expiry_s, properties, payload: body })
}

impl Publish<'_> {
    /// Properties that travel on to receivers.
    pub fn kept_properties(&self) -> Bytes {
        let (mut kept, mut input) = (Vec::new(), self.properties);
        if !input.is_empty() {
            property::take_block(&mut input, property::PUBLISH, |p| keep(p, &mut kept)).expect("checked when it was read");
        }
        kept.into()
    }
}

/// Packet id and reason of PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn acknowledgement(bytes: &[u8], at: Frame, version: Version) -> Result<(u16, u8), Violation> {
    let mut body = &bytes[at.header..];
    let (id, rest) = body.split_first_chunk::<2>().ok_or(Violation::malformed("an acknowledgement without a packet id"))?;
    (body, _) = (rest, ());
    let mut reason = 0;
    if version == Version::V5 {
        if let Some((&code, rest)) = body.split_first() {
            (reason, body) = (code, rest);
            if !body.is_empty() {
                property::take_block(&mut body, property::ACK, |_| ())?;
            }
        }
    }
    match u16::from_be_bytes(*id) {
        0 => Err(Violation::protocol("packet id 0")),
        _ if !body.is_empty() => Err(Violation::malformed("something follows an acknowledgement")),
        pkid => Ok((pkid, reason)),
    }
}

/// One filter of a SUBSCRIBE.
pub struct Asked {
    pub filter: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// 0: send retained messages; 1: only for a new subscription; 2: never.
    pub retain_handling: u8,
}

pub struct Subscribe {
    pub pkid: u16,
    pub filters: Vec<Asked>,
    pub id: Option<u32>,
}

pub fn subscribe(bytes: &[u8], at: Frame, version: Version) -> Result<Subscribe, Violation> {
    let id = check_filters(&bytes[at.header..], version, property::SUBSCRIBE)?;
    let Some(Packet::Subscribe(packet, _)) = read(bytes, version) else { return Err(Violation::malformed("SUBSCRIBE")) };
    let asked = |f: protocol::Filter| Asked {
        filter: f.path,
        qos: f.qos as u8,
        no_local: f.nolocal,
        retain_as_published: f.preserve_retain,
        retain_handling: match f.retain_forward_rule {
            protocol::RetainForwardRule::OnEverySubscribe => 0,
            protocol::RetainForwardRule::OnNewSubscribe => 1,
            protocol::RetainForwardRule::Never => 2,
        },
    };
    Ok(Subscribe { pkid: packet.pkid, filters: packet.filters.into_iter().map(asked).collect(), id })
}

pub fn unsubscribe(bytes: &[u8], at: Frame, version: Version) -> Result<(u16, Vec<String>), Violation> {
    check_filters(&bytes[at.header..], version, property::UNSUBSCRIBE)?;
    let Some(Packet::Unsubscribe(packet, _)) = read(bytes, version) else { return Err(Violation::malformed("UNSUBSCRIBE")) };
    Ok((packet.pkid, packet.filters))
}

fn read(bytes: &[u8], version: Version) -> Option<Packet> {
    let mut buffer = BytesMut::from(bytes);
    match version {
        Version::V4 => V4.read_mut(&mut buffer, usize::MAX).ok(),
        Version::V5 => V5.read_mut(&mut buffer, usize::MAX).ok(),
    }
}

/// What the codec lets pass in SUBSCRIBE and UNSUBSCRIBE: packet id 0, reserved bits, no filter, NUL.
fn check_filters(mut body: &[u8], version: Version, packet: u16) -> Result<Option<u32>, Violation> {
    let (pkid, rest) = body.split_first_chunk::<2>().ok_or(Violation::malformed("a packet without an id"))?;
    body = rest;
    if *pkid == [0, 0] {
        return Err(Violation::protocol("packet id 0"));
    }
    let mut id = None;
    if version == Version::V5 {
        property::take_block(&mut body, packet, |p| {
            if p.id == property::SUBSCRIPTION_ID {
                id = Some(p.number);
            }
        })?;
    }
    if body.is_empty() {
        return Err(Violation::protocol("no filter"));
    }
    while !body.is_empty() {
        property::take_text(&mut body)?;
        if packet == property::SUBSCRIBE {
            let (&options, rest) = body.split_first().ok_or(Violation::malformed("a filter without options"))?;
            body = rest;
            let reserved = if version == Version::V4 { 0b1111_1100 } else { 0b1100_0000 };
            if options & reserved != 0 || options & 3 == 3 || options & 0b11_0000 == 0b11_0000 {
                return Err(Violation::malformed("options of a subscription"));
            }
        }
    }
    Ok(id)
}

/// Reason of a DISCONNECT and the session expiry that replaces the one of CONNECT.
pub fn disconnect(bytes: &[u8], at: Frame, version: Version) -> Result<(u8, Option<u32>), Violation> {
    let mut body = &bytes[at.header..];
    let Some((&reason, rest)) = body.split_first() else { return Ok((0, None)) };
    if version == Version::V4 {
        return Err(Violation::malformed("something follows DISCONNECT"));
    }
    body = rest;
    let mut expiry = None;
    if !body.is_empty() {
        property::take_block(&mut body, property::DISCONNECT, |p| {
            if p.id == 17 {
                expiry = Some(p.number);
            }
        })?;
    }
    if reason != 0 && reason != 4 && reason < 0x80 {
        return Err(Violation::protocol("an unknown reason"));
    }
    Ok((reason, expiry))
}

/// Writes a packet through the codec. Only answers that the version has are ever passed.
pub fn write(out: &mut Vec<u8>, version: Version, packet: Packet) {
    let mut buffer = BytesMut::with_capacity(64);
    let written = match version {
        Version::V4 => V4.write(packet, &mut buffer),
        Version::V5 => V5.write(packet, &mut buffer),
    };
    written.expect("an answer has a valid length");
    out.extend_from_slice(&buffer);
}

/// Writes PUBACK, PUBREC, PUBREL or PUBCOMP. The reason is left out where it is 0 and where the version has none.
pub fn write_acknowledgement(out: &mut Vec<u8>, version: Version, kind: u8, pkid: u16, reason: u8) {
    let first = kind << 4 | if kind == frame::PUBREL { 2 } else { 0 };
    let [high, low] = pkid.to_be_bytes();
    if version == Version::V4 || reason == 0 {
        out.extend_from_slice(&[first, 2, high, low]);
    } else {
        out.extend_from_slice(&[first, 3, high, low, reason]);
    }
}

/// A DISCONNECT of the server; MQTT 3.1.1 has none.
pub fn write_disconnect(out: &mut Vec<u8>, version: Version, reason: u8) {
    if version == Version::V5 {
        out.extend_from_slice(&[frame::DISCONNECT << 4, 1, reason]);
    }
}

/// An outgoing PUBLISH.
pub struct Outgoing<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub pkid: u16,
    pub topic: &'a str,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    pub subscription_ids: &'a [u32],
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    fn properties_len(&self) -> usize {
        let ids: usize = self.subscription_ids.iter().map(|id| 1 + frame::length_of(*id as usize)).sum();
        self.properties.len() + ids + if self.alias.is_some() { 3 } else { 0 } + if self.expiry_s.is_some() { 5 } else { 0 }
    }

    /// Bytes of the packet after its fixed header.
    fn body_len(&self, version: Version) -> usize {
        let head = 2 + self.topic.len() + if self.qos > 0 { 2 } else { 0 };
        let properties = match version {
            Version::V4 => 0,
            Version::V5 => frame::length_of(self.properties_len()) + self.properties_len(),
        };
        head + properties + self.payload.len()
    }

    /// Bytes of the whole packet.
    pub fn len(&self, version: Version) -> usize {
        let body = self.body_len(version);
        1 + frame::length_of(body) + body
    }

    pub fn write(&self, out: &mut Vec<u8>, version: Version) {
        out.push(frame::PUBLISH << 4 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain));
        frame::put_length(out, self.body_len(version));
        out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if self.qos > 0 {
            out.extend_from_slice(&self.pkid.to_be_bytes());
        }
        if version == Version::V5 {
            frame::put_length(out, self.properties_len());
            if let Some(alias) = self.alias {
                out.push(property::TOPIC_ALIAS);
                out.extend_from_slice(&alias.to_be_bytes());
            }
            if let Some(expiry) = self.expiry_s {
                out.push(property::MESSAGE_EXPIRY);
                out.extend_from_slice(&expiry.to_be_bytes());
            }
            for id in self.subscription_ids {
                out.push(property::SUBSCRIPTION_ID);
                frame::put_length(out, *id as usize);
            }
            out.extend_from_slice(self.properties);
        }
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8], version: Version) {
        let Ok(Some(at)) = frame::next(bytes, 10_000) else { return };
        let bytes = &bytes[..at.total];
        let _ = match at.kind() {
            frame::CONNECT => connect(bytes, at, version).map(drop),
            frame::PUBLISH => publish(bytes, at, version).map(|p| drop(p.kept_properties())),
            frame::SUBSCRIBE => subscribe(bytes, at, version).map(drop),
            frame::UNSUBSCRIBE => unsubscribe(bytes, at, version).map(drop),
            frame::DISCONNECT => disconnect(bytes, at, version).map(drop),
            frame::PINGREQ => Ok(()),
            _ => acknowledgement(bytes, at, version).map(drop),
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        /// Random bytes behind a correct fixed header reach every decoder, rumqttd's included.
        #[test]
        fn decoders_never_panic(kind in 1u8..15, qos in 0u8..3, body in proptest::collection::vec(any::<u8>(), 0..80), v5: bool) {
            let flags = match kind { 3 => qos << 1, 6 | 8 | 10 => 2, _ => 0 };
            let mut bytes = vec![kind << 4 | flags];
            frame::put_length(&mut bytes, body.len());
            bytes.extend_from_slice(&body);
            read_all(&bytes, if v5 { Version::V5 } else { Version::V4 });
        }

        /// A CONNECT with any part replaced.
        #[test]
        fn a_broken_connect_never_panics(at in 0usize..60, value: u8, cut in 0usize..60, v5: bool) {
            let mut body = b"\0\x04MQTT\x05\xce\0\x0a\x05\x11\0\0\0\x0a\0\x03abc\0\0\x01t\0\x01p\0\x01u\0\x01w".to_vec();
            body[6] = if v5 { 5 } else { 4 };
            let length = body.len();
            body[at % length] = value;
            body.truncate(length - cut % length);
            let mut bytes = vec![0x10];
            frame::put_length(&mut bytes, body.len());
            bytes.extend_from_slice(&body);
            read_all(&bytes, if v5 { Version::V5 } else { Version::V4 });
        }

        #[test]
        fn a_publish_is_read_as_it_was_written(
            qos in 0u8..3, retain: bool, pkid in 1u16.., topic in "[a-zé]{1,200}", alias in proptest::option::of(1u16..),
            payload in proptest::collection::vec(any::<u8>(), 0..300), v5: bool,
        ) {
            let version = if v5 { Version::V5 } else { Version::V4 };
            let user = b"\x26\0\x01k\0\x01v";
            let properties: &[u8] = if v5 { user } else { &[] };
            let sent = Outgoing {
                dup: qos > 0, qos, retain, pkid, topic: &topic, alias, expiry_s: Some(7), subscription_ids: &[], properties,
                payload: &payload,
            };
            let mut bytes = Vec::new();
            sent.write(&mut bytes, version);
            prop_assert_eq!(bytes.len(), sent.len(version));
            let at = frame::next(&bytes, usize::MAX).unwrap().unwrap();
            let got = publish(&bytes, at, version).unwrap();
            prop_assert_eq!((got.dup, got.qos, got.retain, got.topic, got.payload), (qos > 0, qos, retain, &*topic, &payload[..]));
            prop_assert_eq!(got.pkid, if qos > 0 { pkid } else { 0 });
            prop_assert_eq!(got.alias, alias.filter(|_| v5));
            prop_assert_eq!(&got.kept_properties()[..], properties);
        }
    }
}
