//! One transaction of the sink.

use std::collections::HashSet;

use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset};
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::columns::date;
use super::compress::DirectCompress;
use super::encode::CopyStream;
use super::gathered::Gathered;
use super::rows::{DeadLetterRow, MarkRow};
use crate::attendance::SINK as READER;
use crate::connection::{Engine, set_tenant};
use crate::error::StoreError;

/// Bytes handed to the connection at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// What ends every COPY stream.
const TRAILER: [u8; 2] = [0xff, 0xff];

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Committed,
    /// The offset stood elsewhere. Nothing was written.
    FenceLost,
    /// The transaction before it failed. Nothing was written.
    GivenUp,
}

/// A connection of the sink's own. Dropped in the middle of a write it closes, and the server rolls back.
pub(super) struct Writer {
    connection: PgConnection,
    /// With TimescaleDB only.
    compress: Option<DirectCompress>,
    /// Partitions that are known to be there.
    partitions: HashSet<(Kind, i64)>,
}

impl Writer {
    pub fn new(connection: PgConnection, engine: &Engine) -> Self {
        let compress = matches!(engine, Engine::Timescale { .. }).then(DirectCompress::default);
        Self { connection, compress, partitions: HashSet::new() }
    }

    /// Whether rows that could have been compressed at once lie in rows; `None` while nothing is known.
    pub fn compress_fell_back(&self) -> Option<bool> {
        self.compress.as_ref().and_then(DirectCompress::fell_back)
    }

    /// Writes the rows and moves the offset from `expected` to `next`.
    ///
    /// Until `turn` comes, which is when the transaction before has committed, it only appends to partitions that are
    /// there, so that it holds nothing that the one before could wait for.
    pub async fn write(
        &mut self,
        gathered: &Gathered,
        expected: Offset,
        next: Offset,
        turn: oneshot::Receiver<()>,
    ) -> Result<Outcome, StoreError> {
        self.create_partitions(gathered).await?;
        if let Some(compress) = &mut self.compress {
            compress.ask(&mut self.connection).await?;
        }
        let mut transaction = self.connection.begin().await?;
        for stream in gathered.streams().iter().filter(|stream| stream.rows > 0) {
            match &mut self.compress {
                Some(compress) => {
                    let before = compress.before(&mut transaction, stream.rows).await?;
                    copy(&mut transaction, stream).await?;
                    compress.after(&mut transaction, before, Instant::now()).await?;
                }
                None => copy(&mut transaction, stream).await?,
            }
        }
        if turn.await.is_err() {
            return Ok(Outcome::GivenUp);
        }
        for (district, rows) in &gathered.tables.marks {
            insert_marks(&mut transaction, *district, rows).await?;
        }
        for (district, rows) in &gathered.tables.dead_letters {
            insert_dead_letters(&mut transaction, *district, rows).await?;
        }
        let fence = sqlx::query("update rollcall.consumer_offset set next = $3 where reader = $1 and next = $2")
            .bind(READER)
            .bind(expected.0.cast_signed())
            .bind(next.0.cast_signed())
            .execute(&mut *transaction)
            .await?;
        if fence.rows_affected() != 1 {
            return Ok(Outcome::FenceLost);
        }
        transaction.commit().await?;
        Ok(Outcome::Committed)
    }

    /// Before the transaction, so that a long one never holds the lock that others need to create theirs.
    async fn create_partitions(&mut self, gathered: &Gathered) -> Result<(), StoreError> {
        for stream in gathered.streams() {
            let Some(day) = stream.day else { continue };
            if self.partitions.contains(&(stream.kind, day)) {
                continue;
            }
            sqlx::query("select rollcall.create_event_partition($1, $2)")
                .bind(table(stream.kind))
                .bind(date(i32::try_from(day).unwrap_or_default()))
                .execute(&mut self.connection)
                .await?;
            self.partitions.insert((stream.kind, day));
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
fn columns(kind: Kind) -> &'static str {
    match kind {
        Kind::Scan => "district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset",
        Kind::Telemetry => "district, school, device, seq, ts, received, offline, person, metric, value, log_offset",
        Kind::Activity => "district, school, device, seq, ts, received, offline, person, kind, resource, section, dur_ms, log_offset",
        _ => "district, school, device, seq, ts, received, offline, battery, fw, queued, uptime_s, connected, log_offset",
    }
}

/// Rows of one day go straight into its partition, whose check of the day costs less than finding it for every row.
fn copy_statement(stream: &CopyStream) -> String {
    let (table, columns) = (table(stream.kind), columns(stream.kind));
    let partition = stream.day.map(|day| date(i32::try_from(day).unwrap_or_default()).format("_%Y%m%d").to_string());
    format!("copy event.{table}{} ({columns}) from stdin (format binary)", partition.unwrap_or_default())
}

async fn copy(connection: &mut PgConnection, stream: &CopyStream) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(&copy_statement(stream)).await?;
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
