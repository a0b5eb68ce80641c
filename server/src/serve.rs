//! `rollcall serve`: start and ordered stop of the whole.
//!
//! Start: lock of the data folder, sockets, database, log, directory, live state, API, intake. Whatever fails says so
//! before the ready line, which is one line of JSON on standard output. Stop: intake, log, sink, subscribers, database; each step is bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use rollcall_analytics::attendance::store::{StoreAttendance, StoreDirectory};
use rollcall_analytics::attendance::{AttendanceStore, Engine, EngineDeps, EngineHandle};
use rollcall_analytics::distributed::Workers;
use rollcall_analytics::engagement::store::{StoreClasses, StoreEngagement};
use rollcall_analytics::engagement::{Engagement, EngagementDeps};
use rollcall_analytics::history::History;
use rollcall_analytics::hot::{HotConfig, HotTables};
use rollcall_analytics::hub::Hub;
use rollcall_analytics::query::live::LiveConfig;
use rollcall_analytics::query::tables::Saves;
use rollcall_analytics::query::{EngineConfig, Limits, QueryEngine, tables};
use rollcall_api::flight::FlightTls;
use rollcall_api::pgwire::Tls as PostgresTls;
use rollcall_api::{ApiConfig, ApiParts, ApiState};
use rollcall_ingest::{Admission, AdmissionConfig, Gateway, GatewayConfig, Listeners, TlsConfig};
use rollcall_model::time::Clock;
use rollcall_store::directory::DirectoryCache;
use rollcall_store::password::Passwords;
use rollcall_store::rollup::{self, Rollups};
use rollcall_store::sink::Sink;
use rollcall_store::{Store, maintenance};
use rollcall_stream::Log;
use rollcall_stream::embedded::{EmbeddedLog, LogConfig};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, SecureCookies};
use crate::database::{Database, Use};
use crate::devices::Devices;
use crate::folder_lock::FolderLock;
use crate::query_pool::QueryPool;
use crate::readiness::Readiness;
use crate::supervise::{self, Subsystems};

/// How long the sink may take at the end to write what is durable; what it does not reach it writes after the next start.
const SINK_DRAIN: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted, where the system permits as many. A school's devices come back at once after an outage,
/// and one that finds the queue full tries again only after a second.
const LISTEN_BACKLOG: u32 = 16_384;

/// Sockets bound before anything else starts, so that a port in use costs no time and changes nothing.
struct Sockets {
    http: TcpListener,
    mqtt: TcpListener,
    mqtt_tls: Option<TcpListener>,
    flight: Option<TcpListener>,
    postgres: Option<TcpListener>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self> {
        let mqtt_tls = bind_if(&config.tls.mqtt, "tls.mqtt")?;
        let flight = bind_if(&config.sql.flight, "sql.flight")?;
        let postgres = bind_if(&config.sql.postgres, "sql.postgres")?;
        Ok(Self { http: bind(config.http, "http")?, mqtt: bind(config.mqtt, "mqtt")?, mqtt_tls, flight, postgres })
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        let of = |door: &Option<TcpListener>| door.as_ref().map(TcpListener::local_addr).transpose();
        let (flight, postgres) = (of(&self.flight)?, of(&self.postgres)?);
        Ok(Addresses { http: self.http.local_addr()?, mqtt: self.mqtt.local_addr()?, flight, postgres })
    }
}

/// Where the server listens; port 0 has become the one that was free.
struct Addresses {
    http: SocketAddr,
    mqtt: SocketAddr,
    flight: Option<SocketAddr>,
    postgres: Option<SocketAddr>,
}

/// A door that is off when its address is empty.
fn bind_if(address: &str, setting: &str) -> Result<Option<TcpListener>> {
    if address.is_empty() {
        return Ok(None);
    }
    let address = address.parse().with_context(|| format!("{setting}: {address:?} is no address, such as 127.0.0.1:8883"))?;
    bind(address, setting).map(Some)
}

fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As the library does by itself: a restart need not wait for the last connections of the one before to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(LISTEN_BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}; choose another address with --{setting}, or port 0 for a free one"))
}

