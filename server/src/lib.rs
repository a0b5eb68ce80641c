//! The one binary: command line, configuration, wiring, start and ordered stop.

pub mod cli;
mod commands;
pub mod config;
mod database;
mod import;
pub mod simulate;
mod trace;
