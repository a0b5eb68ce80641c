//! What the API reads, and the few rows it writes, each in a transaction of the caller's district.
//!
//! Every function takes the connection of a [`crate::Tenant`]; without one it sees no rows.

pub mod arrivals;
pub mod badges;
pub mod dead_letters;
pub mod devices;
pub mod marks;
pub mod names;
pub mod reports;
pub mod rollups;
pub mod statuses;

/// The place in a list that was given with `unnest ... with ordinality`, from 0.
fn place(row: &sqlx::postgres::PgRow) -> Result<usize, sqlx::Error> {
    use sqlx::Row;
    let ordinal: i64 = row.try_get("place")?;
    Ok(usize::try_from(ordinal - 1).unwrap_or_default())
}
