//! Everything that is PostgreSQL: the private server, tenancy, the directory, the sink, and every SQL statement.

pub mod admin;
pub mod attendance;
mod connection;
pub mod directory;
pub mod embedded;
mod error;
pub mod maintenance;
mod migrate;
pub mod password;
pub mod roster;
pub mod secret;
pub mod sink;
pub mod vault;

pub use connection::{DatabaseConfig, Engine, Retention, Store, Tenant};
pub use error::StoreError;
