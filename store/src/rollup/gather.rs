//! What a stretch of the log adds to the rollups: sums, least and greatest values, and bits, by device and date and by student
//! and date. Each of them can be added in any order and in any portions, so that late events need nothing special.

use std::collections::HashMap;

use arrow::array::{Array, BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, UInt8Array};
use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_model::event::{Direction, Kind};
use rollcall_model::ids::{DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::schedule::{Span, date_span, local_date};
use rollcall_model::time::UtcMillis;
use rollcall_stream::EventBatch;
use rollcall_stream::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, TS};
use uuid::Uuid;

use crate::directory::{Directory, PersonKind};
use crate::erasure::Erased;
use crate::sink::columns::{Columns, EncodeError, id};

/// What is received longer after it happened is late; `fill_*.sql` says the same.
const LATE_AFTER_MS: i64 = 5 * 60 * 1000;

/// Length of the stretches in which a device was heard or not; the table has a bit for each.
const HEARD_MS: i64 = 5 * 60 * 1000;
pub(super) const HEARD_BITS: usize = 300;

/// The metric of a wearable's charge.
const BATTERY: &str = "battery";

/// Of a device or a student.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key {
    pub district: DistrictId,
    pub id: Uuid,
    pub date: NaiveDate,
    pub school: Uuid,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct DeviceDay {
    pub scans: i64,
    pub readings: i64,
    pub activities: i64,
    pub heartbeats: i64,
    pub connects: i64,
    pub disconnects: i64,
    pub events: Range,
    pub offline: i64,
    pub late: i64,
    pub late_ms_max: i64,
    pub battery: Option<(f64, f64)>,
    pub queued_max: Option<i64>,
    heard: [u64; HEARD_BITS.div_ceil(64)],
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct StudentDay {
    pub scans: i64,
    pub ins: i64,
    pub outs: i64,
    pub offline: i64,
    pub late: i64,
    pub seen: Range,
    pub first_in: Option<i64>,
    pub last_out: Option<i64>,
}

/// First and last instant, in milliseconds; `None`: nothing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Range(pub Option<(i64, i64)>);

impl Range {
    fn add(&mut self, ts: i64) {
        self.0 = Some(self.0.map_or((ts, ts), |(first, last)| (first.min(ts), last.max(ts))));
    }
}

impl DeviceDay {
    /// The device itself said something.
    fn hear(&mut self, ts: i64, received: i64, offline: bool, since_ms: i64) {
        self.events.add(ts);
        self.offline += i64::from(offline);
        let lateness = received.saturating_sub(ts);
        if lateness > LATE_AFTER_MS {
            self.late += 1;
            self.late_ms_max = self.late_ms_max.max(lateness);
        }
        let slot = (since_ms / HEARD_MS).clamp(0, HEARD_BITS as i64 - 1) as usize;
        self.heard[slot / 64] |= 1 << (slot % 64);
    }

    fn charge(&mut self, value: f64) {
        if value.is_finite() {
            self.battery = Some(self.battery.map_or((value, value), |(least, most)| (least.min(value), most.max(value))));
        }
    }

    /// The stretches as the database writes bits, the first one first.
    pub fn heard(&self) -> String {
        (0..HEARD_BITS).map(|slot| if self.heard[slot / 64] >> (slot % 64) & 1 == 1 { '1' } else { '0' }).collect()
    }
}

/// The date of a school that was asked for last.
struct Today {
    zone: Tz,
    date: NaiveDate,
    span: Span,
}

/// What has been read and not been written.
#[derive(Default)]
pub(super) struct Gathered {
    pub devices: Vec<(Key, DeviceDay)>,
    places: HashMap<Key, usize>,
    pub students: HashMap<Key, StudentDay>,
    dates: HashMap<(DistrictId, SchoolId), Today>,
    /// Whose scans are left out.
    pub erased: Erased,
}

/// The device of the row before: those of one event, and often several events, come one after another.
struct Before<'a> {
    ids: [&'a [u8]; 3],
    span: Span,
    place: usize,
}

impl Gathered {
    pub fn without(erased: Erased) -> Self {
        Self { erased, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.devices.len() + self.students.len()
    }

    /// Adds all rows of a batch, with the zones and people of the directory.
    pub fn add(&mut self, batch: &EventBatch, directory: &Directory) -> Result<(), EncodeError> {
        let columns = Columns::of(batch);
        let (districts, schools, devices) = (columns.ids(DISTRICT)?, columns.ids(SCHOOL)?, columns.ids(DEVICE)?);
        let (ts, received, offline) = (columns.i64s(TS)?, columns.i64s(RECEIVED)?, columns.bools(OFFLINE)?);
        let own = Own::of(batch.kind, &columns)?;
        let mut before: Option<Before<'_>> = None;
        for row in 0..batch.len() {
            let at = UtcMillis(ts.value(row));
            let ids = [districts.value(row), schools.value(row), devices.value(row)];
            let same = before.take().filter(|before| before.ids == ids && before.span.contains(at));
            let (span, place) = match same {
                Some(same) => (same.span, same.place),
                None => {
                    let (district, school) = (DistrictId(id(districts, row)), SchoolId(id(schools, row)));
                    let Some((date, span)) = self.date(directory, district, school, at) else { continue };
                    (span, self.place(Key { district, id: id(devices, row), date, school: school.0 }))
                }
            };
            before = Some(Before { ids, span, place });
            let (key, day) = &mut self.devices[place];
            if own.add(row, day) {
                day.hear(at.0, received.value(row), offline.value(row), at.0 - span.starts.0);
            }
            if let Own::Scan { people, directions } = &own {
                let (key, person) = (*key, id(people, row));
                let offset = Offset(batch.first.0 + row as u64);
                if is_student(directory, key.district, person) && !self.erased.hides(key.district, person, offset) {
                    let is_late = received.value(row).saturating_sub(at.0) > LATE_AFTER_MS;
                    let scan = (at.0, directions.value(row), offline.value(row), is_late);
                    self.students.entry(Key { id: person, ..key }).or_default().add(scan);
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, key: Key) -> usize {
        *self.places.entry(key).or_insert_with(|| {
            self.devices.push((key, DeviceDay::default()));
            self.devices.len() - 1
        })
    }

    /// The local date of an instant. `None`: no calendar has it.
    fn date(&mut self, directory: &Directory, district: DistrictId, school: SchoolId, at: UtcMillis) -> Option<(NaiveDate, Span)> {
        let known = self.dates.get(&(district, school));
        if let Some(today) = known.filter(|today| today.span.contains(at)) {
            return Some((today.date, today.span));
        }
        let zone = || directory.district(district).and_then(|district| district.school(school)).map_or(Tz::UTC, |school| school.zone);
        let zone = known.map_or_else(zone, |today| today.zone);
        let date = local_date(at, zone)?;
        let span = date_span(date, zone);
        self.dates.insert((district, school), Today { zone, date, span });
        Some((date, span))
    }
}

/// People of whom the directory says that they are no students are left out.
fn is_student(directory: &Directory, district: DistrictId, person: Uuid) -> bool {
    let known = directory.district(district).and_then(|district| district.person(PersonId(person)));
    known.is_none_or(|person| person.kind == PersonKind::Student)
}

impl StudentDay {
    fn add(&mut self, (ts, direction, offline, is_late): (i64, u8, bool, bool)) {
        self.scans += 1;
        self.seen.add(ts);
        self.offline += i64::from(offline);
        self.late += i64::from(is_late);
        if direction == Direction::In.code() {
            self.ins += 1;
            self.first_in = Some(self.first_in.map_or(ts, |first| first.min(ts)));
        } else if direction == Direction::Out.code() {
            self.outs += 1;
            self.last_out = Some(self.last_out.map_or(ts, |last| last.max(ts)));
        }
    }
}

/// The columns of a kind that matter here.
enum Own<'a> {
    Scan { people: &'a FixedSizeBinaryArray, directions: &'a UInt8Array },
    Telemetry { metrics: &'a StringArray, values: &'a Float64Array },
    Activity,
    Status { battery: &'a Float64Array, queued: &'a Int64Array, connected: &'a BooleanArray },
}

impl<'a> Own<'a> {
    fn of(kind: Kind, columns: &Columns<'a>) -> Result<Self, EncodeError> {
        Ok(match kind {
            Kind::Scan => Self::Scan { people: columns.ids(COMMON)?, directions: columns.u8s(COMMON + 2)? },
            Kind::Telemetry => Self::Telemetry { metrics: columns.texts(COMMON + 1)?, values: columns.f64s(COMMON + 2)? },
            Kind::Activity => Self::Activity,
            Kind::Status => {
                Self::Status { battery: columns.f64s(COMMON)?, queued: columns.i64s(COMMON + 2)?, connected: columns.bools(COMMON + 4)? }
            }
            Kind::Mark | Kind::DeadLetter => return Err(columns.wrong(COMMON)),
        })
    }

    /// Counts a row and says whether it is the device's own word.
    fn add(&self, row: usize, day: &mut DeviceDay) -> bool {
        match self {
            Self::Scan { .. } => day.scans += 1,
            Self::Telemetry { metrics, values } => {
                day.readings += 1;
                if metrics.value(row) == BATTERY {
                    day.charge(values.value(row));
                }
            }
            Self::Activity => day.activities += 1,
            Self::Status { connected, .. } if connected.is_valid(row) => {
                let counted = if connected.value(row) { &mut day.connects } else { &mut day.disconnects };
                *counted += 1;
                return false;
            }
            Self::Status { battery, queued, .. } => {
                day.heartbeats += 1;
                if battery.is_valid(row) {
                    day.charge(battery.value(row));
                }
                if queued.is_valid(row) {
                    day.queued_max = day.queued_max.max(Some(queued.value(row)));
                }
            }
        }
        true
    }
}
