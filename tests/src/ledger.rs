//! What each device sent and what it was told: the truth that the log, the database and the boards are held against.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// One event as a device made it. It is the same however often it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// A reading of one metric.
    Reading {
        value: f64,
    },
    Scan {
        badge: String,
        person: String,
        direction: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: u64,
    pub ts_ms: i64,
    pub word: Word,
}

impl Event {
    pub fn topic(&self) -> &'static str {
        match self.word {
            Word::Reading { .. } => "v1/telemetry",
            Word::Scan { .. } => "v1/scan",
        }
    }

    pub fn payload(&self) -> Value {
        match &self.word {
            Word::Reading { value } => json!({"seq": self.seq, "ts": self.ts_ms, "m": {"steps": value}}),
            Word::Scan { badge, direction, .. } => {
                json!({"seq": self.seq, "ts": self.ts_ms, "badge": badge, "dir": direction, "method": "qr"})
            }
        }
    }
}

/// One device's account book.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub sent: BTreeMap<u64, Event>,
    pub acknowledged: BTreeSet<u64>,
    /// Breaches of the protocol: an acknowledgement out of order or of nothing.
    pub breaches: Vec<String>,
}

/// A row that some store of the server's holds: sequence number, event time, value or direction.
pub type Row = (u64, i64, String);

impl Ledger {
    /// What a row of this event must say.
    fn row(event: &Event) -> Row {
        let word = match &event.word {
            Word::Reading { value } => value.to_string(),
            Word::Scan { direction, .. } => (*direction).to_owned(),
        };
        (event.seq, event.ts_ms, word)
    }

    pub fn unacknowledged(&self) -> impl Iterator<Item = &Event> {
        self.sent.values().filter(|event| !self.acknowledged.contains(&event.seq))
    }

    /// Holds rows against the book: acknowledged exactly once, sent at most once, nothing else, and as they were sent.
    /// `since` leaves out what the store may have dropped already.
    pub fn check(&self, store: &str, rows: &[Row], since: u64) -> Result<()> {
        ensure!(self.breaches.is_empty(), "{:?}", self.breaches);
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        for row in rows {
            let Some(event) = self.sent.get(&row.0) else { anyhow::bail!("{store} holds {row:?}, which nobody sent") };
            ensure!(*row == Self::row(event), "{store} holds {row:?} where {:?} was sent", Self::row(event));
            *held.entry(row.0).or_default() += 1;
        }
        if let Some((seq, times)) = held.iter().find(|(_, times)| **times > 1) {
            anyhow::bail!("{store} holds {seq} {times} times");
        }
        let missing: Vec<u64> = self.acknowledged.range(since..).filter(|seq| !held.contains_key(seq)).copied().collect();
        ensure!(
            missing.is_empty(),
            "{store} lacks {} acknowledged events of {}, such as {:?}",
            missing.len(),
            self.acknowledged.len(),
            &missing[..missing.len().min(10)]
        );
        Ok(())
    }

    /// Whether rows hold everything that was acknowledged: what a store that follows the log must come to.
    pub fn is_held_by(&self, rows: &[Row]) -> bool {
        let held: BTreeSet<u64> = rows.iter().map(|row| row.0).collect();
        self.acknowledged.is_subset(&held)
    }
}
