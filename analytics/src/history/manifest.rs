//! The manifest's edits: what they say, how they are written, and how a state is read back from them.
//!
//! The format and what a crash leaves behind are described at the top of [`super`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::NaiveDate;
use rollcall_model::event::Kind;
use rollcall_model::ids::{DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::time::UtcMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::HistoryError;
use super::place::{Listed, Place};
use super::runs::Extent;

/// The folder of the manifest's edits.
pub(super) const FOLDER: &str = "manifest/";
const MAGIC: &str = "rollcall-history";
/// An older program refuses a higher number; a newer one reads all lower.
const FORMAT: u32 = 1;

/// One data file, as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the place; never used for anything else, before or after.
    pub path: String,
    pub kind: Kind,
    pub district: DistrictId,
    /// The day of event time, UTC.
    pub date: NaiveDate,
    pub rows: u64,
    pub bytes: u64,
    /// Of the whole file.
    pub crc32c: u32,
    /// Least offset of a row in it, and one past the greatest.
    pub first: Offset,
    pub end: Offset,
    pub ts_min: UtcMillis,
    pub ts_max: UtcMillis,
    pub school_min: SchoolId,
    pub school_max: SchoolId,
    pub added: UtcMillis,
    /// Its index of people; `None`: not worth it, or written before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Extent>,
}

/// A person whose rows before an offset are not shown and not written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    pub district: DistrictId,
    pub person: PersonId,
    pub before: Offset,
    /// Files that were written earlier may still hold rows of this person.
    pub pending: bool,
}

/// Rows that the log had trimmed before history wrote them. They are in the database only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    pub from: Offset,
    pub to: Offset,
}

/// One step of history. Applied in the order of versions, edits give the state.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Edit {
    pub version: u64,
    /// The version at which the program that wrote this opened the history.
    pub epoch: u64,
    pub writer: Uuid,
    /// `add` is all there is, so nothing before this edit is needed.
    pub full: bool,
    pub next: Offset,
    /// When `next` last moved.
    pub flushed: UtcMillis,
    pub add: Vec<FileEntry>,
    pub remove: Vec<String>,
    pub tombstones: Vec<Tombstone>,
    pub gaps: Vec<Gap>,
}

/// What history is at one version.
#[derive(Clone, Default, Debug)]
pub struct State {
    pub version: u64,
    /// Every row before this is in the files, unless it is in a gap or erased.
    pub next: Offset,
    pub flushed: UtcMillis,
    pub files: BTreeMap<String, Arc<FileEntry>>,
    pub tombstones: Vec<Tombstone>,
    pub gaps: Vec<Gap>,
}

impl State {
    /// The state after an edit. Files that stay are the same allocations, whose counts tell who still reads them.
    pub(super) fn after(&self, edit: &Edit) -> Self {
        let mut files = if edit.full { BTreeMap::new() } else { self.files.clone() };
        for path in &edit.remove {
            files.remove(path);
        }
        for entry in &edit.add {
            let known = self.files.get(&entry.path).filter(|known| ***known == *entry);
            files.insert(entry.path.clone(), known.cloned().unwrap_or_else(|| Arc::new(entry.clone())));
        }
        let Edit { version, next, flushed, tombstones, gaps, .. } = edit.clone();
        Self { version, next, flushed, files, tombstones, gaps }
    }
}

pub(super) fn path_of(version: u64) -> String {
    format!("{FOLDER}{version:020}.json")
}

