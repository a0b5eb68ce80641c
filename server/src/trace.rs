//! Structured logs on standard error: text for a terminal, JSON lines for everything else.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{Trace, TraceFormat};

pub fn start(config: &Trace) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).with_context(|| format!("trace.level: {:?} is no filter", config.level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match config.format {
        TraceFormat::Auto => !std::io::stderr().is_terminal(),
        TraceFormat::Json => true,
        TraceFormat::Text => false,
    };
    let started = if json { builder.json().flatten_event(true).try_init() } else { builder.compact().try_init() };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
