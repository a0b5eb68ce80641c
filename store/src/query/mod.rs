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

/// A row about one of several days that were asked about, of each of which so many rows are listed and no more.
#[derive(Clone, Debug)]
pub struct Listed<Row> {
    /// Place of the day in the list that was given, from 0.
    pub place: usize,
    /// How many rows there are about the day, with those that are not listed.
    pub all: u64,
    pub row: Row,
}

/// How many rows a window counted.
fn all(row: &sqlx::postgres::PgRow) -> Result<u64, sqlx::Error> {
    use sqlx::Row;
    let all: i64 = row.try_get("rows_in_all")?;
    Ok(all.cast_unsigned())
}

/// The place in a list that was given with `unnest ... with ordinality`, from 0.
fn place(row: &sqlx::postgres::PgRow) -> Result<usize, sqlx::Error> {
    use sqlx::Row;
    let ordinal: i64 = row.try_get("place")?;
    Ok(usize::try_from(ordinal - 1).unwrap_or_default())
}
