//! The real server as a child process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::syscalls::Faults;

/// The longest that a start may take on a loaded machine, initdb included.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// The built binary, beside the running test or benchmark. `ROLLCALL_TEST_BINARY` names another one.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ROLLCALL_TEST_BINARY") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("rollcall")).find(|path| path.is_file());
    found.context("the rollcall binary is not built; run cargo build --workspace --bins first, as cargo xtask test does")
}

/// How a server is started, and started again.
#[derive(Clone, Default)]
pub struct Launch {
    /// Further flags.
    pub flags: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Where the server's messages go, when not into the data folder.
    pub log_file: Option<PathBuf>,
    /// System calls that are to fail.
    #[cfg(target_os = "linux")]
    pub faults: Option<Faults>,
}

impl Launch {
    pub fn flags(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|&text| text.to_owned()).collect(), ..Self::default() }
    }

    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    #[cfg(target_os = "linux")]
    pub fn faults(mut self, faults: &Faults) -> Self {
        self.faults = Some(faults.clone());
        self
    }

    /// Keeps the messages out of a data folder that a test fills.
    pub fn log_file(mut self, path: &Path) -> Self {
        self.log_file = Some(path.to_path_buf());
        self
    }

    fn log_path(&self, data_dir: &Path) -> PathBuf {
        self.log_file.clone().unwrap_or_else(|| data_dir.join("server.log"))
    }
}

/// A running server. Dropping it kills the process and the private database it supervised.
pub struct Instance {
    child: Child,
    data_dir: PathBuf,
    launch: Launch,
    pub http: String,
    pub mqtt: String,
    /// The whole line that the server printed when it was ready.
    pub ready: Value,
    pub started_in: Duration,
}

impl Instance {
    /// Starts on free ports.
    pub fn start(data_dir: &Path) -> Result<Self> {
        Self::launch(data_dir, Launch::default())
    }

    pub fn start_with(data_dir: &Path, extra: &[&str]) -> Result<Self> {
        Self::launch(data_dir, Launch::flags(extra))
    }

    /// Starts on free ports; an error holds what the server logged when it did not become ready.
    pub fn launch(data_dir: &Path, launch: Launch) -> Result<Self> {
        Self::start_at(data_dir, "127.0.0.1:0", "127.0.0.1:0", launch)
    }

    fn start_at(data_dir: &Path, http: &str, mqtt: &str, launch: Launch) -> Result<Self> {
        let began = Instant::now();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(launch.log_path(data_dir))?;
        let mut command = Command::new(binary()?);
        command
            .args(["serve", "--data-dir"])
            .arg(data_dir)
            .args(["--http", http, "--mqtt", mqtt])
            .args(&launch.flags)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        #[cfg(target_os = "linux")]
        let filter = launch.faults.as_ref().map(|faults| faults.arm(&mut command)).transpose()?;
        let mut child = command.spawn().context("cannot start the server")?;
        #[cfg(target_os = "linux")]
        if let (Some(faults), Some(filter)) = (&launch.faults, filter) {
            faults.watch(&filter)?;
        }
        let stdout = child.stdout.take().context("the server's output is not piped")?;
        let (line_found, found) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = line_found.send(line);
        });
        let line = found.recv_timeout(READY_TIMEOUT).unwrap_or_default();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let _ = child.kill();
            let _ = child.wait();
            stop_database(data_dir);
            let log = std::fs::read_to_string(launch.log_path(data_dir)).unwrap_or_default();
            bail!("the server did not become ready; it printed {line:?} and logged:\n{log}");
        };
        let address = |key: &str| ready[key].as_str().map(str::to_owned).with_context(|| format!("the ready line names no {key}: {ready}"));
        Ok(Self {
            http: format!("http://{}", address("http")?),
            mqtt: address("mqtt")?,
            started_in: began.elapsed(),
            launch,
            data_dir: data_dir.to_path_buf(),
            ready,
            child,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn mqtt_port(&self) -> Result<u16> {
        Ok(self.mqtt.rsplit_once(':').context("no port")?.1.parse()?)
    }

    /// kill -9: no goodbye, nothing flushed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts again on the same ports and folder after a kill.
    pub fn restart(&mut self) -> Result<()> {
        let http = self.http.trim_start_matches("http://").to_owned();
        let again = Self::start_at(&self.data_dir.clone(), &http, &self.mqtt.clone(), self.launch.clone())?;
        let mut old = std::mem::replace(self, again);
        // The old value must not stop the database that the new process has just adopted.
        old.data_dir = PathBuf::new();
        Ok(())
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What the server has logged so far, over all its starts.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.launch.log_path(&self.data_dir)).unwrap_or_default()
    }

    /// SIGTERM and the wait for an orderly end; returns whether the exit code was 0.
    pub fn stop(&mut self) -> Result<bool> {
        // SAFETY: the pid is that of our own child, which has not been waited for.
        unsafe { libc::kill(i32::try_from(self.child.id())?, libc::SIGTERM) };
        Ok(self.child.wait()?.success())
    }

    /// Runs a command of the same binary on the same data folder and returns what it printed.
    pub fn command(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(binary()?)
            .args(args)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(&self.launch.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("rollcall {} ended with {}: {}", args.join(" "), output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The same, for commands that print JSON.
    pub fn json(&self, args: &[&str], input: &str) -> Result<Value> {
        let text = self.command(args, input)?;
        serde_json::from_str(&text).with_context(|| format!("rollcall {} printed no JSON: {text}", args.join(" ")))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        stop_database(&self.data_dir);
    }
}

/// A killed server leaves its private database running, to be adopted by the next start; the last one here ends it.
fn stop_database(data_dir: &Path) {
    let Ok(text) = std::fs::read_to_string(data_dir.join("postgres/data/postmaster.pid")) else { return };
    if let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) {
        // SAFETY: the pid file stands in a folder of this test's own.
        unsafe { libc::kill(pid, libc::SIGQUIT) };
    }
}
