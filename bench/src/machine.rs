//! What the kernel says of a process, and how fast this machine's disk is.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// CPU time that a process has used, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("process statistics need Linux")?;
    // The name in parentheses may hold spaces; the numbers follow it. Fields 14 and 15 of the whole are utime and stime.
    let fields: Vec<&str> = text.rsplit_once(')').context("unexpected /proc/pid/stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    Ok(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

/// Resident memory in MiB.
pub fn memory_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Median time of one small write with fdatasync in the folder.
pub fn fdatasync_time(dir: &Path) -> Result<Duration> {
    const TIMES: usize = 101;
    let path = dir.join("fdatasync-probe");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort();
    Ok(times[TIMES / 2])
}

pub fn folder_mib(dir: &Path) -> f64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0.0 };
    let bytes: u64 = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum();
    bytes as f64 / (1024.0 * 1024.0)
}
