//! From Arrow columns to binary COPY, the form in which PostgreSQL reads event tables fastest.
//!
//! A row of COPY is a 16-bit count of fields and, for each, a 32-bit length (-1: null) and the value, all big-endian.
//! The seven common columns have fixed lengths, so they are written as one block.

use std::ops::Range;

use arrow::array::{Array, BooleanArray, FixedSizeBinaryArray, Int64Array, UInt64Array};
use rollcall_model::event::Kind;
use rollcall_stream::EventBatch;
use rollcall_stream::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, SEQ, TS};

use super::columns::{Columns, EncodeError, micros, offset, storable};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const DAY_MS: i64 = 86_400_000;
/// Bytes of the block of common columns: the count of fields, three ids, seq, two instants, offline.
const COMMON_BYTES: usize = 2 + 3 * 20 + 3 * 12 + 5;

/// The COPY stream of one event table, or of one day of it, in a buffer that is used again and again.
pub(super) struct CopyStream {
    pub kind: Kind,
    /// The UTC day of event time, counted from 1970, that all its rows are of; `None`: any.
    pub day: Option<i64>,
    pub bytes: Vec<u8>,
    pub rows: u64,
}

impl CopyStream {
    /// `bytes` gives its capacity only.
    pub fn new(kind: Kind, day: Option<i64>, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.extend_from_slice(SIGNATURE);
        Self { kind, day, bytes, rows: 0 }
    }

    /// Adds these rows of a batch of its kind; nothing of them when the batch is not what its kind says.
    pub fn add(&mut self, batch: &EventBatch, rows: Range<usize>) -> Result<(), EncodeError> {
        let columns = Columns::of(batch);
        let count = rows.len() as u64;
        match batch.kind {
            Kind::Scan => self.scans(batch, &columns, rows)?,
            Kind::Telemetry => self.telemetry(batch, &columns, rows)?,
            Kind::Activity => self.activity(batch, &columns, rows)?,
            _ => self.statuses(batch, &columns, rows)?,
        }
        self.rows += count;
        Ok(())
    }

    fn scans(&mut self, batch: &EventBatch, columns: &Columns<'_>, rows: Range<usize>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 12)?;
        let (people, badges) = (columns.ids(COMMON)?, columns.ids(COMMON + 1)?);
        let (directions, methods) = (columns.u8s(COMMON + 2)?, columns.u8s(COMMON + 3)?);
        self.bytes.reserve(rows.len() * (COMMON_BYTES + 64));
        for row in rows {
            common.put(&mut self.bytes, row);
            put(&mut self.bytes, people.value(row));
            put(&mut self.bytes, badges.value(row));
            put(&mut self.bytes, &i16::from(directions.value(row)).to_be_bytes());
            put(&mut self.bytes, &i16::from(methods.value(row)).to_be_bytes());
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }

    fn telemetry(&mut self, batch: &EventBatch, columns: &Columns<'_>, rows: Range<usize>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 11)?;
        let (people, metrics, values) = (columns.ids(COMMON)?, columns.texts(COMMON + 1)?, columns.f64s(COMMON + 2)?);
        self.bytes.reserve(rows.len() * (COMMON_BYTES + 60));
        for row in rows {
            common.put(&mut self.bytes, row);
            put_optional(&mut self.bytes, people.is_valid(row).then(|| people.value(row)));
            put(&mut self.bytes, storable(metrics.value(row)).as_bytes());
            put(&mut self.bytes, &values.value(row).to_be_bytes());
            put(&mut self.bytes, &offset(batch, row).to_be_bytes());
        }
        Ok(())
    }

    fn activity(&mut self, batch: &EventBatch, columns: &Columns<'_>, rows: Range<usize>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 13)?;
        let (people, kinds, resources) = (columns.ids(COMMON)?, columns.u8s(COMMON + 1)?, columns.texts(COMMON + 2)?);
        let (sections, durations) = (columns.ids(COMMON + 3)?, columns.i64s(COMMON + 4)?);
        self.bytes.reserve(rows.len() * (COMMON_BYTES + 100));
        for row in rows {
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

    fn statuses(&mut self, batch: &EventBatch, columns: &Columns<'_>, rows: Range<usize>) -> Result<(), EncodeError> {
        let common = Common::of(columns, 13)?;
        let (batteries, firmwares) = (columns.f64s(COMMON)?, columns.texts(COMMON + 1)?);
        let (queued, uptimes, connected) = (columns.i64s(COMMON + 2)?, columns.i64s(COMMON + 3)?, columns.bools(COMMON + 4)?);
        for row in rows {
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

/// The rows of a batch in runs of one UTC day of event time each.
pub(super) fn day_runs(batch: &EventBatch) -> Result<Vec<(i64, Range<usize>)>, EncodeError> {
    let ts = Columns::of(batch).i64s(TS)?.values();
    let mut runs: Vec<(i64, Range<usize>)> = Vec::new();
    let mut within = 0..0;
    for (row, ms) in ts.iter().enumerate() {
        match runs.last_mut() {
            Some((_, run)) if within.contains(ms) => run.end = row + 1,
            _ => {
                let day = ms.div_euclid(DAY_MS);
                let begins = day.saturating_mul(DAY_MS);
                within = begins..begins.saturating_add(DAY_MS);
                runs.push((day, row..row + 1));
            }
        }
    }
    Ok(runs)
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
