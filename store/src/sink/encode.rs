//! From Arrow columns to what PostgreSQL reads: binary COPY for event tables, arrays for marks and dead letters.
//!
//! A row of COPY is a 16-bit count of fields and, for each, a 32-bit length (-1: null) and the value, all big-endian.
//! The seven common columns have fixed lengths, so they are written as one block. What the database could not take is made
//! takeable here, because the sink must never be stopped by one row: NUL characters become U+FFFD, instants beyond
//! PostgreSQL's range its ends.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt8Array, UInt64Array,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt64Type};
use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::event::Kind;
use rollcall_model::ids::DistrictId;
use rollcall_model::status::{Authority, MarkStatus};
use rollcall_stream::EventBatch;
use rollcall_stream::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, SEQ, TS};
use uuid::Uuid;

/// A batch that does not have the columns of its kind. The log refuses those, so this is a defect.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of a {kind:?} batch has another type than its schema says")]
pub struct EncodeError {
    kind: Kind,
    column: usize,
}

/// The kinds that have an event table, in the order in which they are written.
pub(super) const EVENT_KINDS: [Kind; 4] = [Kind::Scan, Kind::Telemetry, Kind::Activity, Kind::Status];

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const DAY_MS: i64 = 86_400_000;
/// 2000-01-01, from which PostgreSQL counts, in milliseconds since 1970.
const EPOCH_MS: i64 = 946_684_800_000;
/// PostgreSQL's range of timestamps in microseconds since 2000.
const MICROS_MIN: i64 = -211_813_488_000_000_000;
const MICROS_MAX: i64 = 9_223_371_331_199_999_999;
/// Bytes of the block of common columns: the count of fields, three ids, seq, two instants, offline.
const COMMON_BYTES: usize = 2 + 3 * 20 + 3 * 12 + 5;

/// The COPY stream of one event table, in a buffer that is used again and again.
#[derive(Default)]
pub(super) struct CopyStream {
    pub bytes: Vec<u8>,
    pub rows: u64,
    /// UTC days of event time that occur.
    pub days: BTreeSet<i64>,
}

/// One mark with its district.
pub(super) struct MarkRow {
    pub mark: Uuid,
    pub school: Uuid,
    pub student: Uuid,
    pub section: Option<Uuid>,
    pub period: Option<Uuid>,
    pub date: NaiveDate,
    pub status: &'static str,
    pub authority: &'static str,
    pub author: Uuid,
    pub reason: Option<String>,
    pub supersedes: Option<Uuid>,
    pub at: Option<DateTime<Utc>>,
    pub recorded: DateTime<Utc>,
    pub offset: i64,
}

pub(super) struct DeadLetterRow {
    pub school: Uuid,
    pub device: Uuid,
    pub received: DateTime<Utc>,
    pub topic: String,
    pub seq: i64,
    pub code: String,
    pub message: String,
    pub payload: Vec<u8>,
    pub offset: i64,
}

/// The rows of one transaction.
#[derive(Default)]
pub(super) struct Gathered {
    copies: [CopyStream; EVENT_KINDS.len()],
    pub marks: BTreeMap<DistrictId, Vec<MarkRow>>,
    pub dead_letters: BTreeMap<DistrictId, Vec<DeadLetterRow>>,
}

impl Gathered {
    pub fn clear(&mut self) {
        for copy in &mut self.copies {
            copy.bytes.clear();
            copy.rows = 0;
            copy.days.clear();
        }
        self.marks.clear();
        self.dead_letters.clear();
    }

