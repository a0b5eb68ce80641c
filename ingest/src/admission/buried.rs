//! Which refused payloads are in the dead letters already, so that a device that sends one again and again leaves it there
//! once.
//!
//! A refused event is known by its device and number, and apart from the numbers that were taken: once its badge is issued
//! or its clock is right the same number may be taken after all. A payload without a readable number (written as 0) is known
//! by a fingerprint of its topic and bytes. At the limits the oldest are forgotten, and a payload that cannot be told apart
//! from a new one is kept again: rather twice than not at all.

use std::collections::{HashMap, VecDeque};

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::UInt64Type;
use rollcall_model::ids::DeviceId;
use rollcall_stream::{EventBatch, schema};
use sha2::{Digest, Sha256};

use super::runs::{Runs, Verdict};

/// Separate runs of refused numbers remembered for one device.
const RUNS_PER_DEVICE_MAX: usize = 1_024;

/// Fingerprints remembered for one device.
const FINGERPRINTS_PER_DEVICE_MAX: usize = 64;

/// What a row of the dead letters is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Seq(DeviceId, u64),
    Fingerprint(DeviceId, u64),
}

/// The keys of a batch of dead letters, one a row.
pub fn keys(batch: &EventBatch) -> Vec<Key> {
    let devices = batch.rows.column(schema::DEVICE).as_fixed_size_binary();
    let seqs = batch.rows.column(schema::SEQ).as_primitive::<UInt64Type>();
    let topics = batch.rows.column(schema::COMMON).as_string::<i32>();
    let payloads = batch.rows.column(schema::COMMON + 3).as_binary::<i32>();
    let key = |row: usize| {
        let device = DeviceId::from_bytes(devices.value(row).try_into().expect("ids have 16 bytes"));
        match seqs.value(row) {
            0 => Key::Fingerprint(device, fingerprint(topics.value(row), payloads.value(row))),
            seq => Key::Seq(device, seq),
        }
    };
    (0..batch.len()).map(key).collect()
}

fn fingerprint(topic: &str, payload: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update(topic).chain_update([0]).chain_update(payload).finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// What is remembered of all devices.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Buried {
    pub(super) seqs: HashMap<DeviceId, Runs>,
    /// The oldest first.
    pub(super) fingerprints: HashMap<DeviceId, VecDeque<u64>>,
}

impl Buried {
    /// Remembers a key; `false` when it was known.
    pub fn insert(&mut self, key: Key, now: i64) -> bool {
        match key {
            Key::Seq(device, seq) => {
                let runs = self.seqs.entry(device).or_default();
                let verdict = runs.insert(seq, now);
                if runs.runs().len() > 2 * RUNS_PER_DEVICE_MAX {
                    runs.forget(i64::MIN, RUNS_PER_DEVICE_MAX);
                }
                verdict != Verdict::Duplicate
            }
            Key::Fingerprint(device, print) => {
                let prints = self.fingerprints.entry(device).or_default();
                if prints.contains(&print) {
                    return false;
                }
                if prints.len() >= FINGERPRINTS_PER_DEVICE_MAX {
                    prints.pop_front();
                }
                prints.push_back(print);
                true
            }
        }
    }

    /// Gives back what an append that failed had inserted.
    pub fn remove(&mut self, key: Key) {
        match key {
            Key::Seq(device, seq) => {
                if let Some(runs) = self.seqs.get_mut(&device) {
                    runs.remove(seq);
                }
            }
            Key::Fingerprint(device, print) => {
                if let Some(prints) = self.fingerprints.get_mut(&device) {
                    prints.retain(|known| *known != print);
                }
            }
        }
    }

    /// Keeps the rows that are not known yet and remembers them. `inserted` gets their keys.
    pub fn keep_new(&mut self, batch: &EventBatch, keys: &[Key], now: i64, inserted: &mut Vec<Key>) -> Option<EventBatch> {
        let before = inserted.len();
        let mask: Vec<bool> = keys.iter().map(|key| self.insert(*key, now)).collect();
        inserted.extend(keys.iter().zip(&mask).filter(|(_, new)| **new).map(|(key, _)| *key));
        match inserted.len() - before {
            0 => None,
            all if all == keys.len() => Some(batch.clone()),
            _ => {
                let rows = arrow::compute::filter_record_batch(&batch.rows, &BooleanArray::from(mask));
                Some(EventBatch::new(batch.kind, rows.expect("the mask has one entry a row")))
            }
        }
    }

    /// Forgets numbers that were refused before `horizon`.
    pub fn forget(&mut self, horizon: i64) {
        self.seqs.retain(|_, runs| {
            runs.forget(horizon, RUNS_PER_DEVICE_MAX);
            !runs.is_empty()
        });
        self.fingerprints.retain(|_, prints| !prints.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_until_it_is_given_back_or_forgotten() {
        let (mut buried, device) = (Buried::default(), DeviceId::random());
        for key in [Key::Seq(device, 7), Key::Fingerprint(device, 7)] {
            assert!(buried.insert(key, 5));
            assert!(!buried.insert(key, 6));
            buried.remove(key);
            assert!(buried.insert(key, 6));
        }
        buried.forget(7);
        assert!(buried.insert(Key::Seq(device, 7), 8));
        for print in 100..100 + FINGERPRINTS_PER_DEVICE_MAX as u64 {
            assert!(buried.insert(Key::Fingerprint(device, print), 8));
        }
        assert!(buried.insert(Key::Fingerprint(device, 7), 8), "the oldest was forgotten");
        assert_ne!(fingerprint("ab", b"c"), fingerprint("a", b"bc"));
    }
}
