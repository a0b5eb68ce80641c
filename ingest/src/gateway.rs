//! What all ways in share, and how the rest of the program reaches connected devices.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntCounter;
use rollcall_model::ids::DeviceId;
use rollcall_stream::AppendError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Admitted};
use crate::config::{GatewayConfig, Namespace};
use crate::decode::{Decoder, Finished, Format, Intake, Refusal, Source};
use crate::directory::{AuthError, DeviceIdentity, Directory};
pub use crate::listen::{GatewayError, Listeners, run};
use crate::metrics::Metrics;
use crate::mqtt::broker::{ADMINISTRATIVE, Broker, Will};
use crate::mqtt::hello;
use crate::mqtt::journal::{Journal, JournalFile};
use crate::mqtt::session::Message;
use crate::permission;
use crate::places::{Place, Places};
use crate::presence::Presence;
use crate::throttle::Throttle;

/// Messages on the reject topic for one payload; the dead letters hold every one.
const REJECTS_PER_PAYLOAD_MAX: usize = 100;

/// How soon an append is tried again when the log has no room.
pub(crate) const RETRY: Duration = Duration::from_millis(50);

/// The intake. One for all listeners, the HTTP routes and the handles.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) decoder: Decoder,
    pub(crate) admission: Arc<Admission>,
    pub(crate) broker: Broker,
    pub(crate) presence: Presence,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mqtt_payloads: IntCounter,
    pub(crate) websocket_payloads: IntCounter,
    /// Until the gateway runs and writes it.
    pub(crate) journal_file: Mutex<Option<JournalFile>>,
    throttle: Throttle,
    arrivals: AtomicU64,
    pub(crate) places: Arc<Places>,
    /// Connections that began as HTTP requests; the listeners keep their own.
    pub(crate) upgraded: TaskTracker,
    /// Nobody is let in any more, and every connection is to end.
    pub(crate) closing: CancellationToken,
    /// The time for ending is over.
    pub(crate) cut: CancellationToken,
}

impl Gateway {
    /// `folder` is where sessions and retained messages are kept; what an earlier process left there is taken over.
    /// Blocking; call it before anything is accepted.
    pub fn open(
        config: GatewayConfig,
        directory: Arc<dyn Directory>,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        folder: &Path,
    ) -> Result<Arc<Self>, GatewayError> {
        let journal = Journal::new(admission.clock().clone(), config.kept_bytes_max);
        let opened = JournalFile::open(folder, journal.times());
        let (file, restored) = opened.map_err(|source| GatewayError::Sessions { path: folder.into(), source })?;
        tracing::info!(sessions = restored.sessions.len(), retained = restored.retained.len(), "sessions are restored");
        let broker = Broker::new(&config, metrics.clone(), journal);
        broker.restore(restored);
        Ok(Arc::new(Self {
            decoder: Decoder::new(directory.clone()),
            broker,
            journal_file: Mutex::new(Some(file)),
            presence: Presence::new(&admission),
            throttle: Throttle::new(config.auth_failures_per_minute_max),
            mqtt_payloads: metrics.publishes.with_label_values(&["mqtt"]),
            websocket_payloads: metrics.publishes.with_label_values(&["ingest_websocket"]),
            arrivals: AtomicU64::new(0),
            places: Places::new(config.connections_max, config.connections_per_address_max),
            upgraded: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            config,
            directory,
            admission,
            metrics,
        }))
    }

    /// For the api and the server.
    pub fn handle(self: &Arc<Self>) -> GatewayHandle {
        GatewayHandle { gateway: self.clone() }
    }

    /// The place of a connection that was accepted now in the order of all.
    pub(crate) fn next_arrival(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets nobody in any more and tells every connection to end.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.broker.close_all();
        self.upgraded.close();
    }

