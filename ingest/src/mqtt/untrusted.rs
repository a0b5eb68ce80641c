//! Every reader of MQTT bytes behind one function, for the fuzz targets and the replay of their corpora.

use super::{Version, frame, packet, topic};

/// No stream that is looked at has larger packets.
const PACKET_BYTES_MAX: usize = 64 * 1024;

/// Reads the bytes as a stream of packets, once as either version, until one is refused or incomplete. Never panics on what
/// a client sends; panics when a packet that was read would be written differently.
pub fn mqtt(bytes: &[u8]) {
    for version in [Version::V4, Version::V5] {
        let mut rest = bytes;
        while let Ok(Some(at)) = frame::next(rest, PACKET_BYTES_MAX) {
            let (packet, after) = rest.split_at(at.total);
            rest = after;
            read(packet, at, version);
        }
    }
}

fn read(bytes: &[u8], at: frame::Frame, version: Version) {
    match at.kind() {
        frame::CONNECT => {
            if packet::connect_level(bytes, at).is_some() {
                let _ = packet::connect(bytes, at, version);
            }
        }
        frame::PUBLISH => publish(bytes, at, version),
        frame::SUBSCRIBE => {
            for asked in packet::subscribe(bytes, at, version).map(|packet| packet.filters).unwrap_or_default() {
                filter(&asked.filter);
            }
        }
        frame::UNSUBSCRIBE => {
            for asked in packet::unsubscribe(bytes, at, version).map(|(_, filters)| filters).unwrap_or_default() {
                filter(&asked);
            }
        }
        frame::DISCONNECT => drop(packet::disconnect(bytes, at, version)),
        frame::PINGREQ => {}
        kind => acknowledgement(bytes, at, version, kind),
    }
}

fn filter(asked: &str) {
    if let Some((_, filter)) = topic::parse(asked) {
        let literal = topic::literal_prefix(filter);
        assert!(filter.starts_with(literal));
        let _ = topic::matches(literal, filter);
    }
}

fn acknowledgement(bytes: &[u8], at: frame::Frame, version: Version, kind: u8) {
    let Ok((pkid, reason)) = packet::acknowledgement(bytes, at, version) else { return };
    let mut written = Vec::new();
    packet::write_acknowledgement(&mut written, version, kind, pkid, reason);
    let again = frame::next(&written, PACKET_BYTES_MAX).ok().flatten().map(|at| packet::acknowledgement(&written, at, version));
    assert_eq!(again, Some(Ok((pkid, reason))));
}

fn publish(bytes: &[u8], at: frame::Frame, version: Version) {
    let Ok(read) = packet::publish(bytes, at, version) else { return };
    let properties = read.kept_properties();
    let (dup, qos, retain, pkid, topic) = (read.dup, read.qos, read.retain, read.pkid, read.topic);
    let (alias, expiry_s, payload) = (read.alias, read.expiry_s, read.payload);
    let out = packet::Outgoing { dup, qos, retain, pkid, topic, alias, expiry_s, subscription_ids: &[], properties: &properties, payload };
    let mut written = Vec::new();
    out.write(&mut written, version);
    assert_eq!(written.len(), out.len(version));
    let Ok(Some(at)) = frame::next(&written, usize::MAX) else { panic!("an outgoing publish has no frame") };
    let Ok(again) = packet::publish(&written, at, version) else { panic!("an outgoing publish cannot be read") };
    assert_eq!((again.dup, again.qos, again.retain, again.pkid, again.topic), (dup, qos, retain, pkid, topic));
    assert_eq!((again.alias, again.expiry_s, again.payload), (alias, expiry_s, payload));
    assert_eq!(again.kept_properties(), properties);
}
