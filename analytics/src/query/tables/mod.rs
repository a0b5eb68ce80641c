//! The tables that the engine has by itself: the hot events and the directory's structure, none with a name of a person.

mod directory;
mod hot;

pub use directory::directory_tables;
pub use hot::hot_tables;
