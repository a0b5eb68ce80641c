//! Running other programs: shown before they run, an error with the command's own name when they fail.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

pub struct Shell(Command);

/// The repository's root: the folder above this crate.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub fn command(program: impl AsRef<OsStr>) -> Shell {
    let mut command = Command::new(program);
    command.current_dir(root());
    Shell(command)
}

/// What `cargo run` says to the program that it starts. Build scripts of dependencies (ring's) ask to run again when one of
/// these changes, and they name the clone's folder: handed on, every new clone would build DataFusion again.
const SAID_BY_CARGO_RUN: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_"];

/// Cargo as if it were called from the user's shell.
pub fn cargo<const N: usize>(args: [&str; N]) -> Shell {
    let Shell(mut cargo) = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if SAID_BY_CARGO_RUN.iter().any(|said| name.to_string_lossy().starts_with(said)) {
            cargo.env_remove(name);
        }
    }
    Shell(cargo).args(args)
}

/// The built binary, wherever cargo puts it.
pub fn release_binary(name: &str) -> Result<Shell> {
    let output = cargo(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output).context("cargo metadata printed no JSON")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(command(Path::new(target).join("release").join(name)))
}

/// Whether a program is on the PATH.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

impl Shell {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.0.current_dir(root().join(dir));
        self
    }

    fn text(&self) -> String {
        let name = Path::new(self.0.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.0.get_args().fold(name, |text, arg| text + " " + &arg.to_string_lossy())
    }

    /// Runs to the end; an exit code other than 0 is an error.
    pub fn run(mut self) -> Result<()> {
        let text = self.text();
        eprintln!("\n$ {text}");
        let status = self.0.stdin(Stdio::null()).status().with_context(|| format!("cannot run {text}"))?;
        if !status.success() {
            bail!("{text}: {status}");
        }
        Ok(())
    }

    /// Runs quietly to the end and returns what it printed.
    pub fn output(mut self) -> Result<Vec<u8>> {
        let text = self.text();
        let output = self.0.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {text}"))?;
        if !output.status.success() {
            bail!("{text}: {}", output.status);
        }
        Ok(output.stdout)
    }

    /// Runs to the end, shows every line of standard output and hands it to `seen`; says whether it succeeded.
    pub fn run_watched(mut self, mut seen: impl FnMut(&str)) -> Result<bool> {
        let text = self.text();
        eprintln!("\n$ {text}");
        let mut child = self.0.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {text}"))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.with_context(|| format!("cannot read what {text} prints"))?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                seen(&line);
            }
        }
        Ok(child.wait().with_context(|| format!("cannot wait for {text}"))?.success())
    }

    /// Becomes the program, so that signals and its exit code are the user's own. Returns only if it cannot be started.
    pub fn replace_process(mut self) -> Result<ExitCode> {
        let text = self.text();
        eprintln!("\n$ {text}");
        Err(self.0.exec()).with_context(|| format!("cannot run {text}"))
    }
}
