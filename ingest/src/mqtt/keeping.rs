//! The broker's state on its way to the disk and back.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::journal::{JournalFile, Record, Restored, RestoredSession, Stage, Times};
use super::session::{InFlight, Inner, Keeper, Session};
use super::tables::{Tables, Timer};

/// How soon a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Broker {
    /// Takes over what an earlier process kept. Sessions that were connected when it ended are disconnected from now on.
    pub fn restore(&self, restored: Restored) {
        let times = self.journal.times();
        let mut tables = self.tables.lock();
        for message in restored.retained.into_values().filter(|message| !message.is_expired(times.instant)) {
            tables.restore_retained(message);
        }
        let mut sessions: Vec<_> = restored.sessions.into_iter().collect();
        sessions.sort_by_key(|(id, session)| (session.offline_since_ms.unwrap_or(i64::MAX), *id));
        for (order, (id, session)) in sessions.into_iter().enumerate() {
            self.restore_session(&mut tables, times, order as u64, id, session);
        }
    }

    fn restore_session(&self, tables: &mut Tables, times: Times, order: u64, id: u64, found: RestoredSession) {
        let since = found.offline_since_ms.unwrap_or(times.wall_ms);
        let after = |seconds: u32| times.to_instant(since.saturating_add(i64::from(seconds) * 1_000));
        let end_at = (found.expiry_s != u32::MAX).then(|| after(found.expiry_s));
        let will_at = found.will.as_ref().map(|will| after(will.delay_s.min(found.expiry_s)));
        // The one that has waited longest is ended first when there are too many.
        let offline_at = times.instant + Duration::from_nanos(order);
        let mut inner = Inner {
            keeper: Some(Keeper { journal: self.journal.clone(), id }),
            expiry_s: found.expiry_s,
            subscriptions: found.subscriptions,
            will: found.will.clone(),
            offline_since_ms: Some(since),
            offline_at: Some(offline_at),
            will_at,
            end_at,
            ..Inner::default()
        };
        for (delivery, stage) in found.messages {
            if self.journal.take_room(delivery.message.bytes()) {
                match stage {
                    Stage::Queued => inner.restore(delivery),
                    _ => inner.in_flight.push_back(InFlight { pkid: delivery.pkid, delivery, released: stage == Stage::Released }),
                }
            }
        }
        let session = Arc::new(Session { id, client_id: found.client_id, owner: found.owner, inner: Mutex::new(inner) });
        tables.restore_session(&session);
        tables.offline.insert((offline_at, id), session.clone());
        if let (Some(at), Some(will)) = (will_at, found.will) {
            tables.timers.insert((at, id, false), (session.clone(), Timer::Will(will)));
        }
        if let Some(at) = end_at {
            tables.timers.insert((at, id, true), (session, Timer::SessionEnd));
        }
    }

    /// The file that holds the present state, and how far of the journal it reaches. Takes one lock at a time; what changes
    /// meanwhile follows in its own lines.
    fn whole_state(&self) -> (Vec<u8>, u64) {
        self.journal.begin_whole();
        let sessions: Vec<Arc<Session>> = {
            let tables = self.tables.lock();
            let retained: Vec<_> = tables.retained.values().map(|message| Record::Retained { message }).collect();
            self.journal.add_whole(&retained);
            tables.sessions.values().cloned().collect()
        };
        sessions.iter().for_each(|session| session.add_to(&self.journal));
        self.journal.end_whole()
    }

    /// Brings the journal to the disk until shutdown, and what is left then. A disk that refuses is tried again; until it
    /// takes the lines nothing that waits for them is acknowledged.
    pub async fn keep(&self, mut file: JournalFile, shutdown: CancellationToken) {
        let mut failing = false;
        loop {
            let replaces = failing || file.wants_replacing() || self.journal.has_overflowed();
            let work = if replaces { Some(self.whole_state()) } else { self.journal.take() };
            let Some((bytes, end)) = work else {
                if shutdown.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.journal.wake.notified() => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            };
            let written = tokio::task::spawn_blocking(move || {
                let result = if replaces { file.replace(&bytes) } else { file.append(&bytes) };
                (file, result)
            });
            let result = match written.await {
                Ok((back, result)) => {
                    file = back;
                    result
                }
                Err(panic) => {
                    tracing::error!(%panic, "the journal of sessions cannot be written any more");
                    return;
                }
            };
            match result {
                Ok(()) => {
                    self.journal.reached(end);
                    failing = false;
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "the journal of sessions could not be written; it is tried again");
                    }
                    failing = true;
                    if tokio::time::timeout(RETRY, shutdown.cancelled()).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }
}
