//! History as the configuration wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_analytics::history::{History, HistoryConfig, Place};
use rollcall_api::Eraser;
use rollcall_model::event::Kind;
use rollcall_model::time::Clock;
use rollcall_store::Store;
use rollcall_stream::embedded::EmbeddedLog;

use crate::config::Config;
use crate::supervise::Subsystems;

/// How long the start waits for an object store to answer; later it is tried again beside everything else.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens history and keeps it going, and erasures with it. A store that does not answer stops nothing; a log that history was not written from does.
pub async fn start(
    running: &mut Subsystems,
    config: &Config,
    log: &Arc<EmbeddedLog>,
    store: &Store,
    registry: &prometheus::Registry,
) -> Result<History> {
    let url = config.history.url.reveal();
    let place = match url.is_empty() {
        true => Place::folder(&config.data_dir.join("history")),
        false => Place::url(url, std::env::vars()),
    };
    let place = place.context("history.url names no place of history")?;
    let history = History::new(place, log.clone(), Clock::System, settings(config), registry)?;
    match tokio::time::timeout(OPEN_TIMEOUT, history.open()).await {
        Ok(Err(error)) if error.is_final() => return Err(error.into()),
        Ok(Err(error)) => tracing::error!(error = error.describe(), "history cannot be opened; it is tried again"),
        Err(_) => tracing::error!("history does not answer; it is tried again"),
        Ok(Ok(())) => {}
    }
    let (reader, stop) = (history.clone(), running.stop("history"));
    running.spawn("history", async move { Ok(reader.run(stop).await?) });
    let (eraser, stop) = (Eraser::new(store.clone(), history.clone()), running.stop("erasures"));
    running.spawn("erasures", async move {
        eraser.run(stop).await;
        Ok(())
    });
    Ok(history)
}

fn settings(config: &Config) -> HistoryConfig {
    let config = &config.history;
    let days = [
        (Kind::Scan, config.scan_days),
        (Kind::Telemetry, config.telemetry_days),
        (Kind::Activity, config.activity_days),
        (Kind::Mark, config.mark_days),
    ];
    HistoryConfig {
        flush_interval: Duration::from_secs(config.flush_interval_s),
        file_rows_max: config.file_rows,
        delete_delay: Duration::from_secs(config.delete_delay_s),
        keep_days: days.into_iter().filter(|(_, days)| *days > 0).collect::<BTreeMap<_, _>>(),
        ..HistoryConfig::default()
    }
}