    pub fn rows(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Mark => self.marks.values().map(|rows| rows.len() as u64).sum(),
            Kind::DeadLetter => self.dead_letters.values().map(|rows| rows.len() as u64).sum(),
            _ => EVENT_KINDS.iter().zip(&self.copies).find(|(of, _)| **of == kind).map_or(0, |(_, copy)| copy.rows),
        }
    }

    /// The streams that have rows.
    pub fn copies(&self) -> impl Iterator<Item = (Kind, &CopyStream)> {
        EVENT_KINDS.into_iter().zip(&self.copies).filter(|(_, copy)| copy.rows > 0)
    }

    pub fn add(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
        match EVENT_KINDS.iter().position(|kind| *kind == batch.kind) {
            Some(index) => self.copies[index].add(batch),
            None if batch.kind == Kind::Mark => self.add_marks(batch),
            None => self.add_dead_letters(batch),
        }
    }

    fn add_marks(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
        let columns = Columns::of(batch);
        let (districts, schools, authors) = (columns.ids(DISTRICT)?, columns.ids(SCHOOL)?, columns.ids(DEVICE)?);
        let recorded = columns.i64s(TS)?;
        let (marks, students) = (columns.ids(COMMON)?, columns.ids(COMMON + 1)?);
        let (sections, periods) = (columns.ids(COMMON + 2)?, columns.ids(COMMON + 3)?);
        let (dates, statuses, authorities) = (columns.i32s(COMMON + 4)?, columns.u8s(COMMON + 5)?, columns.u8s(COMMON + 6)?);
        let (reasons, supersedes, at) = (columns.texts(COMMON + 7)?, columns.ids(COMMON + 8)?, columns.i64s(COMMON + 9)?);
        for row in 0..batch.len() {
            let (Some(status), Some(authority)) =
                (MarkStatus::from_code(statuses.value(row)), Authority::from_code(authorities.value(row)))
            else {
                // Written by a newer program: there is no word for it in this schema.
                return Err(columns.wrong(COMMON + 5));
            };
            let mark = MarkRow {
                mark: id(marks, row),
                school: id(schools, row),
                student: id(students, row),
                section: optional_id(sections, row),
                period: optional_id(periods, row),
                date: date(dates.value(row)),
                status: status.as_str(),
                authority: authority.as_str(),
                author: id(authors, row),
                reason: reasons.is_valid(row).then(|| storable(reasons.value(row)).into_owned()),
                supersedes: optional_id(supersedes, row),
                at: at.is_valid(row).then(|| instant(at.value(row))),
                recorded: instant(recorded.value(row)),
                offset: offset(batch, row),
            };
            self.marks.entry(DistrictId(id(districts, row))).or_default().push(mark);
        }
        Ok(())
    }

    fn add_dead_letters(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
        let columns = Columns::of(batch);
        let (districts, schools, devices) = (columns.ids(DISTRICT)?, columns.ids(SCHOOL)?, columns.ids(DEVICE)?);
        let (seqs, received) = (columns.u64s(SEQ)?, columns.i64s(RECEIVED)?);
        let (topics, codes, messages) = (columns.texts(COMMON)?, columns.texts(COMMON + 1)?, columns.texts(COMMON + 2)?);
        let payloads = columns.bytes(COMMON + 3)?;
        for row in 0..batch.len() {
            let letter = DeadLetterRow {
                school: id(schools, row),
                device: id(devices, row),
                received: instant(received.value(row)),
                topic: storable(topics.value(row)).into_owned(),
                seq: seqs.value(row).cast_signed(),
                code: storable(codes.value(row)).into_owned(),
                message: storable(messages.value(row)).into_owned(),
                payload: payloads.value(row).to_vec(),
                offset: offset(batch, row),
            };
            self.dead_letters.entry(DistrictId(id(districts, row))).or_default().push(letter);
        }
        Ok(())
    }
}

impl CopyStream {
    fn add(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
        if self.rows == 0 {
            self.bytes.extend_from_slice(SIGNATURE);
        }
        let columns = Columns::of(batch);
        self.note_days(columns.i64s(TS)?);
        match batch.kind {
            Kind::Scan => self.scans(batch, &columns)?,
            Kind::Telemetry => self.telemetry(batch, &columns)?,
            Kind::Activity => self.activity(batch, &columns)?,
            _ => self.statuses(batch, &columns)?,
        }
        self.rows += batch.len() as u64;
        Ok(())
    }

    fn note_days(&mut self, ts: &Int64Array) {
        let mut last = None;
        for ms in ts.values() {
            let day = ms.div_euclid(DAY_MS);
            // Neighbours are nearly always of one day.
            if last != Some(day) {
                self.days.insert(day);
                last = Some(day);
            }
        }
    }

