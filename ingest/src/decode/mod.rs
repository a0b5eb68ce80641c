//! From payloads to columns. One [`Decoder`] is shared by all connections; it holds no state but the badge cache.

mod arrow_frames;
mod arrow_ipc;
mod badge_cache;
pub(crate) mod columns;
mod event;
mod instant;
mod intake;
mod json;
mod refusal;
mod scanner;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rollcall_model::event::Kind;
use rollcall_model::limits;
use rollcall_model::time::UtcMillis;

pub use intake::{Finished, Intake, Taken};
pub use json::Framing;
pub use refusal::{Code, Fault, Refusal};

use crate::directory::{DeviceIdentity, Directory};
pub use arrow_ipc::looks_like as is_arrow;
use badge_cache::BadgeCache;
use event::Speaker;

/// What a payload says of its own form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Arrow IPC when the payload begins like one, else JSON.
    Recognised,
    Json(Framing),
    ArrowStream,
}

/// Where a payload came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source<'a> {
    /// Stands in the dead letters.
    pub topic: &'a str,
    /// The kind of all its events; `None` where each event names its own.
    pub kind: Option<Kind>,
    pub format: Format,
}

/// What became of one payload.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub accepted: usize,
    pub refusals: Vec<Refusal>,
    pub unknown_fields: u64,
    /// The payload as a whole was refused; `refusals` then has the one reason.
    pub whole: bool,
}

/// Decodes payloads of devices.
pub struct Decoder {
    directory: Arc<dyn Directory>,
    badges: BadgeCache,
}

impl Decoder {
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self { badges: BadgeCache::new(directory.clone()), directory }
    }

    /// Adds the events of a payload to the intake, and what is refused to its dead letters.
    pub fn decode(&self, who: &DeviceIdentity, now: UtcMillis, source: Source<'_>, payload: &[u8], intake: &mut Intake) -> Outcome {
        let mut outcome = Outcome::default();
        let place = intake.place();
        let mut speaker = Speaker::new(who, now, &*self.directory, &self.badges);
        if let Err(fault) = self.events(source, payload, &mut speaker, intake, &mut outcome) {
            intake.cut_back(place);
            let refusal = Refusal { device: who.device, seq: None, code: fault.code, message: fault.message };
            intake.bury(who, now.0, source.topic, &refusal, &payload[..payload.len().min(limits::PAYLOAD_BYTES_MAX)]);
            outcome = Outcome { refusals: vec![refusal], whole: true, unknown_fields: outcome.unknown_fields, accepted: 0 };
        }
        outcome
    }

    fn events(
        &self,
        source: Source<'_>,
        payload: &[u8],
        speaker: &mut Speaker<'_>,
        intake: &mut Intake,
        outcome: &mut Outcome,
    ) -> Result<(), Fault> {
        if payload.len() > limits::PAYLOAD_BYTES_MAX {
            let message = format!("more than {} bytes in one payload", limits::PAYLOAD_BYTES_MAX);
            return Err(Fault::new(Code::PayloadTooLarge, message));
        }
        let framing = match source.format {
            Format::ArrowStream => return arrow_ipc::decode(payload, source.topic, speaker, intake, outcome),
            Format::Recognised if source.kind.is_none() && arrow_ipc::looks_like(payload) => {
                return arrow_ipc::decode(payload, source.topic, speaker, intake, outcome);
            }
            Format::Recognised => Framing::Document,
            Format::Json(framing) => framing,
        };
        let text =
            std::str::from_utf8(payload).map_err(|e| Fault::new(Code::InvalidUtf8, format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        json::decode(text, source.kind, framing, source.topic, speaker, intake, outcome)
    }
}
