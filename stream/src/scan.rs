//! Scans as rows: for the attendance rules, which look at one scan at a time, and for tests that write some.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, UInt8Array, UInt64Array};
use arrow::datatypes::{Int64Type, UInt8Type, UInt64Type};
use rollcall_model::event::{Direction, Kind, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::UtcMillis;

use crate::EventBatch;
use crate::column::{self, rows_of};
use crate::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, SEQ, TS};

const PERSON: usize = COMMON;
const DIR: usize = COMMON + 2;

/// One scan in full. Its offset is the log's to give and is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanRow {
    pub district: DistrictId,
    pub school: SchoolId,
    pub badge: BadgeId,
    pub method: Method,
    pub evidence: ScanEvidence,
}

/// A batch of scans in the order given.
pub fn encode(rows: &[ScanRow]) -> EventBatch {
    let evidence = || rows.iter().map(|row| &row.evidence);
    column::batch(
        Kind::Scan,
        vec![
            column::ids(rows.iter().map(|row| Some(row.district.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.school.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.evidence.device.as_bytes()))),
            Arc::new(UInt64Array::from_iter_values(evidence().map(|scan| scan.seq))),
            Arc::new(Int64Array::from_iter_values(evidence().map(|scan| scan.ts.0))),
            Arc::new(Int64Array::from_iter_values(evidence().map(|scan| scan.received.0))),
            Arc::new(BooleanArray::from_iter(evidence().map(|scan| Some(scan.offline)))),
            column::ids(rows.iter().map(|row| Some(row.evidence.student.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.badge.as_bytes()))),
            Arc::new(UInt8Array::from_iter_values(evidence().map(|scan| scan.direction.code()))),
            Arc::new(UInt8Array::from_iter_values(rows.iter().map(|row| row.method.code()))),
        ],
    )
}

/// The scans of a batch in its order; none for a batch of another kind. A row with a direction that this program
/// does not know is left out and reported as an error.
pub fn decode(batch: &EventBatch) -> impl Iterator<Item = (DistrictId, SchoolId, ScanEvidence)> + '_ {
    let (columns, rows) = rows_of(batch, Kind::Scan);
    rows.filter_map(move |row| {
        let offset = Offset(batch.first.0 + row as u64);
        let code = columns.number::<UInt8Type>(DIR, row);
        let Some(direction) = Direction::from_code(code) else {
            tracing::error!(%offset, code, "a scan has an unknown direction and is left out");
            return None;
        };
        let evidence = ScanEvidence {
            student: PersonId::from_bytes(columns.id(PERSON, row)),
            device: DeviceId::from_bytes(columns.id(DEVICE, row)),
            seq: columns.number::<UInt64Type>(SEQ, row),
            ts: UtcMillis(columns.number::<Int64Type>(TS, row)),
            received: UtcMillis(columns.number::<Int64Type>(RECEIVED, row)),
            direction,
            offline: columns.flag(OFFLINE, row),
            offset,
        };
        let district = DistrictId::from_bytes(columns.id(DISTRICT, row));
        Some((district, SchoolId::from_bytes(columns.id(SCHOOL, row)), evidence))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_come_back_with_the_offsets_of_the_log() {
        let row = |seq: u64, direction| ScanRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            badge: BadgeId::from_bytes([3; 16]),
            method: Method::Ble,
            evidence: ScanEvidence {
                student: PersonId::from_bytes([4; 16]),
                device: DeviceId::from_bytes([5; 16]),
                seq,
                ts: UtcMillis(-1),
                received: UtcMillis(i64::MAX),
                direction,
                offline: seq == 7,
                offset: Offset(0),
            },
        };
        let rows = [row(7, Direction::Auto), row(u64::MAX, Direction::Out)];
        let mut batch = encode(&rows);
        batch.first = Offset(40);
        let expected: Vec<_> = (40..).zip(rows).map(|(offset, row)| ScanEvidence { offset: Offset(offset), ..row.evidence }).collect();
        let decoded: Vec<_> = decode(&batch).collect();
        assert!(decoded.iter().all(|(district, school, _)| (*district, *school) == (rows[0].district, rows[0].school)));
        assert_eq!(decoded.into_iter().map(|row| row.2).collect::<Vec<_>>(), expected);
    }
}