/// Runs until the token is cancelled or a subsystem fails, which is then the error.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    std::fs::create_dir_all(&config.data_dir).with_context(|| format!("cannot create the data folder {}", config.data_dir.display()))?;
    let _lock = FolderLock::take(&config.data_dir)?;
    crate::limits::raise_descriptors();
    let sockets = Sockets::bind(&config)?;
    let registry = prometheus::Registry::new();
    let Database { store, vault, embedded } = Database::open(&config, Use::Serve).await?;
    let log = open_log(&config, &registry).await?;
    let mut running = Subsystems::default();
    let cache = DirectoryCache::load(store.clone()).await.context("cannot load the directory")?;
    running.spawn("directory", {
        let (cache, stop) = (cache.clone(), running.stop("directory"));
        async move {
            cache.run(stop).await;
            Ok(())
        }
    });
    let readiness = Readiness::new(log.clone(), store.engine().to_string());
    let saves = Saves::new(start_sink(&mut running, &log, &store, &registry, &readiness).await?);
    let rollups = Rollups::new(log.clone(), store.clone(), cache.clone(), &registry)?;
    running.spawn("rollups", {
        let stop = running.stop("rollups");
        async move { Ok(rollups.run(stop).await?) }
    });
    let history = crate::history::start(&mut running, &config, &log, &store, &registry).await?;
    readiness.watch_history(history.status());
    let hub = Hub::new(Clock::System.now());
    let live = start_live(&mut running, &log, saves.of_attendance(StoreAttendance { store: store.clone() }), &cache, &hub, &registry);
    readiness.watch_live(live.clone());
    let pool = QueryPool::new()?;
    let hot = start_hot(&mut running, &config, &log)?;
    let queries = start_queries(&config, &hot, &history, &store, &cache, (&live, &saves), &registry).await?;
    start_engagement(&mut running, &pool, &log, (&store, &saves), &cache, &hub, &live, &registry);
    let gateway = start_intake(&mut running, &config, &log, &cache, &registry, sockets.mqtt_tls.is_some()).await?;
    running.spawn("device watch", {
        let (cache, handle, stop) = (cache.clone(), gateway.handle(), running.stop("device watch"));
        async move {
            crate::devices::cut_disabled(cache, handle, stop).await;
            Ok(())
        }
    });
    let private = embedded.is_some();
    if let Some(server) = embedded {
        running.spawn("database", supervise::database(server, running.stop("database")));
    }
    live.wait_ready().await;
    let addresses = sockets.addresses()?;
    let exports = crate::exports::place(&config)?;
    let api = ApiState::new(ApiParts {
        config: ApiConfig {
            cookie_secure: config.secure_cookies == SecureCookies::Always,
            sql_limits: sql_limits(&config),
            live_sql: live_sql(&config),
            exports_available: exports.is_some(),
            ..ApiConfig::default()
        },
        clock: Clock::System,
        log: log.clone(),
        hub,
        engine: live,
        queries,
        store: store.clone(),
        vault: Arc::new(vault),
        passwords: Passwords::new(password_checks_max())?,
        directory: cache,
        registry,
        ready: readiness.checks(),
        shutdown: running.stop("subscribers"),
    })?;
    crate::exports::start(&mut running, &api, exports)?;
    if let Some(listener) = sockets.flight {
        let (api, tls, stop) = (api.clone(), flight_tls(&config)?, running.stop("flight"));
        running.spawn("flight", async move { Ok(rollcall_api::flight::run(api, listener, tls, stop).await?) });
    }
    if let Some(listener) = sockets.postgres {
        let (api, tls, stop) = (api.clone(), postgres_tls(&config)?, running.stop("postgres"));
        running.spawn("postgres", async move { Ok(rollcall_api::pgwire::run(api, listener, tls, stop).await?) });
    }
    let routes = rollcall_api::router(api).merge(rollcall_ingest::http::router(gateway.clone()));
    let listeners = Listeners { tcp: Some(sockets.mqtt), tls: sockets.mqtt_tls };
    running.spawn("intake", {
        let stop = running.stop("intake");
        async move { Ok(rollcall_ingest::gateway::run(gateway, listeners, stop).await?) }
    });
    running.spawn("http", {
        let stop = running.stop("http");
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        // A delta is small and must not wait until the one before it has been acknowledged (Nagle's algorithm).
        let listener = sockets.http.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
        });
        async move { Ok(axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await?) }
    });
    say_ready(&store, addresses, private);
    let failed = running.until(shutdown).await;
    stop(running, &log, &store).await;
    failed
}

/// Half of the processors, so that sign-ins never take the machine from the intake.
fn password_checks_max() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1)
}

async fn open_log(config: &Config, registry: &prometheus::Registry) -> Result<Arc<EmbeddedLog>> {
    let settings = LogConfig {
        segment_bytes_max: config.log.segment_bytes,
        budget_bytes: config.log.disk_budget_bytes,
        cache_bytes_max: usize::try_from(config.log.tail_bytes)?,
        readers: ["sink", rollup::READER, rollcall_analytics::history::READER].map(str::to_owned).to_vec(),
        ..LogConfig::default()
    };
    let (dir, registry) = (config.data_dir.join("log"), registry.clone());
    tokio::task::spawn_blocking(move || EmbeddedLog::open(&dir, settings, &registry)).await?.context("cannot open the log")
}

