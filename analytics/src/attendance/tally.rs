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

    /// The status by status counts, in the order of the codes.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        Status::ALL.iter().map(|status| (status.as_str(), self.0[place(*status)]))
    }
}

fn place(status: Status) -> usize {
    Status::ALL.iter().position(|other| *other == status).expect("ALL lists every status")
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
