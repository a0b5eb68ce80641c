//! Names of people, opened for those who may see them.

use std::collections::HashMap;

use rollcall_model::ids::{DistrictId, PersonId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::StoreError;
use crate::vault::{PersonName, Vault};

/// The names of these people; who is not there is missing.
pub async fn names(
    connection: &mut PgConnection,
    vault: &Vault,
    district: DistrictId,
    people: &[PersonId],
) -> Result<HashMap<PersonId, PersonName>, StoreError> {
    if people.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = people.iter().map(|person| person.0).collect();
    type Columns = (Uuid, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Columns> = sqlx::query_as("select id, given_sealed, family_sealed from rollcall.person where id = any($1)")
        .bind(&ids)
        .fetch_all(connection)
        .await?;
    let mut names = HashMap::with_capacity(rows.len());
    for (id, given, family) in rows {
        let person = PersonId(id);
        names.insert(person, vault.open_name(district, person, given.as_deref(), family.as_deref())?);
    }
    Ok(names)
}
