//! What goes to a client: messages as it permits them, and again what it had not finished.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::frame;
use super::packet::{self, Outgoing};
use super::session::{Delivery, InFlight, Inner};

/// An answer that waits for the journal.
pub(super) struct Held {
    pub position: u64,
    pub bytes: Vec<u8>,
}

/// Deliveries in flight to one client, whatever it permits.
const IN_FLIGHT_MAX: usize = 256;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Sends an answer once so much of the journal is stored, behind those that wait already.
    pub(super) fn answer(&mut self, position: u64, bytes: Vec<u8>) {
        if self.held.is_empty() && position <= *self.stored.borrow() {
            self.wire.output.extend_from_slice(&bytes);
        } else {
            self.held.push_back(Held { position, bytes });
        }
    }

    /// Answers what the journal has stored meanwhile.
    pub(super) fn answer_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let stored = *self.stored.borrow_and_update();
        while let Some(held) = self.held.pop_front_if(|held| held.position <= stored) {
            self.wire.output.extend_from_slice(&held.bytes);
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
    }

    /// Sends again what the client had not finished when its last connection ended.
    pub(super) fn redeliver(&mut self) {
        let session = self.client.attached.session.clone();
        let inner = session.inner.lock();
        for in_flight in &inner.in_flight {
            let InFlight { pkid, delivery, released } = in_flight;
            match released {
                false => self.write_publish(delivery, *pkid, true),
                true => packet::write_acknowledgement(&mut self.wire.output, self.client.version, frame::PUBREL, *pkid, 0),
            }
        }
    }

    /// Sends messages while the client permits more and takes what was sent.
    pub(super) fn send_waiting(&mut self) {
        let session = self.client.attached.session.clone();
        let mut inner = session.inner.lock();
        if !inner.link.as_ref().is_some_and(|link| Arc::ptr_eq(link, &self.client.attached.link)) {
            return;
        }
        let in_flight_max = usize::from(self.client.receive_max).min(IN_FLIGHT_MAX);
        let stored = *self.stored.borrow_and_update();
        while self.wire.waiting() < self.gateway.config.output_bytes_max {
            self.awaits_journal = inner.peek().is_some_and(|next| next.position > stored);
            match inner.peek() {
                Some(_) if self.awaits_journal => break,
                Some(next) if next.qos == 0 || inner.in_flight.len() < in_flight_max => self.send_next(&mut inner),
                _ => break,
            }
        }
    }

    fn send_next(&mut self, inner: &mut Inner) {
        let Some(delivery) = inner.pop() else { return };
        if delivery.message.is_expired(Instant::now()) {
            inner.discard(&delivery);
            return;
        }
        let plain = outgoing(&delivery, 1, false, None);
        // The standard: a message above the client's limit is dropped as if it had been delivered.
        if plain.len(self.client.version) + 3 > self.client.packet_bytes_max {
            self.gateway.metrics.messages_dropped.inc();
            inner.discard(&delivery);
            return;
        }
        if delivery.qos == 0 {
            return self.write_publish(&delivery, 0, false);
        }
        let pkid = inner.start(delivery);
        if let Some(InFlight { delivery, .. }) = inner.in_flight.back() {
            self.write_publish(delivery, pkid, false);
        }
    }

    fn write_publish(&mut self, delivery: &Delivery, pkid: u16, dup: bool) {
        let topic = &delivery.message.topic;
        let (known, alias) = match self.aliases_out.get(topic) {
            Some(alias) => (true, Some(*alias)),
            None if self.aliases_out.len() < usize::from(self.client.topic_alias_max) => {
                let alias = self.aliases_out.len() as u16 + 1;
                self.aliases_out.insert(topic.clone(), alias);
                (false, Some(alias))
            }
            None => (false, None),
        };
        let mut packet = outgoing(delivery, pkid, dup, alias);
        if known {
            packet.topic = "";
        }
        packet.write(&mut self.wire.output, self.client.version);
    }
}

fn outgoing(delivery: &Delivery, pkid: u16, dup: bool, alias: Option<u16>) -> Outgoing<'_> {
    let message = &delivery.message;
    Outgoing {
        dup,
        qos: delivery.qos,
        retain: delivery.retain,
        pkid,
        topic: &message.topic,
        alias,
        expiry_s: message.expiry_s(Instant::now()),
        subscription_ids: &delivery.subscription_ids,
        properties: &message.properties,
        payload: &message.payload,
    }
}
