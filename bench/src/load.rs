//! A load generator: wearables that publish telemetry in batches at a fixed rate, bounded in time.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

#[derive(Args, Clone)]
pub struct Options {
    /// host:port of MQTT
    #[arg(long)]
    pub mqtt: String,
    /// Devices as id:token
    #[arg(long = "device", required = true)]
    pub devices: Vec<String>,
    /// Events a second over all devices
    #[arg(long)]
    pub events_per_s: u64,
    #[arg(long, default_value_t = 100)]
    pub events_per_publish: u64,
    #[arg(long)]
    pub run_for_s: u64,
}

/// Publishes with QoS 1 and prints how many events were acknowledged.
pub async fn run(options: Options) -> Result<()> {
    let mut tasks = JoinSet::new();
    for device in options.devices.clone() {
        tasks.spawn(one(options.clone(), device));
    }
    let mut acknowledged = 0;
    while let Some(done) = tasks.join_next().await {
        acknowledged += done??;
    }
    println!("{acknowledged}");
    Ok(())
}

async fn one(options: Options, device: String) -> Result<u64> {
    let (id, token) = device.split_once(':').context("a device is id:token")?;
    let (host, port) = options.mqtt.rsplit_once(':').context("mqtt is host:port")?;
    let mut mqtt = MqttOptions::new(id, host, port.parse()?);
    mqtt.set_credentials(id, token).set_inflight(100).set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(mqtt, 200);
    let publishes_per_s = options.events_per_s as f64 / options.events_per_publish as f64 / options.devices.len() as f64;
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.run_for_s);
    let mut pace = interval_at(begin, Duration::from_secs_f64(1.0 / publishes_per_s));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut seq = chrono::Utc::now().timestamp_micros();
    let mut acknowledged = 0;
    loop {
        tokio::select! {
            event = events.poll() => match event? {
                Event::Incoming(Packet::PubAck(_)) => acknowledged += options.events_per_publish,
                _ => {}
            },
            due = pace.tick() => {
                if due >= end {
                    return Ok(acknowledged);
                }
                let now = chrono::Utc::now().timestamp_millis();
                let batch: Vec<_> = (0..options.events_per_publish)
                    .map(|_| { seq += 1; json!({"seq": seq, "ts": now, "m": {"steps": seq % 20}}) })
                    .collect();
                // A full queue means that the server does not keep up: the batch is skipped and the acknowledged count tells.
                let _ = client.try_publish("v1/telemetry", QoS::AtLeastOnce, false, serde_json::to_vec(&batch)?);
            }
        }
    }
}
