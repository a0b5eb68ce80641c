//! `scan-to-board`: how long after its time to be sent a scan is on the board of a WebSocket subscriber, durable write included.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use rollcall_tests::district::{self, District, now_ms};
use rollcall_tests::{Instance, Live};
use rumqttc::{AsyncClient, MqttOptions, QoS};
use tokio::time::{Instant, sleep_until};

use crate::machine;
use crate::table::Row;

#[derive(Args, Clone)]
pub struct Options {
    /// Students who arrive; each is one measurement
    #[arg(long, default_value_t = 600)]
    pub students: u32,
    /// Arrivals a second
    #[arg(long, default_value_t = 40)]
    pub arrivals_per_s: u32,
    /// Background telemetry in events a second, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [0, 20_000, 100_000])]
    pub background: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { students: 600, arrivals_per_s: 40, background: vec![0, 20_000, 100_000] }
    }
}

const LOAD_DEVICES: usize = 20;

pub async fn run(options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &background in &options.background {
        rows.push(once(options, background).await?);
    }
    Ok(rows)
}

async fn once(options: &Options, background: u64) -> Result<Row> {
    let dir = tempfile::Builder::new().prefix("rollcall-bench").tempdir()?;
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data)?;
    let instance = Instance::start(&data)?;
    let idle_mib = machine::memory_mib(instance.pid())?;
    println!("ready after {:?}; fdatasync {:?}; memory when idle {idle_mib:.1} MiB", instance.started_in, machine::fdatasync_time(&data)?);
    let district = district::synthetic(&instance, dir.path(), "Bench", options.students)?;
    district.account(&instance, "office@bench.example", "office", None)?;
    let session = District::sign_in(&instance, "office@bench.example").await?;
    let mut live = Live::connect(&instance.http, &session).await?;
    let sections = session.get("/sections").await?;
    let all = sections["items"].as_array().context("no sections")?;
    let meeting: Vec<_> = all.iter().filter(|section| section["meets_now"] == true).collect();
    for (index, section) in meeting.iter().enumerate() {
        live.subscribe(index as u64, &format!("section/{}/attendance", section["id"].as_str().unwrap_or_default()), None).await?;
    }
    live.until("all snapshots", 30, |live| live.boards.len() == meeting.len()).await?;

    let seconds = u64::from(options.students / options.arrivals_per_s) + 5;
    let mut load = start_load(&instance, &district, background, seconds)?;
    let cpu_before = machine::cpu_time(instance.pid())?;
    let began = Instant::now();
    let latencies = arrivals(options, &instance, &district, &mut live).await?;
    let elapsed = began.elapsed();
    let cpu = machine::cpu_time(instance.pid())? - cpu_before;
    if let Some(child) = load.take() {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("the background load broke off, so there is nothing to compare: {}", output.status);
        }
        println!("background: {} events acknowledged", String::from_utf8_lossy(&output.stdout).trim());
    }
    let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Row {
        scenario: "scan-to-board".into(),
        what: if background == 0 { "idle".into() } else { format!("beside {background} telemetry/s") },
        rate_per_s: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        server_cpu_s: cpu.as_secs_f64(),
        server_memory_mib: machine::memory_mib(instance.pid())?,
        log_mib: machine::folder_mib(&data.join("log")),
    })
}

fn start_load(instance: &Instance, district: &District, events_per_s: u64, run_for_s: u64) -> Result<Option<std::process::Child>> {
    if events_per_s == 0 {
        return Ok(None);
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["load", "--mqtt", &instance.mqtt, "--events-per-s", &events_per_s.to_string(), "--run-for-s", &run_for_s.to_string()]);
    for index in 0..LOAD_DEVICES {
        let device = District::device(instance, &district.name, &district.school, "wearable", &format!("Load {index}"))?;
        command.args(["--device", &format!("{}:{}", device.id, device.token)]);
    }
    Ok(Some(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?))
}

/// Publishes each student's scan at its time and waits for all of them on the boards; latencies in microseconds.
async fn arrivals(options: &Options, instance: &Instance, district: &District, live: &mut Live) -> Result<Histogram<u64>> {
    let mut mqtt = MqttOptions::new(&district.gate.id, "127.0.0.1", instance.mqtt_port()?);
    mqtt.set_credentials(&district.gate.id, &district.gate.token);
    let (client, mut events) = AsyncClient::new(mqtt, 1000);
    let connection = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let begin = Instant::now() + Duration::from_secs(2);
    let pause = Duration::from_secs(1) / options.arrivals_per_s;
    let due: HashMap<String, Instant> =
        district.students.iter().enumerate().map(|(index, student)| (student.id.clone(), begin + pause * index as u32)).collect();
    let students = district.students.clone();
    let publisher = tokio::spawn(async move {
        let first = now_ms() as u64;
        for (index, student) in students.iter().enumerate() {
            sleep_until(begin + pause * index as u32).await;
            let event = district::scan(first + index as u64, &student.badge, "in", now_ms());
            client.publish("v1/scan", QoS::AtLeastOnce, false, event.to_string()).await?;
        }
        anyhow::Ok(())
    });
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut seen: HashMap<String, ()> = HashMap::new();
    let deadline = begin + pause * options.students + Duration::from_secs(20);
    while seen.len() < due.len() {
        let message = tokio::time::timeout_at(deadline, live.next()).await;
        let Ok(message) = message else { bail!("{} of {} arrivals reached a board in time", seen.len(), due.len()) };
        let message = message?;
        let Some(changed) = message["data"]["students"].as_object() else { continue };
        for (student, entry) in changed {
            let arrived = entry["detail"]["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty());
            if arrived && !seen.contains_key(student) {
                if let Some(due) = due.get(student) {
                    latencies.record(due.elapsed().as_micros() as u64)?;
                    seen.insert(student.clone(), ());
                }
            }
        }
    }
    publisher.await??;
    connection.abort();
    Ok(latencies)
}
