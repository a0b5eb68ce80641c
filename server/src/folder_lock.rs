//! One server a data folder: two would fight for its database and its log.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held for the life of the process; the system lets go of it when the process ends, however it ends.
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub fn take(dir: &Path) -> Result<Self> {
        let is_taken = || format!("another rollcall serve works in {}; stop it or choose another folder with --data-dir", dir.display());
        Self::take_as(dir, "server.lock", is_taken)
    }

    /// The same by a file of its own, with what is said when another process holds it.
    pub fn take_as(dir: &Path, name: &str, is_taken: impl FnOnce() -> String) -> Result<Self> {
        let path = dir.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!(is_taken())
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}