    /// Runs a connection that began as an HTTP request; its place is free when it ends.
    pub(crate) fn serve_upgraded(&self, place: Place, connection: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.upgraded.spawn(async move {
            let _place = place;
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
            }
        });
    }

    /// Checks a device's token. `Err(None)`: too many failures, nothing was looked at.
    pub(crate) async fn authenticate(
        &self,
        address: Option<IpAddr>,
        device: DeviceId,
        token: &str,
    ) -> Result<DeviceIdentity, Option<AuthError>> {
        let count = |reason: &str| self.metrics.auth_failures.with_label_values(&[reason]).inc();
        if !self.throttle.permits(address, device) {
            count("throttled");
            return Err(None);
        }
        self.directory.authenticate(device, token).await.map_err(|error| {
            match error {
                AuthError::BadCredentials => {
                    self.throttle.failed(address, device);
                    count("bad_credentials");
                }
                AuthError::Disabled => count("disabled"),
                AuthError::Unavailable => count("unavailable"),
            }
            Some(error)
        })
    }

    /// Sends refusals to the device's reject topic.
    pub(crate) fn send_rejects(&self, device: DeviceId, refusals: &[Refusal]) {
        if refusals.is_empty() {
            return;
        }
        let topic = permission::device_topic(device, "reject");
        for refusal in &refusals[..refusals.len().min(REJECTS_PER_PAYLOAD_MAX)] {
            self.route(&topic, refusal.to_json().to_string().into(), 1, false);
        }
    }

    fn route(&self, topic: &str, payload: Bytes, qos: u8, retain: bool) -> bool {
        let (topic, properties) = (topic.into(), Bytes::new());
        self.broker.route(Arc::new(Message { topic, payload, qos, retain, properties, expires: None, from: None }))
    }

    /// Publishes a will: events go to the log like any others, other topics to their subscribers.
    pub(crate) async fn publish_will(&self, will: Will) {
        let who = will.owner.and_then(|device| self.directory.device(device));
        match (who, permission::events(&will.message.topic)) {
            (Some(who), Some(kind)) => {
                let mut intake = Intake::default();
                let source = Source { topic: &will.message.topic, kind, format: Format::Recognised };
                let outcome = self.decoder.decode(&who, self.admission.now(), source, &will.message.payload, &mut intake);
                self.metrics.decoded(&outcome);
                if let Err(error) = self.admit(&intake.finish()).await {
                    tracing::warn!(device = %who.device, %error, "a will could not be taken");
                }
            }
            _ if self.config.namespace == Namespace::Open => {
                let old = &will.message;
                let expires = hello::expiry(will.expiry_s);
                let (topic, payload, properties) = (old.topic.clone(), old.payload.clone(), old.properties.clone());
                let message = Message { topic, payload, qos: old.qos, retain: old.retain, properties, expires, from: None };
                self.broker.route(Arc::new(message));
            }
            _ => {}
        }
    }

    /// Admits, waiting while the log has no room.
    pub(crate) async fn admit(&self, intake: &Finished) -> Result<Admitted, AppendError> {
        let mut durable = self.admission.log().durable();
        loop {
            durable.mark_unchanged();
            match self.admission.admit(intake) {
                Err(AppendError::Busy | AppendError::Full) => {
                    let moved = tokio::time::timeout(RETRY, durable.changed()).await;
                    if matches!(moved, Ok(Err(_))) {
                        return Err(AppendError::Stopped("it closed while there was no room".into()));
                    }
                }
                result => return result,
            }
        }
    }

    /// Waits until the log is durable up to what was admitted. `false`: the log has stopped first.
    pub(crate) async fn durable(&self, admitted: &Admitted) -> bool {
        self.admission.log().durable().wait_for(|reached| *reached >= admitted.offset).await.is_ok()
    }
}

/// What the api and the server may do with connected devices. Cheap to clone.
#[derive(Clone)]
pub struct GatewayHandle {
    gateway: Arc<Gateway>,
}

impl GatewayHandle {
    /// Publishes to `v1/device/<id>/<suffix>`. A retained message is also sent to the device when it subscribes later; an
    /// empty payload takes it away. Returns whether the device had subscribed. Retained messages and, for a persistent
    /// session, messages of QoS 1 and 2 survive a restart of the process once they are in the journal, which takes one
    /// write after this returns.
    pub fn publish_to_device(&self, device: DeviceId, suffix: &str, payload: Bytes, qos: u8, retain: bool) -> bool {
        self.gateway.route(&permission::device_topic(device, suffix), payload, qos.min(2), retain)
    }

    /// Ends the device's MQTT connections, for example because it was disabled; returns how many there were.
    pub fn disconnect(&self, device: DeviceId) -> usize {
        self.gateway.broker.disconnect(device, ADMINISTRATIVE)
    }

    /// Devices that are connected now, over MQTT or WebSocket.
    pub fn connected_devices(&self) -> usize {
        self.gateway.presence.count()
    }

    pub fn is_connected(&self, device: DeviceId) -> bool {
        self.gateway.presence.is_connected(device)
    }
}
