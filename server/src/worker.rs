//! `rollcall worker`: a process that reads history for the queries of servers; and the workers that a server is told of.
//!
//! It holds nothing: neither log, nor database, nor key. Its ready line is one line of JSON, as the server's. It may be killed and
//! started at any time; a server that misses it does its share itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::routing::get;
use prometheus::TextEncoder;
use rollcall_analytics::distributed::{self, WorkerConfig, WorkerMetrics, WorkerTls, WorkersConfig};
use rollcall_analytics::history::Place;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::config::Config;

/// Stack of its threads: a plan is decoded by recursion into its expressions. Only what is used takes memory.
pub const STACK_BYTES: usize = 64 * 1024 * 1024;

/// How long shares that run may take to end at the end; their server does the rest.
const DRAIN: Duration = Duration::from_secs(10);

/// The workers of a server, if it has any.
pub fn known(config: &Config) -> Result<Option<WorkersConfig>> {
    let sql = &config.sql;
    if sql.workers.is_empty() {
        return Ok(None);
    }
    let authority = match sql.workers_ca.as_os_str().is_empty() {
        true => None,
        false => Some(read(&sql.workers_ca)?),
    };
    Ok(Some(WorkersConfig {
        urls: sql.workers.clone(),
        token: sql.workers_token.reveal().to_owned(),
        authority,
        shares_per_worker: sql.workers_shares,
        bytes_min: sql.workers_bytes_min,
    }))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Runs until the token is cancelled.
pub async fn run(config: &Config, options: &cli::Worker, shutdown: CancellationToken) -> Result<()> {
    end_with_panics();
    let listen = match &options.listen {
        Some(address) => address.parse().with_context(|| format!("--listen: {address:?} is not an address"))?,
        None => config.worker.listen,
    };
    let tls = tls(config, listen)?;
    let url = options.history.as_deref().unwrap_or(config.history.url.reveal());
    let place = match url.is_empty() {
        true => Place::folder(&config.data_dir.join("history")),
        false => Place::url(url, std::env::vars()),
    };
    let place = place.context("history.url names no place of history")?;
    let settings = WorkerConfig {
        token: config.sql.workers_token.reveal().to_owned(),
        memory_bytes: config.worker.memory_bytes,
        spill_bytes: config.worker.spill_bytes,
        spill_dir: None,
    };
    settings.check().context("sql.workers_token")?;
    let listener = bind(listen).await?;
    let http = options.http.as_deref().unwrap_or(&config.worker.http);
    let http = match http.is_empty() {
        true => None,
        false => Some(bind(http.parse().with_context(|| format!("worker.http: {http:?} is not an address"))?).await?),
    };
    let registry = prometheus::Registry::new();
    let metrics = WorkerMetrics::register(&registry)?;
    let addresses = (listener.local_addr()?, http.as_ref().map(TcpListener::local_addr).transpose()?);
    let shown = place.shown().to_owned();
    let stop = shutdown.clone();
    let mut serving = tokio::spawn(async move { distributed::run(place, settings, metrics, listener, tls, stop).await });
    if let Some(http) = http {
        tokio::spawn(say_how_it_is(http, registry, shutdown.clone()));
    }
    tracing::info!(worker = %addresses.0, history = shown, "ready");
    println!("{}", json!({"ready": true, "worker": addresses.0.to_string(), "http": addresses.1.map(|http| http.to_string())}));
    tokio::select! {
        ended = &mut serving => return Ok(ended??),
        () = shutdown.cancelled() => {}
    }
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(ended) => Ok(ended??),
        Err(_) => Ok(tracing::warn!("shares still run; their servers do the rest")),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// The token travels to the worker and rows travel back, so both are encrypted or stay on the machine.
fn tls(config: &Config, listen: SocketAddr) -> Result<Option<WorkerTls>> {
    if config.tls.certificate.as_os_str().is_empty() {
        if !listen.ip().is_loopback() {
            bail!("worker.listen is {listen}, which other machines reach: tls.certificate and tls.key are needed");
        }
        return Ok(None);
    }
    Ok(Some(WorkerTls { certificate: read(&config.tls.certificate)?, key: read(&config.tls.key)? }))
}

/// A step that panics would end its stream of rows as if these were all. A worker that is gone is noticed.
fn end_with_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

async fn say_how_it_is(listener: TcpListener, registry: prometheus::Registry, shutdown: CancellationToken) {
    let metrics = move || async move { TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default() };
    let live = || async { "ok" };
    let routes = Router::new().route("/health/live", get(live)).route("/health/ready", get(live)).route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await {
        tracing::error!(%error, "metrics are not served any more");
    }
}
