//! One event between its wire format and its columns. JSON and Arrow both fill a [`RawEvent`]; whether it is taken is
//! decided here, once, and nothing is written to a column before everything about the event has been checked.

use std::borrow::Cow;

use rollcall_model::event::{ActivityKind, Direction, Kind, Method};
use rollcall_model::ids::{DeviceId, SectionId};
use rollcall_model::limits;
use rollcall_model::time::UtcMillis;
use smallvec::SmallVec;

use super::badge_cache::BadgeCache;
use super::columns::{Head, Heartbeat, word};
use super::intake::{Intake, LastBadge, Taken};
use super::refusal::{Code, Fault};
use crate::directory::{DeviceIdentity, Directory};

/// The fields of one event as its sender gave them. Strings stand in the payload unless they had escapes.
#[derive(Default)]
pub struct RawEvent<'a> {
    pub seq: Option<u64>,
    pub ts: Option<i64>,
    pub offline: bool,
    pub device: Option<Cow<'a, str>>,
    pub badge: Option<Cow<'a, str>>,
    pub dir: Option<Cow<'a, str>>,
    pub method: Option<Cow<'a, str>>,
    pub kind: Option<Cow<'a, str>>,
    pub resource: Option<Cow<'a, str>>,
    pub section: Option<Cow<'a, str>>,
    pub dur_ms: Option<i64>,
    pub battery: Option<f64>,
    pub fw: Option<Cow<'a, str>>,
    pub queued: Option<i64>,
    pub uptime_s: Option<i64>,
    /// Metrics of a telemetry event; `has_metrics` tells an empty map from none.
    pub metrics: SmallVec<[(Cow<'a, str>, f64); 4]>,
    pub has_metrics: bool,
}

/// What the events of one payload have in common.
pub struct Speaker<'d> {
    pub identity: &'d DeviceIdentity,
    pub now: UtcMillis,
    directory: &'d dyn Directory,
    badges: &'d BadgeCache,
    /// The device behind the gateway that was named last; gateways send runs of one device.
    behind: Option<DeviceIdentity>,
}

impl<'d> Speaker<'d> {
    pub fn new(identity: &'d DeviceIdentity, now: UtcMillis, directory: &'d dyn Directory, badges: &'d BadgeCache) -> Self {
        Self { identity, now, directory, badges, behind: None }
    }

    /// The one person that the speaker is assigned to.
    pub(super) fn own_person(&self) -> Option<i128> {
        self.identity.person.map(|person| word(person.as_bytes()))
    }

    /// Whose event it is: the speaker's own, or that of a device registered behind it.
    fn author(&mut self, named: Option<&str>) -> Result<DeviceIdentity, Fault> {
        let Some(text) = named else { return Ok(*self.identity) };
        let unknown = || Fault::new(Code::UnknownDevice, "device: no such device is registered behind this gateway");
        let device: DeviceId = text.parse().map_err(|_| Fault::new(Code::WrongType, "device: not a UUID"))?;
        if device == self.identity.device {
            return Ok(*self.identity);
        }
        if self.identity.kind != rollcall_model::event::DeviceKind::Gateway {
            return Err(Fault::new(Code::NotAGateway, "device: only a gateway may speak for another device"));
        }
        if let Some(known) = self.behind.filter(|known| known.device == device) {
            return Ok(known);
        }
        let known = self.directory.device(device).ok_or_else(unknown)?;
        if known.gateway != Some(self.identity.device) || known.district != self.identity.district {
            return Err(unknown());
        }
        self.behind = Some(known);
        Ok(known)
    }

    /// The person and the badge behind a badge token, as words of their columns.
    pub(super) fn holder(&self, author: &DeviceIdentity, badge: Option<&str>, last: &mut LastBadge) -> Result<Option<(i128, i128)>, Fault> {
        let Some(token) = badge else { return Ok(None) };
        let holder = match last.get(author.district, token) {
            Some(holder) => holder,
            None => {
                length("badge", token, limits::BADGE_BYTES_MAX)?;
                let unknown = || Fault::new(Code::UnknownBadge, "badge: no such badge is valid in this district");
                let holder = self.badges.holder(author.district, token).ok_or_else(unknown)?;
                last.set(author.district, token, holder);
                holder
            }
        };
        Ok(Some((word(holder.person.as_bytes()), word(holder.badge.as_bytes()))))
    }
}

fn missing(field: &str) -> Fault {
    Fault::new(Code::MissingField, format!("{field}: missing"))
}

fn length(field: &str, text: &str, max: usize) -> Result<(), Fault> {
    if text.is_empty() || text.len() > max {
        return Err(Fault::new(Code::OutOfRange, format!("{field}: must have 1 to {max} bytes")));
    }
    Ok(())
}

fn not_negative(field: &str, value: Option<i64>) -> Result<(), Fault> {
    match value {
        Some(v) if v < 0 => Err(Fault::new(Code::OutOfRange, format!("{field}: must not be negative"))),
        _ => Ok(()),
    }
}

fn one_of<T>(field: &str, text: Option<&str>, parse: fn(&str) -> Option<T>, words: &str) -> Result<T, Fault> {
    let text = text.ok_or_else(|| missing(field))?;
    parse(text).ok_or_else(|| Fault::new(Code::OutOfRange, format!("{field}: must be one of {words}")))
}

