//! Results as a table for people and as JSON for machines.

use std::path::Path;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::meter::Cost;

/// One measured run of one system.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub scenario: &'static str,
    /// Which system or which circumstance.
    pub what: String,
    /// What was counted, and how long it took. Ratios are of rates.
    pub events: u64,
    pub seconds: f64,
    pub rate_per_s: f64,
    pub latency: Option<Latency>,
    pub cost: Option<Cost>,
    /// Another system in the same run, and how many times its rate ours is.
    pub against: Option<(String, f64)>,
    /// The bar in words, and whether it was reached.
    pub bar: Option<(String, bool)>,
    pub notes: Vec<String>,
}

/// Quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    /// Of a histogram in microseconds.
    pub fn of(micros: &Histogram<u64>) -> Self {
        let ms = |quantile: f64| micros.value_at_quantile(quantile) as f64 / 1000.0;
        Self { count: micros.len(), p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999), max_ms: micros.max() as f64 / 1000.0 }
    }
}

impl Row {
    pub fn new(scenario: &'static str, what: impl Into<String>, events: u64, seconds: f64) -> Self {
        Self { scenario, what: what.into(), events, seconds, rate_per_s: events as f64 / seconds.max(1e-9), ..Self::default() }
    }

    pub fn latency(mut self, latency: Latency) -> Self {
        self.latency = Some(latency);
        self
    }

    pub fn cost(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    pub fn against(mut self, name: impl Into<String>, ratio: f64) -> Self {
        self.against = Some((name.into(), ratio));
        self
    }

    pub fn bar(mut self, text: impl Into<String>, reached: bool) -> Self {
        self.bar = Some((text.into(), reached));
        self
    }

    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// A line of the table in docs/performance.md.
    fn markdown(&self) -> String {
        let number = |value: Option<f64>, digits: usize| value.map_or_else(String::new, |value| format!("{value:.digits$}"));
        let (latency, cost) = (self.latency.as_ref(), self.cost.as_ref());
        let million = cost.map_or(1.0, |cost| cost.events.max(1) as f64 / 1e6);
        let against = self.against.as_ref().map_or_else(String::new, |(name, ratio)| format!("{ratio:.2} x {name}"));
        let bar =
            self.bar.as_ref().map_or_else(String::new, |(bar, reached)| format!("{bar}: {}", if *reached { "yes" } else { "**no**" }));
        let cells = [
            self.scenario.to_owned(),
            self.what.clone(),
            format!("{:.0}", self.rate_per_s),
            number(latency.map(|latency| latency.p50_ms), 2),
            number(latency.map(|latency| latency.p99_ms), 2),
            number(latency.map(|latency| latency.p999_ms), 2),
            number(cost.map(|cost| cost.server_cpu_s / million), 2),
            number(cost.filter(|cost| cost.database_cpu_s > 0.0).map(|cost| cost.database_cpu_s / million), 2),
            number(cost.map(|cost| cost.peak_memory_mib), 0),
            against,
            bar,
        ];
        format!("| {} |\n", cells.join(" | "))
    }

    fn print(&self) {
        let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
        let (latency, cost) = (self.latency.as_ref(), self.cost.as_ref());
        let line = format!(
            "{:<14} {:<34} {:>10.0} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8}",
            self.scenario,
            self.what,
            self.rate_per_s,
            number(latency.map(|latency| latency.p50_ms), 2),
            number(latency.map(|latency| latency.p99_ms), 2),
            number(latency.map(|latency| latency.p999_ms), 2),
            number(cost.map(|cost| cost.server_cpu_s * 1e6 / cost.events.max(1) as f64), 3),
            number(cost.filter(|cost| cost.database_cpu_s > 0.0).map(|cost| cost.database_cpu_s * 1e6 / cost.events.max(1) as f64), 3),
            number(cost.map(|cost| cost.peak_memory_mib), 0),
            number(cost.filter(|cost| cost.log_mib > 0.0).map(|cost| cost.log_mib), 0),
            number(cost.filter(|cost| cost.database_mib > 0.0).map(|cost| cost.database_mib), 0),
        );
        println!("{line}");
        if let Some((name, ratio)) = &self.against {
            println!("{:>16} {ratio:.2} x {name}", "");
        }
        if let Some((bar, reached)) = &self.bar {
            println!("{:>16} {}: {bar}", "", if *reached { "reached" } else { "NOT REACHED" });
        }
        self.notes.iter().for_each(|note| println!("{:>16} {note}", ""));
    }
}

pub fn print(rows: &[Row]) {
    println!(
        "{:<14} {:<34} {:>10} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "scenario", "what", "per s", "p50 ms", "p99 ms", "p99.9", "cpu s/M", "db s/M", "peak MiB", "log MiB", "db MiB"
    );
    rows.iter().for_each(Row::print);
}

/// Everything that one invocation measured.
#[derive(Serialize)]
pub struct Report {
    pub date: String,
    pub machine: String,
    pub command: String,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn begin() -> Result<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("cargo xtask bench {}", args.join(" ")).trim().to_owned();
        Ok(Self { date: chrono::Utc::now().format("%Y-%m-%d").to_string(), machine: machine::describe()?, command, rows: Vec::new() })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(std::fs::write(path.with_extension("md"), self.markdown())?)
    }

    /// As it stands in docs/performance.md.
    fn markdown(&self) -> String {
        let head = format!("{}: `{}` on {}.\n\n", self.date, self.command, self.machine);
        let columns =
            ["scenario", "what", "per s", "p50 ms", "p99 ms", "p99.9 ms", "CPU s/M", "database s/M", "peak MiB", "against", "bar reached"];
        let rule = columns.map(|_| "---").join(" | ");
        let table = format!("| {} |\n| {rule} |\n", columns.join(" | "));
        let rows: String = self.rows.iter().map(Row::markdown).collect();
        let notes =
            self.rows.iter().flat_map(|row| row.notes.iter().map(move |note| format!("- {}, {}: {note}\n", row.scenario, row.what)));
        head + &table + &rows + "\n" + &notes.collect::<String>()
    }
}
