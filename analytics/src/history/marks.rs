//! What is known of each file, and the mark by which a local one is known again after a restart: why, stands in [`super::verify`].

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::error::HistoryError;
use super::file;
use super::manifest::{FileEntry, State};
use super::place::Listed;

/// Files that are read whole at the same time, by queries and in the background together.
pub(super) const CHECKS_MAX: usize = 4;

/// Bytes of a file that are read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What is known of files by their paths.
pub(super) struct Verified {
    known: Mutex<HashMap<String, Known>>,
    turns: Arc<Semaphore>,
    /// Woken when a query could not wait for files to be read.
    pub waiting: Notify,
}

/// Size and time of the last change of local files; the size of remote ones.
pub(super) type Stamp = (u64, Option<SystemTime>);

#[derive(Clone)]
enum Known {
    /// `read`: this process has seen all of its bytes.
    Right {
        stamp: Stamp,
        read: bool,
    },
    Wrong(Stamp, String),
    /// A query failed that read it.
    Suspect,
}

/// What there is to say of a file.
pub(super) enum Glance {
    Sound,
    Wrong(String),
    /// It has yet to be read whole.
    Unchecked,
}

impl Verified {
    pub fn new() -> Self {
        Self { known: Mutex::default(), turns: Arc::new(Semaphore::new(CHECKS_MAX)), waiting: Notify::new() }
    }

    /// The right to read a file whole.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, HistoryError> {
        Arc::clone(&self.turns).acquire_owned().await.map_err(|error| HistoryError::Step(error.to_string()))
    }

    fn set(&self, path: &str, known: Known) {
        self.known.lock().insert(path.to_owned(), known);
    }

    pub fn found_right(&self, path: &str, stamp: Stamp, read: bool) {
        self.set(path, Known::Right { stamp, read });
    }

    pub fn found_wrong(&self, path: &str, stamp: Stamp, reason: &str) {
        self.set(path, Known::Wrong(stamp, reason.to_owned()));
    }

    /// The file is read whole before its rows count again.
    pub fn suspect(&self, path: &str) {
        self.set(path, Known::Suspect);
    }

    /// Whether this process has yet to read the bytes of a file.
    pub fn is_unread(&self, path: &str) -> bool {
        !matches!(self.known.lock().get(path), Some(Known::Right { read: true, .. } | Known::Wrong(..)))
    }

    pub fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.known.lock().retain(|path, _| stays(path));
    }

    /// What is known of a file in an object store; `None`: nothing.
    pub fn remote(&self, path: &str) -> Option<Glance> {
        match self.known.lock().get(path)? {
            Known::Right { .. } => Some(Glance::Sound),
            // It may have been put right since, which its size does not say.
            Known::Wrong(..) | Known::Suspect => Some(Glance::Unchecked),
        }
    }

    /// Learns from a list of an object store. What the list has otherwise is asked for by the next query.
    pub fn learn_sizes(&self, state: &State, listed: &[Listed]) {
        let sizes: HashMap<&str, u64> = listed.iter().map(|listed| (listed.path.as_str(), listed.bytes)).collect();
        let mut known = self.known.lock();
        for file in state.files.values() {
            if sizes.get(file.path.as_str()) == Some(&file.bytes) {
                known.entry(file.path.clone()).or_insert(Known::Right { stamp: (file.bytes, None), read: false });
            } else if matches!(known.get(&file.path), Some(Known::Right { .. })) {
                known.remove(&file.path);
            }
        }
    }

    /// What size and time say of a local file. Blocking, for a few microseconds.
    pub fn glance(&self, file: &FileEntry, path: &Path) -> Glance {
        let stamp = match std::fs::metadata(path) {
            Ok(metadata) => stamp_of(&metadata),
            Err(error) => return Glance::Wrong(in_words(&error)),
        };
        if stamp.0 != file.bytes {
            return Glance::Wrong(of_another_size(file, stamp.0));
        }
        match self.known.lock().get(&file.path) {
            Some(Known::Right { stamp: right, .. }) if *right == stamp => Glance::Sound,
            Some(Known::Wrong(wrong, reason)) if *wrong == stamp => Glance::Wrong(reason.clone()),
            Some(Known::Suspect) => Glance::Unchecked,
            _ if stamp.1.is_some() && stamp.1 == mark_of(file) => Glance::Sound,
            _ => Glance::Unchecked,
        }
    }

    /// Reads a local file whole, and remembers and marks what it is. Blocking.
    pub fn read(&self, file: &FileEntry, path: &Path, count: &IntCounter) -> Glance {
        match read_whole(file, path, count) {
            Ok((stamp, Ok(()))) => {
                self.found_right(&file.path, mark(file, path, mark_of(file)).unwrap_or(stamp), true);
                Glance::Sound
            }
            Ok((stamp, Err(reason))) => {
                // What has rotted under its mark must not be trusted by the next process.
                let unmarked = (stamp.1 == mark_of(file)).then(|| mark(file, path, Some(SystemTime::now()))).flatten();
                self.found_wrong(&file.path, unmarked.unwrap_or(stamp), &reason);
                Glance::Wrong(reason)
            }
            Err(error) => Glance::Wrong(in_words(&error)),
        }
    }

    /// Remembers and marks a local file that was just written. Blocking.
    pub fn wrote(&self, file: &FileEntry, path: &Path) {
        if let Some(stamp) = mark(file, path, mark_of(file)) {
            self.found_right(&file.path, stamp, true);
        }
    }
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.modified().ok())
}

/// The time of the last change by which history knows its own file again.
fn mark_of(file: &FileEntry) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(file.added.0).ok()?))
}

/// Gives the file a time of its last change; `None` where that cannot be done: then it is read again after a restart.
fn mark(file: &FileEntry, path: &Path, at: Option<SystemTime>) -> Option<Stamp> {
    let marked = || {
        let opened = File::options().write(true).open(path)?;
        if let Some(at) = at {
            opened.set_modified(at)?;
        }
        opened.metadata()
    };
    match marked() {
        Ok(metadata) => Some(stamp_of(&metadata)),
        Err(error) => {
            tracing::debug!(%error, path = file.path, "a file of history could not be marked");
            None
        }
    }
}

/// The stamp of a file that was read from its begin to its end, and what is wrong with its bytes.
fn read_whole(file: &FileEntry, path: &Path, count: &IntCounter) -> std::io::Result<(Stamp, Result<(), String>)> {
    let mut opened = File::open(path)?;
    let stamp = stamp_of(&opened.metadata()?);
    let (mut chunk, mut crc32c) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let length = opened.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        count.inc_by(length as u64);
        crc32c = crc32c::crc32c_append(crc32c, &chunk[..length]);
    }
    let found = if stamp_of(&opened.metadata()?) != stamp {
        Err("it was changed while it was read".to_owned())
    } else if crc32c != file.crc32c {
        Err(file::WRONG_CHECKSUM.to_owned())
    } else {
        Ok(())
    };
    Ok((stamp, found))
}

pub(super) fn of_another_size(file: &FileEntry, bytes: u64) -> String {
    format!("it has {bytes} bytes instead of {}", file.bytes)
}

fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it is missing".to_owned(),
        _ => error.to_string(),
    }
}
