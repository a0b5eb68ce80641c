//! Activity as rows: for engagement, which looks at one event at a time, and for tests and tools that write some.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, StringArray, UInt8Array, UInt64Array};
use arrow::datatypes::{Int64Type, UInt8Type, UInt64Type};
use rollcall_model::event::{ActivityKind, Kind};
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PersonId, SchoolId, SectionId};
use rollcall_model::time::UtcMillis;

use crate::EventBatch;
use crate::column::{self, rows_of};
use crate::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, SEQ, TS};

const PERSON: usize = COMMON;
const KIND: usize = COMMON + 1;
const RESOURCE: usize = COMMON + 2;
const SECTION: usize = COMMON + 3;
const DUR_MS: usize = COMMON + 4;

/// One event of a learning app. Its offset is the log's to give and is not written. The resource is borrowed from the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActivityRow<'a> {
    pub district: DistrictId,
    pub school: SchoolId,
    pub device: DeviceId,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub offline: bool,
    pub person: PersonId,
    pub kind: ActivityKind,
    pub resource: &'a str,
    /// What the app claims; it may be missing or wrong.
    pub section: Option<SectionId>,
    pub dur_ms: Option<i64>,
    pub offset: Offset,
}

/// A batch of activity in the order given.
pub fn encode(rows: &[ActivityRow<'_>]) -> EventBatch {
    column::batch(
        Kind::Activity,
        vec![
            column::ids(rows.iter().map(|row| Some(row.district.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.school.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.device.as_bytes()))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seq))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.ts.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.received.0))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.offline)))),
            column::ids(rows.iter().map(|row| Some(row.person.as_bytes()))),
            Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.kind.code()))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.resource))),
            column::ids(rows.iter().map(|row| row.section.as_ref().map(SectionId::as_bytes))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.dur_ms))),
        ],
    )
}

/// The events of a batch in its order; none for a batch of another kind. A row with a kind that this program does not
/// know is left out and reported as an error.
pub fn decode(batch: &EventBatch) -> impl Iterator<Item = ActivityRow<'_>> + '_ {
    let (columns, rows) = rows_of(batch, Kind::Activity);
    rows.filter_map(move |row| {
        let offset = Offset(batch.first.0 + row as u64);
        let code = columns.number::<UInt8Type>(KIND, row);
        let Some(kind) = ActivityKind::from_code(code) else {
            tracing::error!(%offset, code, "an activity has an unknown kind and is left out");
            return None;
        };
        let resource = batch.rows.column(RESOURCE).as_string::<i32>();
        Some(ActivityRow {
            district: DistrictId::from_bytes(columns.id(DISTRICT, row)),
            school: SchoolId::from_bytes(columns.id(SCHOOL, row)),
            device: DeviceId::from_bytes(columns.id(DEVICE, row)),
            seq: columns.number::<UInt64Type>(SEQ, row),
            ts: UtcMillis(columns.number::<Int64Type>(TS, row)),
            received: UtcMillis(columns.number::<Int64Type>(RECEIVED, row)),
            offline: columns.flag(OFFLINE, row),
            person: PersonId::from_bytes(columns.id(PERSON, row)),
            kind,
            resource: if resource.is_valid(row) { resource.value(row) } else { "" },
            section: columns.id_or_none(SECTION, row).map(SectionId::from_bytes),
            dur_ms: columns.number_or_none::<Int64Type>(DUR_MS, row),
            offset,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_comes_back_as_it_was() {
        let row = ActivityRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            seq: u64::MAX,
            ts: UtcMillis(-1),
            received: UtcMillis(2),
            offline: true,
            person: PersonId::from_bytes([4; 16]),
            kind: ActivityKind::Answered,
            resource: "quiz:fractions-3",
            section: Some(SectionId::from_bytes([5; 16])),
            dur_ms: None,
            offset: Offset(0),
        };
        let rows = [row, ActivityRow { section: None, dur_ms: Some(5200), resource: "", offset: Offset(1), ..row }];
        let batch = encode(&rows);
        assert_eq!(decode(&batch).collect::<Vec<_>>(), rows);
        assert_eq!(crate::telemetry::decode(&batch).count(), 0);
    }
}