    fn scans(&mut self, batch: &EventBatch, columns: &Columns<'_>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 12)?;
        let (people, badges) = (columns.ids(COMMON)?, columns.ids(COMMON + 1)?);
        let (directions, methods) = (columns.u8s(COMMON + 2)?, columns.u8s(COMMON + 3)?);
        self.bytes.reserve(batch.len() * (COMMON_BYTES + 64));
        for row in 0..batch.len() {
            common.put(&mut self.bytes, row);
            put(&mut self.bytes, people.value(row));
            put(&mut self.bytes, badges.value(row));
            put(&mut self.bytes, &i16::from(directions.value(row)).to_be_bytes());
            put(&mut self.bytes, &i16::from(methods.value(row)).to_be_bytes());
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }

    fn telemetry(&mut self, batch: &EventBatch, columns: &Columns<'_>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 11)?;
        let (people, metrics, values) = (columns.ids(COMMON)?, columns.texts(COMMON + 1)?, columns.f64s(COMMON + 2)?);
        self.bytes.reserve(batch.len() * (COMMON_BYTES + 60));
        for row in 0..batch.len() {
            common.put(&mut self.bytes, row);
            put_optional(&mut self.bytes, people.is_valid(row).then(|| people.value(row)));
            put(&mut self.bytes, storable(metrics.value(row)).as_bytes());
            put(&mut self.bytes, &values.value(row).to_be_bytes());
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }

    fn activity(&mut self, batch: &EventBatch, columns: &Columns<'_>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 13)?;
        let (people, kinds, resources) = (columns.ids(COMMON)?, columns.u8s(COMMON + 1)?, columns.texts(COMMON + 2)?);
        let (sections, durations) = (columns.ids(COMMON + 3)?, columns.i64s(COMMON + 4)?);
        self.bytes.reserve(batch.len() * (COMMON_BYTES + 100));
        for row in 0..batch.len() {
            common.put(&mut self.bytes, row);
            put(&mut self.bytes, people.value(row));
            put(&mut self.bytes, &i16::from(kinds.value(row)).to_be_bytes());
            put(&mut self.bytes, storable(resources.value(row)).as_bytes());
            put_optional(&mut self.bytes, sections.is_valid(row).then(|| sections.value(row)));
            put_optional(&mut self.bytes, durations.is_valid(row).then(|| durations.value(row).to_be_bytes()));
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }

    fn statuses(&mut self, batch: &EventBatch, columns: &Columns<'_>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 13)?;
        let (batteries, firmwares) = (columns.f64s(COMMON)?, columns.texts(COMMON + 1)?);
        let (queued, uptimes, connected) = (columns.i64s(COMMON + 2)?, columns.i64s(COMMON + 3)?, columns.bools(COMMON + 4)?);
        for row in 0..batch.len() {
            common.put(&mut self.bytes, row);
            put_optional(&mut self.bytes, batteries.is_valid(row).then(|| batteries.value(row).to_be_bytes()));
            put_optional(&mut self.bytes, firmwares.is_valid(row).then(|| storable(firmwares.value(row))).as_deref().map(str::as_bytes));
            put_optional(&mut self.bytes, queued.is_valid(row).then(|| queued.value(row).to_be_bytes()));
            put_optional(&mut self.bytes, uptimes.is_valid(row).then(|| uptimes.value(row).to_be_bytes()));
            put_optional(&mut self.bytes, connected.is_valid(row).then(|| [u8::from(connected.value(row))]));
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }
}

/// The common columns and the block that they are written as: lengths in place, values put over.
struct Common<'a> {
    districts: &'a FixedSizeBinaryArray,
    schools: &'a FixedSizeBinaryArray,
    devices: &'a FixedSizeBinaryArray,
    seqs: &'a UInt64Array,
    ts: &'a Int64Array,
    received: &'a Int64Array,
    offline: &'a BooleanArray,
    block: [u8; COMMON_BYTES],
}

impl<'a> Common<'a> {
    fn of(columns: &Columns<'a>, fields: i16) -> Result<Self, EncodeError> {
        let mut block = [0; COMMON_BYTES];
        block[..2].copy_from_slice(&fields.to_be_bytes());
        let mut at = 2;
        for length in [16, 16, 16, 8, 8, 8, 1] {
            block[at + 3] = length;
            at += 4 + usize::from(length);
        }
        Ok(Self {
            districts: columns.ids(DISTRICT)?,
            schools: columns.ids(SCHOOL)?,
            devices: columns.ids(DEVICE)?,
            seqs: columns.u64s(SEQ)?,
            ts: columns.i64s(TS)?,
            received: columns.i64s(RECEIVED)?,
            offline: columns.bools(OFFLINE)?,
            block,
        })
    }

    fn put(&self, bytes: &mut Vec<u8>, row: usize) {
        let mut block = self.block;
        block[6..22].copy_from_slice(self.districts.value(row));
        block[26..42].copy_from_slice(self.schools.value(row));
        block[46..62].copy_from_slice(self.devices.value(row));
        block[66..74].copy_from_slice(&self.seqs.value(row).cast_signed().to_be_bytes());
        block[78..86].copy_from_slice(&micros(self.ts.value(row)).to_be_bytes());
        block[90..98].copy_from_slice(&micros(self.received.value(row)).to_be_bytes());
        block[102] = u8::from(self.offline.value(row));
        bytes.extend_from_slice(&block);
    }
}

/// A batch's columns by type.
struct Columns<'a> {
    kind: Kind,
    rows: &'a RecordBatch,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a EventBatch) -> Self {
        Self { kind: batch.kind, rows: &batch.rows }
    }

    fn wrong(&self, column: usize) -> EncodeError {
        EncodeError { kind: self.kind, column }
    }

    fn column(&self, column: usize) -> Result<&'a dyn Array, EncodeError> {
        self.rows.columns().get(column).map(AsRef::as_ref).ok_or_else(|| self.wrong(column))
    }

