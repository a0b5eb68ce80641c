//! Opening history and committing edits: the only code that writes the manifest.

use std::sync::Arc;

use rollcall_model::ids::Offset;
use uuid::Uuid;

use super::error::HistoryError;
use super::manifest::{self, Edit, FileEntry, Gap, State, Tombstone};
use super::place::Listed;
use super::{Core, READER, file};

/// After so many edits one repeats all files, so that opening reads few.
const EDITS_BETWEEN_FULL: u64 = 64;

/// The right to write, from one opening to the first failure.
pub(super) struct Session {
    writer: Uuid,
    epoch: u64,
    /// Files named in this epoch.
    named: u64,
    /// The newest full edit, and the one before it.
    full: (u64, u64),
    pub state: Arc<State>,
}

/// What a step wants to change.
#[derive(Default)]
pub(super) struct Change {
    pub next: Option<Offset>,
    pub add: Vec<FileEntry>,
    pub remove: Vec<String>,
    pub tombstones: Option<Vec<Tombstone>>,
}

impl Session {
    /// Gives a file its name.
    pub fn name(&mut self, entry: &mut FileEntry) {
        entry.path = file::path_of(entry, self.epoch, self.named);
        self.named += 1;
    }
}

impl Core {
    /// Opens history unless it is open: reads the manifest, takes the right to write, and finds what does not belong.
    pub async fn opened<'a>(&self, session: &'a mut Option<Session>) -> Result<&'a mut Session, HistoryError> {
        match session {
            Some(session) => Ok(session),
            None => Ok(session.insert(self.open().await?)),
        }
    }

    async fn open(&self) -> Result<Session, HistoryError> {
        let listed = self.place.list().await?;
        let loaded = manifest::load(&self.place, &listed).await?;
        let mut state = loaded.state;
        let (oldest, end) = (self.log.oldest(), *self.log.durable().borrow());
        if state.next > end {
            return Err(HistoryError::Ahead { history: state.next, log: end });
        }
        let fresh = state.version == 0;
        if fresh && listed.iter().any(|listed| file::is_ours(&listed.path)) {
            return Err(HistoryError::Manifest("there are data files, but no edit".into()));
        }
        if let Some(torn) = &loaded.torn {
            if oldest > state.next && !fresh {
                return Err(HistoryError::Manifest(format!("{torn} was confirmed and cannot be read any more")));
            }
            tracing::warn!(path = torn, "the newest edit of history's manifest was never confirmed; it is removed");
            self.place.remove(torn).await?;
        }
        if oldest > state.next {
            // A new history begins where the log begins; an old one has lost rows and says so for ever.
            if !fresh {
                tracing::error!(from = %state.next, to = %oldest, "the log was trimmed before history had these rows");
                state.gaps.push(Gap { from: state.next, to: oldest });
            }
            state.next = oldest;
        }
        if fresh {
            state.flushed = self.clock.now();
        }
        let version = state.version + 1;
        self.keep_known_files(&mut state);
        let full = (version, loaded.base);
        let mut session = Session { writer: Uuid::new_v4(), epoch: version, named: 0, full, state: Arc::new(state) };
        self.commit(&mut session, Change::default()).await?;
        self.find_strangers(&session.state, &listed);
        let old = listed.iter().filter_map(|listed| manifest::version_of(&listed.path)).filter(|version| *version < loaded.base);
        self.forget_edits(old).await;
        Ok(session)
    }

    /// Queries that run since before a reopening count as readers of the same files as those after it.
    fn keep_known_files(&self, state: &mut State) {
        let Some(before) = self.published.lock().state.clone() else { return };
        for (path, file) in &mut state.files {
            if let Some(known) = before.files.get(path).filter(|known| *known == file) {
                *file = Arc::clone(known);
            }
        }
    }

    /// Orphans are retired and later deleted; what is not history's own is only named.
    fn find_strangers(&self, state: &State, listed: &[Listed]) {
        if !self.place.is_local() {
            self.verified.learn_sizes(state, listed);
        }
        let now = self.now_ms();
        let mut published = self.published.lock();
        published.foreign.clear();
        for Listed { path, .. } in listed {
            if state.files.contains_key(path) || manifest::version_of(path).is_some() {
                continue;
            }
            if !file::is_ours(path) {
                tracing::warn!(path, "a file in history's place was not written by history; it is not read");
                published.foreign.push(path.clone());
            } else if !published.retired.iter().any(|(retired, _)| retired.path == *path) {
                published.retired.push((Arc::new(FileEntry::orphan(path)), now));
            }
        }
        drop(published);
        self.report();
    }

    /// Looks again for files that do not belong, which may appear at any time.
    pub async fn look_for_strangers(&self, session: &Session) -> Result<(), HistoryError> {
        let listed = self.place.list().await?;
        self.find_strangers(&session.state, &listed);
        Ok(())
    }

    /// Makes a change durable, shows it to queries and tells the log. The files of `add` must be durable already.
    ///
    /// After an error the outcome is unknown: the caller drops the session, and the next step opens history again.
    pub async fn commit(&self, session: &mut Session, change: Change) -> Result<(), HistoryError> {
        let before = Arc::clone(&session.state);
        let version = before.version + 1;
        let full = version == session.epoch || version >= session.full.0 + EDITS_BETWEEN_FULL;
        let next = change.next.unwrap_or(before.next);
        let mut edit = Edit {
            version,
            epoch: session.epoch,
            writer: session.writer,
            full: false,
            next,
            flushed: if change.next.is_some() { self.clock.now() } else { before.flushed },
            add: change.add,
            remove: change.remove,
            tombstones: change.tombstones.unwrap_or_else(|| before.tombstones.clone()),
            gaps: before.gaps.clone(),
        };
        // A tombstone has done its work when no row before its end can come from the log any more.
        edit.tombstones.retain(|stone| stone.pending || stone.before > next);
        let after = Arc::new(before.after(&edit));
        if full {
            edit = Edit { full: true, add: after.files.values().map(|file| (**file).clone()).collect(), remove: Vec::new(), ..edit };
        }
        let (path, bytes) = (manifest::path_of(version), manifest::encode(&edit));
        // A store may have taken the first try of a put whose answer was lost, and refuse the second.
        if !self.place.create(&path, bytes.clone()).await? && self.place.get(&path).await? != bytes {
            return Err(HistoryError::Fenced { place: self.place.shown().to_owned() });
        }
        session.state = Arc::clone(&after);
        self.metrics.commits.inc();
        self.publish(&after);
        if full && version != session.full.0 {
            self.forget_edits(session.full.1..session.full.0).await;
            session.full = (version, session.full.0);
        }
        Ok(())
    }

    /// Lets queries see a state. Files that they saw until now and that are gone are retired.
    fn publish(&self, after: &Arc<State>) {
        let now = self.now_ms();
        let mut published = self.published.lock();
        let before = published.state.replace(Arc::clone(after));
        for file in before.iter().flat_map(|state| state.files.values()) {
            if !after.files.contains_key(&file.path) {
                published.damaged.remove(&file.path);
                published.retired.push((Arc::clone(file), now));
            }
        }
        if before.is_none() {
            self.log.register(READER, after.next);
        }
        self.pins.finished(after.next);
        drop(published);
        self.report();
    }

    /// Deletes edits that neither of the two newest full ones needs. A failure leaves them for the next opening.
    async fn forget_edits(&self, versions: impl Iterator<Item = u64>) {
        for version in versions {
            if let Err(error) = self.place.remove(&manifest::path_of(version)).await {
                tracing::debug!(%error, version, "an old edit of history's manifest could not be deleted");
            }
        }
    }
}

impl FileEntry {
    /// A file of which only the name is known, on its way out.
    fn orphan(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            kind: rollcall_model::event::Kind::Scan,
            district: rollcall_model::ids::DistrictId::from_bytes([0; 16]),
            date: chrono::NaiveDate::default(),
            rows: 0,
            bytes: 0,
            crc32c: 0,
            first: Offset(0),
            end: Offset(0),
            ts_min: rollcall_model::time::UtcMillis(0),
            ts_max: rollcall_model::time::UtcMillis(0),
            school_min: rollcall_model::ids::SchoolId::from_bytes([0; 16]),
            school_max: rollcall_model::ids::SchoolId::from_bytes([0; 16]),
            added: rollcall_model::time::UtcMillis(0),
            runs: None,
        }
    }
}
