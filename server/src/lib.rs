//! The one binary: command line, configuration, wiring, start and ordered stop.

pub mod cli;
pub mod config;
pub mod simulate;
