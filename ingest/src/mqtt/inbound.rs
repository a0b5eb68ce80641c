//! What each packet of a client does.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Ack, Batch, Connection, End};
use super::frame::{self, Frame};
use super::packet::{self, Publish};
use super::session::{Message, Subscription};
use super::{Violation, hello, topic};
use crate::config::Namespace;
use crate::decode::{Code, Format, Refusal, Source};
use crate::permission;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn packet(&mut self, bytes: &[u8], at: Frame, batch: &mut Batch) -> Result<(), Violation> {
        let version = self.client.version;
        match at.kind() {
            frame::PUBLISH => self.publish(packet::publish(bytes, at, version)?, batch),
            frame::PINGREQ if at.total > at.header => Err(Violation::malformed("PINGREQ with content")),
            frame::PINGREQ => {
                match self.pings_ahead {
                    0 => self.wire.output.extend_from_slice(&[0xd0, 0]),
                    _ => self.pings_ahead -= 1,
                }
                Ok(())
            }
            frame::PUBACK | frame::PUBREC | frame::PUBREL | frame::PUBCOMP => {
                let (pkid, reason) = packet::acknowledgement(bytes, at, version)?;
                self.acknowledged(at.kind(), pkid, reason);
                Ok(())
            }
            frame::SUBSCRIBE => self.subscribe(packet::subscribe(bytes, at, version)?),
            frame::UNSUBSCRIBE => {
                let (pkid, filters) = packet::unsubscribe(bytes, at, version)?;
                self.unsubscribe(pkid, &filters);
                Ok(())
            }
            frame::DISCONNECT => self.disconnect(packet::disconnect(bytes, at, version)?),
            _ => Err(Violation::protocol("a second CONNECT")),
        }
    }

    /// The topic of a publish, by its alias if it has one.
    fn resolve(&mut self, publish: &Publish<'_>) -> Result<Option<Arc<str>>, Violation> {
        let Some(alias) = publish.alias else { return Ok(None) };
        if alias == 0 || alias > self.gateway.config.topic_alias_max {
            return Err(Violation::new(0x94, "a topic alias above the maximum"));
        }
        let slot = usize::from(alias) - 1;
        if self.aliases_in.len() <= slot {
            self.aliases_in.resize(slot + 1, None);
        }
        if !publish.topic.is_empty() && self.aliases_in[slot].as_deref() != Some(publish.topic) {
            self.aliases_in[slot] = Some(publish.topic.into());
        }
        let known = self.aliases_in[slot].clone();
        known.map(Some).ok_or(Violation::protocol("a topic alias that was not set"))
    }

    fn publish(&mut self, publish: Publish<'_>, batch: &mut Batch) -> Result<(), Violation> {
        let aliased = self.resolve(&publish)?;
        let topic = aliased.as_deref().unwrap_or(publish.topic);
        let kind = if publish.qos == 2 { frame::PUBREC } else { frame::PUBACK };
        if publish.qos > 0 {
            let unacknowledged = self.acks.len() + batch.acks.len() + self.unreleased;
            if self.is_v5() && unacknowledged >= usize::from(self.gateway.config.receive_max) {
                return Err(Violation::new(0x93, "more publishes at once than the receive maximum"));
            }
            if publish.qos == 2 && self.is_repeat(&publish, batch) {
                // Its content was taken; it must be durable before it is acknowledged again.
                batch.at_least = batch.at_least.max(self.gateway.admission.log().end());
                batch.acks.push(Ack { kind, pkid: publish.pkid, reason: 0 });
                return Ok(());
            }
        }
        let (reason, result) = match self.gateway.config.namespace {
            Namespace::Open => (self.route(&publish, topic), Ok(())),
            Namespace::Devices => self.events(&publish, topic, batch)?,
        };
        if publish.qos > 0 {
            batch.acks.push(Ack { kind, pkid: publish.pkid, reason });
        }
        result
    }

    /// Whether a QoS 2 publish was received before and not released.
    fn is_repeat(&self, publish: &Publish<'_>, batch: &Batch) -> bool {
        let waits = |ack: &Ack| ack.kind == frame::PUBREC && ack.pkid == publish.pkid;
        (publish.dup && (batch.acks.iter().any(waits) || self.acks.iter().any(waits)))
            || self.client.attached.session.inner.lock().inbound.contains(&publish.pkid)
    }

    /// Decodes events. Returns the reason for the acknowledgement, and whether the connection ends after this publish.
    fn events(&mut self, publish: &Publish<'_>, topic: &str, batch: &mut Batch) -> Result<(u8, Result<(), Violation>), Violation> {
        let who = match batch.who {
            Some(who) => who,
            None => *batch.who.insert(self.identity()?),
        };
        let now = batch.now;
        let Some(kind) = permission::events(topic) else {
            let message = format!("devices do not publish to {topic:.128}");
            let refusal = Refusal { device: who.device, seq: None, code: Code::ForbiddenTopic, message };
            self.gateway.metrics.refused(refusal.code);
            batch.intake.bury(&who, now.0, topic, &refusal, publish.payload);
            batch.rejects.push(refusal);
            // An acknowledgement can carry the reason in MQTT 5; otherwise the connection ends.
            let says_why = self.is_v5() && publish.qos > 0;
            let end = if says_why { Ok(()) } else { Err(Violation::new(0x87, "a publish to a forbidden topic")) };
            return Ok((0x87, end));
        };
        batch.payloads += 1;
        let source = Source { topic, kind, format: Format::Recognised };
        let outcome = self.gateway.decoder.decode(&who, now, source, publish.payload, &mut batch.intake);
        self.gateway.metrics.decoded(&outcome);
        let reason = match outcome.refusals.first() {
            None => 0,
            Some(refusal) if refusal.code.is_malformed() => 0x99,
            Some(_) => 0x83,
        };
        batch.rejects.extend(outcome.refusals);
        Ok((reason, Ok(())))
    }

    /// Sends a message to its subscribers; only where topics are free.
    fn route(&mut self, publish: &Publish<'_>, topic: &str) -> u8 {
        let message = Message {
            topic: topic.into(),
            payload: bytes::Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.kept_properties(),
            expires: hello::expiry(publish.expiry_s),
            from: Some(self.client.attached.session.id),
        };
        // Taken from here on: a repetition of a QoS 2 publish must not be sent on again.
        if publish.qos == 2 {
            self.client.attached.session.inner.lock().inbound.insert(publish.pkid);
        }
        let any = self.gateway.broker.route(Arc::new(message));
        if any || publish.qos == 0 { 0 } else { 0x10 }
    }

    fn acknowledged(&mut self, kind: u8, pkid: u16, reason: u8) {
        let session = self.client.attached.session.clone();
        let mut inner = session.inner.lock();
        let version = self.client.version;
        let unknown = |found: bool| if found { 0 } else { 0x92 };
        let out = &mut self.wire.output;
        match kind {
            frame::PUBREL => {
                let found = inner.inbound.remove(&pkid);
                self.unreleased = self.unreleased.saturating_sub(1);
                packet::write_acknowledgement(out, version, frame::PUBCOMP, pkid, unknown(found));
            }
            frame::PUBREC if reason < 0x80 => {
                let position = inner.release(pkid);
                drop(inner);
                let mut bytes = Vec::with_capacity(5);
                packet::write_acknowledgement(&mut bytes, version, frame::PUBREL, pkid, unknown(position.is_some()));
                self.answer(position.unwrap_or(0), bytes);
            }
            _ => drop(inner.finish(pkid)),
        }
    }

    fn subscribe(&mut self, asked: packet::Subscribe) -> Result<(), Violation> {
        let mut codes = Vec::with_capacity(asked.filters.len());
        let (mut retained, mut position) = (Vec::new(), 0);
        for filter in &asked.filters {
            if filter.no_local && filter.filter.starts_with("$share/") {
                return Err(Violation::protocol("no-local in a shared subscription"));
            }
            let wanted =
                Subscription { qos: filter.qos, no_local: filter.no_local, retain_as_published: filter.retain_as_published, id: asked.id };
            let may = match (&self.client.identity, topic::parse(&filter.filter)) {
                (_, None) => Err(0x8f),
                (Some(who), Some((_, inner))) if !permission::may_subscribe(who.device, inner) => Err(0x87),
                _ => Ok(()),
            };
            let session = &self.client.attached.session;
            let broker = &self.gateway.broker;
            match may.and_then(|()| broker.subscribe(session, &filter.filter, wanted, filter.retain_handling)) {
                Ok(granted) => {
                    retained.extend(granted.retained);
                    position = position.max(granted.position);
                    codes.push(filter.qos);
                }
                Err(reason) => codes.push(if self.is_v5() { reason } else { 0x80 }),
            }
        }
        self.write_codes(0x90, asked.pkid, &codes, position);
        self.gateway.broker.enqueue(&self.client.attached.session, retained);
        Ok(())
    }

    fn unsubscribe(&mut self, pkid: u16, filters: &[String]) {
        let session = &self.client.attached.session;
        let done: Vec<_> = filters.iter().map(|filter| self.gateway.broker.unsubscribe(session, filter)).collect();
        let codes: Vec<u8> = done.iter().map(|(existed, _)| if *existed { 0 } else { 0x11 }).collect();
        let position = done.iter().map(|(_, position)| *position).max().unwrap_or(0);
        // MQTT 3.1.1 answers without codes.
        self.write_codes(0xb0, pkid, if self.is_v5() { &codes } else { &[] }, position);
    }

    /// SUBACK or UNSUBACK, once the change is stored.
    fn write_codes(&mut self, first: u8, pkid: u16, codes: &[u8], position: u64) {
        let v5 = usize::from(self.is_v5());
        let mut out = vec![first];
        frame::put_length(&mut out, 2 + v5 + codes.len());
        out.extend_from_slice(&pkid.to_be_bytes());
        out.extend_from_slice(&[0][..v5]);
        out.extend_from_slice(codes);
        self.answer(position, out);
    }

    fn disconnect(&mut self, (reason, expiry): (u8, Option<u32>)) -> Result<(), Violation> {
        if let Some(expiry) = expiry {
            if expiry > 0 && !self.client.started_with_expiry {
                return Err(Violation::protocol("a session expiry that CONNECT had ruled out"));
            }
            let limit = self.gateway.config.session_expiry_max_s;
            self.client.attached.session.inner.lock().expiry_s = expiry.min(limit);
        }
        self.end = Some(End::Client(reason == 0));
        Ok(())
    }
}