    fn ids(&self, column: usize) -> Result<&'a FixedSizeBinaryArray, EncodeError> {
        self.column(column)?.as_fixed_size_binary_opt().filter(|ids| ids.value_length() == 16).ok_or_else(|| self.wrong(column))
    }

    fn i64s(&self, column: usize) -> Result<&'a Int64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Int64Type>().ok_or_else(|| self.wrong(column))
    }

    fn i32s(&self, column: usize) -> Result<&'a Int32Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Int32Type>().ok_or_else(|| self.wrong(column))
    }

    fn u64s(&self, column: usize) -> Result<&'a UInt64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| self.wrong(column))
    }

    fn u8s(&self, column: usize) -> Result<&'a UInt8Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<UInt8Type>().ok_or_else(|| self.wrong(column))
    }

    fn f64s(&self, column: usize) -> Result<&'a Float64Array, EncodeError> {
        self.column(column)?.as_primitive_opt::<Float64Type>().ok_or_else(|| self.wrong(column))
    }

    fn bools(&self, column: usize) -> Result<&'a BooleanArray, EncodeError> {
        self.column(column)?.as_boolean_opt().ok_or_else(|| self.wrong(column))
    }

    fn texts(&self, column: usize) -> Result<&'a StringArray, EncodeError> {
        self.column(column)?.as_string_opt().ok_or_else(|| self.wrong(column))
    }

    fn bytes(&self, column: usize) -> Result<&'a BinaryArray, EncodeError> {
        self.column(column)?.as_binary_opt().ok_or_else(|| self.wrong(column))
    }
}

fn put(bytes: &mut Vec<u8>, value: &[u8]) {
    // No value is longer than a payload, which is far below two gibibytes.
    bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn put_optional(bytes: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
    match value {
        Some(value) => put(bytes, value.as_ref()),
        None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}

/// PostgreSQL's text has no NUL.
fn storable(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn micros(ms: i64) -> i64 {
    ms.saturating_sub(EPOCH_MS).saturating_mul(1000).clamp(MICROS_MIN, MICROS_MAX)
}

fn instant(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// The UTC date of a number of days since 1970; the epoch for what no calendar holds.
pub(super) fn date(days: i32) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(days.saturating_add(719_163)).unwrap_or_default()
}

fn id(ids: &FixedSizeBinaryArray, row: usize) -> Uuid {
    Uuid::from_slice(ids.value(row)).expect("the column's values have sixteen bytes")
}

fn optional_id(ids: &FixedSizeBinaryArray, row: usize) -> Option<Uuid> {
    ids.is_valid(row).then(|| id(ids, row))
}

fn offset(batch: &EventBatch, row: usize) -> i64 {
    (batch.first.0 + row as u64).cast_signed()
}
