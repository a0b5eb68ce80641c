//! Other MQTT servers, started as their packages ship them on ports of this run's own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(10);

pub struct Peer {
    /// With its version and where it keeps a QoS 1 message before it acknowledges it.
    pub name: String,
    pub address: String,
    child: Child,
    _dir: TempDir,
}

/// Debian puts servers where a user's PATH does not look.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].map(PathBuf::from));
    let found = folders.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed; cargo xtask bench installs it, --no-peers goes without it"))
}

/// A port that was free a moment ago; these servers cannot be asked which one they took.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The first word of what it says about itself that looks like a version.
fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return String::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |word: &&str| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    text.split_whitespace().find(number).unwrap_or_default().trim_start_matches('v').to_owned()
}

impl Peer {
    /// mosquitto without a configuration file: this machine only, anonymous, messages in memory.
    pub fn mosquitto() -> Result<Self> {
        let (program, port) = (program("mosquitto")?, free_port()?);
        let name = format!("mosquitto {} (memory)", version(&program, "-h"));
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string()]);
        Self::start(name, port, command, tempfile::tempdir()?)
    }

    /// nats-server with JetStream, which its MQTT needs; its store is files that it does not fsync before it acknowledges.
    pub fn nats() -> Result<Self> {
        let (program, dir, port, own_port) = (program("nats-server")?, tempfile::tempdir()?, free_port()?, free_port()?);
        let config = dir.path().join("nats.conf");
        let store = dir.path().join("store").display().to_string();
        let text = format!(
            "server_name: bench\nlisten: \"127.0.0.1:{own_port}\"\njetstream {{ store_dir: \"{store}\" }}\nmqtt {{ listen: \"127.0.0.1:{port}\" }}\n"
        );
        std::fs::write(&config, text)?;
        let name = format!("nats-server {} (JetStream)", version(&program, "--version"));
        let mut command = Command::new(program);
        command.arg("-c").arg(config);
        Self::start(name, port, command, dir)
    }

    fn start(name: String, port: u16, mut command: Command, dir: TempDir) -> Result<Self> {
        let log = std::fs::File::create(dir.path().join("output"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let peer = Self { name, address: format!("127.0.0.1:{port}"), child, _dir: dir };
        let began = Instant::now();
        while TcpStream::connect(&peer.address).is_err() {
            if began.elapsed() > READY {
                bail!("{} does not listen: {}", peer.name, std::fs::read_to_string(peer._dir.path().join("output")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