impl RawEvent<'_> {
    /// Checks the event and writes its rows; on a fault nothing has been written.
    pub fn commit(&self, kind: Kind, speaker: &mut Speaker<'_>, intake: &mut Intake) -> Result<(), Fault> {
        let seq = self.seq.ok_or_else(|| missing("seq"))?;
        let ts = self.ts.ok_or_else(|| missing("ts"))?;
        let author = speaker.author(self.device.as_deref())?;
        let now = speaker.now.0;
        if ts > now.saturating_add(author.clock_skew_max_ms) {
            return Err(Fault::new(Code::TimeInFuture, format!("ts: more than {} ms in the future", author.clock_skew_max_ms)));
        }
        if ts < now.saturating_sub(author.late_max_ms) {
            return Err(Fault::new(Code::TimeTooOld, format!("ts: older than {} ms", author.late_max_ms)));
        }
        let head = Head { seq, ts, received: now, offline: self.offline };
        let rows = match kind {
            Kind::Scan => self.scan(&author, head, speaker, intake)?,
            Kind::Telemetry => self.telemetry(&author, head, speaker, intake)?,
            Kind::Activity => self.activity(&author, head, speaker, intake)?,
            Kind::Status => self.status(&author, head, intake)?,
            Kind::Mark | Kind::DeadLetter => return Err(Fault::new(Code::UnknownType, "type: devices do not send these")),
        };
        intake.events.push(Taken { device: author.device, seq, ts, kind, rows });
        Ok(())
    }

    fn scan(&self, author: &DeviceIdentity, head: Head, speaker: &Speaker<'_>, intake: &mut Intake) -> Result<u32, Fault> {
        let dir = one_of("dir", self.dir.as_deref(), Direction::from_text, "in, out, auto")?;
        let method = one_of("method", self.method.as_deref(), Method::from_text, "qr, nfc, ble, manual")?;
        let (person, badge) = speaker.holder(author, self.badge.as_deref(), &mut intake.last_badge)?.ok_or_else(|| missing("badge"))?;
        intake.scans.push(author, head, person, badge, dir.code(), method.code());
        Ok(1)
    }

    /// Whom telemetry and activity are about: the badge's holder, else the person the device is assigned to.
    fn person(&self, author: &DeviceIdentity, speaker: &Speaker<'_>, last: &mut LastBadge) -> Result<Option<i128>, Fault> {
        let holder = speaker.holder(author, self.badge.as_deref(), last)?;
        Ok(holder.map(|(person, _)| person).or_else(|| author.person.map(|p| word(p.as_bytes()))))
    }

    fn telemetry(&self, author: &DeviceIdentity, head: Head, speaker: &Speaker<'_>, intake: &mut Intake) -> Result<u32, Fault> {
        if !self.has_metrics {
            return Err(missing("m"));
        }
        let max = limits::METRICS_PER_EVENT_MAX;
        if self.metrics.is_empty() || self.metrics.len() > max {
            return Err(Fault::new(Code::OutOfRange, format!("m: must have 1 to {max} entries")));
        }
        for (name, value) in &self.metrics {
            length("m", name, limits::METRIC_BYTES_MAX)?;
            if !value.is_finite() {
                return Err(Fault::new(Code::OutOfRange, format!("m.{name}: not a finite number")));
            }
        }
        let person = self.person(author, speaker, &mut intake.last_badge)?;
        for (name, value) in &self.metrics {
            intake.readings.push(author, head, person, name, *value);
        }
        Ok(self.metrics.len() as u32)
    }

    fn activity(&self, author: &DeviceIdentity, head: Head, speaker: &Speaker<'_>, intake: &mut Intake) -> Result<u32, Fault> {
        let words = "opened, interacted, answered, submitted, advanced, closed";
        let kind = one_of("kind", self.kind.as_deref(), ActivityKind::from_text, words)?;
        let resource = self.resource.as_deref().ok_or_else(|| missing("resource"))?;
        length("resource", resource, limits::RESOURCE_BYTES_MAX)?;
        not_negative("dur_ms", self.dur_ms)?;
        let section = self.section.as_deref().map(str::parse::<SectionId>).transpose();
        let section = section.map_err(|_| Fault::new(Code::WrongType, "section: not a UUID"))?;
        let person = self.person(author, speaker, &mut intake.last_badge)?.ok_or_else(|| missing("badge"))?;
        let section = section.map(|s| word(s.as_bytes()));
        intake.activities.push(author, head, person, (kind.code(), resource), section, self.dur_ms);
        Ok(1)
    }

    fn status(&self, author: &DeviceIdentity, head: Head, intake: &mut Intake) -> Result<u32, Fault> {
        if let Some(fw) = self.fw.as_deref() {
            length("fw", fw, limits::FIRMWARE_BYTES_MAX)?;
        }
        not_negative("queued", self.queued)?;
        not_negative("uptime_s", self.uptime_s)?;
        if self.battery.is_some_and(|b| !b.is_finite()) {
            return Err(Fault::new(Code::OutOfRange, "battery: not a finite number"));
        }
        let (queued, uptime_s) = (self.queued, self.uptime_s);
        let beat = Heartbeat { battery: self.battery, fw: self.fw.as_deref(), queued, uptime_s, connected: None };
        intake.statuses.push(author, head, beat);
        Ok(1)
    }

    /// The event as JSON, for the dead letters of a payload that was not JSON.
    pub fn to_json(&self, kind: Kind) -> serde_json::Value {
        let metrics: serde_json::Map<_, _> = self.metrics.iter().map(|(k, v)| (k.to_string(), (*v).into())).collect();
        let m = self.has_metrics.then_some(metrics);
        let all = serde_json::json!({
            "type": kind.as_str(), "seq": self.seq, "ts": self.ts, "offline": self.offline, "device": self.device,
            "badge": self.badge, "dir": self.dir, "method": self.method, "kind": self.kind, "resource": self.resource,
            "section": self.section, "dur_ms": self.dur_ms, "m": m,
        });
        match all {
            serde_json::Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
            other => other,
        }
    }
}
