//! Answers already given to writes that carried an `Idempotency-Key`, kept a day.
//!
//! A key is reserved before the work begins and gets its answer afterwards. A reservation whose work never ended (the
//! process was killed) is given to the next caller after [`RESERVED_MAX_S`]; whether the first attempt had its effect
//! is then unknown, as it is for any request without an answer.

use rollcall_model::ids::{AccountId, DistrictId};
use sqlx::PgConnection;

use crate::error::StoreError;
use crate::secret::SecretHash;

/// Seconds after which a reservation without an answer is taken to be abandoned; longer than any write takes.
pub const RESERVED_MAX_S: f64 = 60.0;

/// Hours that an answer is kept.
pub const KEPT_H: f64 = 24.0;

/// Status of a reservation that has no answer yet.
const IN_PROGRESS: i32 = 0;

/// What is known of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reservation {
    /// The caller does the work and then calls [`finish`] or [`release`].
    Mine,
    /// The same request was answered before.
    Answered { status: u16, response: Vec<u8> },
    /// The same request is being worked on.
    InProgress,
    /// The key was used for another request.
    OtherRequest,
}

/// Reserves a key for a request, given by the hash of what it says.
pub async fn reserve(
    connection: &mut PgConnection,
    district: DistrictId,
    account: AccountId,
    key: &str,
    request: &SecretHash,
) -> Result<Reservation, StoreError> {
    sqlx::query(
        "delete from rollcall.idempotency where account = $1 and (created_at < now() - make_interval(secs => $2 * 3600)
         or (key = $3 and status = $4 and created_at < now() - make_interval(secs => $5)))",
    )
    .bind(account.0)
    .bind(KEPT_H)
    .bind(key)
    .bind(IN_PROGRESS)
    .bind(RESERVED_MAX_S)
    .execute(&mut *connection)
    .await?;
    let reserved = sqlx::query(
        "insert into rollcall.idempotency (district, account, key, request, status, response)
         values ($1, $2, $3, $4, $5, '') on conflict do nothing",
    )
    .bind(district.0)
    .bind(account.0)
    .bind(key)
    .bind(request.as_slice())
    .bind(IN_PROGRESS)
    .execute(&mut *connection)
    .await?;
    if reserved.rows_affected() == 1 {
        return Ok(Reservation::Mine);
    }
    let known: Option<(Vec<u8>, i32, Vec<u8>)> =
        sqlx::query_as("select request, status, response from rollcall.idempotency where account = $1 and key = $2")
            .bind(account.0)
            .bind(key)
            .fetch_optional(connection)
            .await?;
    Ok(match known {
        Some((known, _, _)) if known != request => Reservation::OtherRequest,
        Some((_, status, response)) if status != IN_PROGRESS => {
            Reservation::Answered { status: u16::try_from(status).unwrap_or(500), response }
        }
        // Released between the two statements, or being worked on: in both cases the caller tries again.
        _ => Reservation::InProgress,
    })
}

/// Keeps the answer of a reserved key.
pub async fn finish(connection: &mut PgConnection, account: AccountId, key: &str, status: u16, response: &[u8]) -> Result<(), StoreError> {
    sqlx::query("update rollcall.idempotency set status = $3, response = $4 where account = $1 and key = $2")
        .bind(account.0)
        .bind(key)
        .bind(i32::from(status))
        .bind(response)
        .execute(connection)
        .await?;
    Ok(())
}

/// Gives a reserved key back: nothing was done.
pub async fn release(connection: &mut PgConnection, account: AccountId, key: &str) -> Result<(), StoreError> {
    sqlx::query("delete from rollcall.idempotency where account = $1 and key = $2 and status = $3")
        .bind(account.0)
        .bind(key)
        .bind(IN_PROGRESS)
        .execute(connection)
        .await?;
    Ok(())
}
