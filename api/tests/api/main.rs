//! The API against a real PostgreSQL, the real live state and an imported district: one program, so that it is linked once.

mod bodies;
mod desk;
mod doors;
mod engagement;
mod erasures;
mod explained;
mod following;
mod forged;
mod live;
mod marks;
mod matrix;
mod reasons;
mod reports;
mod rollups;
mod sessions;
mod tables;
mod town;
mod views;
mod wire;
