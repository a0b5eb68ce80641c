//! kill -9 in the middle of traffic: whatever was acknowledged is in the database exactly once, and duplicates stay out after the restart.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{SinkExt, StreamExt};
use rollcall_tests::Instance;
use rollcall_tests::district::{self, Device, District, now_ms};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// Sequence numbers of a device's telemetry in the database, sorted, with repetitions.
async fn stored(instance: &Instance, device: &str) -> Result<Vec<i64>> {
    let pid_file = std::fs::read_to_string(instance.data_dir().join("postgres/data/postmaster.pid"))?;
    let socket = pid_file.lines().nth(4).unwrap_or_default().trim().replace('/', "%2F");
    let mut database = PgConnection::connect(&format!("postgres://rollcall@{socket}/postgres")).await?;
    let rows =
        sqlx::query("select seq from event.telemetry where device = $1::uuid order by seq").bind(device).fetch_all(&mut database).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Waits until the database holds all of `wanted`, which it must within a bounded time, then returns what it holds.
async fn stored_with(instance: &Instance, device: &str, wanted: &BTreeSet<i64>) -> Result<Vec<i64>> {
    let mut held = Vec::new();
    for _ in 0..600 {
        held = stored(instance, device).await?;
        if wanted.iter().all(|seq| held.binary_search(seq).is_ok()) {
            return Ok(held);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing: Vec<_> = wanted.iter().filter(|seq| held.binary_search(seq).is_err()).take(10).collect();
    anyhow::bail!("acknowledged but not stored: {missing:?} of {}", wanted.len())
}

/// Publishes numbered events until the connection breaks or all are acknowledged; returns the acknowledged ones.
pub(super) async fn publish(
    instance: &Instance,
    device: &Device,
    seqs: std::ops::Range<i64>,
    kill_after: usize,
    kill: impl FnOnce(),
) -> Result<BTreeSet<i64>> {
    let mut options = MqttOptions::new(&device.id, "127.0.0.1", instance.mqtt_port()?);
    options.set_credentials(&device.id, &device.token).set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    let sender = tokio::spawn({
        let seqs = seqs.clone();
        async move {
            for seq in seqs {
                let event = json!({"seq": seq, "ts": now_ms(), "m": {"steps": seq}});
                if client.publish("v1/telemetry", QoS::AtLeastOnce, false, event.to_string()).await.is_err() {
                    return;
                }
            }
        }
    });
    // rumqttc numbers packets itself; the order of its outgoing publishes maps numbers to events.
    let (mut next, mut in_flight, mut acknowledged) = (seqs.start, std::collections::HashMap::new(), BTreeSet::new());
    let mut kill = Some(kill);
    while acknowledged.len() < (seqs.end - seqs.start) as usize {
        match events.poll().await {
            Ok(Event::Outgoing(rumqttc::Outgoing::Publish(packet))) => {
                in_flight.insert(packet, next);
                next += 1;
            }
            Ok(Event::Incoming(Packet::PubAck(ack))) => {
                if let Some(seq) = in_flight.remove(&ack.pkid) {
                    acknowledged.insert(seq);
                }
                if acknowledged.len() >= kill_after
                    && let Some(kill) = kill.take()
                {
                    kill();
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    sender.abort();
    Ok(acknowledged)
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_survive_kills_exactly_once() -> Result<()> {
    const EVENTS_PER_ROUND: i64 = 3_000;
    let dir = tempfile::tempdir()?;
    let mut instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Durable", 10)?;
    let device = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3_i64 {
        let pid = i32::try_from(instance.pid())?;
        let seqs = round * EVENTS_PER_ROUND + 1..(round + 1) * EVENTS_PER_ROUND + 1;
        let kill_after = 200 + 400 * round as usize;
        // SAFETY: the pid is that of the server this test started and has not waited for.
        let done = publish(&instance, &device, seqs.clone(), kill_after, || unsafe { _ = libc::kill(pid, libc::SIGKILL) }).await?;
        ensure!(done.len() < EVENTS_PER_ROUND as usize, "the kill came too late to interrupt anything");
        acknowledged.extend(done);
        instance.kill()?;
        instance.restart()?;
        // A device sends again what was not acknowledged, and here also what was: none of it may count twice.
        acknowledged.extend(publish(&instance, &device, seqs, usize::MAX, || ()).await?);
    }
    ensure!(acknowledged.len() == 3 * EVENTS_PER_ROUND as usize, "after the resend everything is acknowledged");
    let held = stored_with(&instance, &device.id, &acknowledged).await?;
    ensure!(held.windows(2).all(|pair| pair[0] < pair[1]), "an event is stored twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_and_http_acknowledge_in_order_and_drop_duplicates() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Doors", 10)?;
    let device = District::device(&instance, &district.name, &district.school, "wearable", "Band")?;
    let authorization = format!("Bearer {}:{}", device.id, device.token);

    let mut request = format!("{}/ingest/v1", instance.http.replacen("http", "ws", 1)).into_client_request()?;
    request.headers_mut().insert("authorization", authorization.parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    for seq in 1..=50 {
        let event = json!({"type": "telemetry", "seq": seq, "ts": now_ms(), "m": {"steps": 1}});
        socket.send(Message::text(event.to_string())).await?;
    }
    socket.send(Message::text("{\"type\":\"telemetry\",\"seq\":51,\"ts\":\"yesterday\",\"m\":{\"steps\":1}}")).await?;
    for frame in 1..=51_u64 {
        let Some(Ok(Message::Text(text))) = socket.next().await else { anyhow::bail!("no answer to frame {frame}") };
        let answer: Value = serde_json::from_str(&text)?;
        let expected = if frame == 51 { "reject" } else { "ack" };
        ensure!(answer[expected] == frame, "frame {frame} was answered {answer}");
    }

    let client = reqwest::Client::new();
    let events: Vec<Value> = (41..=60).map(|seq| json!({"type": "telemetry", "seq": seq, "ts": now_ms(), "m": {"steps": 1}})).collect();
    let post = |body: Value| {
        let request = client.post(format!("{}/ingest/v1", instance.http)).header("authorization", &authorization).json(&body);
        async move { anyhow::Ok(request.send().await?.error_for_status()?.json::<Value>().await?) }
    };
    let answer = post(Value::Array(events)).await?;
    ensure!(answer["duplicates"] == 10, "41 to 50 came by WebSocket already: {answer}");
    let wanted: BTreeSet<i64> = (1..=60).collect();
    // 51 was refused by the WebSocket and is new by HTTP.
    let held = stored_with(&instance, &device.id, &wanted).await?;
    ensure!(held.len() == 60, "{} rows instead of 60", held.len());
    Ok(())
}
