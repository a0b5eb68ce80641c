//! A disk that fails on demand and knows which bytes it has promised to keep. It never really syncs: what survives a
//! crash is what the test leaves in the files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::embedded::disk::{Disk, RealDisk, Space};

#[derive(Default)]
pub(super) struct Plan {
    /// Every change fails from now on: the process is as good as killed.
    pub dead: bool,
    pub fail_sync: bool,
    pub fail_write: bool,
    /// Bytes that the disk still takes.
    pub space: Option<u64>,
    /// Bytes of the whole file system.
    pub total: Option<u64>,
    /// The file system does not say how large or full it is.
    pub mute: bool,
    /// Most bytes that one write takes.
    pub write_bytes_max: Option<usize>,
    pub syncs: u64,
    written: HashMap<u64, u64>,
    synced: HashMap<u64, u64>,
}

#[derive(Clone, Default)]
pub(super) struct FaultyDisk(pub Arc<Mutex<Plan>>);

impl FaultyDisk {
    /// Bytes from the beginning of a file that were synced.
    pub fn synced_bytes(&self, path: &Path) -> u64 {
        let inode = std::fs::metadata(path).unwrap().ino();
        self.0.lock().synced.get(&inode).copied().unwrap_or(0)
    }

    fn alive(&self) -> io::Result<()> {
        if self.0.lock().dead { Err(io::Error::other("the process was killed")) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.alive()?;
        RealDisk.create(path)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.alive()?;
        RealDisk.allocate(file, bytes)
    }

    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
        self.alive()?;
        let mut plan = self.0.lock();
        if plan.fail_write {
            return Err(io::Error::other("write failed"));
        }
        let mut length = plan.write_bytes_max.unwrap_or(usize::MAX).min(bytes.len());
        if let Some(space) = &mut plan.space {
            length = length.min(*space as usize);
            *space -= length as u64;
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let written = RealDisk.write(file, &bytes[..length], position)?;
        plan.written.insert(file.metadata()?.ino(), position + written as u64);
        Ok(written)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.alive()?;
        RealDisk.truncate(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.alive()?;
        let mut plan = self.0.lock();
        if plan.fail_sync {
            return Err(io::Error::other("fsync failed"));
        }
        plan.syncs += 1;
        let inode = file.metadata()?.ino();
        if let Some(written) = plan.written.get(&inode).copied() {
            plan.synced.insert(inode, written);
        }
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.alive()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?;
        RealDisk.remove(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let plan = self.0.lock();
        if plan.mute {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let real = RealDisk.space(dir)?;
        Ok(Space { total: plan.total.unwrap_or(real.total), free: plan.space.unwrap_or(real.free) })
    }
}
