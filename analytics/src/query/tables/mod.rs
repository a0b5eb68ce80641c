//! The tables that the engine has: events, the directory's structure, facts, engagement and the statuses of now, none with
//! a name of a person.

mod attendance_now;
mod directory;
mod engagement;
mod events;
mod facts;
mod saves;

pub use attendance_now::attendance_now;
pub use directory::directory_tables;
pub use engagement::engagement_tables;
pub use events::event_tables;
#[cfg(test)]
pub(crate) use facts::views_of;
pub use facts::{facts_tables, facts_views};
pub use saves::Saves;
