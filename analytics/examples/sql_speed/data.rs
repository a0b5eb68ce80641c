//! A district of a hundred schools of thirty sections of twenty students: 60,000 who wear something and learn with something.

use rollcall_model::event::ActivityKind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PersonId, SchoolId, SectionId};
use rollcall_model::time::UtcMillis;
use rollcall_stream::EventBatch;
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::telemetry::{self, TelemetryRow};

pub const SCHOOLS: u64 = 100;
pub const SECTIONS_OF_A_SCHOOL: u64 = 30;
pub const STUDENTS_OF_A_SECTION: u64 = 20;
pub const STUDENTS: u64 = SCHOOLS * SECTIONS_OF_A_SCHOOL * STUDENTS_OF_A_SECTION;

/// 2026-03-02, a Monday, midnight UTC.
pub const START_MS: i64 = 1_772_409_600_000;
pub const DAY_MS: i64 = 86_400_000;

const METRICS: [&str; 4] = ["steps", "worn", "battery", "pulse"];
const RESOURCES: [&str; 5] = ["reader", "quiz:fractions", "quiz:history", "video:cells", "notes"];

/// Bytes that look random, as those of real ids do.
fn bytes(kind: u64, number: u64) -> [u8; 16] {
    let mix = |value: u64| {
        let value = (value ^ (value >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
        (value ^ (value >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d)
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number.wrapping_mul(31).wrapping_add(kind << 48)).to_be_bytes());
    bytes[8..].copy_from_slice(&mix(number.wrapping_mul(17).wrapping_add(kind << 40)).to_be_bytes());
    bytes
}

pub fn district() -> DistrictId {
    DistrictId::from_bytes(bytes(1, 0))
}
pub fn school(number: u64) -> SchoolId {
    SchoolId::from_bytes(bytes(2, number))
}
pub fn section(number: u64) -> SectionId {
    SectionId::from_bytes(bytes(3, number))
}
pub fn person(number: u64) -> PersonId {
    PersonId::from_bytes(bytes(4, number))
}
pub fn device(number: u64) -> DeviceId {
    DeviceId::from_bytes(bytes(5, number))
}

fn school_of(student: u64) -> SchoolId {
    school(student / (SECTIONS_OF_A_SCHOOL * STUDENTS_OF_A_SECTION))
}

/// Whoever comes next: students in an order that has nothing to do with their schools.
fn student_at(row: u64) -> u64 {
    row.wrapping_mul(7_919).wrapping_add(row / STUDENTS) % STUDENTS
}

/// Readings `rows` of a stream that has `per_day` of them in six hours of each day.
pub fn readings(rows: std::ops::Range<u64>, per_day: u64) -> EventBatch {
    let row = |row: u64| {
        let student = student_at(row);
        let ms = DAY_MS * (row / per_day) as i64 + 8 * 3_600_000 + (row % per_day * 6 * 3_600_000 / per_day) as i64;
        let ts = UtcMillis(START_MS + ms);
        TelemetryRow {
            district: district(),
            school: school_of(student),
            device: device(student),
            seq: row,
            ts,
            received: ts.plus_ms(40),
            offline: row.is_multiple_of(50),
            person: Some(person(student)),
            metric: METRICS[(row / STUDENTS % 4) as usize],
            value: (row % 997) as f64,
            offset: Offset(0),
        }
    };
    telemetry::encode(&rows.map(row).collect::<Vec<_>>())
}

/// The same without those of a school.
pub fn acts_without(rows: std::ops::Range<u64>, all: u64, school: u64) -> EventBatch {
    let of_others = |row: &u64| student_at(*row) / (SECTIONS_OF_A_SCHOOL * STUDENTS_OF_A_SECTION) != school;
    encode_acts(rows.filter(of_others), all)
}

/// Acts `rows` of the last six hours, of which there are `all`.
pub fn acts(rows: std::ops::Range<u64>, all: u64) -> EventBatch {
    encode_acts(rows, all)
}

fn encode_acts(rows: impl Iterator<Item = u64>, all: u64) -> EventBatch {
    let row = |row: u64| {
        let student = student_at(row);
        let ts = UtcMillis(START_MS + 8 * 3_600_000 + (row as i128 * 6 * 3_600_000 / all as i128) as i64);
        ActivityRow {
            district: district(),
            school: school_of(student),
            device: device(student),
            seq: row,
            ts,
            received: ts.plus_ms(40),
            offline: row.is_multiple_of(50),
            person: person(student),
            kind: ActivityKind::ALL[(row % ActivityKind::ALL.len() as u64) as usize],
            resource: RESOURCES[(student % 5) as usize],
            section: Some(section(student / STUDENTS_OF_A_SECTION)),
            dur_ms: Some((row % 5_003) as i64),
            offset: Offset(0),
        }
    };
    activity::encode(&rows.map(row).collect::<Vec<_>>())
}
