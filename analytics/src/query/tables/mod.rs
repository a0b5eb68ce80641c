//! The tables that the engine has by itself: events and the directory's structure, none with a name of a person.

mod directory;
mod events;

pub use directory::directory_tables;
pub use events::event_tables;
