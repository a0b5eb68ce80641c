//! Which reader has finished with what, and so which rows nobody needs any more.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rollcall_model::ids::Offset;

pub(super) struct Readers {
    /// Readers that must have registered before anything is trimmed.
    required: Vec<String>,
    committed: Mutex<BTreeMap<String, Offset>>,
}

impl Readers {
    pub fn new(required: &[String]) -> Self {
        Self { required: required.to_vec(), committed: Mutex::default() }
    }

    /// Sets where a reader is; it may have gone back since it was last open. Returns what may be trimmed.
    pub fn register(&self, reader: &str, offset: Offset) -> Option<Offset> {
        let mut committed = self.committed.lock();
        committed.insert(reader.to_owned(), offset);
        self.least(&committed)
    }

    /// Moves a reader forward, never back. Returns the offset before which nobody needs the rows.
    pub fn commit(&self, reader: &str, offset: Offset) -> Option<Offset> {
        let mut committed = self.committed.lock();
        match committed.get_mut(reader) {
            Some(place) => *place = offset.max(*place),
            None => {
                committed.insert(reader.to_owned(), offset);
            }
        }
        self.least(&committed)
    }

    pub fn committed(&self, reader: &str) -> Offset {
        self.committed.lock().get(reader).copied().unwrap_or_default()
    }

    pub fn all(&self) -> Vec<(String, Offset)> {
        self.committed.lock().iter().map(|(name, offset)| (name.clone(), *offset)).collect()
    }

    fn least(&self, committed: &BTreeMap<String, Offset>) -> Option<Offset> {
        let complete = self.required.iter().all(|name| committed.contains_key(name));
        complete.then(|| committed.values().min().copied()).flatten()
    }
}
