//! The store against a real PostgreSQL: one program, so that it is linked once.

mod database;
mod directory;
mod housekeeping;
mod references;
mod rollup_upkeep;
mod rollups;
mod saved_queries;
mod sink;
mod tenancy;
mod unstorable;
