//! What the log asks of the file system when it writes, so that a test can let any of it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::log::LogError;

/// Bytes of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Space {
    pub total: u64,
    /// What a process without special rights may still write.
    pub free: u64,
}

/// Every change of a file goes through here. Reading does not: a read that fails loses nothing.
pub(super) trait Disk: Send + Sync + 'static {
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Reserves the space of a file and sets its length; the new bytes are zero.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Writes some of the bytes, at least one, and says how many.
    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<usize>;
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()>;
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Makes the creation and removal of files in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The file system that a directory is on. An error also where it does not say: some report no blocks at all.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// The operating system's.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().create(true).truncate(true).read(true).write(true).open(path)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open for as long as `file` is borrowed; the call touches no memory of ours.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            // Some file systems cannot reserve space. The log works there too, its fsyncs are only slower.
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _file: &File, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, file: &File, bytes: &[u8], position: u64) -> io::Result<usize> {
        file.write_at(bytes, position)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        if stat.f_blocks == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Space { total: stat.f_blocks.saturating_mul(stat.f_frsize), free: stat.f_bavail.saturating_mul(stat.f_frsize) })
    }
}

/// Writes all of the bytes, in as many writes as the disk takes.
pub(super) fn write_all(disk: &dyn Disk, file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write(file, bytes, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                position += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error says that there is no space, which passes when some is freed.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn io_error(path: &Path, source: io::Error) -> LogError {
    LogError::Io { path: path.display().to_string(), source }
}
