//! Load generators. Each runs as a process of its own, started by a scenario from this same binary, and prints one line of JSON.

pub mod epoll;
pub mod flood;
pub mod idle;
mod pace;
pub mod payload;
pub mod replay;
mod ring;
pub mod talk;
pub mod watch;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use rollcall_tests::district::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Subcommand)]
pub enum Load {
    /// Publishes as fast as the server acknowledges, or at a fixed rate
    Flood(flood::Options),
    /// Keeps many connections open, then sends one message on each
    Idle(idle::Options),
    /// Follows boards on many connections, then publishes scans and waits for each on every board that shows it
    Watch(watch::Options),
    /// Publishes what many gates have recorded, as fast as it is acknowledged
    Replay(replay::Options),
}

impl Load {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Flood(options) => println!("{}", serde_json::to_string(&flood::run(&options)?)?),
            Self::Idle(options) => idle::run(&options)?,
            Self::Watch(options) => watch::run(&options)?,
            Self::Replay(options) => replay::run(&options)?,
        }
        Ok(())
    }
}

/// A running load generator.
pub struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    pub fn start(args: &[String]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("load").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("the load's output is not piped")?);
        Ok(Self { child, lines })
    }

    /// The next thing that it reports; an error when it has failed.
    pub fn report<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the load generator ended without a report: {}", self.child.wait()?);
        serde_json::from_str(&line).with_context(|| format!("unexpected report {line:?}"))
    }

    /// Lets a load go on that waits between its phases.
    pub fn go_on(&mut self) -> Result<()> {
        Ok(self.child.stdin.as_mut().context("the load's input is not piped")?.write_all(b"\n")?)
    }

    /// The last report; the process has ended well.
    pub fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        let report = self.report()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the load generator ended with {status}");
        Ok(report)
    }
}

impl Drop for Running {
    /// A scenario that failed must not leave its load behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Credentials are handed over in a file: fifty thousand of them do not fit on a command line.
pub fn write_devices(path: &Path, devices: &[Device]) -> Result<()> {
    let lines: Vec<String> = devices.iter().map(|device| format!("{}:{}", device.id, device.token)).collect();
    Ok(std::fs::write(path, lines.join("\n"))?)
}

/// The lines of a file that hold one JSON value each.
pub fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let lines: Vec<String> = values.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(std::fs::write(path, lines.join("\n"))?)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("unexpected line {line:?}"))).collect()
}

fn read_devices(path: &Path) -> Result<Vec<Device>> {
    let text = std::fs::read_to_string(path)?;
    let device = |line: &str| {
        let (id, token) = line.split_once(':').context("a device is id:token")?;
        Ok(Device { id: id.to_owned(), token: token.to_owned() })
    };
    text.lines().map(device).collect()
}
