//! The lines of the journal. `id` is the session's number, which is unique in the file.
//!
//! | kind | fields |
//! | --- | --- |
//! | 1 session | id u64, anew u8, client id, owner (optional, 16 bytes), expiry in seconds u32, offline since (optional instant), will (optional: QoS u8, retain u8, delay u32, expiry u32 optional, message) |
//! | 2 ended | id |
//! | 3 subscribed | id, filter, QoS u8, no local u8, retain as published u8, subscription id u32 optional |
//! | 4 unsubscribed | id, filter |
//! | 5 queued | id, packet id u16, QoS u8, retain u8, count u32 and subscription ids u32, message |
//! | 6 sent, 7 released, 8 finished | id, packet id u16 |
//! | 9 retained | QoS u8, message |
//! | 10 no longer retained | topic |
//!
//! A message is topic, payload, MQTT 5 properties as they travel, expiry (optional instant). Kind 1 with `anew` forgets what
//! was said of this id before; without it only the fields of the line change.

use rollcall_model::ids::DeviceId;

use super::super::broker::Will;
use super::super::session::{Delivery, Message, Subscription};
use super::Times;

pub enum Record<'a> {
    Session {
        id: u64,
        anew: bool,
        client_id: &'a str,
        owner: Option<DeviceId>,
        expiry_s: u32,
        offline_since_ms: Option<i64>,
        will: Option<&'a Will>,
    },
    Ended {
        id: u64,
    },
    Subscribed {
        id: u64,
        asked: &'a str,
        subscription: Subscription,
    },
    Unsubscribed {
        id: u64,
        asked: &'a str,
    },
    Queued {
        id: u64,
        delivery: &'a Delivery,
    },
    Sent {
        id: u64,
        pkid: u16,
    },
    Released {
        id: u64,
        pkid: u16,
    },
    Finished {
        id: u64,
        pkid: u16,
    },
    Retained {
        message: &'a Message,
    },
    NotRetained {
        topic: &'a str,
    },
}

impl Record<'_> {
    /// Writes the line, length and sum included.
    pub fn write(&self, times: Times, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 8]);
        self.body(times, out);
        let body = &out[begin + 8..];
        let (length, sum) = (body.len() as u32, crc32c::crc32c(body));
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        out[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
    }

    fn body(&self, times: Times, out: &mut Vec<u8>) {
        match self {
            Self::Session { id, anew, client_id, owner, expiry_s, offline_since_ms, will } => {
                head(out, 1, *id);
                out.push(u8::from(*anew));
                bytes(out, client_id.as_bytes());
                optional(out, owner.as_ref(), |out, owner| out.extend_from_slice(owner.as_bytes()));
                out.extend_from_slice(&expiry_s.to_le_bytes());
                optional(out, offline_since_ms.as_ref(), |out, at| out.extend_from_slice(&at.to_le_bytes()));
                optional(out, *will, |out, will| {
                    out.extend_from_slice(&[will.message.qos, u8::from(will.message.retain)]);
                    out.extend_from_slice(&will.delay_s.to_le_bytes());
                    optional(out, will.expiry_s.as_ref(), |out, s| out.extend_from_slice(&s.to_le_bytes()));
                    message(out, times, &will.message);
                });
            }
            Self::Ended { id } => head(out, 2, *id),
            Self::Subscribed { id, asked, subscription } => {
                head(out, 3, *id);
                bytes(out, asked.as_bytes());
                let Subscription { qos, no_local, retain_as_published, id } = subscription;
                out.extend_from_slice(&[*qos, u8::from(*no_local), u8::from(*retain_as_published)]);
                optional(out, id.as_ref(), |out, id| out.extend_from_slice(&id.to_le_bytes()));
            }
            Self::Unsubscribed { id, asked } => {
                head(out, 4, *id);
                bytes(out, asked.as_bytes());
            }
            Self::Queued { id, delivery } => {
                numbered(out, 5, *id, delivery.pkid);
                out.extend_from_slice(&[delivery.qos, u8::from(delivery.retain)]);
                out.extend_from_slice(&(delivery.subscription_ids.len() as u32).to_le_bytes());
                delivery.subscription_ids.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
                message(out, times, &delivery.message);
            }
            Self::Sent { id, pkid } => numbered(out, 6, *id, *pkid),
            Self::Released { id, pkid } => numbered(out, 7, *id, *pkid),
            Self::Finished { id, pkid } => numbered(out, 8, *id, *pkid),
            Self::Retained { message: kept } => {
                out.extend_from_slice(&[9, kept.qos]);
                message(out, times, kept);
            }
            Self::NotRetained { topic } => {
                out.push(10);
                bytes(out, topic.as_bytes());
            }
        }
    }
}

fn head(out: &mut Vec<u8>, kind: u8, id: u64) {
    out.push(kind);
    out.extend_from_slice(&id.to_le_bytes());
}

fn numbered(out: &mut Vec<u8>, kind: u8, id: u64, pkid: u16) {
    head(out, kind, id);
    out.extend_from_slice(&pkid.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

fn optional<T: ?Sized>(out: &mut Vec<u8>, value: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

fn message(out: &mut Vec<u8>, times: Times, message: &Message) {
    bytes(out, message.topic.as_bytes());
    bytes(out, &message.payload);
    bytes(out, &message.properties);
    optional(out, message.expires.as_ref(), |out, at| out.extend_from_slice(&times.to_wall(*at).to_le_bytes()));
}
