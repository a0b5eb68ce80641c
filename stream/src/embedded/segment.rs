//! Segments: the files as readers see them. A segment shows only bytes that are durable.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::buffer::{Buffer, MutableBuffer};
use parking_lot::{Mutex, RwLock};
use rollcall_model::ids::Offset;

use super::codec;
use super::disk::io_error;
use super::frame::{ALIGN, FrameHeader, HeaderBytes, NotAHeader, VERSION};
use crate::log::{KindSet, LogError, ReadBatch};
use crate::schema::SCHEMA_VERSION;

/// Bytes between two entries of a segment's index: a read at any offset walks at most so far over frame headers.
const INDEX_STEP_BYTES: u64 = 256 * 1024;
/// Bytes fetched from a file at once when rows are read.
const READ_CHUNK_BYTES: usize = 512 * 1024;
const EXTENSION: &str = "seg";

/// The name of the segment that begins with a row.
pub(super) fn file_name(first: Offset) -> String {
    format!("{:020}.{EXTENSION}", first.0)
}

/// The first row of the segment of this name; `None` for any other file.
pub(super) fn first_of(path: &Path) -> Option<Offset> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Offset)).flatten()
}

/// Where some frames of a segment begin, in rising order.
#[derive(Default)]
pub(super) struct Index(Vec<(Offset, u64)>);

impl Index {
    pub fn add(&mut self, first: Offset, position: u64) {
        if self.0.last().is_none_or(|(_, last)| position >= last + INDEX_STEP_BYTES) {
            self.0.push((first, position));
        }
    }

    /// The last known frame that does not begin after `offset`.
    fn near(&self, offset: Offset) -> Option<(Offset, u64)> {
        self.0.get(self.0.partition_point(|(first, _)| *first <= offset).checked_sub(1)?).copied()
    }
}

pub(super) struct Segment {
    pub first: Offset,
    pub salt: u64,
    pub path: PathBuf,
    pub file: File,
    /// Bytes from the beginning that are durable and hold whole frames.
    durable_bytes: AtomicU64,
    index: Mutex<Index>,
}

impl Segment {
    pub fn new(first: Offset, salt: u64, path: PathBuf, file: File, durable_bytes: u64, index: Index) -> Self {
        Self { first, salt, path, file, durable_bytes: AtomicU64::new(durable_bytes), index: Mutex::new(index) }
    }

    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes.load(Ordering::Acquire)
    }

    /// Shows readers the frames that have become durable: where each begins, and where the last ends.
    pub fn extend(&self, frames: impl Iterator<Item = (Offset, u64)>, durable_bytes: u64) {
        let mut index = self.index.lock();
        for (first, position) in frames {
            index.add(first, position);
        }
        self.durable_bytes.store(durable_bytes, Ordering::Release);
    }

    pub fn corrupt(&self, position: u64, reason: impl ToString) -> LogError {
        LogError::Corrupt { path: self.path.display().to_string(), position, reason: reason.to_string() }
    }

    fn read(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        let mut source = Source::new(&self.file, self.durable_bytes(), READ_CHUNK_BYTES);
        let start = self.index.lock().near(from);
        let (mut expected, mut position) = start.unwrap_or((self.first, ALIGN as u64));
        let mut read = ReadBatch { batches: Vec::new(), next: from };
        let mut bytes = 0;
        while position < source.end {
            let header = self.header(&mut source, position, expected)?;
            if let Some(kind) = header.kind
                && header.next() > from
            {
                if kinds.contains(kind) {
                    // Of columns, not of the file: a packed frame may hold thirty times its bytes.
                    if bytes >= bytes_max && !read.batches.is_empty() {
                        break;
                    }
                    let batch = self.frame(&mut source, position, &header, kind)?;
                    let skip = from.0.saturating_sub(batch.first.0) as usize;
                    let batch = if skip == 0 { batch } else { batch.slice(skip, batch.len() - skip) };
                    bytes += batch.bytes();
                    read.batches.push(batch);
                }
                read.next = header.next();
            }
            expected = header.next();
            position += header.frame_bytes();
        }
        // The caller asks for rows that this segment was known to hold.
        if read.next == from { Err(self.corrupt(position, format!("row {from} is missing"))) } else { Ok(read) }
    }

    fn header(&self, source: &mut Source<'_>, position: u64, expected: Offset) -> Result<FrameHeader, LogError> {
        let bytes = source.header(position).map_err(|error| io_error(&self.path, error))?;
        let bytes = bytes.ok_or_else(|| self.corrupt(position, "the file ends within a frame"))?;
        match FrameHeader::decode(&bytes, self.salt) {
            Ok(header) if header.first != expected => {
                Err(self.corrupt(position, format!("row {} where row {expected} belongs", header.first)))
            }
            Ok(header) if header.schema_version != SCHEMA_VERSION => Err(version_error(&self.path, header.schema_version, SCHEMA_VERSION)),
            Ok(header) => Ok(header),
            Err(NotAHeader::Damaged(reason)) => Err(self.corrupt(position, reason)),
            Err(NotAHeader::Version(found)) => Err(version_error(&self.path, found, VERSION)),
        }
    }

    fn frame(
        &self,
        source: &mut Source<'_>,
        position: u64,
        header: &FrameHeader,
        kind: rollcall_model::event::Kind,
    ) -> Result<crate::EventBatch, LogError> {
        let body = source.get(position + ALIGN as u64, header.body_bytes as usize);
        let body = body.map_err(|error| io_error(&self.path, error))?;
        let body = body.ok_or_else(|| self.corrupt(position, "the file ends within a frame"))?;
        if crc32c::crc32c(&body) != header.body_crc {
            return Err(self.corrupt(position, "the checksum of the rows is wrong"));
        }
        codec::decode(header, kind, &body).map_err(|reason| self.corrupt(position, reason))
    }
}

