//! What was measured, as a row of a table for people, or as a line of JSON for `cargo xtask bench`.

use serde::Serialize;

/// One fact; `bench/src/scenarios/analytics.rs` reads it.
#[derive(Serialize)]
pub struct Measured {
    /// The question, or the circumstance.
    pub what: String,
    /// Rows of the tables that it was asked of.
    pub events: u64,
    /// The median.
    pub ms: f64,
    pub cpu_ms: f64,
    /// Another system in the same run, and how many times its rate ours is.
    pub against: Option<(String, f64)>,
    /// What is to be reached, and whether it was.
    pub bar: Option<(String, bool)>,
    pub notes: Vec<String>,
}

impl Measured {
    pub fn new(what: impl Into<String>, events: u64, ms: f64, cpu_ms: f64) -> Self {
        Self { what: what.into(), events, ms, cpu_ms, against: None, bar: None, notes: Vec::new() }
    }

    pub fn bar(mut self, bar: &str, reached: bool) -> Self {
        self.bar = Some((bar.to_owned(), reached));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// What stands above the rows that follow.
    pub fn head() {
        if !as_json() {
            println!("| what | ms | CPU ms | beside | bar | |\n| --- | --- | --- | --- | --- | --- |");
        }
    }

    pub fn tell(&self) {
        if as_json() {
            println!("{}", serde_json::to_string(self).expect("plain numbers and texts are JSON"));
            return;
        }
        let beside = self.against.as_ref().map_or(String::new(), |(name, rate)| format!("{:.2} x the time of {name}", rate.recip()));
        let bar = self.bar.as_ref().map_or(String::new(), |(bar, reached)| format!("{bar}: {}", if *reached { "yes" } else { "no" }));
        println!("| {} | {:.2} | {:.2} | {beside} | {bar} | {} |", self.what, self.ms, self.cpu_ms, self.notes.join("; "));
    }
}

fn as_json() -> bool {
    std::env::var_os("ROLLCALL_BENCH_JSON").is_some()
}
