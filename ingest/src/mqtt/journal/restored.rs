//! The journal read back: what the lines of a file add up to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rollcall_model::ids::DeviceId;

use super::super::broker::Will;
use super::super::session::{Delivery, Message, Subscription};
use super::Times;

/// How far a message of a session had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Queued,
    Sent,
    /// QoS 2: the client has it.
    Released,
}

#[derive(Debug)]
pub struct RestoredSession {
    pub client_id: Arc<str>,
    pub owner: Option<DeviceId>,
    pub expiry_s: u32,
    /// `None`: it was connected when the process ended.
    pub offline_since_ms: Option<i64>,
    pub will: Option<Will>,
    pub subscriptions: HashMap<Box<str>, Subscription>,
    /// In the order in which they were queued.
    pub messages: Vec<(Delivery, Stage)>,
}

/// By session number, and by topic.
#[derive(Debug, Default)]
pub struct Restored {
    pub sessions: BTreeMap<u64, RestoredSession>,
    pub retained: BTreeMap<Arc<str>, Arc<Message>>,
}

impl Restored {
    /// Applies a line's body. `None`: it is not one of ours. What it says of a session that is not known is passed over.
    pub fn apply(&mut self, body: &[u8], times: Times) -> Option<()> {
        let mut input = Input { rest: body, times };
        match input.byte()? {
            1 => self.session(&mut input)?,
            2 => drop(self.sessions.remove(&input.u64()?)),
            3 => {
                let (id, asked) = (input.u64()?, input.text()?);
                let (qos, no_local, retain_as_published) = (input.byte()?, input.flag()?, input.flag()?);
                let subscription = Subscription { qos, no_local, retain_as_published, id: input.optional(Input::u32)? };
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.subscriptions.insert(asked.into(), subscription);
                }
            }
            4 => {
                let (id, asked) = (input.u64()?, input.text()?);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.subscriptions.remove(asked);
                }
            }
            5 => {
                let (id, pkid, qos, retain) = (input.u64()?, input.u16()?, input.byte()?, input.flag()?);
                let count = input.u32()?;
                let subscription_ids = (0..count).map(|_| input.u32()).collect::<Option<_>>()?;
                let message = Arc::new(input.message(qos, retain)?);
                if let Some(session) = self.sessions.get_mut(&id) {
                    let delivery = Delivery { message, qos, retain, subscription_ids, pkid, position: 0 };
                    session.messages.push((delivery, Stage::Queued));
                }
            }
            kind @ 6..=8 => {
                let (id, pkid) = (input.u64()?, input.u16()?);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.step(kind, pkid);
                }
            }
            9 => {
                let qos = input.byte()?;
                let message = input.message(qos, true)?;
                self.retained.insert(message.topic.clone(), Arc::new(message));
            }
            10 => drop(self.retained.remove(input.text()?)),
            _ => return None,
        }
        input.rest.is_empty().then_some(())
    }

    fn session(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (id, anew, client_id) = (input.u64()?, input.flag()?, Arc::from(input.text()?));
        let owner = input.optional(|input| input.take().map(DeviceId::from_bytes))?;
        let (expiry_s, offline_since_ms) = (input.u32()?, input.optional(Input::instant)?);
        let will = input.optional(|input| {
            let (qos, retain, delay_s) = (input.byte()?, input.flag()?, input.u32()?);
            let expiry_s = input.optional(Input::u32)?;
            Some(Will { message: Arc::new(input.message(qos, retain)?), delay_s, expiry_s, owner })
        })?;
        let (subscriptions, messages) = match self.sessions.remove(&id).filter(|_| !anew) {
            Some(before) => (before.subscriptions, before.messages),
            None => Default::default(),
        };
        let session = RestoredSession { client_id, owner, expiry_s, offline_since_ms, will, subscriptions, messages };
        self.sessions.insert(id, session);
        Some(())
    }
}

impl RestoredSession {
    fn step(&mut self, kind: u8, pkid: u16) {
        let Some(at) = self.messages.iter().position(|(delivery, _)| delivery.pkid == pkid) else { return };
        match kind {
            6 => self.messages[at].1 = Stage::Sent,
            7 => self.messages[at].1 = Stage::Released,
            _ => drop(self.messages.remove(at)),
        }
    }
}

struct Input<'a> {
    rest: &'a [u8],
    times: Times,
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn instant(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// `None`: the line is broken; `Some(None)`: the field is not there.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(value)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn message(&mut self, qos: u8, retain: bool) -> Option<Message> {
        let topic = self.text()?.into();
        let (payload, properties) = (Bytes::copy_from_slice(self.bytes()?), Bytes::copy_from_slice(self.bytes()?));
        let expires = self.optional(Self::instant)?.map(|at| self.times.to_instant(at));
        Some(Message { topic, payload, qos, retain, properties, expires, from: None })
    }
}
