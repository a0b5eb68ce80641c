//! Clients that behave badly: storms of connections, half-open ones, a publisher that never reads its acknowledgements,
//! subscribers that never read. The server's memory stays bounded, and a well-behaved device beside them notices nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::SinkExt;
use rollcall_tests::district::{self, Device, District, now_ms};
use rollcall_tests::mqtt::{Link, connect_packet, open_narrow, publish_packet};
use rollcall_tests::process::{descriptors, raise_descriptors, rss_bytes};
use rollcall_tests::torture::Torture;
use rollcall_tests::traffic::{Sending, Source};
use rollcall_tests::{Instance, Launch, Live};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::{DRAIN, LOOK};

const MIB: u64 = 1 << 20;
const TAIL_BYTES: u64 = 8 * MIB;
/// What bad clients of any kind may cost in memory, beyond what each connection may.
const GROWTH_MAX: u64 = 96 * MIB;
/// The longest that the well-behaved device may wait for an acknowledgement. Generous, because the whole test suite shares
/// the processors; a server that stands still is far beyond it.
const LATENCY_MAX: Duration = Duration::from_secs(5);

/// A well-behaved device that measures how long each of its events takes.
struct Probe {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<(usize, Duration)>>,
}

impl Probe {
    async fn start(instance: &Instance, device: &Device) -> Result<Self> {
        let mut link = Link::open(&instance.mqtt, device).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut count, mut worst) = (0usize, Duration::ZERO);
            while !stopped.load(Ordering::Acquire) {
                count += 1;
                let event = json!({"seq": count, "ts": now_ms(), "m": {"probe": 1}}).to_string();
                let began = Instant::now();
                link.send(&publish_packet("v1/telemetry", (count % 60_000 + 1) as u16, event.as_bytes())).await?;
                timeout(DRAIN, link.acknowledged()).await.context("the probe got no acknowledgement")??;
                worst = worst.max(began.elapsed());
                sleep(Duration::from_millis(10)).await;
            }
            Ok((count, worst))
        });
        Ok(Self { stop, task })
    }

    /// Ends the measurement and holds it against the bound.
    async fn check(self, beside: &str) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let (count, worst) = self.task.await??;
        println!("beside {beside}: {count} events, the slowest took {worst:?}");
        ensure!(worst < LATENCY_MAX, "beside {beside} one event took {worst:?}");
        Ok(())
    }
}

struct Crowd {
    dir: tempfile::TempDir,
    instance: Instance,
    district: District,
    probe: Device,
    devices: Vec<Device>,
    rss: u64,
}

impl Crowd {
    async fn new(name: &str, devices: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // The log's own memory of recent events is bounded by its setting, and is not what these tests are about.
        let instance = Instance::launch(dir.path(), Launch::default().set("ROLLCALL_LOG_TAIL_BYTES", TAIL_BYTES))?;
        let district = district::synthetic(&instance, dir.path(), name, 20)?;
        let devices = District::devices(&instance, &district.name, &district.school, "wearable", devices)?;
        let probe = District::device(&instance, &district.name, &district.school, "wearable", "Well-behaved")?;
        district.until_known(&instance).await?;
        let rss = rss_bytes(instance.pid())?;
        Ok(Self { dir, instance, district, probe, devices, rss })
    }

    fn growth(&self) -> Result<u64> {
        Ok(rss_bytes(self.instance.pid())?.saturating_sub(self.rss))
    }

    fn bounded(&self, what: &str, max: u64) -> Result<()> {
        let growth = self.growth()?;
        println!("{what}: {} MiB more memory", growth / MIB);
        ensure!(growth <= max, "{what} cost {} MiB", growth / MIB);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_passes() -> Result<()> {
    const CONNECTION_BYTES_MAX: u64 = 64 * 1024;
    let torture = Torture::begin("connection storm");
    let room = usize::try_from(raise_descriptors()?)?.saturating_sub(500);
    let wanted = torture.either(1_000, 10_000).min(room);
    let crowd = Crowd::new("Storm", 64).await?;
    let before = descriptors(crowd.instance.pid())?;
    let probe = Probe::start(&crowd.instance, &crowd.probe).await?;
    let began = Instant::now();
    let mut opening = JoinSet::new();
    for number in 0..wanted {
        let (address, device) = (crowd.instance.mqtt.clone(), crowd.devices[number % crowd.devices.len()].clone());
        opening.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            // Every second one signs in, each device again and again: the newer connection takes over from the older.
            if number % 2 == 0 {
                stream.write_all(&connect_packet(&device, &device.id, 60)).await?;
            }
            anyhow::Ok(stream)
        });
        if number % 100 == 99 {
            // Spread over one second.
            sleep(Duration::from_secs(1).mul_f64(number as f64 / wanted as f64).saturating_sub(began.elapsed())).await;
        }
    }
    let mut open = Vec::new();
    while let Some(opened) = opening.join_next().await {
        open.extend(opened?);
    }
    println!("{} of {wanted} connections within {:?}", open.len(), began.elapsed());
    ensure!(open.len() * 100 >= wanted * 99, "only {} of {wanted} connections were accepted", open.len());
    crowd.bounded("the storm", GROWTH_MAX + wanted as u64 * CONNECTION_BYTES_MAX)?;
    drop(open);
    let end = Instant::now() + DRAIN;
    while descriptors(crowd.instance.pid())? > before + 100 {
        ensure!(Instant::now() < end, "{} descriptors are left of a storm that is over", descriptors(crowd.instance.pid())?);
        sleep(LOOK).await;
    }
    probe.check("a storm").await
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_ended() -> Result<()> {
    let torture = Torture::begin("half-open connections");
    let each = torture.either(100, 1_000);
    let crowd = Crowd::new("Half", each).await?;
    let probe = Probe::start(&crowd.instance, &crowd.probe).await?;
    let mut silent = JoinSet::new();
    for device in crowd.devices.clone() {
        // Half a CONNECT, and then nothing.
        let address = crowd.instance.mqtt.clone();
        let half = device.clone();
        silent.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let packet = connect_packet(&half, &half.id, 60);
            stream.write_all(&packet[..packet.len() / 2]).await?;
            ended(stream).await
        });
        // Signed in with a keep-alive of a second, then the beginning of a publish that claims to be large.
        let address = crowd.instance.mqtt.clone();
        silent.spawn(async move {
            let mut link = Link::greet(TcpStream::connect(address).await?, &device, 1).await?;
            let packet = publish_packet("v1/telemetry", 1, &vec![b' '; 250_000]);
            link.send(&packet[..100]).await?;
            ended(link.stream).await
        });
    }
    sleep(Duration::from_millis(500)).await;
    crowd.bounded("half-open connections", GROWTH_MAX)?;
    while let Some(done) = silent.join_next().await {
        done??;
    }
    probe.check("half-open connections").await
}

