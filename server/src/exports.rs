//! Scheduled exports as the configuration wants them: off unless `[exports]` names a place.

use anyhow::{Context, Result};
use rollcall_analytics::history::Place;
use rollcall_api::{ApiState, Exporter};

use crate::config::Config;
use crate::supervise::Subsystems;

/// Opens the place of exports; `None`: exports are off. An object store is reached at the first export only.
pub fn place(config: &Config) -> Result<Option<Place>> {
    let url = config.exports.url.reveal();
    if url.is_empty() {
        return Ok(None);
    }
    Place::url(url, std::env::vars()).map(Some).context("exports.url names no place of exports")
}

/// Runs what is due beside everything else.
pub fn start(running: &mut Subsystems, state: &ApiState, place: Option<Place>) -> Result<()> {
    let Some(place) = place else { return Ok(()) };
    tracing::info!(place = place.shown(), "exports are on");
    let (exporter, stop) = (Exporter::new(state.clone(), place)?, running.stop("exports"));
    running.spawn("exports", async move {
        exporter.run(stop).await;
        Ok(())
    });
    Ok(())
}
