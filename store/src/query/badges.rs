//! Badges without their tokens: whose, since when, revoked or not.

use chrono::{DateTime, Utc};
use rollcall_model::ids::{BadgeId, PersonId};
use rollcall_model::time::UtcMillis;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;

#[derive(Clone, Debug)]
pub struct BadgeRow {
    pub id: BadgeId,
    pub person: PersonId,
    pub issued: UtcMillis,
    pub revoked: Option<UtcMillis>,
}

type Columns = (Uuid, Uuid, DateTime<Utc>, Option<DateTime<Utc>>);

fn row((id, person, issued, revoked): Columns) -> BadgeRow {
    BadgeRow {
        id: BadgeId(id),
        person: PersonId(person),
        issued: UtcMillis::from_chrono(issued),
        revoked: revoked.map(UtcMillis::from_chrono),
    }
}

/// The badges of these people in order of their ids, after one of them.
pub async fn list(
    connection: &mut PgConnection,
    people: &[PersonId],
    after: Option<BadgeId>,
    limit: i64,
) -> Result<Vec<BadgeRow>, StoreError> {
    let people: Vec<Uuid> = people.iter().map(|person| person.0).collect();
    let rows: Vec<Columns> = sqlx::query_as(
        "select id, person, issued_at, revoked_at from rollcall.badge
         where person = any($1) and ($2::uuid is null or id > $2) order by id limit $3",
    )
    .bind(people)
    .bind(after.map(|id| id.0))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(row).collect())
}

/// One badge.
pub async fn find(connection: &mut PgConnection, id: BadgeId) -> Result<Option<BadgeRow>, StoreError> {
    let found: Option<Columns> = sqlx::query_as("select id, person, issued_at, revoked_at from rollcall.badge where id = $1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    Ok(found.map(row))
}

/// Revokes a badge; one that is revoked stays as it was. `None`: there is no such badge.
pub async fn revoke(connection: &mut PgConnection, id: BadgeId) -> Result<Option<BadgeRow>, StoreError> {
    let found: Option<Columns> = sqlx::query_as(
        "update rollcall.badge set revoked_at = coalesce(revoked_at, now()) where id = $1
         returning id, person, issued_at, revoked_at",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    Ok(found.map(row))
}
