//! `sink`: from the log into the database. Telemetry alone, as a backlog that was prepared while the database refused the
//! sink; then beside intake, with and without the sink at work.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Settings;
use super::intake::{CONFIG, CONNECTIONS, Flow, Stage};
use crate::fresh::Fresh;
use crate::load::flood::Report;
use crate::load::payload::Encoding;
use crate::load::talk::Protocol;
use crate::table::Row;

const SCENARIO: &str = "sink";
const FLOW: Flow = Flow { protocol: Protocol::Mqtt, encoding: Encoding::Json, events_per_message: 100, window: 10 };

/// Rows of the prepared backlog.
const BACKLOG: u64 = 8_000_000;
const ALONE_MIN_PER_S: f64 = 1e6;
/// What the sink must keep up with beside intake.
const BESIDE_PER_S: f64 = 300_000.0;
/// At the end of a run at that rate the sink may be behind by what one second brings.
const BEHIND_MAX_ROWS: f64 = BESIDE_PER_S;
/// Rates of two runs on a machine that does nothing else differ by so much.
const SAME: f64 = 0.95;

const ROUNDS: usize = 2;

/// How often the sink's progress is looked at.
const LOOK: Duration = Duration::from_millis(50);
const DRAIN_MAX: Duration = Duration::from_secs(120);

const LAG: &str = "rollcall_sink_lag_rows";
const WRITTEN: &str = "rollcall_sink_rows_total";

pub async fn run(settings: Settings) -> Result<Vec<Row>> {
    let server = Fresh::start_on(CONFIG, settings.database_url.as_deref())?;
    let engine = server.instance.ready["engine_version"].as_str().unwrap_or("unknown").to_owned();
    let district = server.district(60)?;
    let mut stage = Stage::equip(server, &district, CONNECTIONS, true)?;
    // The first rows make the partitions of today.
    stage.flood(FLOW, 0.1, 0.0).await?;
    stage.settle().await?;
    let mut rows = vec![alone(&mut stage, &settings).await?.note(engine)];
    rows.push(keeping_up(&mut stage, settings.seconds as f64 / 4.0).await?);
    for (name, rate) in [("as fast as it goes", 0.0), ("300,000/s", BESIDE_PER_S)] {
        rows.extend(beside(&mut stage, name, rate, settings.seconds as f64 / 8.0).await?);
    }
    stage.verify().await?;
    Ok(rows)
}

/// A backlog, while nobody sends anything.
async fn alone(stage: &mut Stage, settings: &Settings) -> Result<Row> {
    stage.server.hold_sink().await?;
    let begin = stage.acknowledged();
    while stage.acknowledged() - begin < BACKLOG {
        stage.flood(FLOW, settings.seconds as f64 / 6.0, 0.0).await?;
    }
    let meter = stage.server.meter()?;
    let before = stage.server.metric(WRITTEN).await?;
    stage.server.release_sink().await?;
    // The clock begins with the first transaction that lands: the sink tries again after a pause.
    let waited = Instant::now();
    let mut first = before;
    while first == before {
        ensure!(waited.elapsed() < DRAIN_MAX, "the sink does not begin again");
        tokio::time::sleep(LOOK).await;
        first = stage.server.metric(WRITTEN).await?;
    }
    let began = Instant::now();
    stage.server.caught_up(DRAIN_MAX).await?;
    let (seconds, rows) = (began.elapsed().as_secs_f64(), stage.server.metric(WRITTEN).await? - first);
    let cost = meter.end(rows as u64)?;
    let rate = rows / seconds;
    Ok(Row::new(SCENARIO, "a backlog alone", rows as u64, seconds)
        .cost(cost)
        .bar(format!("{} million rows/s", ALONE_MIN_PER_S / 1e6), rate >= ALONE_MIN_PER_S))
}

/// Open loop at the rate that it must keep up with.
async fn keeping_up(stage: &mut Stage, seconds: f64) -> Result<Row> {
    stage.settle().await?;
    let before = stage.server.metric(WRITTEN).await?;
    let began = Instant::now();
    let (report, cost) = stage.flood(FLOW, seconds, BESIDE_PER_S).await?;
    let (behind, written) = (stage.server.metric(LAG).await?, stage.server.metric(WRITTEN).await? - before);
    let rate = written / began.elapsed().as_secs_f64();
    let mut row = Row::new(SCENARIO, "beside intake of 300,000/s", written as u64, written / rate)
        .cost(cost)
        .bar(format!("keeps up: at the end {behind:.0} rows behind"), behind <= BEHIND_MAX_ROWS)
        .note(format!("intake acknowledged {:.0}/s; latency is that of a publish", report.events as f64 / report.seconds));
    row.latency = report.latency;
    Ok(row)
}

/// Intake with the sink at work and with the sink held, in turn.
async fn beside(stage: &mut Stage, name: &str, rate: f64, seconds: f64) -> Result<Vec<Row>> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut sink_per_s = 0.0;
    for _ in 0..ROUNDS {
        stage.settle().await?;
        let (began, before) = (Instant::now(), stage.server.metric(WRITTEN).await?);
        with.push(stage.flood(FLOW, seconds, rate).await?.0);
        sink_per_s += (stage.server.metric(WRITTEN).await? - before) / began.elapsed().as_secs_f64() / ROUNDS as f64;
        stage.settle().await?;
        stage.server.hold_sink().await?;
        without.push(stage.flood(FLOW, seconds, rate).await?.0);
        stage.server.release_sink().await?;
    }
    let ratio = rate_of(&with) / rate_of(&without);
    let (with, without) = (row(format!("intake {name}, sink at work"), &with), row(format!("intake {name}, sink held"), &without));
    let with = with
        .against("intake with the sink held", ratio)
        .bar("the sink does not slow intake", ratio >= SAME)
        .note(format!("meanwhile the sink wrote {sink_per_s:.0} rows/s"));
    Ok(vec![with, without])
}

fn rate_of(reports: &[Report]) -> f64 {
    reports.iter().map(|report| report.events as f64).sum::<f64>() / reports.iter().map(|report| report.seconds).sum::<f64>()
}

fn row(what: String, reports: &[Report]) -> Row {
    let mut row =
        Row::new(SCENARIO, what, reports.iter().map(|report| report.events).sum(), reports.iter().map(|report| report.seconds).sum());
    row.latency = reports.last().and_then(|report| report.latency);
    row
}
