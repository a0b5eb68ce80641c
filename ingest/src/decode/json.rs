//! JSON payloads: one event, an array of events, or events one after another (NDJSON).
//!
//! A broken event is refused alone and the others are taken. Broken JSON refuses the whole payload, because nobody can
//! say where its next event begins.

use std::borrow::Cow;

use rollcall_model::event::Kind;
use rollcall_model::limits;

use super::event::{RawEvent, Speaker};
use super::intake::Intake;
use super::refusal::{Code, Fault, Refusal};
use super::scanner::Scanner;
use super::{Outcome, instant};

/// How the events of a payload stand beside one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// One object, or one array of objects.
    Document,
    /// As a document, or objects separated by white space.
    Lines,
}

/// Decodes a payload. `kind` is `None` where each event names its own in `type`. The caller cuts the intake back and
/// keeps the payload when the whole is refused (`Err`).
pub fn decode(
    text: &str,
    kind: Option<Kind>,
    framing: Framing,
    topic: &str,
    speaker: &mut Speaker<'_>,
    intake: &mut Intake,
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let mut scanner = Scanner::new(text);
    let mut reader = Reader { kind, topic, speaker, intake, outcome, raw: RawEvent::default(), index: 0 };
    if scanner.take(b'[') {
        if !scanner.take(b']') {
            loop {
                reader.event(&mut scanner, 1)?;
                if !scanner.more(b']')? {
                    break;
                }
            }
        }
    } else {
        reader.event(&mut scanner, 0)?;
        while framing == Framing::Lines && scanner.peek().is_some() {
            reader.event(&mut scanner, 0)?;
        }
    }
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(scanner.error("something follows the payload")),
    }
}

struct Reader<'a, 'c, 'd> {
    kind: Option<Kind>,
    topic: &'c str,
    speaker: &'c mut Speaker<'d>,
    intake: &'c mut Intake,
    outcome: &'c mut Outcome,
    raw: RawEvent<'a>,
    index: usize,
}

impl<'a> Reader<'a, '_, '_> {
    /// One event. A fault of its content is recorded; a fault of the JSON is returned.
    fn event(&mut self, scanner: &mut Scanner<'a>, depth: usize) -> Result<(), Fault> {
        if self.index == limits::EVENTS_PER_PAYLOAD_MAX {
            let message = format!("more than {} events in one payload", limits::EVENTS_PER_PAYLOAD_MAX);
            return Err(Fault::new(Code::TooManyEvents, message));
        }
        scanner.peek();
        let start = scanner.position();
        let fault = self.fields(scanner, depth)?;
        let fault = match fault {
            (Some(fault), _) => Some(fault),
            (None, Some(kind)) => self.raw.commit(kind, self.speaker, self.intake).err(),
            (None, None) => Some(Fault::new(Code::UnknownType, "type: must be one of scan, telemetry, activity, status")),
        };
        match fault {
            None => self.outcome.accepted += 1,
            Some(fault) => {
                let device = self.speaker.identity.device;
                let message = format!("event {}: {}", self.index, fault.message);
                let refusal = Refusal { device, seq: self.raw.seq, code: fault.code, message };
                self.intake.bury(self.speaker.identity, self.speaker.now.0, self.topic, &refusal, scanner.since(start));
                self.outcome.refusals.push(refusal);
            }
        }
        self.index += 1;
        Ok(())
    }

    /// Reads the fields of one event into `raw`. The event's kind comes back with the first fault of its content.
    fn fields(&mut self, scanner: &mut Scanner<'a>, depth: usize) -> Result<(Option<Fault>, Option<Kind>), Fault> {
        self.raw = RawEvent::default();
        if scanner.peek() != Some(b'{') {
            scanner.skip(depth)?;
            return Ok((Some(Fault::new(Code::WrongType, "an event must be an object")), None));
        }
        let mut kind = self.kind;
        if kind.is_none() {
            let start = scanner.position();
            kind = find_type(scanner, depth)?;
            scanner.seek(start);
        }
        let mut fault = None;
        scanner.expect(b'{')?;
        if scanner.take(b'}') {
            return Ok((None, kind));
        }
        loop {
            let key = scanner.string()?;
            scanner.expect(b':')?;
            scanner.peek();
            let start = scanner.position();
            match self.raw.field(&key, kind, scanner) {
                Ok(true) => {}
                Ok(false) => {
                    // `type` on a topic that already says the kind is no news, and no mistake either.
                    self.outcome.unknown_fields += u64::from(key != "type");
                    scanner.skip(depth + 1)?;
                }
                Err(found) if found.code == Code::JsonSyntax => return Err(found),
                Err(found) => {
                    scanner.seek(start);
                    scanner.skip(depth + 1)?;
                    fault.get_or_insert(found);
                }
            }
            if !scanner.more(b'}')? {
                return Ok((fault, kind));
            }
        }
    }
}

/// Looks ahead for the event's `type`; senders put it first, so this rarely goes far.
fn find_type(scanner: &mut Scanner<'_>, depth: usize) -> Result<Option<Kind>, Fault> {
    scanner.expect(b'{')?;
    if scanner.take(b'}') {
        return Ok(None);
    }
    loop {
        let key = scanner.string()?;
        scanner.expect(b':')?;
        if key == "type" && scanner.peek() == Some(b'"') {
            let word = scanner.string()?;
            return Ok(Kind::from_text(&word).filter(|kind| !matches!(kind, Kind::Mark | Kind::DeadLetter)));
        }
        scanner.skip(depth + 1)?;
        if !scanner.more(b'}')? {
            return Ok(None);
        }
    }
}

