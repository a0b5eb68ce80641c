//! The newest durable batches in memory, as they were coalesced: a reader near the end never decodes a frame.

use std::collections::VecDeque;

use parking_lot::RwLock;
use rollcall_model::ids::Offset;

use crate::batch::EventBatch;
use crate::log::{KindSet, ReadBatch};

pub(super) struct Cache {
    bytes_max: usize,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Consecutive, oldest first, with the bytes of each.
    batches: VecDeque<(EventBatch, usize)>,
    bytes: usize,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: RwLock::default() }
    }

    /// Adds the batches of a group and lets the oldest go beyond the limit. The newest one stays, whatever its size.
    pub fn push(&self, batches: impl Iterator<Item = EventBatch>) {
        let mut kept = self.kept.write();
        for batch in batches {
            let bytes = batch.bytes();
            kept.bytes += bytes;
            kept.batches.push_back((batch, bytes));
        }
        while kept.bytes > self.bytes_max && kept.batches.len() > 1 {
            if let Some((_, bytes)) = kept.batches.pop_front() {
                kept.bytes -= bytes;
            }
        }
    }

    /// `None` when the row at `from` is not, or no longer, here.
    pub fn read(&self, from: Offset, bytes_max: usize, kinds: KindSet) -> Option<ReadBatch> {
        let kept = self.kept.read();
        let start = kept.batches.partition_point(|(batch, _)| batch.next() <= from);
        let (head, _) = kept.batches.get(start)?;
        (head.first <= from).then(|| ReadBatch::take(kept.batches.range(start..).map(|(batch, _)| batch), from, bytes_max, kinds))
    }
}
