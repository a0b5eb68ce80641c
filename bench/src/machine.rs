//! What the kernel says of processes, and how fast this machine's disk is.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Files and connections that 50,000 clients need, on both sides.
const DESCRIPTORS_WANTED: u64 = 150_000;

pub struct Process {
    pub parent: u32,
    /// Time in user mode and in the kernel.
    pub own: Duration,
    pub ended_children: Duration,
}

/// All processes that can be seen now.
pub fn processes() -> Result<HashMap<u32, Process>> {
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    let mut found = HashMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has no file any more.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold spaces; the numbers follow it, beginning with the state.
        let fields: Vec<&str> = text.rsplit_once(')').context("unexpected /proc/pid/stat")?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let ticks = |ticks: u64| Duration::from_millis(ticks * 1000 / per_second);
        let process =
            Process { parent: number(1) as u32, own: ticks(number(11) + number(12)), ended_children: ticks(number(13) + number(14)) };
        found.insert(pid, process);
    }
    Ok(found)
}

fn status_mib(pid: u32, line: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|found| found.strip_prefix(line)).with_context(|| format!("no {line}"))?;
    let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// Resident memory in MiB.
pub fn memory_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

pub fn peak_memory_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM:")
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

/// Bytes that the files below a folder take on the disk.
pub fn folder_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// Raises this process's limit of open files, and with it that of everything it starts, and returns it. Root may usually go beyond
/// the hard limit; where nobody may, a scenario that needs more makes do with less and says so.
pub fn raise_descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to valid rlimits that outlive the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 0;
        }
        let wanted = limit.rlim_max.max(DESCRIPTORS_WANTED);
        for most in [wanted, limit.rlim_max] {
            let raised = libc::rlimit { rlim_cur: most, rlim_max: most };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
                return most;
            }
        }
    }
    limit.rlim_cur
}

/// Processor, memory and disk in one line.
pub fn describe() -> Result<String> {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let sync = fdatasync_time(&std::env::temp_dir())?;
    let (gib, sync_ms) = (kib / (1024.0 * 1024.0), sync.as_secs_f64() * 1000.0);
    Ok(format!("{cores} x {model}, {gib:.0} GiB, Linux {}, fdatasync {sync_ms:.2} ms", kernel.trim()))
}