impl<'a> RawEvent<'a> {
    /// Reads the value of a field; `false` when this kind of event has no such field and the value was left alone.
    /// `null` stands for a field that was left out.
    fn field(&mut self, key: &str, kind: Option<Kind>, scanner: &mut Scanner<'a>) -> Result<bool, Fault> {
        match (key, kind) {
            ("seq", _) => self.seq = integer(key, scanner)?,
            ("ts", _) => self.ts = time(scanner)?,
            ("offline", _) => self.offline = boolean(key, scanner)?,
            ("device", _) => self.device = text(key, scanner)?,
            ("badge", Some(Kind::Scan | Kind::Telemetry | Kind::Activity)) => self.badge = text(key, scanner)?,
            ("dir", Some(Kind::Scan)) => self.dir = text(key, scanner)?,
            ("method", Some(Kind::Scan)) => self.method = text(key, scanner)?,
            ("m", Some(Kind::Telemetry)) => self.metrics(scanner)?,
            ("kind", Some(Kind::Activity)) => self.kind = text(key, scanner)?,
            ("resource", Some(Kind::Activity)) => self.resource = text(key, scanner)?,
            ("section", Some(Kind::Activity)) => self.section = text(key, scanner)?,
            ("dur_ms", Some(Kind::Activity)) => self.dur_ms = integer(key, scanner)?,
            ("battery", Some(Kind::Status)) => self.battery = number(key, scanner)?,
            ("fw", Some(Kind::Status)) => self.fw = text(key, scanner)?,
            ("queued", Some(Kind::Status)) => self.queued = integer(key, scanner)?,
            ("uptime_s", Some(Kind::Status)) => self.uptime_s = integer(key, scanner)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn metrics(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Fault> {
        self.metrics.clear();
        if is_null(scanner)? {
            self.has_metrics = false;
            return Ok(());
        }
        if scanner.peek() != Some(b'{') {
            return Err(wrong("m", "an object of numbers"));
        }
        self.has_metrics = true;
        scanner.expect(b'{')?;
        if scanner.take(b'}') {
            return Ok(());
        }
        loop {
            let name = scanner.string()?;
            scanner.expect(b':')?;
            let value = match scanner.peek() {
                Some(b'-' | b'0'..=b'9') => float("m", scanner)?,
                _ => return Err(Fault::new(Code::WrongType, format!("m.{name:.64}: must be a number"))),
            };
            if self.metrics.len() > limits::METRICS_PER_EVENT_MAX {
                return Err(Fault::new(Code::OutOfRange, format!("m: more than {} entries", limits::METRICS_PER_EVENT_MAX)));
            }
            match self.metrics.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => self.metrics.push((name, value)),
            }
            if !scanner.more(b'}')? {
                return Ok(());
            }
        }
    }
}

#[cold]
fn wrong(field: &str, expected: &str) -> Fault {
    Fault::new(Code::WrongType, format!("{field}: must be {expected}"))
}

fn is_null(scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
    if scanner.peek() == Some(b'n') {
        scanner.word()?;
        return Ok(true);
    }
    Ok(false)
}

fn text<'a>(field: &str, scanner: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fault> {
    match scanner.peek() {
        Some(b'"') => scanner.string().map(Some),
        _ if is_null(scanner)? => Ok(None),
        _ => Err(wrong(field, "a string")),
    }
}

fn boolean(field: &str, scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
    match scanner.peek() {
        Some(b't' | b'f' | b'n') => Ok(scanner.word()? == "true"),
        _ => Err(wrong(field, "true or false")),
    }
}

fn integer<T: std::str::FromStr>(field: &str, scanner: &mut Scanner<'_>) -> Result<Option<T>, Fault> {
    match scanner.peek() {
        Some(b'-' | b'0'..=b'9') => match scanner.number()? {
            (token, true) => {
                let fault = || Fault::new(Code::OutOfRange, format!("{field}: out of range"));
                token.parse().map(Some).map_err(|_| fault())
            }
            _ => Err(wrong(field, "an integer")),
        },
        _ if is_null(scanner)? => Ok(None),
        _ => Err(wrong(field, "an integer")),
    }
}

fn float(field: &str, scanner: &mut Scanner<'_>) -> Result<f64, Fault> {
    let (token, _) = scanner.number()?;
    let value: f64 = token.parse().map_err(|_| wrong(field, "a number"))?;
    if !value.is_finite() {
        return Err(Fault::new(Code::OutOfRange, format!("{field}: number out of range")));
    }
    Ok(value)
}

fn number(field: &str, scanner: &mut Scanner<'_>) -> Result<Option<f64>, Fault> {
    match scanner.peek() {
        Some(b'-' | b'0'..=b'9') => float(field, scanner).map(Some),
        _ if is_null(scanner)? => Ok(None),
        _ => Err(wrong(field, "a number")),
    }
}

fn time(scanner: &mut Scanner<'_>) -> Result<Option<i64>, Fault> {
    if scanner.peek() != Some(b'"') {
        return integer("ts", scanner).map_err(|fault| match fault.code {
            Code::WrongType => wrong("ts", "RFC 3339 with an offset, or integer milliseconds"),
            _ => fault,
        });
    }
    let text = scanner.string()?;
    instant::parse(&text).map(Some).ok_or_else(|| wrong("ts", "RFC 3339 with an offset, or integer milliseconds"))
}
