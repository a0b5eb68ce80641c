//! Unpacking one LZ4 block, safe for any bytes. The library that packs reads past its input on a damaged block unless features are
//! on that everybody who packs Parquet in this program would have to carry.
//!
//! A block is a chain of sequences: a token whose halves are the number of literals and the length of a match less four, 15 in
//! either half goes on in bytes that are added up to the first below 255; the literals; the distance of the match, u16. The
//! last sequence ends after its literals.

/// The shortest match.
const MATCH_BYTES_MIN: usize = 4;

/// Fills `out` exactly; `None` when the block is not one of that length.
pub(super) fn unpack(mut block: &[u8], out: &mut [u8]) -> Option<()> {
    let mut at = 0_usize;
    loop {
        let token = take(&mut block)?;
        let literals = length(token >> 4, &mut block)?;
        let (text, rest) = block.split_at_checked(literals)?;
        out.get_mut(at..at.checked_add(literals)?)?.copy_from_slice(text);
        (at, block) = (at + literals, rest);
        if block.is_empty() {
            return (at == out.len()).then_some(());
        }
        let distance = usize::from(u16::from_le_bytes([take(&mut block)?, take(&mut block)?]));
        let matched = length(token & 15, &mut block)?.checked_add(MATCH_BYTES_MIN)?;
        if distance == 0 || distance > at || at.checked_add(matched)? > out.len() {
            return None;
        }
        at = repeat(out, at, distance, matched);
    }
}

fn take(block: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = block.split_first()?;
    *block = rest;
    Some(first)
}

fn length(half: u8, block: &mut &[u8]) -> Option<usize> {
    let mut length = usize::from(half);
    if half == 15 {
        loop {
            let more = take(block)?;
            length = length.checked_add(usize::from(more))?;
            if more != u8::MAX {
                break;
            }
        }
    }
    Some(length)
}

/// Copies `matched` bytes from `distance` back. They may overlap what is written: then the bytes in between repeat.
fn repeat(out: &mut [u8], mut at: usize, distance: usize, matched: usize) -> usize {
    let (from, end) = (at - distance, at + matched);
    while at < end {
        // What is there already is a whole number of repetitions, so it doubles.
        let count = (at - from).min(end - at);
        out.copy_within(from..from + count, at);
        at += count;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::unpack;

    proptest! {
        /// What the library packs comes back, whether it repeats itself or not.
        #[test]
        fn packed_bytes_come_back(pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), 1usize..60), 0..20)) {
            let plain: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
            let packed = lz4_flex::block::compress(&plain);
            let mut out = vec![0; plain.len()];
            prop_assert_eq!(unpack(&packed, &mut out), Some(()));
            prop_assert_eq!(&out, &plain);
            let mut longer = vec![0; plain.len() + 1];
            prop_assert_eq!(unpack(&packed, &mut longer), None);
        }

        #[test]
        fn any_bytes_are_refused_or_unpacked(block in proptest::collection::vec(any::<u8>(), 0..200), length in 0usize..400) {
            let _ = unpack(&block, &mut vec![0; length]);
        }
    }
}
