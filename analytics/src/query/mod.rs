//! Any SQL over the hot tables and whatever else is registered, by people, for what they may see.
//!
//! # Promises
//! - A query sees the caller's district and, by role, the caller's schools, sections and students: as filters in the
//!   logical plan above every scan ([`scope`]). No text removes them.
//! - Only queries run: nothing is written, no file and no network address is read, no setting is changed
//!   ([`statement`]). No name of a person is in the engine.
//! - Roles without student-level rights get figures about groups only ([`privacy`]).
//! - Queries run on threads of their own with a lower priority than boards and intake. Each has limits on time, memory,
//!   disk and result ([`Limits`]); at one of them it ends with an error that says which, and the others go on. Operators
//!   that can, spill to disk first.
//! - Dropping the stream cancels the query.
//! - An error says where in the text it is, by line and column, and the nearest known name.

mod as_text;
mod blame;
mod caller;
mod cancel;
mod distinct;
mod engine;
mod error;
mod expressions;
pub mod ids;
mod job;
pub mod json;
mod limits;
pub mod live;
mod memory;
mod parameters;
mod patterns;
pub mod privacy;
mod reads;
mod scope;
mod session;
mod shown;
mod size;
mod source;
mod statement;
mod stream;
pub mod tables;
#[cfg(test)]
mod tests;
mod unnamed;

pub use caller::{Caller, GROUP_MIN, PrivacyKey};
pub use engine::{ColumnInfo, QueryEngine, TableInfo};
pub use error::{Bound, Place, QueryError};
pub use job::{Description, Lacks, Question};
pub use limits::{EngineConfig, Limits};
pub use privacy::GroupFigures;
pub(crate) use privacy::add_figures;
pub use reads::Read;
pub use session::Surroundings;
pub(crate) use session::{BATCH_ROWS, add_functions};
pub use source::{About, ScopeColumns, TableSource};
pub use stream::{QueryStream, RowKey};
