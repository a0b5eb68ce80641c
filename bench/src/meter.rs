//! What a server uses while it is measured: processor time of itself and, apart, of its database; peak memory; disk.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine;

/// What a number of events cost.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The events that it is the cost of; more than a rate counts, because warming up and draining cost too.
    pub events: u64,
    pub seconds: f64,
    /// Processor seconds of the server, its private database aside.
    pub server_cpu_s: f64,
    pub database_cpu_s: f64,
    /// The greatest resident memory of the server in the measured time.
    pub peak_memory_mib: f64,
    /// Bytes of the log and of the database that the measured time added.
    pub log_mib: f64,
    pub database_mib: f64,
}

pub struct Meter {
    pid: u32,
    data: Option<PathBuf>,
    began: Instant,
    cpu: (Duration, Duration),
    disk: (u64, u64),
}

impl Cost {
    /// Two runs of the same system as one.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.events += other.events;
        self.seconds += other.seconds;
        self.server_cpu_s += other.server_cpu_s;
        self.database_cpu_s += other.database_cpu_s;
        self.peak_memory_mib = self.peak_memory_mib.max(other.peak_memory_mib);
        self.log_mib += other.log_mib;
        self.database_mib += other.database_mib;
        self
    }
}

impl Meter {
    /// `data` is the folder of a Rollcall server; a peer has none.
    pub fn begin(pid: u32, data: Option<&Path>) -> Result<Self> {
        // Sets the peak back to what is resident now; where the kernel refuses, the peak is that of the whole life.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let data = data.map(Path::to_path_buf);
        Ok(Self { pid, began: Instant::now(), cpu: cpu(pid, data.as_deref())?, disk: disk(data.as_deref()), data })
    }

    pub fn end(&self, events: u64) -> Result<Cost> {
        let (server, database) = cpu(self.pid, self.data.as_deref())?;
        let (log, tables) = disk(self.data.as_deref());
        let mib = |now: u64, then: u64| now.saturating_sub(then) as f64 / (1024.0 * 1024.0);
        Ok(Cost {
            events,
            seconds: self.began.elapsed().as_secs_f64(),
            server_cpu_s: server.saturating_sub(self.cpu.0).as_secs_f64(),
            database_cpu_s: database.saturating_sub(self.cpu.1).as_secs_f64(),
            peak_memory_mib: machine::peak_memory_mib(self.pid)?,
            log_mib: mib(log, self.disk.0),
            database_mib: mib(tables, self.disk.1),
        })
    }
}

fn disk(data: Option<&Path>) -> (u64, u64) {
    data.map_or((0, 0), |data| (machine::folder_bytes(&data.join("log")), machine::folder_bytes(&data.join("postgres/data"))))
}

/// The private database of a data folder.
pub fn postmaster(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Processor time of the server with its helpers, and of its database with its backends.
fn cpu(pid: u32, data: Option<&Path>) -> Result<(Duration, Duration)> {
    let processes = machine::processes().context("process statistics need Linux")?;
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (id, process) in &processes {
        children.entry(process.parent).or_default().push(*id);
    }
    let tree = |root: u32, without: &HashSet<u32>| {
        let (mut found, mut open) = (HashSet::new(), vec![root]);
        while let Some(next) = open.pop() {
            if !without.contains(&next) && found.insert(next) {
                open.extend(children.get(&next).into_iter().flatten());
            }
        }
        found
    };
    let sum = |tree: &HashSet<u32>, ended: bool| {
        let of = |id: &u32| {
            processes.get(id).map_or(Duration::ZERO, |process| process.own + if ended { process.ended_children } else { Duration::ZERO })
        };
        tree.iter().map(of).sum()
    };
    let database = data.and_then(postmaster).map_or_else(HashSet::new, |root| tree(root, &HashSet::new()));
    let server = tree(pid, &database);
    // What a backend used before it ended is its parent's to tell. The server's ended children are start-up commands.
    Ok((sum(&server, false), sum(&database, true)))
}
