//! Opening what an earlier process left. Which damage is cut off and which is refused: see the module above.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rollcall_model::ids::Offset;

use super::config::LogConfig;
use super::disk::{Disk, io_error, is_full, write_all};
use super::frame::{ALIGN, FrameHeader, HeaderBytes, NotAHeader, SegmentHeader, VERSION};
use super::segment::{Index, Segment, Source, file_name, first_of, version_error};
use crate::log::LogError;
use crate::schema::SCHEMA_VERSION;

const FIRST_FRAME: u64 = ALIGN as u64;
/// Bytes fetched at once where only headers are looked at, and where everything is.
const HEADERS_CHUNK_BYTES: usize = 16 * 1024;
const WHOLE_CHUNK_BYTES: usize = 1024 * 1024;

pub(super) struct Recovered {
    pub segments: VecDeque<Arc<Segment>>,
    /// One past the last row, all of them durable.
    pub end: Offset,
    pub torn_bytes: u64,
    /// Whether the last frame proves that all before it was durable.
    pub sealed: bool,
}

/// Creates the segment that begins with `first`, durable and empty.
pub(super) fn create_segment(disk: &dyn Disk, dir: &Path, first: Offset, bytes: u64) -> io::Result<Segment> {
    let path = dir.join(file_name(first));
    let salt = RandomState::new().hash_one(first.0);
    let made = disk.create(&path).and_then(|file| {
        disk.allocate(&file, bytes)?;
        write_all(disk, &file, &SegmentHeader { first, salt }.encode(), 0)?;
        disk.sync(&file)?;
        disk.sync_dir(dir)?;
        Ok(file)
    });
    match made {
        Ok(file) => Ok(Segment::new(first, salt, path, file, FIRST_FRAME, Index::default())),
        Err(error) => {
            // An unfinished file is recognised and made anew when the log is opened, so failing here does no harm.
            let _ = disk.remove(&path);
            Err(error)
        }
    }
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path, config: &LogConfig) -> Result<Recovered, LogError> {
    let mut paths = segment_paths(dir)?;
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    let last = paths.pop();
    let mut end = None;
    for (path, next) in paths.iter().zip(paths.iter().skip(1).chain(&last)) {
        let segment = open_earlier(path, end, first_of(next))?;
        end = first_of(next);
        segments.push_back(Arc::new(segment));
    }
    let recovered = match last {
        Some(path) => open_last(disk, dir, &path, config)?,
        None => None,
    };
    let (segment, end, torn_bytes, sealed) = match recovered {
        Some(recovered) => recovered,
        None => {
            let first = end.unwrap_or_default();
            let segment = create_segment(disk, dir, first, config.segment_bytes_max);
            (segment.map_err(|error| io_error(dir, error))?, first, 0, true)
        }
    };
    segments.push_back(Arc::new(segment));
    Ok(Recovered { segments, end, torn_bytes, sealed })
}

fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| io_error(dir, error))?;
    let mut paths: Vec<_> = entries.iter().map(std::fs::DirEntry::path).filter(|path| first_of(path).is_some()).collect();
    paths.sort();
    Ok(paths)
}

fn corrupt(path: &Path, position: u64, reason: impl ToString) -> LogError {
    LogError::Corrupt { path: path.display().to_string(), position, reason: reason.to_string() }
}

/// A segment with others behind it: every row up to the next one's first must be there.
fn open_earlier(path: &Path, first: Option<Offset>, next: Option<Offset>) -> Result<Segment, LogError> {
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let bytes = file.metadata().map_err(|error| io_error(path, error))?.len();
    let header = match segment_header(path, &file, bytes)? {
        Ok(header) => header,
        Err(reason) => return Err(corrupt(path, 0, reason)),
    };
    debug_assert!(first.is_none_or(|first| first == header.first));
    let walk = walk(path, &file, bytes, header, Check::Headers)?;
    match next {
        Some(next) if next != walk.end => {
            let reason = format!("{}; the rows from {} to {next} are missing", walk.stopped_by, walk.end);
            Err(corrupt(path, walk.position, reason))
        }
        _ => Ok(Segment::new(header.first, header.salt, path.to_owned(), file, walk.position, walk.index)),
    }
}

type Last = (Segment, Offset, u64, bool);

/// The segment that was being written; `None` when the crash came while it was being created, which leaves no row.
fn open_last(disk: &dyn Disk, dir: &Path, path: &Path, config: &LogConfig) -> Result<Option<Last>, LogError> {
    let in_file = |error| io_error(path, error);
    let file = File::options().read(true).write(true).open(path).map_err(in_file)?;
    let bytes = file.metadata().map_err(in_file)?.len();
    let header = match segment_header(path, &file, bytes)? {
        Ok(header) => header,
        Err(reason) => {
            if behind(&file, FIRST_FRAME.min(bytes), bytes, 0).map_err(in_file)?.written_to.is_some() {
                return Err(corrupt(path, 0, reason));
            }
            disk.remove(path).map_err(in_file)?;
            let first = first_of(path).unwrap_or_default();
            let segment = create_segment(disk, dir, first, config.segment_bytes_max).map_err(in_file)?;
            return Ok(Some((segment, first, 0, true)));
        }
    };
    let walk = walk(path, &file, bytes, header, Check::Bodies)?;
    let behind = behind(&file, walk.position, bytes, header.salt).map_err(in_file)?;
    if behind.proves_durable {
        let reason = format!("{}, but row {} was once durable", walk.stopped_by, walk.end);
        return Err(corrupt(path, walk.position, reason));
    }
    let torn_bytes = behind.written_to.map_or(0, |end| end - walk.position);
    make_durable(disk, &file, &walk, config.segment_bytes_max, torn_bytes > 0).map_err(in_file)?;
    disk.sync_dir(dir).map_err(|error| io_error(dir, error))?;
    let segment = Segment::new(header.first, header.salt, path.to_owned(), file, walk.position, walk.index);
    Ok(Some((segment, walk.end, torn_bytes, walk.sealed)))
}

