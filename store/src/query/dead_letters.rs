//! Payloads that were acknowledged but refused.

use chrono::{DateTime, Utc};
use rollcall_model::ids::{DeviceId, SchoolId};
use rollcall_model::time::UtcMillis;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;

#[derive(Clone, Debug)]
pub struct DeadLetterRow {
    pub id: i64,
    pub school: Option<SchoolId>,
    pub device: DeviceId,
    pub received: UtcMillis,
    pub topic: String,
    pub seq: Option<i64>,
    pub code: String,
    pub message: String,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    pub device: Option<DeviceId>,
    pub code: Option<String>,
    /// Only rows before this one.
    pub before: Option<i64>,
}

/// Newest first, each payload cut to `payload_bytes_max`.
pub async fn list(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
    payload_bytes_max: i32,
    limit: i64,
) -> Result<Vec<DeadLetterRow>, StoreError> {
    type Columns = (i64, Option<Uuid>, Uuid, DateTime<Utc>, String, Option<i64>, String, String, Vec<u8>);
    let rows: Vec<Columns> = sqlx::query_as(
        "select id, school, device, received, topic, seq, code, message, substring(payload from 1 for $4)
         from rollcall.dead_letter
         where ($1::uuid is null or device = $1) and ($2::text is null or code = $2) and ($3::bigint is null or id < $3)
         order by id desc limit $5",
    )
    .bind(filter.device.map(|device| device.0))
    .bind(&filter.code)
    .bind(filter.before)
    .bind(payload_bytes_max)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let row = |(id, school, device, received, topic, seq, code, message, payload): Columns| DeadLetterRow {
        id,
        school: school.map(SchoolId),
        device: DeviceId(device),
        received: UtcMillis::from_chrono(received),
        topic,
        seq,
        code,
        message,
        payload,
    };
    Ok(rows.into_iter().map(row).collect())
}
