//! The gateway and the log without database and live state: what a profile of intake should show and nothing else.
//!
//! `cargo run --release -p rollcall-ingest --example gateway_alone` prints the addresses of MQTT and HTTP and serves until its
//! standard input ends. Every device id is known, with any token; every badge belongs to one person. A reader follows the log
//! and lets it trim what was read. Load it with `rollcall-bench load flood`.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rollcall_ingest::{
    Admission, AdmissionConfig, AuthError, BadgeHolder, DeviceIdentity, Directory, Gateway, GatewayConfig, Listeners, Metrics, gateway,
    http,
};
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::time::Clock;
use rollcall_stream::embedded::{EmbeddedLog, LogConfig};
use rollcall_stream::{Log, Tail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const READ_BYTES: usize = 6 * 1024 * 1024;

struct Everybody;

fn identity(device: DeviceId) -> DeviceIdentity {
    DeviceIdentity::new(device, DistrictId::from_bytes([1; 16]), SchoolId::from_bytes([2; 16]), DeviceKind::Wearable)
}

impl Directory for Everybody {
    fn device(&self, device: DeviceId) -> Option<DeviceIdentity> {
        Some(identity(device))
    }

    fn authenticate<'a>(&'a self, device: DeviceId, _: &'a str) -> BoxFuture<'a, Result<DeviceIdentity, AuthError>> {
        async move { Ok(identity(device)) }.boxed()
    }

    fn badge(&self, _: DistrictId, _: &str) -> Option<BadgeHolder> {
        Some(BadgeHolder { badge: BadgeId::from_bytes([3; 16]), person: PersonId::from_bytes([4; 16]) })
    }

    fn version(&self) -> u64 {
        1
    }
}

async fn follow(log: Arc<dyn Log>) {
    log.register("sink", Offset(0));
    let mut tail = Tail::new(log.clone(), Offset(0));
    while let Ok(read) = tail.next(READ_BYTES).await {
        log.commit("sink", read.next);
        log.commit("dedup", read.next);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let registry = prometheus::Registry::new();
    let log: Arc<dyn Log> = EmbeddedLog::open(&dir.path().join("log"), LogConfig::default(), &registry)?;
    let metrics = Arc::new(Metrics::new(&registry)?);
    let admission = Admission::open(log.clone(), &dir.path().join("dedup"), AdmissionConfig::default(), Clock::System, metrics.clone())?;
    let sessions = dir.path().join("sessions");
    let gateway = Gateway::open(GatewayConfig::default(), Arc::new(Everybody), admission, metrics, &sessions)?;
    let (mqtt, web) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
    println!("{} {}", mqtt.local_addr()?, web.local_addr()?);
    let shutdown = CancellationToken::new();
    let follower = tokio::spawn(follow(log));
    let routes = http::router(gateway.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let web = tokio::spawn(async move { axum::serve(web, routes).await });
    let listeners = Listeners { tcp: Some(mqtt), tls: None };
    let serving = tokio::spawn(gateway::run(gateway, listeners, shutdown.clone()));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    shutdown.cancel();
    serving.await??;
    web.abort();
    follower.abort();
    Ok(())
}
