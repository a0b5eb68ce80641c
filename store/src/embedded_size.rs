//! How much of the machine the private PostgreSQL may take: it shares it with the program.

use std::fs;
use std::path::Path;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// The machine as far as it decides about sizes, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub memory: u64,
    /// What is free on the disk of the cluster.
    pub disk_free: u64,
}

/// What to tell the server, in MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    pub shared_buffers: u64,
    pub wal_buffers: u64,
    pub wal_max: u64,
}

impl Machine {
    /// What is here; the least of it where the system does not say.
    pub fn of(dir: &Path) -> Self {
        let limits = [physical(), control_group()];
        Self { memory: limits.into_iter().flatten().min().unwrap_or(0), disk_free: free(dir).unwrap_or(0) }
    }

    /// An eighth of the memory keeps the pages that are being written, so that the server copies none of them to the
    /// system and back. A checkpoint by size is the rarer the more of the write-ahead log may stand: a tenth of the free
    /// disk, and never less than a few seconds of the fastest intake write.
    pub fn sizes(self) -> Sizes {
        let shared_buffers = (self.memory / 8).clamp(128 * MIB, GIB);
        Sizes {
            shared_buffers: shared_buffers / MIB,
            wal_buffers: shared_buffers / 16 / MIB,
            wal_max: (self.disk_free / 10).clamp(2 * GIB, 8 * GIB) / MIB,
        }
    }
}

fn physical() -> Option<u64> {
    // SAFETY: sysconf has no preconditions.
    let (pages, bytes) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    Some(u64::try_from(pages).ok()? * u64::try_from(bytes).ok()?)
}

/// The limit of the container that this is in, if it is in one that has a limit.
fn control_group() -> Option<u64> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

fn free(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_box_keeps_its_memory_and_a_large_one_is_used() {
        let sizes = |memory, disk_free| Machine { memory, disk_free }.sizes();
        assert_eq!(sizes(GIB, 16 * GIB), Sizes { shared_buffers: 128, wal_buffers: 8, wal_max: 2_048 });
        assert_eq!(sizes(4 * GIB, 40 * GIB), Sizes { shared_buffers: 512, wal_buffers: 32, wal_max: 4_096 });
        assert_eq!(sizes(64 * GIB, 900 * GIB), Sizes { shared_buffers: 1_024, wal_buffers: 64, wal_max: 8_192 });
        assert_eq!(sizes(0, 0), Sizes { shared_buffers: 128, wal_buffers: 8, wal_max: 2_048 });
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let machine = Machine::of(Path::new("/"));
        assert!(machine.memory > 256 * MIB && machine.disk_free > 0, "{machine:?}");
    }
}
