//! What the system says of a process.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory in bytes.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS; the process has ended")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Lets this process hold as many connections as the system allows.
pub fn raise_descriptors() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a valid rlimit that outlives the calls.
    unsafe {
        anyhow::ensure!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0, "getrlimit");
        limit.rlim_cur = limit.rlim_max;
        anyhow::ensure!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0, "setrlimit");
    }
    Ok(limit.rlim_max)
}

/// Open files and sockets.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
