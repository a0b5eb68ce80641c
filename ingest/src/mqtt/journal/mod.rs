//! What of the broker outlives the process: persistent sessions with their subscriptions, wills and messages for the client,
//! and retained messages. One file, `<data>/sessions/journal`, apart from the log: none of this is evidence.
//!
//! # Promises
//! - A SUBACK, UNSUBACK or PUBREL of a persistent session is sent, and a QoS 1 or 2 message for it leaves, only when the
//!   line that says so is on stable storage ([`Journal::stored`]). A message's packet id is chosen when it is queued and
//!   written with it, so that a QoS 2 message that comes again after a crash is known by its id.
//! - Lines are in the order of what happened to one session and to one retained topic. Losing the last lines loses the
//!   last changes and nothing before them.
//! - Clean sessions (expiry 0) and packet ids of inbound QoS 2 publishes are not kept: an event that is published again is
//!   recognised by its device and number.
//! - Bounds: `GatewayConfig::kept_bytes_max` of messages in all sessions together (at the limit a new one is dropped, as in a
//!   full queue), `retained_bytes_max`, [`PENDING_BYTES_MAX`] that wait for the disk (at the limit the file is written anew).
//!   The file is replaced by the present state at every start and whenever it has grown to four times that state.
//! - While the disk refuses, nothing above is acknowledged; the whole state is written again every second until it is taken.
//!
//! # Format, little-endian
//! `RCSESS01`, then lines: length of the body u32, CRC32C of the body u32, body. A body is its kind (u8) and the fields that
//! [`record`] lists. A text or a binary is its length u32 and its bytes; an optional field is a byte 0 or 1 before it; an
//! instant is i64 milliseconds since the epoch, UTC. A line that is cut or whose sum is wrong ends the file: nothing behind it
//! was acknowledged. The file is replaced by an atomic rename of `journal.new`. Another magic is refused.

mod file;
mod record;
mod restored;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rollcall_model::time::Clock;
use tokio::sync::{Notify, watch};

pub use file::JournalFile;
pub use record::Record;
pub use restored::{Restored, RestoredSession, Stage};

/// Lines that wait for the disk.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where changes are noted. Appending never blocks; [`super::broker::Broker::keep`] brings the lines to the disk.
pub struct Journal {
    lines: Mutex<Lines>,
    pub(super) wake: Notify,
    stored: watch::Sender<u64>,
    clock: Clock,
    kept_bytes: AtomicUsize,
    kept_bytes_max: usize,
}

#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
    /// The whole state, while it is being gathered; lines that are appended meanwhile follow it.
    whole: Option<Vec<u8>>,
    /// Bytes of all lines ever appended.
    end: u64,
    /// Lines were let go because too many waited: only the whole state helps.
    overflowed: bool,
}

/// A pair of clocks read at one instant: the broker's times are monotonic, the file's are not.
#[derive(Clone, Copy)]
pub struct Times {
    pub wall_ms: i64,
    pub instant: Instant,
}

impl Times {
    pub fn to_wall(self, at: Instant) -> i64 {
        let ahead = at.saturating_duration_since(self.instant).as_millis() as i64;
        let behind = self.instant.saturating_duration_since(at).as_millis() as i64;
        self.wall_ms.saturating_add(ahead).saturating_sub(behind)
    }

    /// What is past becomes now.
    pub fn to_instant(self, wall_ms: i64) -> Instant {
        let ahead = u64::try_from(wall_ms.saturating_sub(self.wall_ms)).unwrap_or(0);
        // A hundred years hence is never.
        self.instant + Duration::from_millis(ahead.min(100 * 365 * 24 * 3_600_000))
    }
}

impl Journal {
    pub fn new(clock: Clock, kept_bytes_max: usize) -> Arc<Self> {
        let (lines, wake, kept_bytes) = (Mutex::default(), Notify::new(), AtomicUsize::new(0));
        Arc::new(Self { lines, wake, stored: watch::Sender::new(0), clock, kept_bytes, kept_bytes_max })
    }

    /// How many bytes of lines are on stable storage.
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.stored.subscribe()
    }

    pub fn times(&self) -> Times {
        Times { wall_ms: self.clock.now().0, instant: Instant::now() }
    }

    /// Notes a change; it is kept once [`Journal::stored`] has reached what this returns.
    pub fn append(&self, record: &Record<'_>) -> u64 {
        let mut line = Vec::with_capacity(64);
        record.write(self.times(), &mut line);
        let mut lines = self.lines.lock();
        lines.end += line.len() as u64;
        if let Some(whole) = &mut lines.whole {
            whole.extend_from_slice(&line);
        }
        if lines.pending.len() + line.len() > PENDING_BYTES_MAX {
            lines.overflowed = true;
            lines.pending = Vec::new();
        } else if !lines.overflowed {
            lines.pending.extend_from_slice(&line);
        }
        let end = lines.end;
        drop(lines);
        self.wake.notify_one();
        end
    }

    /// Takes room for a message in a persistent session. `false`: there is none.
    pub fn take_room(&self, bytes: usize) -> bool {
        let taken = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.kept_bytes_max;
        if !taken {
            self.give_room(bytes);
        }
        taken
    }

    pub fn give_room(&self, bytes: usize) {
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lines to append to the file, and how far they reach.
    pub(super) fn take(&self) -> Option<(Vec<u8>, u64)> {
        let mut lines = self.lines.lock();
        let pending = std::mem::take(&mut lines.pending);
        (!pending.is_empty()).then_some((pending, lines.end))
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.lines.lock().overflowed
    }

    /// From here to [`Journal::end_whole`] the state is gathered with [`Journal::add_whole`].
    pub(super) fn begin_whole(&self) {
        self.lines.lock().whole = Some(file::MAGIC.to_vec());
    }

    pub(super) fn add_whole(&self, records: &[Record<'_>]) {
        let (times, mut bytes) = (self.times(), Vec::new());
        records.iter().for_each(|record| record.write(times, &mut bytes));
        if let Some(whole) = &mut self.lines.lock().whole {
            whole.extend_from_slice(&bytes);
        }
    }

    /// The whole file, and how far it reaches. Lines that waited are part of it.
    pub(super) fn end_whole(&self) -> (Vec<u8>, u64) {
        let mut lines = self.lines.lock();
        lines.pending = Vec::new();
        lines.overflowed = false;
        (lines.whole.take().unwrap_or_default(), lines.end)
    }

    pub(super) fn reached(&self, end: u64) {
        self.stored.send_replace(end);
    }
}
