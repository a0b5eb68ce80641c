//! Telemetry as rows, one a metric: for engagement, and for tests and tools that write some.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use rollcall_model::event::Kind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;

use crate::EventBatch;
use crate::column::{self, rows_of};
use crate::schema::{COMMON, DEVICE, DISTRICT, OFFLINE, RECEIVED, SCHOOL, SEQ, TS};

const PERSON: usize = COMMON;
const METRIC: usize = COMMON + 1;
const VALUE: usize = COMMON + 2;

/// One reading. Its offset is the log's to give and is not written. The metric's name is borrowed from the batch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TelemetryRow<'a> {
    pub district: DistrictId,
    pub school: SchoolId,
    pub device: DeviceId,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    pub offline: bool,
    /// Whose wearable it is, when it is somebody's.
    pub person: Option<PersonId>,
    pub metric: &'a str,
    pub value: f64,
    pub offset: Offset,
}

/// A batch of readings in the order given.
pub fn encode(rows: &[TelemetryRow<'_>]) -> EventBatch {
    column::batch(
        Kind::Telemetry,
        vec![
            column::ids(rows.iter().map(|row| Some(row.district.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.school.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.device.as_bytes()))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seq))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.ts.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.received.0))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.offline)))),
            column::ids(rows.iter().map(|row| row.person.as_ref().map(PersonId::as_bytes))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.metric))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value))),
        ],
    )
}

/// The readings of a batch in its order; none for a batch of another kind.
pub fn decode(batch: &EventBatch) -> impl Iterator<Item = TelemetryRow<'_>> + '_ {
    let (columns, rows) = rows_of(batch, Kind::Telemetry);
    rows.map(move |row| TelemetryRow {
        district: DistrictId::from_bytes(columns.id(DISTRICT, row)),
        school: SchoolId::from_bytes(columns.id(SCHOOL, row)),
        device: DeviceId::from_bytes(columns.id(DEVICE, row)),
        seq: columns.number::<UInt64Type>(SEQ, row),
        ts: UtcMillis(columns.number::<Int64Type>(TS, row)),
        received: UtcMillis(columns.number::<Int64Type>(RECEIVED, row)),
        offline: columns.flag(OFFLINE, row),
        person: columns.id_or_none(PERSON, row).map(PersonId::from_bytes),
        metric: batch.rows.column(METRIC).as_string::<i32>().value(row),
        value: columns.number::<Float64Type>(VALUE, row),
        offset: Offset(batch.first.0 + row as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_come_back_as_they_were() {
        let row = TelemetryRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            seq: 7,
            ts: UtcMillis(1),
            received: UtcMillis(2),
            offline: false,
            person: None,
            metric: "worn",
            value: 1.0,
            offset: Offset(0),
        };
        let rows =
            [row, TelemetryRow { person: Some(PersonId::from_bytes([4; 16])), metric: "steps", value: 14.5, offset: Offset(1), ..row }];
        assert_eq!(decode(&encode(&rows)).collect::<Vec<_>>(), rows);
    }
}