pub(super) fn version_error(path: &Path, found: u16, supported: u16) -> LogError {
    LogError::Version { path: path.display().to_string(), found, supported }
}

/// Reads a file in chunks, forward, into buffers that decoded rows may keep.
pub(super) struct Source<'a> {
    file: &'a File,
    pub end: u64,
    chunk_bytes: usize,
    start: u64,
    chunk: Buffer,
}

impl<'a> Source<'a> {
    /// Looks at the bytes before `end` only.
    pub fn new(file: &'a File, end: u64, chunk_bytes: usize) -> Self {
        Self { file, end, chunk_bytes, start: 0, chunk: Buffer::from(&[] as &[u8]) }
    }

    /// Bytes at a position; `None` when they reach beyond the end.
    pub fn get(&mut self, position: u64, bytes: usize) -> io::Result<Option<Buffer>> {
        if position.checked_add(bytes as u64).is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let held = self.start <= position && position + bytes as u64 <= self.start + self.chunk.len() as u64;
        if !held {
            let remaining = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            let mut chunk = MutableBuffer::from_len_zeroed(self.chunk_bytes.max(bytes).min(remaining));
            self.file.read_exact_at(chunk.as_slice_mut(), position)?;
            (self.start, self.chunk) = (position, chunk.into());
        }
        Ok(Some(self.chunk.slice_with_length((position - self.start) as usize, bytes)))
    }

    /// The bytes of a header.
    pub fn header(&mut self, position: u64) -> io::Result<Option<HeaderBytes>> {
        Ok(self.get(position, ALIGN)?.and_then(|bytes| HeaderBytes::try_from(&bytes[..]).ok()))
    }
}

/// All segments, oldest first; the last one is being written. Never empty.
pub(super) struct Segments {
    list: RwLock<VecDeque<Arc<Segment>>>,
    /// Given up by [`Segments::trim`], oldest first, for the writer to delete.
    removed: Mutex<VecDeque<PathBuf>>,
    disk_bytes: AtomicU64,
}

impl Segments {
    pub fn new(list: VecDeque<Arc<Segment>>) -> Self {
        let disk_bytes = AtomicU64::new(list.iter().map(|segment| segment.durable_bytes()).sum());
        Self { list: RwLock::new(list), removed: Mutex::default(), disk_bytes }
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Acquire)
    }

    pub fn grew(&self, bytes: u64) {
        self.disk_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub fn push(&self, segment: Arc<Segment>) {
        self.grew(segment.durable_bytes());
        self.list.write().push_back(segment);
    }

    pub fn last(&self) -> Arc<Segment> {
        Arc::clone(self.list.read().back().expect("there is always a segment that is being written"))
    }

    pub fn oldest(&self) -> Offset {
        self.list.read().front().expect("there is always a segment that is being written").first
    }

    /// Gives up the segments that hold only rows before `before`; true if there were any.
    pub fn trim(&self, before: Offset) -> bool {
        let mut list = self.list.write();
        let mut trimmed = false;
        while list.get(1).is_some_and(|second| second.first <= before)
            && let Some(segment) = list.pop_front()
        {
            self.disk_bytes.fetch_sub(segment.durable_bytes(), Ordering::AcqRel);
            self.removed.lock().push_back(segment.path.clone());
            trimmed = true;
        }
        trimmed
    }

    /// Calls `delete` on each file given up, oldest first. One that cannot be deleted stays for the next time, and
    /// so do all after it: a gap between the files would look like a loss.
    pub fn delete_trimmed(&self, delete: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        loop {
            let Some(path) = self.removed.lock().front().cloned() else { return Ok(()) };
            match delete(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.removed.lock().pop_front(),
            };
        }
    }

    /// Rows from `from` on, up to the end of their segment at most.
    pub fn read(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Result<ReadBatch, LogError> {
        let segment = {
            let list = self.list.read();
            let after = list.partition_point(|segment| segment.first <= from);
            after.checked_sub(1).and_then(|place| list.get(place)).map(Arc::clone)
        };
        match segment {
            Some(segment) => segment.read(from, bytes_max, kinds),
            None => Err(LogError::Trimmed { asked: from, oldest: self.oldest() }),
        }
    }
}
