//! `rollcall worker` as a child process.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rollcall_tests::instance::binary;
use serde_json::Value;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Certificate of this machine and its key, as files.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Certificate {
    /// By the machine's own openssl. It is its own authority, and not a certificate that may stand for others.
    pub fn make(dir: &Path) -> Result<Self> {
        let (certificate, key) = (dir.join("worker.pem"), dir.join("worker.key"));
        let status = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .context("openssl is not installed")?;
        ensure!(status.success(), "openssl made no certificate");
        Ok(Self { certificate: certificate.display().to_string(), key: key.display().to_string() })
    }
}

/// A worker that runs until it is dropped.
pub struct Worker {
    child: Child,
    /// As a server is told of it.
    pub url: String,
    http: String,
}

impl Worker {
    /// Starts one on the history of a server, with TLS; `listen` may have port 0.
    pub fn start(data_dir: &Path, certificate: &Certificate, listen: &str) -> Result<Self> {
        let history = format!("file://{}", data_dir.join("history").display());
        let mut child = Command::new(binary()?)
            .args(["worker", "--listen", listen, "--http", "127.0.0.1:0", "--history", &history, "--data-dir"])
            .arg(data_dir.join("worker"))
            .env("ROLLCALL_SQL_WORKERS_TOKEN", TOKEN)
            .env("ROLLCALL_TLS_CERTIFICATE", &certificate.certificate)
            .env("ROLLCALL_TLS_KEY", &certificate.key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(OpenOptions::new().create(true).append(true).open(data_dir.join("workers.log"))?)
            .spawn()
            .context("cannot start a worker")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is not piped")?).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("the worker printed {line:?}"))?;
        let address = |key: &str| ready[key].as_str().with_context(|| format!("no {key} in {ready}"));
        Ok(Self { url: format!("https://{}", address("worker")?), http: format!("http://{}", address("http")?), child })
    }

    pub fn listen(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it stand still with all its connections open, as a machine does whose disk hangs.
    pub fn freeze(&self) -> Result<()> {
        // SAFETY: the pid is that of our own child, which has not been waited for.
        let done = unsafe { libc::kill(i32::try_from(self.child.id())?, libc::SIGSTOP) };
        ensure!(done == 0, "the worker could not be stopped");
        Ok(())
    }

    pub async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.http, name, "").await
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a metric over the labels that contain a text.
pub async fn metric(http: &str, name: &str, label: &str) -> Result<f64> {
    let text = reqwest::get(format!("{http}/metrics")).await?.error_for_status()?.text().await?;
    let of_name =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label)));
    of_name.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
}
