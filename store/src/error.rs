//! What can go wrong in the store, one variant for each thing a caller can do about it.

use rollcall_model::ids::DistrictId;

use crate::vault::VaultError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or refuses work for now. Try again later; nothing is known to be wrong.
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// The database has not been prepared by [`crate::Store::migrate`].
    #[error("the database has not been migrated; run `rollcall migrate` with a role that may create roles and schemas")]
    NotMigrated,
    #[error("the migrations failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Nothing has this name or id.
    #[error("no {what} {wanted:?}")]
    NotFound { what: &'static str, wanted: String },
    /// Several things answer to this name; say which one.
    #[error("several {what}: {choices}; say which one")]
    Ambiguous { what: &'static str, choices: String },
    /// It exists already. `constraint` is the database's name for what must be unique.
    #[error("it exists already ({constraint})")]
    Conflict { constraint: String },
    /// What the caller gave cannot be stored; the message is for the person who gave it.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A row that this program cannot have written, or was written by a newer one.
    #[error("district {district}: {what} cannot be read: {reason}")]
    Unreadable { district: DistrictId, what: &'static str, reason: String },
    /// Everything else is a defect in a statement or the schema.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(crate) fn not_found(what: &'static str, wanted: impl ToString) -> Self {
        Self::NotFound { what, wanted: wanted.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        match &error {
            Io(_) | PoolClosed | PoolTimedOut | Protocol(_) | Tls(_) | WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(cause) => match cause.code().as_deref() {
                Some("23505") => Self::Conflict { constraint: cause.constraint().unwrap_or("unique").to_owned() },
                Some("3F000" | "42883" | "42P01") => Self::NotMigrated,
                Some(code) if is_transient_code(code) => Self::Unavailable(error),
                _ => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// Connection failures, shutdown and start of the server, exhausted resources, a read-only standby, lost races.
fn is_transient_code(code: &str) -> bool {
    matches!(code, "25006" | "40001" | "40P01" | "55P03") || ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}
