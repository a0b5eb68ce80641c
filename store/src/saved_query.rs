//! Saved questions: a text in SQL and how its answer is shown, of one account, shared within the district or not.
//!
//! Every function works in the caller's tenant transaction. A question that is neither the caller's nor shared does not
//! exist for the caller. A change names the version that it was made of; a change of an older one is refused.

use chrono::{DateTime, Utc};
use rollcall_model::ids::{AccountId, DistrictId, SavedQueryId};
use rollcall_model::time::UtcMillis;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::error::StoreError;

/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 120;
/// Longest text, in bytes: what the query engine takes.
pub const SQL_BYTES_MAX: usize = 64 * 1024;
/// Largest view as the page writes it, in bytes. The database writes spaces into it and allows twice as much.
pub const VIEW_BYTES_MAX: usize = 4 * 1024;
/// Most questions of one account.
pub const PER_ACCOUNT_MAX: i64 = 500;

/// One saved question.
#[derive(Clone, Debug)]
pub struct SavedQuery {
    pub id: SavedQueryId,
    pub owner: AccountId,
    pub owner_email: String,
    pub title: String,
    pub sql: String,
    pub view: Value,
    pub shared: bool,
    pub version: i64,
    pub created: UtcMillis,
    pub updated: UtcMillis,
    /// By what a list is ordered: the title without case.
    pub sort: String,
}

/// What a question says.
#[derive(Clone, Debug)]
pub struct Content {
    pub title: String,
    pub sql: String,
    pub view: Value,
    pub shared: bool,
}

/// Parts of a question that change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub title: Option<String>,
    pub sql: Option<String>,
    pub view: Option<Value>,
    pub shared: Option<bool>,
}

/// What came of a wish to change or delete.
#[derive(Clone, Debug)]
pub enum Edited<T> {
    Done(T),
    /// There is none that the caller may see.
    NotFound,
    /// It is shared with the caller, and another's.
    NotOwner,
    /// It was changed meanwhile, to this version.
    Stale(i64),
    /// An export of it runs at this moment.
    Running,
}

const COLUMNS: &str =
    "q.id, q.owner, a.email, q.title, q.sql, q.view, q.shared, q.version, q.created_at, q.updated_at, lower(q.title) as sort";
const FROM: &str = "rollcall.saved_query q join rollcall.account a on a.district = q.district and a.id = q.owner";

/// The questions that the caller sees, own and shared, by title and id, after one of them.
pub async fn list(
    connection: &mut PgConnection,
    caller: AccountId,
    after: Option<&(String, SavedQueryId)>,
    limit: i64,
) -> Result<Vec<SavedQuery>, StoreError> {
    let statement = format!(
        "select {COLUMNS} from {FROM} where (q.owner = $1 or q.shared)
           and ($2::text is null or (lower(q.title) collate \"C\", q.id) > ($2 collate \"C\", $3::uuid))
         order by lower(q.title) collate \"C\", q.id limit $4"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(caller.0)
        .bind(after.map(|(sort, _)| sort.as_str()))
        .bind(after.map(|(_, id)| id.0))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(saved).collect()
}

/// One question that the caller sees.
pub async fn get(connection: &mut PgConnection, caller: AccountId, id: SavedQueryId) -> Result<Option<SavedQuery>, StoreError> {
    let statement = format!("select {COLUMNS} from {FROM} where q.id = $1 and (q.owner = $2 or q.shared)");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id.0).bind(caller.0).fetch_optional(connection).await?;
    row.as_ref().map(saved).transpose()
}

/// Saves a question of the caller; `None`: the account has [`PER_ACCOUNT_MAX`] already.
pub async fn create(
    connection: &mut PgConnection,
    district: DistrictId,
    caller: AccountId,
    content: &Content,
) -> Result<Option<SavedQuery>, StoreError> {
    let id = SavedQueryId::random();
    let done = sqlx::query(
        "insert into rollcall.saved_query (district, id, owner, title, sql, view, shared)
         select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from rollcall.saved_query where owner = $3) < $8",
    )
    .bind(district.0)
    .bind(id.0)
    .bind(caller.0)
    .bind(&content.title)
    .bind(&content.sql)
    .bind(&content.view)
    .bind(content.shared)
    .bind(PER_ACCOUNT_MAX)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(None);
    }
    get(connection, caller, id).await
}

