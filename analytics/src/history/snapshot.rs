//! One state of history for one query, and what keeps its rows alive meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::Log;

use super::manifest::FileEntry;
use super::warnings::Warning;
use super::{Core, History, READER, rows};
use crate::hot::Erased;

/// The offsets from which running queries may still read the log; the log is not trimmed past the least of them.
#[derive(Clone)]
pub(super) struct Pins(Arc<PinsShared>);

struct PinsShared {
    log: Arc<dyn Log>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    pins: BTreeMap<Offset, usize>,
    finished: Option<Offset>,
}

impl Pins {
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self(Arc::new(PinsShared { log, held: Mutex::default() }))
    }

    /// History itself needs nothing before this offset any more.
    pub fn finished(&self, next: Offset) {
        let mut held = self.0.held.lock();
        held.finished = Some(next);
        self.0.tell(&held);
    }

    fn pin(&self, at: Offset) -> Pin {
        *self.0.held.lock().pins.entry(at).or_default() += 1;
        Pin { pins: self.clone(), at }
    }
}

impl PinsShared {
    fn tell(&self, held: &Held) {
        if let Some(finished) = held.finished {
            self.log.commit(READER, held.pins.keys().next().map_or(finished, |pin| finished.min(*pin)));
        }
    }
}

/// As long as it lives, the log keeps the rows from its offset on.
pub(super) struct Pin {
    pins: Pins,
    at: Offset,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.0.held.lock();
        if let Some(count) = held.pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                held.pins.remove(&self.at);
            }
        }
        self.pins.0.tell(&held);
    }
}

/// One version of history, for one kind. Its files are not deleted and the log keeps the rows from `next` on, as long as it lives.
pub struct Snapshot {
    pub kind: Kind,
    /// Rows before this are in the files; rows from here on are hot or in the log.
    pub next: Offset,
    /// All files of the kind, unpruned.
    pub files: Vec<Arc<FileEntry>>,
    /// Those of them that cannot be read, by path, with the reason.
    pub damaged: BTreeMap<String, String>,
    pub warnings: Vec<Warning>,
    pub(super) erased: Arc<Erased>,
    pub(super) pin: Arc<Pin>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("kind", &self.kind).field("next", &self.next).field("files", &self.files.len()).finish()
    }
}

impl History {
    /// What history has of a kind now. When the object store does not answer, or history was not opened yet, there are no
    /// files in it and a warning says so.
    pub async fn snapshot(&self, kind: Kind) -> Snapshot {
        let core = &self.0;
        let away = core.away(core.config.probe_interval).await;
        let published = core.published.lock();
        let Some(state) = published.state.clone() else {
            drop(published);
            return core.log_only(kind, away);
        };
        // The pin is taken under the lock that publishing takes, so the log still has the rows.
        let pin = Arc::new(core.pins.pin(state.next));
        let mut snapshot = Snapshot {
            kind,
            next: state.next,
            files: Vec::new(),
            damaged: BTreeMap::new(),
            warnings: Vec::new(),
            erased: Arc::new(rows::erased(&state.tombstones)),
            pin,
        };
        if let Some(reason) = away {
            snapshot.warnings.push(Warning::Away { rows_before: state.next.0, reason });
            return snapshot;
        }
        snapshot.files = state.files.values().filter(|file| file.kind == kind).cloned().collect();
        snapshot.damaged.clone_from(&published.damaged);
        snapshot.warnings = published.strangers_and_gaps(&state, kind);
        snapshot
    }
}

impl Core {
    /// Before history is open nobody knows what is in files; the log has at least what they have not.
    fn log_only(&self, kind: Kind, away: Option<String>) -> Snapshot {
        let next = self.log.oldest();
        let pin = Arc::new(self.pins.pin(next));
        let reason = away.unwrap_or_else(|| "it is being opened".to_owned());
        let warnings = if next == Offset(0) { Vec::new() } else { vec![Warning::Away { rows_before: next.0, reason }] };
        Snapshot { kind, next, files: Vec::new(), damaged: BTreeMap::new(), warnings, erased: Arc::default(), pin }
    }
}
