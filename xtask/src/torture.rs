//! `cargo xtask torture`: the fault scenarios of `tests/` in their long form, one after another with ever new seeds, until
//! the time is over or one fails. `cargo xtask fuzz`: one fuzz target for a while.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::setup;
use crate::shell::{cargo, command};

/// Where the scenarios stand in the black-box tests; those that replay corpora have no seed.
const SCENARIOS: &str = "faults::";
const WITHOUT_SEED: &str = "faults::corpora::";

#[derive(Args)]
pub struct Torture {
    /// How long; every scenario runs at least once
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Seed of the first run; each further run counts on from it
    #[arg(long)]
    seed: Option<u64>,
    /// Only the scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
}

impl Torture {
    pub fn run(&self) -> Result<ExitCode> {
        setup::for_tests(false)?;
        cargo(["build", "--workspace", "--bins", "--tests"]).run()?;
        let tests = blackbox()?;
        let scenarios = self.scenarios(&tests)?;
        let mut seed = self.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs()));
        let (began, first) = (Instant::now(), seed);
        let time_is_over = || began.elapsed() >= Duration::from_secs(60 * self.minutes);
        for round in 0.. {
            for scenario in &scenarios {
                if round > 0 && time_is_over() {
                    println!(
                        "torture: {} runs of {} scenarios in {} s with seeds {first} to {}, no failure",
                        seed - first,
                        scenarios.len(),
                        began.elapsed().as_secs(),
                        seed - 1
                    );
                    return Ok(ExitCode::SUCCESS);
                }
                if !self.one(&tests, scenario, seed)? {
                    println!("repeat with: cargo xtask torture --minutes {} --seed {seed} --only {scenario}", self.minutes);
                    println!("torture: {} runs without a failure, then {scenario} failed with seed {seed}", seed - first);
                    return Ok(ExitCode::FAILURE);
                }
                seed += 1;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn scenarios(&self, tests: &PathBuf) -> Result<Vec<String>> {
        let listed = String::from_utf8(command(tests).args(["--list", "--format", "terse"]).output()?)?;
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test")).filter(|name| name.starts_with(SCENARIOS));
        let wanted = |name: &&str| self.only.as_ref().map_or(!name.starts_with(WITHOUT_SEED), |only| name.contains(only));
        let names: Vec<String> = names.filter(wanted).map(str::to_owned).collect();
        if names.is_empty() {
            bail!("no scenario is named so");
        }
        Ok(names)
    }

    /// Whether the scenario passed. What it printed is shown.
    fn one(&self, tests: &PathBuf, scenario: &str, seed: u64) -> Result<bool> {
        println!("\ntorture: {scenario}, seed {seed}");
        command(tests)
            .args([scenario, "--exact", "--nocapture"])
            .env("ROLLCALL_TEST_SEED", &seed.to_string())
            .env("ROLLCALL_TEST_TORTURE_MINUTES", &self.minutes.to_string())
            .run_watched(|_| ())
    }
}

/// The built black-box tests, as cargo names them.
fn blackbox() -> Result<PathBuf> {
    let output = cargo(["test", "--workspace", "--no-run", "--message-format", "json"]).output()?;
    let artifacts = output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let found = artifacts
        .filter(|artifact| artifact["target"]["name"] == "blackbox")
        .find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    found.context("cargo built no black-box tests")
}

#[derive(Args)]
pub struct Fuzz {
    target: String,
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

impl Fuzz {
    /// What cargo-fuzz passes to the compiler without a sanitizer, none of which needs a nightly one.
    const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
         -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
         -Cllvm-args=-sanitizer-coverage-trace-compares";

    /// New inputs go to a folder of the build, so that the committed corpus stays small; a crash is written to `fuzz/artifacts`.
    pub fn run(&self) -> Result<ExitCode> {
        let version = String::from_utf8(command("rustc").args(["-vV"]).output()?)?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        // With a target named, build scripts and macros are compiled without the fuzzer's flags.
        let dir = "fuzz/target";
        let build = ["build", "--release", "--bins", "--target", host, "--target-dir", "target"];
        cargo(build).dir("fuzz").env("RUSTFLAGS", Self::FLAGS).run()?;
        let found = format!("{dir}/corpus/{}", self.target);
        let artifacts = format!("fuzz/artifacts/{}/", self.target);
        command("mkdir").args(["-p", &found, &artifacts]).run()?;
        command(format!("{dir}/{host}/release/{}", self.target))
            .arg(format!("-max_total_time={}", self.seconds))
            .args(["-max_len=8192", "-timeout=20"])
            .arg(format!("-artifact_prefix={artifacts}"))
            .args([found, format!("fuzz/corpus/{}", self.target)])
            .run()?;
        Ok(ExitCode::SUCCESS)
    }
}
