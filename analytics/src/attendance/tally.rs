//! How many students have each status.

use rollcall_model::status::Status;
use serde::{Serialize, Serializer};

/// Counts by status; in JSON an object with every status.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tally([u32; Status::ALL.len()]);

impl Tally {
    pub fn moved(&mut self, from: Option<Status>, to: Status) {
        if let Some(from) = from {
            self.0[place(from)] -= 1;
        }
        self.0[place(to)] += 1;
    }

    /// All of them together.
    pub fn students(&self) -> u32 {
        self.0.iter().sum()
    }

    /// Each count as the nearest multiple of a number.
    pub fn rounded_to(&self, multiple: u32) -> Self {
        Self(self.0.map(|count| rounded(count, multiple)))
    }

    /// The status by status counts, in the order of the codes.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        Status::ALL.iter().map(|status| (status.as_str(), self.0[place(*status)]))
    }
}

/// The nearest multiple.
pub(super) fn rounded(count: u32, multiple: u32) -> u32 {
    (count + multiple / 2) / multiple * multiple
}

fn place(status: Status) -> usize {
    Status::ALL.iter().position(|other| *other == status).expect("ALL lists every status")
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
