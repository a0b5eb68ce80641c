//! The workers that a server knows: where they are, who of them answers, and how a share is given to one.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::grpc::{BoxCloneSyncChannel, create_worker_client};
use datafusion_distributed::{
    ChannelResolver, DistributedExec, DistributedExt, NetworkBoundary, NetworkCoalesceExec, RouteTasksEvent, RouteTasksEventResponse,
    Stage, WorkerChannel,
};
use parking_lot::Mutex;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use url::Url;
use uuid::Uuid;

use super::{DistributedError, VERSION, VERSION_HEADER};
use super::metrics::Metrics;

/// How long a worker that did not answer gets no shares. The first query after that tries it again.
pub const REST: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A machine that vanishes says nothing: it is asked so often while it owes an answer, and given up after so long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of rows of one share that wait for the query before the worker is stopped from sending more.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one share that may be on their way before the worker hears that some were taken.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same of all shares of a connection: more than all that run can fill, so that a query that is read slowly holds up no other.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;
/// The fewest characters of a token.
pub const TOKEN_CHARS_MIN: usize = 32;

/// Which workers there are.
#[derive(Clone)]
pub struct WorkersConfig {
    /// `https://host:port`, or `http://` on this machine.
    pub urls: Vec<String>,
    /// What the workers know their server by.
    pub token: String,
    /// The authority of the workers' certificates as PEM; needed for `https`.
    pub authority: Option<Vec<u8>>,
    /// Shares of one query that each worker gets at a time.
    pub shares_per_worker: usize,
    /// A scan of fewer bytes of files is not shared.
    pub bytes_min: u64,
}

impl WorkersConfig {
    /// # Errors
    /// What is wrong with it; nothing is connected for that.
    pub fn check(&self) -> std::result::Result<(), DistributedError> {
        check_token(&self.token)?;
        if self.shares_per_worker == 0 {
            return Err(DistributedError::Configuration("a worker must get at least one share".to_owned()));
        }
        self.urls.iter().try_for_each(|url| Known::new(url, self.authority.as_deref()).map(drop))
    }
}

struct Known {
    url: Url,
    /// As it was configured; for metrics and the log.
    name: String,
    endpoint: Endpoint,
    /// Made on a thread of the queries, whose runtime it needs.
    channel: OnceLock<Channel>,
    rests_until: Mutex<Option<Instant>>,
}

/// See the module.
pub struct Workers {
    known: Vec<Arc<Known>>,
    config: WorkersConfig,
    metrics: Metrics,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.known.iter().map(|worker| worker.name.as_str())).finish()
    }
}

impl Workers {
    /// Nothing is connected before the first share.
    pub fn new(config: WorkersConfig, registry: &prometheus::Registry) -> std::result::Result<Arc<Self>, DistributedError> {
        config.check()?;
        let known = config.urls.iter().map(|url| Known::new(url, config.authority.as_deref()).map(Arc::new));
        let known = known.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Arc::new(Self { known, config, metrics: Metrics::register(registry)? }))
    }

    /// Into how many partitions files of so many bytes are divided; `None` when they are too few, or no worker answers.
    pub fn parts(&self, bytes: u64) -> Option<usize> {
        let awake = self.known.iter().filter(|worker| !self.rests(worker)).count();
        (self.wants(bytes) && awake > 0).then(|| (awake * self.config.shares_per_worker).max(2))
    }

    /// Whether a scan of so many bytes is shared when somebody answers.
    pub(super) fn wants(&self, bytes: u64) -> bool {
        !self.known.is_empty() && bytes >= self.config.bytes_min
    }

    fn rests(&self, worker: &Known) -> bool {
        let mut until = worker.rests_until.lock();
        if until.is_some_and(|until| until <= Instant::now()) {
            *until = None;
            self.metrics.resting.with_label_values(&[worker.name.as_str()]).set(0);
        }
        until.is_some()
    }

    /// Gives a plan of one partition to the worker whose turn it is; `None` when none answers. The same turn is the same
    /// worker as long as the same ones answer, which then has the files' footers at hand.
    pub(super) fn give(self: &Arc<Self>, turn: usize, plan: &Arc<dyn ExecutionPlan>, context: &TaskContext) -> Result<Option<Given>> {
        let awake: Vec<_> = self.known.iter().filter(|worker| !self.rests(worker)).collect();
        let Some(worker) = (!awake.is_empty()).then(|| awake[turn % awake.len()]) else { return Ok(None) };
        let context = Arc::new(self.context(worker, context)?);
        let rows = remote(Arc::clone(plan))?.execute(0, context)?;
        self.metrics.running.with_label_values(&[worker.name.as_str()]).inc();
        Ok(Some(Given { rows, worker: Arc::clone(worker), workers: Arc::clone(self), is_open: true }))
    }

    /// The query's context with what the library needs to reach this one worker.
    fn context(self: &Arc<Self>, worker: &Arc<Known>, context: &TaskContext) -> Result<TaskContext> {
        let mut headers = MetadataMap::new();
        let bearer = format!("Bearer {}", self.config.token).parse();
        headers.insert("authorization", bearer.map_err(|_| exec_datafusion_err!("the token of workers is no header"))?);
        headers.insert(VERSION_HEADER, VERSION.parse().map_err(|_| exec_datafusion_err!("the version is no header"))?);
        let url = worker.url.clone();
        let config = context.session_config().clone();
        let config = config
            .with_distributed_route_tasks_handler(move |event: RouteTasksEvent<'_>| {
                Some(Ok(RouteTasksEventResponse::new(vec![url.clone(); event.task_count])))
            })
            .with_distributed_channel_resolver(One(Arc::clone(worker)))
            .with_distributed_worker_connection_buffer_budget_bytes(WAITING_BYTES_MAX)?
            .with_distributed_passthrough_headers(headers.into_headers())?;
        Ok(TaskContext::new(
            context.task_id(),
            context.session_id(),
            config,
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        ))
    }
}

