//! A local folder as an object store whose small reads are done on the spot when the system has the bytes in memory.
//!
//! A read of a file may have to wait for a disk, so the store hands each to a thread that may wait. For a few pages that are in
//! the system's page cache the way there and back takes longer than the read. `preadv2` with `RWF_NOWAIT` gives what is in memory
//! and nothing else; whatever it cannot give is read as before. Opening the file has no such form, so only file systems are asked that
//! answer without a network: a mount that hangs must not stop the threads of the queries.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::path::Path as FilePath;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};
use rustix::io::{ReadWriteFlags, preadv2};

/// Copying so much takes a fraction of a millisecond; a larger read is worth a thread.
const ON_THE_SPOT_BYTES_MAX: u64 = 512 * 1024;

/// File systems of this machine's own disks, by the numbers of `statfs(2)`: ext, XFS, Btrfs and F2FS.
const LOCAL: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

#[derive(Debug)]
pub(super) struct PageCached(LocalFileSystem);

impl PageCached {
    /// A store of the file system that the folder is on; `None`: its files may not be opened on the spot.
    pub fn of(folder: &FilePath) -> Option<Self> {
        let stat = rustix::fs::statfs(folder).ok()?;
        LOCAL.contains(&(stat.f_type as u64)).then(|| Self(LocalFileSystem::new()))
    }
}

impl fmt::Display for PageCached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageCached({})", self.0)
    }
}

/// Parts of a file, all of them from memory.
fn read(path: &FilePath, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let file = File::open(path)?;
    ranges.iter().map(|range| read_range(&file, range.clone())).collect()
}

fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut [IoSliceMut::new(&mut bytes[filled..])];
        match preadv2(file, rest, range.start + filled as u64, ReadWriteFlags::NOWAIT)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
    }
    Ok(bytes.into())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for PageCached {
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = ranges.iter().try_fold(0_u64, |sum, range| sum.checked_add(range.end.checked_sub(range.start)?));
        if bytes.is_some_and(|bytes| bytes <= ON_THE_SPOT_BYTES_MAX)
            && let Ok(found) = read(&self.0.path_to_filesystem(location)?, ranges)
        {
            return Ok(found);
        }
        self.0.get_ranges(location, ranges).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use rustix::fs::{Advice, fadvise};
    use std::time::Duration;
    use tokio::time::timeout;

    use super::*;

    const BYTES: usize = 200_000;

    /// A file of which every byte differs from the next, on the disk and in memory.
    fn file(folder: &FilePath) -> (Path, Vec<u8>) {
        let path = folder.join("file");
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        (Path::from_absolute_path(path).unwrap(), bytes)
    }

    /// With the one thread that may wait taken, only what needs none is answered. Where temporary folders are not on a disk, nothing is.
    #[test]
    fn what_is_in_memory_needs_no_thread_and_the_rest_waits_for_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (location, bytes) = file(folder.path());
        let Some(store) = PageCached::of(folder.path()) else { return };
        runtime.block_on(async {
            let (release, taken) = std::sync::mpsc::channel::<()>();
            let thread = tokio::task::spawn_blocking(move || taken.recv());
            let small = [5..9, 70_000..100_000];
            let read = timeout(Duration::from_secs(20), store.get_ranges(&location, &small)).await.expect("it needs no thread").unwrap();
            assert_eq!(read, [&bytes[5..9], &bytes[70_000..100_000]]);
            assert!(timeout(Duration::from_millis(50), store.get(&location)).await.is_err(), "the thread is free");

            fadvise(File::open(folder.path().join("file")).unwrap(), 0, None, Advice::DontNeed).unwrap();
            let mut read = Box::pin(store.get_ranges(&location, &small));
            assert!(timeout(Duration::from_millis(50), &mut read).await.is_err(), "what is on the disk only was read without a thread");
            release.send(()).unwrap();
            assert_eq!(read.await.unwrap(), [&bytes[5..9], &bytes[70_000..100_000]]);
            thread.await.unwrap().unwrap();
        });
    }

    /// Beyond the end, empty, large, of no file: whatever is asked, the answer is that of the store without this.
    #[tokio::test]
    async fn answers_are_those_of_the_store_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (location, _) = file(folder.path());
        let (store, behind) = (PageCached(LocalFileSystem::new()), LocalFileSystem::new());
        let end = BYTES as u64;
        let asked: [&[Range<u64>]; 6] = [&[], &[0..end], &[7..7], &[end - 3..end + 3], &[0..4, end + 10..end + 20], &[0..3 * end, 1..2]];
        for ranges in asked {
            let (ours, theirs) = (store.get_ranges(&location, ranges).await, behind.get_ranges(&location, ranges).await);
            assert_eq!(ours.as_ref().ok(), theirs.as_ref().ok(), "{ranges:?}");
            assert_eq!(ours.map_err(|error| error.to_string()).err(), theirs.map_err(|error| error.to_string()).err(), "{ranges:?}");
        }
        let missing = Path::from(format!("{location}x"));
        let (ours, theirs) = (store.get_ranges(&missing, &[0..1]).await, behind.get_ranges(&missing, &[0..1]).await);
        assert_eq!(ours.unwrap_err().to_string(), theirs.unwrap_err().to_string());
    }
}
