//! Everything that is PostgreSQL: the private server, tenancy, the directory, the sink, and every SQL statement.

pub mod account;
pub mod admin;
pub mod attendance;
pub mod audit;
mod connection;
pub mod directory;
pub mod embedded;
mod embedded_size;
pub mod engagement;
pub mod erasure;
mod error;
pub mod export;
pub mod idempotency;
pub mod maintenance;
mod migrate;
pub mod password;
pub mod query;
pub mod rollup;
pub mod roster;
pub mod saved_query;
pub mod secret;
pub mod session;
pub mod sink;
pub mod vault;

pub use connection::{DatabaseConfig, Engine, Retention, Store, Tenant};
pub use error::StoreError;
