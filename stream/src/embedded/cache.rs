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
    /// Consecutive, oldest first, with the footprint of each.
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
            let bytes = batch.footprint();
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

#[cfg(test)]
mod tests {
    use rollcall_model::event::{Direction, Method};
    use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, PersonId, SchoolId};
    use rollcall_model::status::ScanEvidence;
    use rollcall_model::time::UtcMillis;

    use super::*;
    use crate::scan::{ScanRow, encode};

    /// A school's gate at rest: every scan is a batch of its own.
    fn one_scan(offset: u64) -> EventBatch {
        let evidence = ScanEvidence {
            student: PersonId::from_bytes([4; 16]),
            device: DeviceId::from_bytes([5; 16]),
            seq: offset,
            ts: UtcMillis(1),
            received: UtcMillis(2),
            direction: Direction::In,
            offline: false,
            offset: Offset(offset),
        };
        let row = ScanRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            badge: BadgeId::from_bytes([3; 16]),
            method: Method::Qr,
            evidence,
        };
        EventBatch { first: Offset(offset), ..encode(&[row]) }
    }

    #[test]
    fn small_batches_are_bounded_by_the_memory_that_they_take() {
        const BYTES_MAX: usize = 1 << 20;
        let cache = Cache::new(BYTES_MAX);
        (0..20_000).for_each(|offset| cache.push(std::iter::once(one_scan(offset))));
        let kept = cache.kept.read();
        let taken: usize = kept.batches.iter().map(|(batch, _)| batch.rows.get_array_memory_size()).sum();
        assert!(kept.batches.len() > 100 && taken <= BYTES_MAX, "{} batches take {taken} bytes", kept.batches.len());
    }
}