pub(super) fn version_of(path: &str) -> Option<u64> {
    let digits = path.strip_prefix(FOLDER)?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

pub(super) fn encode(edit: &Edit) -> Bytes {
    let body = serde_json::to_string(edit).expect("an edit is made of what JSON can hold");
    Bytes::from(format!("{MAGIC} {FORMAT} {:08x}\n{body}\n", crc32c::crc32c(body.as_bytes())))
}

/// Why bytes are no edit that this program reads.
#[derive(Debug)]
pub(super) enum NotAnEdit {
    /// Cut off or changed.
    Damaged(String),
    /// Written by a newer program.
    Newer(u32),
}

impl From<&str> for NotAnEdit {
    fn from(reason: &str) -> Self {
        Self::Damaged(reason.to_owned())
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Edit, NotAnEdit> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let (header, body) = text.split_once('\n').ok_or("its first line does not end")?;
    let fields: Vec<&str> = header.split(' ').collect();
    let [MAGIC, format, crc] = fields[..] else { return Err("its first line is not a manifest's".into()) };
    match format.parse::<u32>() {
        Ok(format) if format > FORMAT => return Err(NotAnEdit::Newer(format)),
        Ok(_) => {}
        Err(_) => return Err("its format is no number".into()),
    }
    let body = body.strip_suffix('\n').ok_or("its end is missing")?;
    if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_str(body).map_err(|error| NotAnEdit::Damaged(error.to_string()))
}

/// What [`load`] found.
pub(super) struct Loaded {
    pub state: State,
    /// The full edit that the state was read from; 0 if there is none. Edits before it are not needed.
    pub base: u64,
    /// The newest edit, if it cannot be read: a write that was never confirmed, because the next one begins only when one is
    /// durable. Whoever opens removes it, unless the log no longer has the rows that would then be missing.
    pub torn: Option<String>,
}

/// Reads the newest state; of version 0 where no edit was ever confirmed. An edit that is unreadable or missing before
/// the newest is [`HistoryError::Manifest`].
pub(super) async fn load(place: &Place, listed: &[Listed]) -> Result<Loaded, HistoryError> {
    let mut versions: Vec<u64> = listed.iter().filter_map(|listed| version_of(&listed.path)).collect();
    versions.sort_unstable();
    let (mut edits, mut torn) = (Vec::<Edit>::new(), None);
    for version in versions.iter().rev().copied() {
        let path = path_of(version);
        let edit = match decode(&place.get(&path).await?) {
            Ok(edit) => edit,
            Err(NotAnEdit::Damaged(_)) if Some(&version) == versions.last() => {
                torn = Some(path);
                continue;
            }
            Err(NotAnEdit::Damaged(reason)) => return Err(HistoryError::Manifest(format!("{path}: {reason}"))),
            Err(NotAnEdit::Newer(format)) => {
                return Err(HistoryError::Manifest(format!("{path} is of format {format}; this program reads up to {FORMAT}")));
            }
        };
        let consecutive = edits.last().is_none_or(|after| after.version == version + 1);
        if edit.version != version || !consecutive {
            return Err(HistoryError::Manifest(format!("{} is missing", path_of(version + 1))));
        }
        let full = edit.full;
        edits.push(edit);
        if full {
            let state = edits.iter().rev().fold(State::default(), |state, edit| state.after(edit));
            return Ok(Loaded { state, base: version, torn });
        }
    }
    match edits.last() {
        None => Ok(Loaded { state: State::default(), base: 0, torn }),
        Some(first) => Err(HistoryError::Manifest(format!("{} is missing", path_of(first.version.saturating_sub(1))))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit() -> Edit {
        let (add, remove, tombstones, gaps) = (Vec::new(), vec!["x".to_owned()], Vec::new(), vec![Gap { from: Offset(1), to: Offset(2) }]);
        let (writer, flushed) = (Uuid::nil(), UtcMillis(5));
        Edit { version: 7, epoch: 3, writer, full: false, next: Offset(9), flushed, add, remove, tombstones, gaps }
    }

    #[test]
    fn an_edit_comes_back_and_a_damaged_one_does_not() {
        let bytes = encode(&edit());
        assert_eq!(decode(&bytes).unwrap(), edit());
        for cut in [0, 10, bytes.len() / 2, bytes.len() - 1] {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut flipped = bytes.to_vec();
        flipped[40] ^= 1;
        assert!(decode(&flipped).is_err());
    }

    #[test]
    fn versions_are_read_from_names_of_edits_only() {
        assert_eq!(version_of(&path_of(12)), Some(12));
        assert_eq!([version_of("manifest/12.json"), version_of("scans/00000000000000000012.json")], [None, None]);
    }
}