/// Returns what moves with marks that it has written.
async fn start_sink(
    running: &mut Subsystems,
    log: &Arc<EmbeddedLog>,
    store: &Store,
    registry: &prometheus::Registry,
    readiness: &Readiness,
) -> Result<watch::Receiver<u64>> {
    let sink = Sink::new(log.clone(), store.clone(), registry)?;
    sink.check().await.context("the log does not fit the database")?;
    readiness.watch_sink(sink.status());
    let (marks, stop) = (sink.marks(), running.stop("sink"));
    running.spawn("sink", async move { Ok(sink.run(stop).await?) });
    let (store, stop) = (store.clone(), running.stop("maintenance"));
    running.spawn("maintenance", async move {
        maintenance::run(store, Clock::System, stop).await;
        Ok(())
    });
    Ok(marks)
}

fn start_live(
    running: &mut Subsystems,
    log: &Arc<EmbeddedLog>,
    store: Arc<dyn AttendanceStore>,
    cache: &Arc<DirectoryCache>,
    hub: &Hub,
    registry: &prometheus::Registry,
) -> EngineHandle {
    let (engine, handle) = Engine::new(EngineDeps {
        log: log.clone(),
        store,
        directory: Arc::new(StoreDirectory(cache.clone())),
        hub: hub.clone(),
        clock: Clock::System,
        metrics: registry.clone(),
        connections_since: log.end(),
    });
    let stop = running.stop("live attendance");
    running.spawn("live attendance", async move { Ok(engine.run(stop).await?) });
    handle
}

fn start_hot(running: &mut Subsystems, config: &Config, log: &Arc<EmbeddedLog>) -> Result<Arc<HotTables>> {
    let keep = Duration::from_secs(u64::from(config.hot.keep_hours) * 3_600);
    let tables = HotTables::new(HotConfig { keep, bytes_max: usize::try_from(config.hot.bytes)?, ..HotConfig::default() });
    let (reader, log, stop) = (tables.clone(), log.clone(), running.stop("hot tables"));
    running.spawn("hot tables", async move { Ok(reader.run(log, Clock::System, stop).await?) });
    Ok(tables)
}

/// The query engine with its threads, and every table that it has.
async fn start_queries(
    config: &Config,
    hot: &Arc<HotTables>,
    history: &History,
    store: &Store,
    cache: &Arc<DirectoryCache>,
    (live, saves): (&EngineHandle, &Saves),
    registry: &prometheus::Registry,
) -> Result<QueryEngine> {
    let spill = config.data_dir.join("spill");
    std::fs::create_dir_all(&spill).with_context(|| format!("cannot create {}", spill.display()))?;
    let settings = EngineConfig { concurrent_max: config.sql.concurrent, spill_dir: Some(spill), ..EngineConfig::default() };
    let engine = QueryEngine::new(settings).context("cannot start the threads of queries")?;
    if let Some(workers) = crate::worker::known(config)? {
        engine.share_with(Workers::new(workers, registry)?);
    }
    let events = tables::event_tables(hot, Some(history));
    let views = tables::facts_views(store, cache, &Clock::System).await.context("the views of the facts have no plan")?;
    let facts = tables::facts_tables(store, cache, &Clock::System, saves).into_iter().chain(views);
    let engagement = tables::engagement_tables(store, cache, &Clock::System, saves);
    for table in events.into_iter().chain(tables::directory_tables(cache)).chain(facts).chain(engagement) {
        engine.register(table);
    }
    engine.register(tables::attendance_now(live, cache));
    Ok(engine)
}

fn sql_limits(config: &Config) -> Limits {
    let sql = &config.sql;
    Limits {
        time: Duration::from_secs(sql.time_s),
        memory_bytes: sql.memory_bytes,
        spill_bytes: sql.spill_bytes,
        rows: sql.rows,
        ..Limits::default()
    }
}

fn live_sql(config: &Config) -> LiveConfig {
    LiveConfig {
        interval: Duration::from_millis(config.sql.live_interval_ms),
        queries_max: config.sql.live_queries,
        per_account_max: config.sql.live_queries_per_account,
        ..LiveConfig::default()
    }
}

