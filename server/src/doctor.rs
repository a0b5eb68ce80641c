//! `rollcall doctor`: looks at the machine, the configuration and the data folder, and says what to mend. Changes nothing.

use anyhow::Result;
use rollcall_store::embedded::{Installation, running_url};
use serde::Serialize;

use crate::config::Config;

/// Less free space than this is reported: one segment of the log and a night's checkpoints need more.
const FREE_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// Fewer file descriptors than this is reported: each connection needs one.
const DESCRIPTORS_MIN: u64 = 4_096;

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Note,
    Mend,
}

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    message: String,
}

/// Prints the findings; returns whether nothing has to be mended.
pub fn run(config: &Config, json: bool) -> Result<bool> {
    let findings = [database(config), folder(config), free_space(config), descriptors(), key(config)];
    if json {
        println!("{}", serde_json::json!({"findings": findings}));
    } else {
        for finding in &findings {
            let sign = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Note => "note",
                Verdict::Mend => "MEND",
            };
            println!("{sign}  {:<14}  {}", finding.check, finding.message);
        }
    }
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Mend))
}

fn database(config: &Config) -> Finding {
    let check = "database";
    if !config.database_url.is_empty() {
        return Finding { check, verdict: Verdict::Ok, message: "a named server is used; rollcall migrate tries it".into() };
    }
    match Installation::find() {
        Ok(found) => {
            let state = if running_url(&config.data_dir, "rollcall").is_some() { "running" } else { "not running" };
            let engine = if found.timescale { "with TimescaleDB" } else { "plain" };
            Finding {
                check,
                verdict: Verdict::Ok,
                message: format!("private PostgreSQL {} ({engine}) in {}, {state}", found.version, found.bin.display()),
            }
        }
        Err(error) => Finding { check, verdict: Verdict::Mend, message: error.to_string() },
    }
}

fn folder(config: &Config) -> Finding {
    let check = "data folder";
    let dir = &config.data_dir;
    if !dir.exists() {
        return Finding {
            check,
            verdict: Verdict::Note,
            message: format!("{} does not exist yet; rollcall serve makes it", dir.display()),
        };
    }
    match tempfile::tempfile_in(dir) {
        Ok(_) => Finding { check, verdict: Verdict::Ok, message: format!("{} can be written", dir.display()) },
        Err(error) => Finding { check, verdict: Verdict::Mend, message: format!("{} cannot be written: {error}", dir.display()) },
    }
}

fn free_space(config: &Config) -> Finding {
    let check = "free space";
    let existing = config.data_dir.ancestors().find(|path| path.exists()).unwrap_or(&config.data_dir);
    let Some(free) = free_bytes(existing) else {
        return Finding { check, verdict: Verdict::Note, message: "the file system does not say how much is free".into() };
    };
    let mib = free / (1024 * 1024);
    let verdict = if free < FREE_BYTES_MIN { Verdict::Mend } else { Verdict::Ok };
    let budget = config.log.disk_budget_bytes / (1024 * 1024);
    Finding { check, verdict, message: format!("{mib} MiB free; the log may use up to {budget} MiB while its readers are behind") }
}

fn free_bytes(path: &std::path::Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a zeroed statvfs is valid, and the path is a C string that outlives the call.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    let answered = unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } == 0;
    answered.then(|| stat.f_bavail as u64 * stat.f_frsize as u64)
}

fn descriptors() -> Finding {
    let check = "open files";
    let limit = crate::limits::descriptors_max();
    let verdict = if limit < DESCRIPTORS_MIN { Verdict::Mend } else { Verdict::Ok };
    Finding { check, verdict, message: format!("up to {limit} files and connections at a time (ulimit -n)") }
}

fn key(config: &Config) -> Finding {
    let check = "vault key";
    let path = config.data_dir.join("keys/vault.key");
    if !config.vault_key.is_empty() {
        return Finding { check, verdict: Verdict::Ok, message: "named in the configuration".into() };
    }
    let message = if path.exists() {
        format!("{}; keep a copy apart from the database's, without it names cannot be read", path.display())
    } else {
        "made at the first start".into()
    };
    Finding { check, verdict: Verdict::Note, message }
}