/// A token that is long enough not to be guessed.
pub(super) fn check_token(token: &str) -> std::result::Result<(), DistributedError> {
    if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(DistributedError::Configuration(format!(
            "the token of workers must be at least {TOKEN_CHARS_MIN} letters, digits and signs without spaces"
        )));
    }
    Ok(())
}

/// The plan as one task of one stage on a worker.
fn remote(plan: Arc<dyn ExecutionPlan>) -> Result<DistributedExec> {
    let boundary = NetworkCoalesceExec::try_new(plan, 1, 1)?;
    let Stage::Local(mut stage) = boundary.input_stage().clone() else {
        return internal_err!("a stage that was just made is remote already");
    };
    // By these a worker tells tasks apart.
    (stage.query_id, stage.num) = (Uuid::new_v4(), 1);
    Ok(DistributedExec::new(boundary.with_input_stage(Stage::Local(stage))?).with_metrics_collection(false))
}

impl Known {
    fn new(url: &str, authority: Option<&[u8]>) -> std::result::Result<Self, DistributedError> {
        let wrong = |why: &str| DistributedError::Configuration(format!("{url:?} is no address of a worker: {why}"));
        let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        let is_here = match parsed.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => return Err(wrong("it names no host")),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(&error.to_string()))?;
        let endpoint = match (parsed.scheme(), authority) {
            ("https", Some(authority)) => {
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
                endpoint.tls_config(tls).map_err(|error| wrong(&error.to_string()))?
            }
            ("https", None) => return Err(wrong("the authority of its certificate is not named")),
            ("http", _) if is_here => endpoint,
            ("http", _) => return Err(wrong("the token travels to it, so another machine is reached by https only")),
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Ok(Self {
            url: parsed,
            name: url.trim_end_matches('/').to_owned(),
            endpoint,
            channel: OnceLock::new(),
            rests_until: Mutex::new(None),
        })
    }
}

/// How the library speaks to one worker.
struct One(Arc<Known>);

#[async_trait]
impl ChannelResolver for One {
    async fn get_worker_client_for_url(&self, _: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        // It connects with the first call, and again after a connection was lost.
        let channel = self.0.channel.get_or_init(|| self.0.endpoint.connect_lazy());
        Ok(create_worker_client(BoxCloneSyncChannel::new(channel.clone())))
    }
}

/// A share that a worker is at. Dropping it tells the worker to stop.
pub(super) struct Given {
    pub rows: SendableRecordBatchStream,
    worker: Arc<Known>,
    workers: Arc<Workers>,
    is_open: bool,
}

impl Given {
    pub fn count(&self, rows: usize) {
        self.workers.metrics.rows.with_label_values(&[self.worker.name.as_str()]).inc_by(rows as u64);
    }

    pub fn done(&mut self) {
        self.end("done");
    }

    /// The worker did not finish. When it was not heard at all, it rests.
    pub fn failed(&mut self, error: &DataFusionError) {
        self.end("failed");
        let name = self.worker.name.as_str();
        if was_lost(error) {
            *self.worker.rests_until.lock() = Some(Instant::now() + REST);
            self.workers.metrics.resting.with_label_values(&[name]).set(1);
        }
        tracing::warn!(worker = name, %error, "a worker did not finish its share of a query; it is done here");
    }

    fn end(&mut self, outcome: &str) {
        self.close();
        self.workers.metrics.shares.with_label_values(&[self.worker.name.as_str(), outcome]).inc();
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.workers.metrics.running.with_label_values(&[self.worker.name.as_str()]).dec();
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether the fault is the worker's or the network's. A worker's own error, such as a division by zero, comes back as what it is.
fn was_lost(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(cause) if cause.is::<Status>())
}
