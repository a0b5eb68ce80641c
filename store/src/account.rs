//! Accounts as the API needs them: credentials for a sign-in, the list for IT staff, disabling.

use std::fmt;

use rollcall_model::ids::{AccountId, DistrictId, PersonId, SchoolId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::connection::Store;
use crate::error::StoreError;

/// What an account may do is decided by its role and whom or what it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Teacher,
    Office,
    Analyst,
    Guardian,
    It,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Teacher, Self::Office, Self::Analyst, Self::Guardian, Self::It];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Teacher => "teacher",
            Self::Office => "office",
            Self::Analyst => "analyst",
            Self::Guardian => "guardian",
            Self::It => "it",
        }
    }

    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// What a sign-in is checked against.
#[derive(Clone)]
pub struct Credentials {
    pub district: DistrictId,
    pub account: AccountId,
    /// Argon2id PHC string; `None`: may not sign in by password.
    pub password_hash: Option<String>,
    pub disabled: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("account", &self.account).field("password_hash", &"[redacted]").finish_non_exhaustive()
    }
}

/// The account with this e-mail address in whichever district; case does not matter.
pub async fn credentials(store: &Store, email: &str) -> Result<Option<Credentials>, StoreError> {
    let row: Option<(Uuid, Uuid, Option<String>, bool)> =
        sqlx::query_as("select district, account, password_hash, disabled from rollcall.account_by_email($1)")
            .bind(email.to_lowercase())
            .fetch_optional(store.pool())
            .await?;
    Ok(row.map(|(district, account, password_hash, disabled)| Credentials {
        district: DistrictId(district),
        account: AccountId(account),
        password_hash,
        disabled,
    }))
}

/// An account as IT staff see it.
#[derive(Clone, Debug)]
pub struct AccountRow {
    pub id: AccountId,
    pub email: String,
    pub role: Role,
    pub person: Option<PersonId>,
    pub school: Option<SchoolId>,
    pub disabled: bool,
}

type Columns = (Uuid, String, String, Option<Uuid>, Option<Uuid>, bool);

/// Accounts in order of their e-mail address, after one of them.
pub async fn list(connection: &mut PgConnection, after: &str, limit: i64) -> Result<Vec<AccountRow>, StoreError> {
    let rows: Vec<Columns> =
        sqlx::query_as("select id, email, role, person, school, disabled from rollcall.account where email > $1 order by email limit $2")
            .bind(after)
            .bind(limit)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().filter_map(row).collect())
}

/// Disables an account and ends its sessions, or enables it again. `None`: there is no such account.
pub async fn set_disabled(connection: &mut PgConnection, id: AccountId, disabled: bool) -> Result<Option<AccountRow>, StoreError> {
    let found: Option<Columns> =
        sqlx::query_as("update rollcall.account set disabled = $2 where id = $1 returning id, email, role, person, school, disabled")
            .bind(id.0)
            .bind(disabled)
            .fetch_optional(&mut *connection)
            .await?;
    if disabled {
        sqlx::query("delete from rollcall.session where account = $1").bind(id.0).execute(connection).await?;
    }
    Ok(found.and_then(row))
}

/// Rows with a role of a newer program are left out.
fn row((id, email, role, person, school, disabled): Columns) -> Option<AccountRow> {
    let role = Role::from_text(&role)?;
    Some(AccountRow { id: AccountId(id), email, role, person: person.map(PersonId), school: school.map(SchoolId), disabled })
}
