//! Status rows: heartbeats of devices, and the gateway's word on their connecting and disconnecting.

use std::sync::Arc;

use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use rollcall_model::event::Kind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, SchoolId};
use rollcall_model::time::UtcMillis;

use crate::EventBatch;
use crate::column::{self, rows_of};
use crate::schema::{COMMON, DEVICE, DISTRICT, RECEIVED, SCHOOL, SEQ, TS};

const BATTERY: usize = COMMON;
const FW: usize = COMMON + 1;
const QUEUED: usize = COMMON + 2;
const UPTIME_S: usize = COMMON + 3;
const CONNECTED: usize = COMMON + 4;

/// One status row.
#[derive(Clone, PartialEq, Debug)]
pub struct HeartbeatRow {
    pub district: DistrictId,
    pub school: SchoolId,
    pub device: DeviceId,
    pub seq: u64,
    pub ts: UtcMillis,
    pub received: UtcMillis,
    /// 0 to 1.
    pub battery: Option<f64>,
    pub fw: Option<String>,
    /// Events that wait in the device.
    pub queued: Option<i64>,
    pub uptime_s: Option<i64>,
    /// True at CONNECT and false at disconnect, both written by the gateway; `None` in a device's own heartbeat.
    pub connected: Option<bool>,
    /// Its place in the log; given by the log, ignored by [`encode`].
    pub offset: Offset,
}

/// A batch of status rows in the order given. None of them is marked as having waited in a device's queue.
pub fn encode(rows: &[HeartbeatRow]) -> EventBatch {
    column::batch(
        Kind::Status,
        vec![
            column::ids(rows.iter().map(|row| Some(row.district.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.school.as_bytes()))),
            column::ids(rows.iter().map(|row| Some(row.device.as_bytes()))),
            Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.seq))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.ts.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.received.0))),
            Arc::new(BooleanArray::from(vec![false; rows.len()])),
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.battery))),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.fw.as_deref()))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.queued))),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.uptime_s))),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.connected))),
        ],
    )
}

/// The status rows of a batch in its order; none for a batch of another kind.
pub fn decode(batch: &EventBatch) -> impl Iterator<Item = HeartbeatRow> + '_ {
    let (columns, rows) = rows_of(batch, Kind::Status);
    rows.map(move |row| HeartbeatRow {
        district: DistrictId::from_bytes(columns.id(DISTRICT, row)),
        school: SchoolId::from_bytes(columns.id(SCHOOL, row)),
        device: DeviceId::from_bytes(columns.id(DEVICE, row)),
        seq: columns.number::<UInt64Type>(SEQ, row),
        ts: UtcMillis(columns.number::<Int64Type>(TS, row)),
        received: UtcMillis(columns.number::<Int64Type>(RECEIVED, row)),
        battery: columns.number_or_none::<Float64Type>(BATTERY, row),
        fw: columns.text_or_none(FW, row),
        queued: columns.number_or_none::<Int64Type>(QUEUED, row),
        uptime_s: columns.number_or_none::<Int64Type>(UPTIME_S, row),
        connected: columns.flag_or_none(CONNECTED, row),
        offset: Offset(batch.first.0 + row as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_come_back_as_they_were() {
        let full = HeartbeatRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([3; 16]),
            seq: 9,
            ts: UtcMillis(10),
            received: UtcMillis(11),
            battery: Some(0.61),
            fw: Some("2.4.1".to_owned()),
            queued: Some(0),
            uptime_s: Some(86_120),
            connected: Some(false),
            offset: Offset(0),
        };
        let (battery, fw, queued, uptime_s, connected) = (None, None, None, None, None);
        let empty = HeartbeatRow { battery, fw, queued, uptime_s, connected, offset: Offset(1), ..full.clone() };
        let rows = [full, empty];
        assert_eq!(decode(&encode(&rows)).collect::<Vec<_>>(), rows);
    }
}
