//! Ids of one file and what they stand for, and the checking of references to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::columns::{SOURCED_ID, STATUS_AT};
use crate::problem::{Code, Place, Problems, quoted};
use crate::table::Row;

#[derive(Clone, Copy)]
struct Known {
    line: u64,
    /// `None` when the row is there but is not imported: inactive, or wrong and already reported.
    at: Option<usize>,
    active: bool,
}

/// The rows of one file by sourcedId.
pub(super) struct Index {
    file: &'static str,
    known: HashMap<Box<str>, Known>,
    /// False when the package does not have the file: then references to it cannot be judged.
    pub present: bool,
}

impl Index {
    pub fn new(file: &'static str) -> Self {
        Self { file, known: HashMap::new(), present: false }
    }

    /// Registers a row's id. Returns true when the row is to be imported, at position `at`.
    pub fn admit(&mut self, row: &Row<'_>, at: usize, problems: &mut Problems) -> bool {
        let id = row.text(SOURCED_ID);
        if id.is_empty() {
            return false;
        }
        let active = row.some(STATUS_AT).is_none_or(|status| status.eq_ignore_ascii_case("active"));
        let imported = active && row.sound;
        match self.known.entry(id.into()) {
            Entry::Occupied(first) => {
                let line = first.get().line;
                problems.error(row.place(SOURCED_ID), Code::DuplicateId, format!("sourcedId {} stands already on line {line}", quoted(id)));
                false
            }
            Entry::Vacant(free) => {
                free.insert(Known { line: row.line, at: imported.then_some(at), active });
                imported
            }
        }
    }

    /// Position of what `id` refers to. A reference to nothing is an error, or a warning when it is not `needed`.
    pub fn find(&self, id: &str, place: Place<'_>, needed: bool, problems: &mut Problems) -> Option<usize> {
        if !self.present {
            return None;
        }
        match self.known.get(id) {
            Some(Known { at: Some(at), .. }) => Some(*at),
            Some(Known { active: false, .. }) => {
                problems.warn(place, Code::InactiveReference, format!("{} of {} is not active; left out", quoted(id), self.file));
                None
            }
            // The row itself was reported.
            Some(_) => None,
            None => {
                let message = format!("{} has no row in {}", quoted(id), self.file);
                if needed {
                    problems.error(place, Code::UnknownReference, message);
                } else {
                    problems.warn(place, Code::UnknownReference, message);
                }
                None
            }
        }
    }
}
