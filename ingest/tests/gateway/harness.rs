//! A gateway on a free port, and a client that says exactly what a test wants said.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rollcall_ingest::{
    Admission, AdmissionConfig, AuthError, BadgeHolder, DeviceIdentity, Directory, Gateway, GatewayConfig, Listeners, Metrics,
};
use rollcall_model::event::{DeviceKind, Kind};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::{AppendError, EventBatch, Log, LogError, LogStatus, ReadBatch, schema};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "secret";
pub const BADGE: &str = "b_known";
pub const NOW: i64 = 1_795_150_000_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Every device has the same token; the district knows one badge.
pub struct TestDirectory {
    pub devices: Mutex<HashMap<DeviceId, DeviceIdentity>>,
    version: AtomicU64,
    pub authentications: AtomicUsize,
    /// Authentications that are to wait for a permit each; the others are answered at once.
    pub slow: AtomicUsize,
    pub permits: Semaphore,
    holder: BadgeHolder,
}

impl TestDirectory {
    pub fn remove(&self, device: DeviceId) {
        self.devices.lock().remove(&device);
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl Directory for TestDirectory {
    fn device(&self, device: DeviceId) -> Option<DeviceIdentity> {
        self.devices.lock().get(&device).copied()
    }

    fn authenticate<'a>(&'a self, device: DeviceId, token: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>> {
        self.authentications.fetch_add(1, Ordering::SeqCst);
        let found = self.device(device).filter(|_| token == TOKEN).ok_or(AuthError::BadCredentials);
        let slow = self.slow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok();
        async move {
            if slow {
                self.permits.acquire().await.unwrap().forget();
            }
            found
        }
        .boxed()
    }

    fn badge(&self, _: DistrictId, token: &str) -> Option<BadgeHolder> {
        (token == BADGE).then_some(self.holder)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }
}

/// The memory log behind a door that can be shut, as a log is whose disk budget is used up.
pub struct Door {
    log: Arc<MemoryLog>,
    pub shut: AtomicBool,
}

impl Log for Door {
    fn append(&self, batches: Vec<EventBatch>) -> Result<Offset, AppendError> {
        if self.shut.load(Ordering::SeqCst) { Err(AppendError::Full) } else { self.log.append(batches) }
    }
    fn end(&self) -> Offset {
        self.log.end()
    }
    fn durable(&self) -> watch::Receiver<Offset> {
        self.log.durable()
    }
    fn read(&self, from: Offset, bytes_max: usize) -> Result<ReadBatch, LogError> {
        self.log.read(from, bytes_max)
    }
    fn status(&self) -> LogStatus {
        self.log.status()
    }
    fn oldest(&self) -> Offset {
        self.log.oldest()
    }
    fn commit(&self, reader: &str, offset: Offset) {
        self.log.commit(reader, offset);
    }
    fn register(&self, reader: &str, offset: Offset) {
        self.log.register(reader, offset);
    }
}

pub struct Server {
    pub gateway: Arc<Gateway>,
    pub port: u16,
    pub tls_port: Option<u16>,
    pub log: Arc<MemoryLog>,
    pub door: Arc<Door>,
    pub directory: Arc<TestDirectory>,
    pub district: DistrictId,
    pub school: SchoolId,
    pub admission: Arc<Admission>,
    pub clock: Clock,
    config: GatewayConfig,
    pub folder: Arc<tempfile::TempDir>,
    shutdown: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(GatewayConfig::default()).await
    }

    pub async fn with(config: GatewayConfig) -> Self {
        let holder = BadgeHolder { badge: BadgeId::random(), person: PersonId::random() };
        let directory = Arc::new(TestDirectory {
            devices: Mutex::default(),
            version: AtomicU64::new(1),
            authentications: AtomicUsize::new(0),
            slow: AtomicUsize::new(0),
            permits: Semaphore::new(0),
            holder,
        });
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (district, school) = (DistrictId::random(), SchoolId::random());
        let clock = Clock::stepped(UtcMillis(NOW));
        Self::on(config, directory, Arc::new(MemoryLog::new()), folder, (district, school), clock).await
    }

    async fn on(
        config: GatewayConfig,
        directory: Arc<TestDirectory>,
        log: Arc<MemoryLog>,
        folder: Arc<tempfile::TempDir>,
        (district, school): (DistrictId, SchoolId),
        clock: Clock,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let door = Arc::new(Door { log: log.clone(), shut: AtomicBool::new(false) });
        let admission = Admission::open(door.clone(), folder.path(), AdmissionConfig::default(), clock.clone(), metrics.clone()).unwrap();
        let secure = match &config.tls {
            Some(_) => Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            None => None,
        };
        let tls_port = secure.as_ref().map(|listener| listener.local_addr().unwrap().port());
        let gateway =
            Gateway::open(config.clone(), directory.clone(), admission.clone(), metrics, &folder.path().join("sessions")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let running = rollcall_ingest::gateway::run(gateway.clone(), Listeners { tcp: Some(listener), tls: secure }, shutdown.clone());
        let task = Some(tokio::spawn(async move { running.await.unwrap() }));
        Self { gateway, port, tls_port, log, door, directory, district, school, admission, clock, config, folder, shutdown, task }
    }

    /// Stops the gateway and starts another on the same log and files.
    pub async fn restart(mut self) -> Self {
        self.stop().await;
        self.again(self.folder.clone()).await
    }

    /// Another server as it would be after this one was killed at this instant: it finds the files as they are now.
    pub async fn killed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sessions")).unwrap();
        std::fs::copy(self.folder.path().join("sessions/journal"), folder.path().join("sessions/journal")).unwrap();
        self.again(Arc::new(folder)).await
    }

    async fn again(&self, folder: Arc<tempfile::TempDir>) -> Self {
        let (directory, log, clock) = (self.directory.clone(), self.log.clone(), self.clock.clone());
        Self::on(self.config.clone(), directory, log, folder, (self.district, self.school), clock).await
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    pub fn device(&self) -> DeviceIdentity {
        self.device_of(DeviceKind::Gate)
    }

    pub fn device_of(&self, kind: DeviceKind) -> DeviceIdentity {
        let identity = DeviceIdentity::new(DeviceId::random(), self.district, self.school, kind);
        self.directory.devices.lock().insert(identity.device, identity);
        identity
    }

    pub fn batches(&self, kind: Kind) -> Vec<EventBatch> {
        let read = self.log.read(Offset(0), usize::MAX).unwrap();
        read.batches.into_iter().filter(|batch| batch.kind == kind).collect()
    }

    /// Sequence numbers of the durable rows of a kind, in the order of the log.
    pub fn seqs(&self, kind: Kind) -> Vec<u64> {
        let seqs = |batch: &EventBatch| batch.rows.column(schema::SEQ).as_primitive::<UInt64Type>().values().to_vec();
        self.batches(kind).iter().flat_map(seqs).collect()
    }

    /// Waits until the log holds a number of rows of a kind; for what no acknowledgement tells.
    pub async fn rows(&self, kind: Kind, count: usize) {
        let mut durable = self.log.durable();
        let waiting = async {
            while self.seqs(kind).len() < count {
                durable.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the rows never came");
    }

    pub fn dead_codes(&self) -> Vec<String> {
        let codes = |batch: &EventBatch| {
            let column = batch.rows.column(schema::COMMON + 1).as_string::<i32>().clone();
            (0..column.len()).map(move |i| column.value(i).to_owned()).collect::<Vec<_>>()
        };
        use arrow::array::Array;
        self.batches(Kind::DeadLetter).iter().flat_map(codes).collect()
    }

    pub async fn raw(&self) -> Raw {
        Raw { stream: TcpStream::connect(("127.0.0.1", self.port)).await.unwrap(), input: Vec::new(), v5: false }
    }

    /// A device connected with MQTT 3.1.1 and a clean session.
    pub async fn v4(&self, who: &DeviceIdentity) -> Raw {
        let mut raw = self.raw().await;
        assert_eq!(raw.connect(&Hello::new(who)).await, [0, 0]);
        raw
    }

    /// A device connected with MQTT 5 and a clean session.
    pub async fn v5(&self, who: &DeviceIdentity) -> Raw {
        let mut raw = self.raw().await;
        let answer = raw.connect(&Hello { v5: true, ..Hello::new(who) }).await;
        assert_eq!(answer[..2], [0, 0]);
        raw
    }
}

/// What a CONNECT says.
#[derive(Clone)]
pub struct Hello {
    pub v5: bool,
    pub client_id: String,
    pub user: String,
    pub password: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    /// Properties, topic, payload.
    pub will: Option<(Vec<u8>, String, Vec<u8>)>,
}

impl Hello {
    pub fn new(who: &DeviceIdentity) -> Self {
        let id = who.device.to_string();
        let (user, password) = (id.clone(), TOKEN.into());
        Self { v5: false, client_id: id, user, password, clean: true, keep_alive: 60, properties: Vec::new(), will: None }
    }

    pub fn anonymous(client_id: &str) -> Self {
        let (user, password) = (String::new(), String::new());
        Self { v5: true, client_id: client_id.into(), user, password, clean: true, keep_alive: 60, properties: Vec::new(), will: None }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        body.push(if self.v5 { 5 } else { 4 });
        let login = if self.user.is_empty() { 0 } else { 0xc0 };
        body.push(login | if self.clean { 2 } else { 0 } | if self.will.is_some() { 4 } else { 0 });
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.v5 {
            length(&mut body, self.properties.len());
            body.extend_from_slice(&self.properties);
        }
        text(&mut body, self.client_id.as_bytes());
        if let Some((properties, topic, payload)) = &self.will {
            if self.v5 {
                length(&mut body, properties.len());
                body.extend_from_slice(properties);
            }
            text(&mut body, topic.as_bytes());
            text(&mut body, payload);
        }
        if !self.user.is_empty() {
            text(&mut body, self.user.as_bytes());
            text(&mut body, self.password.as_bytes());
        }
        packet(0x10, &body)
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn length(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

/// One message as a client received it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Received {
    pub first: u8,
    pub topic: String,
    pub pkid: u16,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// A client that speaks MQTT byte by byte.
pub struct Raw {
    pub stream: TcpStream,
    input: Vec<u8>,
    v5: bool,
}

impl Raw {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` when the server closed the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(PATIENCE, self.read_packet()).await.expect("the server said nothing")
    }

    async fn read_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((total, header)) = self.framed() {
                let whole: Vec<u8> = self.input.drain(..total).collect();
                return Some((whole[0], whole[header..].to_vec()));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn framed(&self) -> Option<(usize, usize)> {
        let mut value = 0;
        for i in 0..4 {
            let byte = *self.input.get(1 + i)?;
            value |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                return (self.input.len() >= 2 + i + value).then_some((2 + i + value, 2 + i));
            }
        }
        None
    }

    /// Sends CONNECT and returns the body of CONNACK; empty when the connection was closed without one.
    pub async fn connect(&mut self, hello: &Hello) -> Vec<u8> {
        self.v5 = hello.v5;
        self.send(&hello.encode()).await;
        match self.next().await {
            Some((0x20, body)) => body,
            Some(other) => panic!("expected CONNACK, got {other:x?}"),
            None => Vec::new(),
        }
    }

    pub fn publish_bytes(&self, first: u8, topic: &str, pkid: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        if first & 6 != 0 {
            body.extend_from_slice(&pkid.to_be_bytes());
        }
        if self.v5 {
            length(&mut body, properties.len());
            body.extend_from_slice(properties);
        }
        body.extend_from_slice(payload);
        packet(first, &body)
    }

    /// Publishes with a QoS; the packet id is of no use for QoS 0.
    pub async fn publish(&mut self, qos: u8, topic: &str, pkid: u16, payload: impl AsRef<[u8]>) {
        let bytes = self.publish_bytes(0x30 | qos << 1, topic, pkid, &[], payload.as_ref());
        self.send(&bytes).await;
    }

    /// Subscribes to one filter and returns the code of the answer.
    pub async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[]).await
    }

    pub async fn subscribe_with(&mut self, filter: &str, options: u8, properties: &[u8]) -> u8 {
        let mut body = vec![0, 9];
        if self.v5 {
            length(&mut body, properties.len());
            body.extend_from_slice(properties);
        }
        text(&mut body, filter.as_bytes());
        body.push(options);
        self.send(&packet(0x82, &body)).await;
        let (first, body) = self.next().await.expect("SUBACK");
        assert_eq!((first, &body[..2]), (0x90, &[0, 9][..]));
        *body.last().unwrap()
    }

    pub async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let mut body = vec![0, 8];
        if self.v5 {
            body.push(0);
        }
        text(&mut body, filter.as_bytes());
        self.send(&packet(0xa2, &body)).await;
        self.expect(0xb0).await
    }

    /// The next packet must be of this type; returns its body.
    pub async fn expect(&mut self, first: u8) -> Vec<u8> {
        match self.next().await {
            Some((found, body)) if found == first => body,
            other => panic!("expected {first:x}, got {other:x?}"),
        }
    }

    pub async fn message(&mut self) -> Received {
        let (first, body) = self.next().await.expect("a message");
        assert_eq!(first >> 4, 3, "expected PUBLISH, got {first:x} {body:x?}");
        let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + topic_len].to_vec()).unwrap();
        let mut rest = &body[2 + topic_len..];
        let mut pkid = 0;
        if first & 6 != 0 {
            pkid = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let mut properties = Vec::new();
        if self.v5 {
            let length = usize::from(rest[0]);
            properties = rest[1..1 + length].to_vec();
            rest = &rest[1 + length..];
        }
        Received { first, topic, pkid, properties, payload: rest.to_vec() }
    }

    /// The server has nothing to say before it answers this ping.
    pub async fn silent(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.next().await, Some((0xd0, Vec::new())));
    }

    /// The server has closed the connection.
    pub async fn closed(&mut self) {
        assert_eq!(self.next().await, None);
    }
}

pub fn scan(seq: u64) -> String {
    format!(r#"{{"seq":{seq},"ts":{NOW},"badge":"{BADGE}","dir":"in","method":"qr"}}"#)
}
