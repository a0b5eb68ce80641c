//! The rows that are written by ordinary statements: marks, dead letters, and what could not be read.
//!
//! The sink never stops for one row. A row that this program has no words for (a mark's status that a newer program
//! knows), or that the database will not take, goes into the dead letters with the code [`UNSTORABLE`] and its values
//! as JSON, is counted, and shows as a warning in readiness.

use std::collections::BTreeMap;

use arrow::array::Array;
use arrow::json::LineDelimitedWriter;
use chrono::{DateTime, NaiveDate, Utc};
use rollcall_model::ids::DistrictId;
use rollcall_model::status::{Authority, MarkStatus};
use rollcall_stream::EventBatch;
use rollcall_stream::schema::{COMMON, DEVICE, DISTRICT, RECEIVED, SCHOOL, SEQ, TS};
use uuid::Uuid;

use super::columns::{Columns, EncodeError, date, id, instant, offset, optional_id, storable};

/// The code of a dead letter that the sink wrote.
pub const UNSTORABLE: &str = "unstorable";

/// Most bytes of a dead letter's payload that the sink writes itself; JSON beyond it is cut.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

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

/// What one transaction writes by statements.
#[derive(Default)]
pub(super) struct RowTables {
    pub marks: BTreeMap<DistrictId, Vec<MarkRow>>,
    pub dead_letters: BTreeMap<DistrictId, Vec<DeadLetterRow>>,
    /// Rows of the log that went into the dead letters because they cannot be stored as what they are.
    pub unstorable: u64,
    /// Why, for the last of them.
    pub reason: Option<String>,
}

impl RowTables {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts these rows of a batch of any kind into the dead letters.
    pub fn set_aside(&mut self, batch: &EventBatch, rows: std::ops::Range<usize>, reason: &str) {
        self.unstorable += rows.len() as u64;
        self.reason = Some(reason.to_owned());
        let columns = Columns::of(batch);
        let common = || -> Result<_, EncodeError> {
            Ok((columns.ids(DISTRICT)?, columns.ids(SCHOOL)?, columns.ids(DEVICE)?, columns.u64s(SEQ)?, columns.i64s(RECEIVED)?))
        };
        let letter = |rows: std::ops::Range<usize>| DeadLetterRow {
            school: Uuid::nil(),
            device: Uuid::nil(),
            received: Utc::now(),
            topic: format!("log/{}", batch.kind.as_str()),
            seq: 0,
            code: UNSTORABLE.to_owned(),
            message: storable(reason).into_owned(),
            payload: json(batch, rows.clone()),
            offset: offset(batch, rows.start),
        };
        let Ok((districts, schools, devices, seqs, received)) = common() else {
            // Whose it is cannot be said either, so no tenant sees it; the owner of the database does.
            self.dead_letters.entry(DistrictId(Uuid::nil())).or_default().push(letter(rows));
            return;
        };
        for row in rows {
            let letter = DeadLetterRow {
                school: id(schools, row),
                device: id(devices, row),
                received: instant(received.value(row)),
                seq: seqs.value(row).cast_signed(),
                ..letter(row..row + 1)
            };
            self.dead_letters.entry(DistrictId(id(districts, row))).or_default().push(letter);
        }
    }

    pub fn add_marks(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
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
                let codes = (statuses.value(row), authorities.value(row));
                self.set_aside(
                    batch,
                    row..row + 1,
                    &format!("no mark has the status code {} with the authority code {}", codes.0, codes.1),
                );
                continue;
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

    pub fn add_dead_letters(&mut self, batch: &EventBatch) -> Result<(), EncodeError> {
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

fn json(batch: &EventBatch, rows: std::ops::Range<usize>) -> Vec<u8> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    // A column that JSON has no form for leaves the payload empty: the offset still names the row.
    let written = writer.write(&batch.rows.slice(rows.start, rows.len())).and_then(|()| writer.finish());
    let mut bytes = if written.is_ok() { writer.into_inner() } else { Vec::new() };
    bytes.truncate(PAYLOAD_BYTES_MAX);
    bytes
}