/// The inner error says why there is no header.
fn segment_header(path: &Path, file: &File, bytes: u64) -> Result<Result<SegmentHeader, &'static str>, LogError> {
    let header = Source::new(file, bytes, ALIGN).header(0).map_err(|error| io_error(path, error))?;
    let Some(header) = header else { return Ok(Err("the file is shorter than its header")) };
    match SegmentHeader::decode(&header) {
        Ok(header) if first_of(path) != Some(header.first) => Ok(Err("the file's name is not that of the segment in it")),
        Ok(header) => Ok(Ok(header)),
        Err(NotAHeader::Damaged(reason)) => Ok(Err(reason)),
        Err(NotAHeader::Version(found)) => Err(version_error(path, found, VERSION)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Headers,
    Bodies,
}

/// How far a segment holds valid frames.
struct Walk {
    index: Index,
    end: Offset,
    position: u64,
    /// Where the frames of the last write begin.
    last_group: u64,
    sealed: bool,
    stopped_by: &'static str,
}

fn walk(path: &Path, file: &File, bytes: u64, segment: SegmentHeader, check: Check) -> Result<Walk, LogError> {
    let chunk = if check == Check::Bodies { WHOLE_CHUNK_BYTES } else { HEADERS_CHUNK_BYTES };
    let mut source = Source::new(file, bytes, chunk);
    let mut walk =
        Walk { index: Index::default(), end: segment.first, position: FIRST_FRAME, last_group: FIRST_FRAME, sealed: true, stopped_by: "" };
    loop {
        match next_frame(path, &mut source, &walk, segment.salt, check)? {
            Ok(header) => {
                walk.last_group = header.group;
                walk.index.add(header.first, walk.position);
                walk.end = header.next();
                walk.position += header.frame_bytes();
                walk.sealed = header.kind.is_none();
            }
            Err(reason) => {
                walk.stopped_by = reason;
                return Ok(walk);
            }
        }
    }
}

/// The frame that continues the walk; the inner error says why there is none.
fn next_frame(
    path: &Path,
    source: &mut Source<'_>,
    walk: &Walk,
    salt: u64,
    check: Check,
) -> Result<Result<FrameHeader, &'static str>, LogError> {
    let in_file = |error| io_error(path, error);
    let Some(bytes) = source.header(walk.position).map_err(in_file)? else { return Ok(Err("the file ends")) };
    let header = match FrameHeader::decode(&bytes, salt) {
        Ok(header) => header,
        Err(NotAHeader::Damaged(reason)) => return Ok(Err(reason)),
        Err(NotAHeader::Version(found)) => return Err(version_error(path, found, VERSION)),
    };
    if header.schema_version > SCHEMA_VERSION {
        return Err(version_error(path, header.schema_version, SCHEMA_VERSION));
    }
    if header.first != walk.end || header.group > walk.position {
        return Ok(Err("a frame is out of order"));
    }
    if walk.position + header.frame_bytes() > source.end {
        return Ok(Err("the file ends within a frame"));
    }
    if check == Check::Bodies {
        let body = source.get(walk.position + ALIGN as u64, header.body_bytes as usize).map_err(in_file)?;
        if body.is_none_or(|body| crc32c::crc32c(&body) != header.body_crc) {
            return Ok(Err("the checksum of the rows is wrong"));
        }
    }
    Ok(Ok(header))
}

/// What stands in a file from the place on where its frames end.
#[derive(Default)]
struct Behind {
    /// One past the last byte that is not zero.
    written_to: Option<u64>,
    /// Whether some frame was written when the bytes at that place were already durable.
    proves_durable: bool,
}

fn behind(file: &File, position: u64, bytes: u64, salt: u64) -> io::Result<Behind> {
    let mut source = Source::new(file, bytes, WHOLE_CHUNK_BYTES);
    let (mut at, mut found) = (position, Behind::default());
    while at < bytes {
        let length = (WHOLE_CHUNK_BYTES as u64).min(bytes - at) as usize;
        let Some(chunk) = source.get(at, length)? else { break };
        for (block, start) in chunk.chunks(ALIGN).zip((at..).step_by(ALIGN)) {
            if block == &[0; ALIGN][..block.len()] {
                continue;
            }
            let used = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            found.written_to = Some(start + used);
            let header = HeaderBytes::try_from(block).ok().and_then(|bytes| FrameHeader::decode(&bytes, salt).ok());
            found.proves_durable |= header.is_some_and(|header| header.group > position);
        }
        at += length as u64;
    }
    Ok(found)
}

/// Cuts a torn write off and makes sure that what was found is on stable storage. The process before may have been
/// killed between its write and its fsync, or after a failed fsync, which marks pages as clean that the disk never
/// took: so the last group, the only one without proof, is written once more.
fn make_durable(disk: &dyn Disk, file: &File, walk: &Walk, segment_bytes: u64, torn: bool) -> io::Result<()> {
    if torn {
        disk.truncate(file, walk.position)?;
    }
    match disk.allocate(file, segment_bytes.max(walk.position)) {
        // A full disk can still be read from; appends will be refused until there is space.
        Err(error) if !is_full(&error) => return Err(error),
        _ => {}
    }
    let bytes = (walk.position - walk.last_group) as usize;
    if let Some(group) = Source::new(file, walk.position, bytes).get(walk.last_group, bytes)? {
        write_all(disk, file, &group, walk.last_group)?;
    }
    disk.sync(file)
}
