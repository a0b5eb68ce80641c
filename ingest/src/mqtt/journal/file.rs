//! The journal's file: read at the start, appended to, replaced.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Restored, Times};

pub(super) const MAGIC: &[u8; 8] = b"RCSESS01";

/// Below this the file is not replaced however little of it still holds.
const REPLACED_ABOVE_BYTES: u64 = 1024 * 1024;

/// How many times the present state the file may hold.
const GROWTH_MAX: u64 = 4;

/// All its calls block.
pub struct JournalFile {
    path: PathBuf,
    /// `None` until the state was written whole: nothing is appended behind lines that an earlier process left.
    file: Option<File>,
    bytes: u64,
    whole_bytes: u64,
}

impl JournalFile {
    /// Reads `journal` in the folder, which is made where it is missing.
    pub fn open(folder: &Path, times: Times) -> io::Result<(Self, Restored)> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("journal");
        let restored = match std::fs::read(&path) {
            Ok(bytes) => read(&bytes, times)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Restored::default(),
            Err(error) => return Err(error),
        };
        Ok((Self { path, file: None, bytes: 0, whole_bytes: 0 }, restored))
    }

    /// On stable storage when it returns. After an error the file must be replaced: how much was written is not known.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(lines)?;
        file.sync_data()?;
        self.bytes += lines.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// Puts a whole file in place of the old one; it is on stable storage when this returns.
    pub fn replace(&mut self, whole: &[u8]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(whole)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        (self.bytes, self.whole_bytes, self.file) = (whole.len() as u64, whole.len() as u64, Some(file));
        Ok(())
    }

    /// Whether the file must be or had better be replaced.
    pub fn wants_replacing(&self) -> bool {
        self.file.is_none() || self.bytes > REPLACED_ABOVE_BYTES.max(GROWTH_MAX * self.whole_bytes)
    }
}

fn read(bytes: &[u8], times: Times) -> io::Result<Restored> {
    let mut restored = Restored::default();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a journal of sessions, or of a newer version"));
    };
    while !rest.is_empty() {
        match line(rest).and_then(|(body, after)| restored.apply(body, times).map(|()| after)) {
            Some(after) => rest = after,
            None => {
                tracing::warn!(bytes = rest.len(), "the journal of sessions ends in a broken line; what follows was not acknowledged");
                break;
            }
        }
    }
    Ok(restored)
}

/// The first line's body, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*sum)).then_some((body, rest))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::super::super::broker::Will;
    use super::super::super::session::{Delivery, Message, Subscription};
    use super::super::{Record, Stage};
    use super::*;

    fn times() -> Times {
        Times { wall_ms: 1_795_150_000_000, instant: Instant::now() }
    }

    fn message(topic: &str, expires: Option<Instant>) -> Arc<Message> {
        let (payload, properties) = (b"{}".as_slice().into(), b"\x01\x01".as_slice().into());
        Arc::new(Message { topic: topic.into(), payload, qos: 1, retain: false, properties, expires, from: None })
    }

    fn delivery(pkid: u16) -> Delivery {
        let subscription_ids = [3, 4].into_iter().collect();
        Delivery { message: message("a", None), qos: 2, retain: false, subscription_ids, pkid, position: 0 }
    }

    fn written(at: Times) -> Vec<u8> {
        let will = Will { message: message("w", None), delay_s: 9, expiry_s: Some(8), owner: None };
        let subscription = Subscription { qos: 1, no_local: true, retain_as_published: false, id: Some(77) };
        let session = |anew| Record::Session {
            id: 5,
            anew,
            client_id: "tablet",
            owner: None,
            expiry_s: 60,
            offline_since_ms: Some(at.wall_ms),
            will: Some(&will),
        };
        let in_an_hour = message("kept", Some(at.instant + Duration::from_secs(3600)));
        let gone = message("gone", None);
        let mut bytes = MAGIC.to_vec();
        for record in [
            session(true),
            Record::Subscribed { id: 5, asked: "a/#", subscription },
            Record::Subscribed { id: 5, asked: "b", subscription },
            Record::Unsubscribed { id: 5, asked: "b" },
            Record::Queued { id: 5, delivery: &delivery(1) },
            Record::Queued { id: 5, delivery: &delivery(2) },
            Record::Queued { id: 5, delivery: &delivery(3) },
            Record::Sent { id: 5, pkid: 2 },
            Record::Released { id: 5, pkid: 2 },
            Record::Finished { id: 5, pkid: 1 },
            session(false),
            Record::Ended { id: 6 },
            Record::Retained { message: &in_an_hour },
            Record::Retained { message: &gone },
            Record::NotRetained { topic: "gone" },
        ] {
            record.write(at, &mut bytes);
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let at = times();
        let restored = read(&written(at), at).unwrap();
        let session = &restored.sessions[&5];
        assert_eq!((&*session.client_id, session.expiry_s, session.offline_since_ms), ("tablet", 60, Some(at.wall_ms)));
        assert_eq!(session.subscriptions.len(), 1);
        assert_eq!((session.subscriptions["a/#"].id, session.subscriptions["a/#"].no_local), (Some(77), true));
        let stages: Vec<_> = session.messages.iter().map(|(d, stage)| (d.pkid, d.qos, *stage)).collect();
        assert_eq!(stages, [(2, 2, Stage::Released), (3, 2, Stage::Queued)]);
        assert_eq!(session.messages[0].0.subscription_ids.as_slice(), [3, 4]);
        let will = session.will.as_ref().unwrap();
        assert_eq!((will.delay_s, will.expiry_s, &*will.message.topic), (9, Some(8), "w"));
        assert_eq!(restored.retained.len(), 1);
        assert_eq!(restored.retained["kept"].expires, Some(at.instant + Duration::from_secs(3600)));
    }

    #[test]
    fn another_magic_is_refused() {
        assert!(read(b"RCSESS02", times()).is_err());
    }

    proptest! {
        /// However it was torn or flipped, what stands before the damage is read and nothing panics.
        #[test]
        fn damage_ends_the_file(cut in 8usize..900, flip in any::<u8>()) {
            let at = times();
            let mut bytes = written(at);
            let cut = cut.min(bytes.len() - 1);
            bytes[cut] ^= flip;
            bytes.truncate(cut + 1);
            prop_assert!(read(&bytes, at).unwrap().sessions.len() <= 1);
        }
    }
}
