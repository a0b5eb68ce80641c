//! Sessions of browsers and drivers, and tokens of programs. Only the SHA-256 of a secret is stored.

use chrono::{DateTime, Utc};
use rollcall_model::ids::{AccountId, DistrictId, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::account::Role;
use crate::connection::Store;
use crate::error::StoreError;
use crate::secret::SecretHash;

/// How a session is presented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionKind {
    /// By a browser's cookie; slides with use.
    Cookie,
    /// By `Authorization: Bearer`; ends at a fixed time.
    Api,
    /// By a driver at the door through which it came in; slides with use and ends with its connection.
    Driver,
}

impl SessionKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Api => "api",
            Self::Driver => "driver",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        [Self::Cookie, Self::Api, Self::Driver].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A session that holds, with its account as it is now.
#[derive(Clone, Debug)]
pub struct Session {
    pub district: DistrictId,
    pub account: AccountId,
    pub kind: SessionKind,
    pub email: String,
    pub role: Role,
    pub person: Option<PersonId>,
    pub school: Option<SchoolId>,
    pub created: UtcMillis,
    pub seen: UtcMillis,
    pub expires: UtcMillis,
}

type Columns = (Uuid, Uuid, String, String, String, Option<Uuid>, Option<Uuid>, DateTime<Utc>, DateTime<Utc>, DateTime<Utc>);

/// The session of a token; `None` when there is none, it has expired, or its account is disabled.
pub async fn by_token(store: &Store, token_hash: &SecretHash) -> Result<Option<Session>, StoreError> {
    let row: Option<Columns> = sqlx::query_as(
        "select district, account, kind, email, role, person, school, created_at, seen_at, expires_at
         from rollcall.session_by_token($1)",
    )
    .bind(token_hash.as_slice())
    .fetch_optional(store.pool())
    .await?;
    Ok(row.and_then(|(district, account, kind, email, role, person, school, created, seen, expires)| {
        Some(Session {
            district: DistrictId(district),
            account: AccountId(account),
            kind: SessionKind::from_text(&kind)?,
            email,
            role: Role::from_text(&role)?,
            person: person.map(PersonId),
            school: school.map(SchoolId),
            created: UtcMillis::from_chrono(created),
            seen: UtcMillis::from_chrono(seen),
            expires: UtcMillis::from_chrono(expires),
        })
    }))
}

/// Begins a session and forgets the account's expired ones.
pub async fn create(
    connection: &mut PgConnection,
    district: DistrictId,
    token_hash: &SecretHash,
    account: AccountId,
    kind: SessionKind,
    expires: UtcMillis,
) -> Result<(), StoreError> {
    sqlx::query("delete from rollcall.session where account = $1 and expires_at <= now()")
        .bind(account.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("insert into rollcall.session (district, token_hash, account, kind, expires_at) values ($1, $2, $3, $4, $5)")
        .bind(district.0)
        .bind(token_hash.as_slice())
        .bind(account.0)
        .bind(kind.as_str())
        .bind(expires.to_chrono())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that a session was used and moves its end.
pub async fn slide(connection: &mut PgConnection, token_hash: &SecretHash, expires: UtcMillis) -> Result<(), StoreError> {
    sqlx::query("update rollcall.session set seen_at = now(), expires_at = $2 where token_hash = $1")
        .bind(token_hash.as_slice())
        .bind(expires.to_chrono())
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a session; false when it had ended.
pub async fn end(connection: &mut PgConnection, token_hash: &SecretHash) -> Result<bool, StoreError> {
    let done = sqlx::query("delete from rollcall.session where token_hash = $1").bind(token_hash.as_slice()).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

/// A program's token as its account sees it.
#[derive(Clone, Debug)]
pub struct ApiTokenRow {
    pub token_hash: Vec<u8>,
    pub created: UtcMillis,
    pub expires: UtcMillis,
}

/// The tokens of an account, newest first.
pub async fn api_tokens(connection: &mut PgConnection, account: AccountId) -> Result<Vec<ApiTokenRow>, StoreError> {
    let rows: Vec<(Vec<u8>, DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
        "select token_hash, created_at, expires_at from rollcall.session
         where account = $1 and kind = 'api' and expires_at > now() order by created_at desc, token_hash",
    )
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    let token = |(token_hash, created, expires)| ApiTokenRow {
        token_hash,
        created: UtcMillis::from_chrono(created),
        expires: UtcMillis::from_chrono(expires),
    };
    Ok(rows.into_iter().map(token).collect())
}
