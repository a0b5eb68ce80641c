//! One transaction of the sink.

use std::collections::HashSet;

use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset};
use sqlx::{Connection, PgConnection};

use super::encode::{CopyStream, DeadLetterRow, Gathered, MarkRow, date};
use crate::attendance::SINK as READER;
use crate::connection::{Engine, set_tenant};
use crate::error::StoreError;

/// Rows of one table from which a COPY is compressed at once. Fewer would make segments of a handful of rows; the
/// columnstore policy compresses those later.
const DIRECT_COMPRESS_ROWS_MIN: u64 = 1_000;

/// Bytes handed to the connection at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// What ends every COPY stream.
const TRAILER: [u8; 2] = [0xff, 0xff];

/// A connection of the sink's own. Dropped in the middle of a write it closes, and the server rolls back.
pub(super) struct Writer {
    connection: PgConnection,
    timescale: bool,
    /// Whether this server can compress while copying; asked once.
    direct_compress: Option<bool>,
    /// Partitions that are known to be there.
    partitions: HashSet<(Kind, i64)>,
}

impl Writer {
    pub fn new(connection: PgConnection, engine: &Engine) -> Self {
        let timescale = matches!(engine, Engine::Timescale { .. });
        Self { connection, timescale, direct_compress: None, partitions: HashSet::new() }
    }

    /// Writes the rows and moves the offset from `expected` to `next`; false, with nothing written, if it stood elsewhere.
    pub async fn write(&mut self, gathered: &Gathered, expected: Offset, next: Offset) -> Result<bool, StoreError> {
        if self.timescale {
            self.ask_direct_compress().await?;
        } else {
            self.create_partitions(gathered).await?;
        }
        let direct_compress = self.direct_compress == Some(true);
        let mut transaction = self.connection.begin().await?;
        let fence = sqlx::query("update rollcall.consumer_offset set next = $3 where reader = $1 and next = $2")
            .bind(READER)
            .bind(expected.0.cast_signed())
            .bind(next.0.cast_signed())
            .execute(&mut *transaction)
            .await?;
        if fence.rows_affected() != 1 {
            return Ok(false);
        }
        for (kind, stream) in gathered.copies() {
            if direct_compress {
                let setting = if stream.rows >= DIRECT_COMPRESS_ROWS_MIN { "on" } else { "off" };
                sqlx::query("select set_config('timescaledb.enable_direct_compress_copy', $1, true)")
                    .bind(setting)
                    .execute(&mut *transaction)
                    .await?;
            }
            copy(&mut transaction, kind, stream).await?;
        }
        for (district, rows) in &gathered.marks {
            insert_marks(&mut transaction, *district, rows).await?;
        }
        for (district, rows) in &gathered.dead_letters {
            insert_dead_letters(&mut transaction, *district, rows).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    async fn ask_direct_compress(&mut self) -> Result<(), StoreError> {
        if self.direct_compress.is_none() {
            let text = "select exists (select from pg_settings where name = 'timescaledb.enable_direct_compress_copy')";
            self.direct_compress = Some(sqlx::query_scalar(text).fetch_one(&mut self.connection).await?);
        }
        Ok(())
    }

    /// Before the transaction, so that a long one never holds the lock that others need to create theirs.
    async fn create_partitions(&mut self, gathered: &Gathered) -> Result<(), StoreError> {
        for (kind, stream) in gathered.copies() {
            for day in &stream.days {
                if self.partitions.contains(&(kind, *day)) {
                    continue;
                }
                sqlx::query("select rollcall.create_event_partition($1, $2)")
                    .bind(table(kind))
                    .bind(date(i32::try_from(*day).unwrap_or_default()))
                    .execute(&mut self.connection)
                    .await?;
                self.partitions.insert((kind, *day));
            }
        }
        Ok(())
    }
}

fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => "scan",
        Kind::Telemetry => "telemetry",
        Kind::Activity => "activity",
        Kind::Status => "device_status",
        Kind::Mark => "mark",
        Kind::DeadLetter => "dead_letter",
    }
}

/// The columns are named, so that a table that gains one still takes what this program writes.
fn copy_statement(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => {
            "copy event.scan (district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset)
             from stdin (format binary)"
        }
        Kind::Telemetry => {
            "copy event.telemetry (district, school, device, seq, ts, received, offline, person, metric, value, log_offset)
             from stdin (format binary)"
        }
        Kind::Activity => {
            "copy event.activity (district, school, device, seq, ts, received, offline, person, kind, resource, section, dur_ms, log_offset)
             from stdin (format binary)"
        }
        _ => {
            "copy event.device_status (district, school, device, seq, ts, received, offline, battery, fw, queued, uptime_s, connected, log_offset)
             from stdin (format binary)"
        }
    }
}

async fn copy(connection: &mut PgConnection, kind: Kind, stream: &CopyStream) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(copy_statement(kind)).await?;
    for chunk in stream.bytes.chunks(CHUNK_BYTES) {
        copy.send(chunk).await?;
    }
    copy.send(TRAILER.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}

async fn insert_marks(connection: &mut PgConnection, district: DistrictId, rows: &[MarkRow]) -> Result<(), StoreError> {
    set_tenant(connection, district, None).await?;
    // A mark has one id for ever; an id that comes twice is the same statement said twice.
    sqlx::query(
        "insert into rollcall.mark (district, id, school, student, section, period, date, status, authority, author, reason, supersedes, at,
             recorded_at, log_offset)
         select $1, * from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::date[], $8::text[], $9::text[], $10::uuid[],
             $11::text[], $12::uuid[], $13::timestamptz[], $14::timestamptz[], $15::bigint[])
         on conflict do nothing",
    )
    .bind(district.0)
    .bind(rows.iter().map(|row| row.mark).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.school).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.student).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.section).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.period).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.date).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.status).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.authority).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.author).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.supersedes).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.recorded).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.offset).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_dead_letters(connection: &mut PgConnection, district: DistrictId, rows: &[DeadLetterRow]) -> Result<(), StoreError> {
    set_tenant(connection, district, None).await?;
    sqlx::query(
        "insert into rollcall.dead_letter (district, school, device, received, topic, seq, code, message, payload, log_offset)
         select $1, * from unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bytea[],
             $10::bigint[])",
    )
    .bind(district.0)
    .bind(rows.iter().map(|row| row.school).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.device).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.received).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.topic.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.code.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.message.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.offset).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
