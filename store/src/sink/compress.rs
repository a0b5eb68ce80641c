//! TimescaleDB's direct compression: rows of a COPY go into the columnstore at once. It falls back to rows with nothing but
//! a notice (for want of a licence, for a trigger or a unique constraint that somebody added), which the client library
//! does not show. So, now and then, the server's own count of the rows that a COPY inserted into uncompressed chunks is
//! looked at before and after, inside the transaction.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use crate::error::StoreError;

/// Rows of one table from which a COPY is compressed at once. Fewer would make segments of a handful of rows; the
/// columnstore policy compresses those later.
const ROWS_MIN: u64 = 1_000;

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// A compressed chunk stands beside its own chunk and has another name, so these are rows that lie in rows.
const INSERTED_AS_ROWS: &str = "select coalesce(sum(n_tup_ins), 0)::bigint from pg_stat_xact_user_tables
    where schemaname = '_timescaledb_internal' and relname like '\\_hyper\\_%\\_chunk'";

#[derive(Default)]
pub(super) struct DirectCompress {
    /// Whether this server can compress while copying; asked once.
    offered: Option<bool>,
    looked: Option<Instant>,
    fell_back: Option<bool>,
}

impl DirectCompress {
    /// `Some(true)`: the last COPY that was looked at wrote rows, though it was to be compressed.
    pub fn fell_back(&self) -> Option<bool> {
        self.fell_back
    }

    /// Outside a transaction, before the first.
    pub async fn ask(&mut self, connection: &mut PgConnection) -> Result<(), StoreError> {
        if self.offered.is_none() {
            let text = "select exists (select from pg_settings where name = 'timescaledb.enable_direct_compress_copy')";
            self.offered = Some(sqlx::query_scalar(text).fetch_one(connection).await?);
        }
        Ok(())
    }

    /// Chooses for the COPY of `rows` rows that follows; the count to compare with afterwards, when it is looked at.
    pub async fn before(&mut self, connection: &mut PgConnection, rows: u64) -> Result<Option<i64>, StoreError> {
        if self.offered != Some(true) {
            return Ok(None);
        }
        let compressed = rows >= ROWS_MIN;
        sqlx::query("select set_config('timescaledb.enable_direct_compress_copy', $1, true)")
            .bind(if compressed { "on" } else { "off" })
            .execute(&mut *connection)
            .await?;
        if !compressed || self.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL) {
            return Ok(None);
        }
        Ok(Some(sqlx::query_scalar(INSERTED_AS_ROWS).fetch_one(connection).await?))
    }

    pub async fn after(&mut self, connection: &mut PgConnection, before: Option<i64>, now: Instant) -> Result<(), StoreError> {
        let Some(before) = before else { return Ok(()) };
        let after: i64 = sqlx::query_scalar(INSERTED_AS_ROWS).fetch_one(connection).await?;
        self.looked = Some(now);
        self.fell_back = Some(after > before);
        Ok(())
    }
}
