//! Retention of the rollups: a date at a time, so that no transaction grows with what has gathered.

use chrono::NaiveDate;
use rollcall_model::ids::DistrictId;

use crate::connection::Store;
use crate::error::StoreError;

/// For each rollup: its oldest date before another, and deleting it.
const STATEMENTS: [(&str, &str); 2] = [
    ("select min(date) from rollcall.device_day where date < $1", "delete from rollcall.device_day where date = $1"),
    ("select min(date) from rollcall.student_day where date < $1", "delete from rollcall.student_day where date = $1"),
];

/// Deletes the rows of a district whose date is before `first_kept` and says how many. May be interrupted and repeated.
pub(crate) async fn expire(store: &Store, district: DistrictId, first_kept: NaiveDate) -> Result<u64, StoreError> {
    let mut rows = 0;
    for (oldest, delete) in STATEMENTS {
        loop {
            let mut tenant = store.tenant(district).await?;
            let date: Option<NaiveDate> = sqlx::query_scalar(oldest).bind(first_kept).fetch_one(&mut *tenant).await?;
            let Some(date) = date else { break };
            rows += sqlx::query(delete).bind(date).execute(&mut *tenant).await?.rows_affected();
            tenant.commit().await?;
        }
    }
    Ok(rows)
}
