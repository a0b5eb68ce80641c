//! Changes of a device's registration, and when devices were last heard.

use rollcall_model::ids::DeviceId;
use sqlx::PgConnection;

use crate::error::StoreError;

/// Renames a device, disables or enables it; what is `None` stays. False: there is no such device.
pub async fn change(connection: &mut PgConnection, id: DeviceId, name: Option<&str>, disabled: Option<bool>) -> Result<bool, StoreError> {
    let done = sqlx::query("update rollcall.device set name = coalesce($2, name), disabled = coalesce($3, disabled) where id = $1")
        .bind(id.0)
        .bind(name)
        .bind(disabled)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}
