//! A worker: a process that reads its place of history for servers that know its token.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion_distributed::{DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext};
use prometheus::{IntCounter, IntGauge, Registry};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

use super::counted::counted;
use super::workers::check_token;
use super::{DistributedError, VERSION, VERSION_HEADER, guard};
use crate::history::Place;
use crate::query;

/// Calls that one server may have open at a time; each share is two.
const CALLS_PER_SERVER_MAX: u32 = 512;
/// A server that says nothing for this long is asked whether it is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Certificate chain and key as PEM.
pub struct WorkerTls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

/// What a worker is started with.
pub struct WorkerConfig {
    /// Who knows it may give shares.
    pub token: String,
    /// Memory of the steps of all shares together; beyond it they spill or give what they have, and a share that can do
    /// neither fails and is done by the server.
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    /// `None`: the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
}

impl WorkerConfig {
    /// # Errors
    /// When the token could be guessed.
    pub fn check(&self) -> std::result::Result<(), DistributedError> {
        check_token(&self.token)
    }
}

/// What a worker's operators see (`rollcall_worker_*`).
#[derive(Clone)]
pub struct WorkerMetrics {
    pub(super) shares: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) running: IntGauge,
    pub(super) rows: IntCounter,
}

impl WorkerMetrics {
    pub fn register(registry: &Registry) -> std::result::Result<Self, prometheus::Error> {
        let shares = IntCounter::new("rollcall_worker_shares_total", "Shares of queries that were accepted")?;
        let refused = IntCounter::new("rollcall_worker_refused_total", "Calls without the token, and plans that are no share")?;
        let running = IntGauge::new("rollcall_worker_running_scans", "Scans that read files for a share")?;
        let rows = IntCounter::new("rollcall_worker_read_rows_total", "Rows that scans gave to the steps above them")?;
        registry.register(Box::new(shares.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(running.clone()))?;
        registry.register(Box::new(rows.clone()))?;
        Ok(Self { shares, refused, running, rows })
    }
}

/// Serves until `shutdown`; then takes no more shares and ends when those that run have ended. Without `tls` it speaks plain
/// gRPC, which is for loopback addresses only: the caller sees to that.
///
/// The caller also sees to it that a panic ends the process: the end of a broken share must not look like its last row.
pub async fn run(
    place: Place,
    config: WorkerConfig,
    metrics: WorkerMetrics,
    listener: TcpListener,
    tls: Option<WorkerTls>,
    shutdown: CancellationToken,
) -> std::result::Result<(), DistributedError> {
    config.check()?;
    let runtime = runtime(&place, &config)?;
    let refused = metrics.refused.clone();
    let wanted = digest(format!("Bearer {}", config.token).as_bytes());
    let is_known = move |request: Request<()>| {
        let given = request.metadata().get("authorization").map(|given| digest(given.as_bytes()));
        // Of digests nothing is learned by how long they take to compare.
        let is_wanted = given.is_some_and(|given| given == wanted);
        let is_same = request.metadata().get(VERSION_HEADER).is_some_and(|version| version.as_bytes() == VERSION.as_bytes());
        if is_wanted && is_same {
            return Ok(request);
        }
        refused.inc();
        Err(match is_wanted {
            false => Status::unauthenticated("only a server that knows the token may ask this worker"),
            true => Status::failed_precondition(format!("this worker is of version {VERSION} and its server must be too")),
        })
    };
    let worker = Worker::from_session_builder(move |context| session(context, place.clone(), metrics.clone())).with_runtime_env(runtime);
    let service = InterceptedService::new(worker.into_worker_server(), is_known);
    let mut server = Server::builder()
        .max_concurrent_streams(CALLS_PER_SERVER_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    if let Some(tls) = tls {
        let identity = Identity::from_pem(tls.certificate, tls.key);
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).map_err(io::Error::other)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.add_service(service).serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()).await.map_err(io::Error::other)?;
    Ok(())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn runtime(place: &Place, config: &WorkerConfig) -> Result<Arc<RuntimeEnv>> {
    let mode = match &config.spill_dir {
        Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(config.memory_bytes)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    runtime.register_object_store(place.store_url().as_ref(), Arc::clone(place.store()));
    Ok(runtime)
}

/// The state that one share is decoded and run with: the functions of the engine, and the check of what it may read.
async fn session(mut context: WorkerQueryContext, place: Place, metrics: WorkerMetrics) -> Result<SessionState> {
    let config = context.builder.config();
    *config = config.take().map(|config| config.with_batch_size(query::BATCH_ROWS));
    let check = move |event: WorkerPlanRewriteEvent<'_>| {
        guard::check(&event.plan, &place).inspect_err(|_| metrics.refused.inc())?;
        metrics.shares.inc();
        Ok(WorkerPlanRewriteEventResponse::new(counted(event.plan, &metrics)?))
    };
    let mut state = context.builder.with_distributed_worker_plan_rewrite_handler(check).build();
    query::add_functions(&mut state)?;
    query::add_figures(&mut state)?;
    Ok(state)
}
