//! Who did what, append-only. The database fills in the account from the transaction's caller. Never a name.

use chrono::{DateTime, Utc};
use rollcall_model::ids::{AccountId, DistrictId};
use rollcall_model::time::UtcMillis;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;

/// One row of the audit.
#[derive(Clone, Debug)]
pub struct AuditRow {
    pub id: i64,
    pub at: UtcMillis,
    /// `None`: the command line or the program itself.
    pub account: Option<AccountId>,
    pub action: String,
    pub subject: Option<String>,
    pub detail: Value,
}

/// Writes a row in the transaction of what it is about, on behalf of the transaction's caller.
pub async fn record(
    connection: &mut PgConnection,
    district: DistrictId,
    action: &str,
    subject: Option<&str>,
    detail: Value,
) -> Result<(), StoreError> {
    sqlx::query(
        "insert into rollcall.audit (district, account, action, subject, detail) values ($1, rollcall.current_caller(), $2, $3, $4)",
    )
    .bind(district.0)
    .bind(action)
    .bind(subject)
    .bind(detail)
    .execute(connection)
    .await?;
    Ok(())
}

/// Which rows of the audit.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub account: Option<AccountId>,
    pub subject: Option<String>,
    pub action: Option<String>,
    /// Only rows before this one.
    pub before: Option<i64>,
}

/// Newest first.
pub async fn list(connection: &mut PgConnection, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
    type Columns = (i64, DateTime<Utc>, Option<Uuid>, String, Option<String>, Value);
    let rows: Vec<Columns> = sqlx::query_as(
        "select id, at, account, action, subject, detail from rollcall.audit
         where ($1::uuid is null or account = $1) and ($2::text is null or subject = $2)
           and ($3::text is null or action = $3) and ($4::bigint is null or id < $4)
         order by id desc limit $5",
    )
    .bind(filter.account.map(|account| account.0))
    .bind(&filter.subject)
    .bind(&filter.action)
    .bind(filter.before)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let row = |(id, at, account, action, subject, detail): Columns| AuditRow {
        id,
        at: UtcMillis::from_chrono(at),
        account: account.map(AccountId),
        action,
        subject,
        detail,
    };
    Ok(rows.into_iter().map(row).collect())
}