#[allow(clippy::too_many_arguments)]
fn start_engagement(
    running: &mut Subsystems,
    pool: &QueryPool,
    log: &Arc<EmbeddedLog>,
    (store, saves): (&Store, &Saves),
    cache: &Arc<DirectoryCache>,
    hub: &Hub,
    live: &EngineHandle,
    registry: &prometheus::Registry,
) {
    let (engagement, _) = Engagement::new(EngagementDeps {
        log: log.clone(),
        store: saves.of_engagement(StoreEngagement { store: store.clone() }),
        classes: Arc::new(StoreClasses { cache: cache.clone(), store: store.clone() }),
        presence: Arc::new(live.clone()),
        hub: hub.clone(),
        clock: Clock::System,
        metrics: registry.clone(),
        pool: pool.handle(),
    });
    let stop = running.stop("engagement");
    running.spawn("engagement", async move { Ok(engagement.run(stop).await?) });
}

async fn start_intake(
    running: &mut Subsystems,
    config: &Config,
    log: &Arc<EmbeddedLog>,
    cache: &Arc<DirectoryCache>,
    registry: &prometheus::Registry,
    tls: bool,
) -> Result<Arc<Gateway>> {
    let metrics = Arc::new(rollcall_ingest::Metrics::new(registry)?);
    let (folder, log, opened) = (config.data_dir.join("dedup"), log.clone(), metrics.clone());
    let admission =
        tokio::task::spawn_blocking(move || Admission::open(log, &folder, AdmissionConfig::default(), Clock::System, opened)).await??;
    let (snapshots, stop) = (admission.clone(), running.stop("admission"));
    running.spawn("admission", async move {
        snapshots.run(stop).await;
        Ok(())
    });
    let tls = tls.then(|| TlsConfig {
        certificate: config.tls.certificate.clone(),
        key: config.tls.key.clone(),
        client_authority: (!config.tls.client_ca.as_os_str().is_empty()).then(|| config.tls.client_ca.clone()),
    });
    let settings = GatewayConfig {
        connections_max: config.ingest.connections_max,
        connections_per_address_max: config.ingest.connections_per_address_max,
        tls,
        ..GatewayConfig::default()
    };
    let (devices, folder) = (Devices::new(cache.clone()), config.data_dir.join("sessions"));
    Ok(tokio::task::spawn_blocking(move || Gateway::open(settings, devices, admission, metrics, &folder)).await??)
}

/// Certificate and key of the Flight SQL door; without them it is on a loopback address.
fn flight_tls(config: &Config) -> Result<Option<FlightTls>> {
    Ok(door_tls(config)?.map(|(certificate, key)| FlightTls { certificate, key }))
}

/// The same for the door of the PostgreSQL protocol.
fn postgres_tls(config: &Config) -> Result<Option<PostgresTls>> {
    Ok(door_tls(config)?.map(|(certificate, key)| PostgresTls { certificate, key }))
}

fn door_tls(config: &Config) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    if config.tls.certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = |path: &std::path::Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(Some((read(&config.tls.certificate)?, read(&config.tls.key)?)))
}

/// The one line that programs wait for; people get the same in the log.
fn say_ready(store: &Store, Addresses { http, mqtt, flight, postgres }: Addresses, private: bool) {
    let engine = match store.engine() {
        rollcall_store::Engine::Timescale { .. } => "timescale",
        rollcall_store::Engine::Plain => "plain",
    };
    let database = if private { "private" } else { "named" };
    tracing::info!(%http, %mqtt, database, engine = %store.engine(), "ready");
    let line = serde_json::json!({"ready": true, "http": http.to_string(), "mqtt": mqtt.to_string(),
        "flight": flight.map(|address| address.to_string()), "postgres": postgres.map(|address| address.to_string()), "database": database,
        "engine": engine, "engine_version": store.engine().to_string()});
    println!("{line}");
}

async fn stop(running: Subsystems, log: &Arc<EmbeddedLog>, store: &Store) {
    running.end("device watch").await;
    running.end("intake").await;
    running.end("admission").await;
    let closing = log.clone();
    let durable = log.end();
    // Readers are served from the log until it is closed, so the sink gets its chance first.
    running.end_after("sink", SINK_DRAIN, || log.status().readers.iter().any(|(reader, at)| reader == "sink" && *at >= durable)).await;
    // What it has gathered and not written it reads again at the next start.
    running.end("rollups").await;
    running.end("engagement").await;
    running.end("erasures").await;
    running.end("history").await;
    running.end("hot tables").await;
    running.end("live attendance").await;
    running.end("subscribers").await;
    running.end("exports").await;
    running.end("flight").await;
    running.end("postgres").await;
    running.end("http").await;
    if tokio::task::spawn_blocking(move || closing.close()).await.is_err() {
        tracing::error!("the log could not be closed in order");
    }
    running.end("maintenance").await;
    running.end("directory").await;
    store.close().await;
    running.end("database").await;
}