/// Changes the caller's question if it still has this version.
pub async fn change(
    connection: &mut PgConnection,
    caller: AccountId,
    id: SavedQueryId,
    version: i64,
    change: &Change,
) -> Result<Edited<SavedQuery>, StoreError> {
    match owned(connection, caller, id).await? {
        Edited::Done(current) if current != version => return Ok(Edited::Stale(current)),
        Edited::Done(_) => {}
        Edited::NotOwner => return Ok(Edited::NotOwner),
        _ => return Ok(Edited::NotFound),
    }
    sqlx::query(
        "update rollcall.saved_query set title = coalesce($2, title), sql = coalesce($3, sql), view = coalesce($4, view),
                shared = coalesce($5, shared), version = version + 1, updated_at = now() where id = $1",
    )
    .bind(id.0)
    .bind(&change.title)
    .bind(&change.sql)
    .bind(&change.view)
    .bind(change.shared)
    .execute(&mut *connection)
    .await?;
    Ok(get(connection, caller, id).await?.map_or(Edited::NotFound, Edited::Done))
}

/// Deletes the caller's question with its exports. What was exported stays.
pub async fn delete(connection: &mut PgConnection, caller: AccountId, id: SavedQueryId) -> Result<Edited<()>, StoreError> {
    match owned(connection, caller, id).await? {
        Edited::Done(_) => {}
        Edited::NotOwner => return Ok(Edited::NotOwner),
        _ => return Ok(Edited::NotFound),
    }
    // A run holds the row of its schedule, and the caller must not wait as long as it takes.
    let free = sqlx::query("select id from rollcall.export_schedule where query = $1 for update skip locked")
        .bind(id.0)
        .fetch_all(&mut *connection)
        .await?;
    let all: i64 =
        sqlx::query_scalar("select count(*) from rollcall.export_schedule where query = $1").bind(id.0).fetch_one(&mut *connection).await?;
    if (free.len() as i64) < all {
        return Ok(Edited::Running);
    }
    sqlx::query("delete from rollcall.saved_query where id = $1").bind(id.0).execute(connection).await?;
    Ok(Edited::Done(()))
}

/// The version of the caller's question, whose row is locked until the transaction ends.
async fn owned(connection: &mut PgConnection, caller: AccountId, id: SavedQueryId) -> Result<Edited<i64>, StoreError> {
    let row: Option<(Uuid, i64)> =
        sqlx::query_as("select owner, version from rollcall.saved_query where id = $1 and (owner = $2 or shared) for update")
            .bind(id.0)
            .bind(caller.0)
            .fetch_optional(connection)
            .await?;
    Ok(match row {
        None => Edited::NotFound,
        Some((owner, _)) if owner != caller.0 => Edited::NotOwner,
        Some((_, version)) => Edited::Done(version),
    })
}

fn saved(row: &PgRow) -> Result<SavedQuery, StoreError> {
    let instant = |column: &str| row.try_get::<DateTime<Utc>, _>(column).map(UtcMillis::from_chrono);
    Ok(SavedQuery {
        id: SavedQueryId(row.try_get("id")?),
        owner: AccountId(row.try_get("owner")?),
        owner_email: row.try_get("email")?,
        title: row.try_get("title")?,
        sql: row.try_get("sql")?,
        view: row.try_get("view")?,
        shared: row.try_get("shared")?,
        version: row.try_get("version")?,
        created: instant("created_at")?,
        updated: instant("updated_at")?,
        sort: row.try_get("sort")?,
    })
}