/// Waits until the server has closed the connection.
async fn ended(mut stream: TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = timeout(DRAIN, stream.read_to_end(&mut rest)).await.context("a half-open connection was kept")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_never_reads_is_held_back() -> Result<()> {
    let torture = Torture::begin("acknowledgements are never read");
    let crowd = Crowd::new("Deaf", 4).await?;
    let probe = Probe::start(&crowd.instance, &crowd.probe).await?;
    let mut deaf = JoinSet::new();
    for device in crowd.devices.clone() {
        let address = crowd.instance.mqtt.clone();
        let patience = torture.either(Duration::from_secs(4), DRAIN * 2);
        deaf.spawn(async move {
            let mut link = Link::greet(open_narrow(&address).await?, &device, 0).await?;
            let event = json!({"seq": 1, "ts": now_ms(), "m": {"steps": 1}}).to_string();
            // The same event again and again: acknowledged at once, and never stored a second time.
            let many = publish_packet("v1/telemetry", 7, event.as_bytes()).repeat(500);
            let (began, mut sent) = (Instant::now(), 0u64);
            while began.elapsed() < patience {
                match timeout(patience.saturating_sub(began.elapsed()), link.send(&many)).await {
                    Ok(Ok(())) => sent += 500,
                    // Given up by the server, which is what must happen in the end.
                    Ok(Err(_)) => return Ok((sent, true)),
                    Err(_) => break,
                }
            }
            anyhow::Ok((sent, false))
        });
    }
    let mut growth = 0;
    while !deaf.is_empty() {
        growth = growth.max(crowd.growth()?);
        if let Ok(Some(done)) = timeout(LOOK, deaf.join_next()).await {
            let (sent, given_up) = done??;
            println!("{sent} publishes, {}", if given_up { "given up by the server" } else { "still connected" });
            ensure!(given_up || torture.minutes.is_none(), "a peer that never reads was kept");
        }
    }
    println!("at most {} MiB more memory", growth / MIB);
    ensure!(growth <= GROWTH_MAX, "a publisher that never reads cost {} MiB", growth / MIB);
    probe.check("publishers that never read").await
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_never_read_cost_nobody_anything() -> Result<()> {
    let torture = Torture::begin("live updates are never read");
    let crowd = Crowd::new("Unread", 1).await?;
    crowd.district.account(&crowd.instance, "office@unread.example", "office", None)?;
    let session = District::sign_in(&crowd.instance, "office@unread.example").await?;
    let schools = session.get("/schools").await?;
    let topic = format!("school/{}/attendance", schools["items"][0]["id"].as_str().context("no school")?);
    let http = crowd.instance.http.trim_start_matches("http://").to_owned();
    let mut unread = Vec::new();
    // Fewer than one account may have at a time.
    for _ in 0..torture.either(20, 40) {
        let mut request = format!("ws://{http}/live/v1").into_client_request()?;
        request.headers_mut().insert("cookie", session.cookie.parse()?);
        request.headers_mut().insert("origin", crowd.instance.http.parse()?);
        let (mut socket, _) = tokio_tungstenite::client_async(request, open_narrow(&http).await?).await?;
        socket.send(Message::text(json!({"op": "subscribe", "id": 1, "topic": topic}).to_string())).await?;
        unread.push(socket);
    }
    let mut live = Live::connect(&crowd.instance.http, &session).await?;
    live.subscribe(1, &topic, None).await?;
    live.until("the school's board", 30, |live| live.boards.contains_key(&1)).await?;
    let probe = Probe::start(&crowd.instance, &crowd.probe).await?;
    let gate =
        Sending::start(&crowd.instance.mqtt, &crowd.district.gate, Source::Scans(crowd.district.students.clone()), 300, torture.seed);
    let until = Instant::now() + torture.either(Duration::from_secs(4), Duration::from_secs(60));
    let (mut growth, mut updates) = (0, 0);
    while Instant::now() < until {
        // The one that reads gets every change meanwhile.
        let version = live.board(1).version;
        live.until("an update", 30, |live| live.board(1).version > version).await?;
        updates += 1;
        growth = growth.max(crowd.growth()?);
    }
    println!("{updates} updates read by one, none by {}; at most {} MiB more memory", unread.len(), growth / MIB);
    ensure!(growth <= GROWTH_MAX, "subscribers that never read cost {} MiB", growth / MIB);
    gate.finish(DRAIN).await?;
    drop(unread);
    probe.check("subscribers that never read").await?;
    drop(crowd.dir);
    Ok(())
}
