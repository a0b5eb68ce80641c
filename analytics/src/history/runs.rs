//! Where a person's rows stand in a file.
//!
//! What is worn or held by one person writes rows that stand together, because files are sorted by device: a day of a student is
//! one run of rows among a million. Filters and statistics leave a whole row group of each file to be decoded for it; with its
//! runs known, only the pages are read in which they stand. Each row belongs to one run, so the index is a fingerprint and a length for
//! each, in the order of the file. It lies between the file's last row group and its footer, where other readers of Parquet pass over it.
//!
//! A fingerprint may be that of somebody else: whoever uses the index still looks at the ids of the rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, FixedSizeBinaryArray};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::Core;
use super::manifest::FileEntry;
use super::rows::id;

/// Runs are worth their five bytes when they have so many rows on average; a gate's scans have a person once.
const ROWS_OF_A_RUN_MIN: usize = 8;

/// Indexes that are kept in memory over all queries; the least recently used go first.
const KEPT_BYTES_MAX: u64 = 96 * 1024 * 1024;

/// Runs are looked up by the first bits of their fingerprint: a file of a million rows has some two hundred runs of the same.
const GROUP_BITS: u32 = 8;

/// Bytes of one number.
const WORD: usize = size_of::<u32>();

/// Where the index lies in its file, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extent {
    pub start: u64,
    pub length: u64,
}

/// The runs of rows of the same person in a file, in order.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Runs {
    fingerprints: Vec<u32>,
    /// One past the last row of each.
    ends: Vec<u32>,
}

/// The same, to find people in.
pub(super) struct Lookup {
    /// Each run's fingerprint, and which of the runs it is: those of a group stand together, in the order of the file.
    runs: Vec<(u32, u32)>,
    /// Where each group begins, and the end of the last.
    groups: Vec<u32>,
    ends: Vec<u32>,
}

fn group(fingerprint: u32) -> usize {
    (fingerprint >> (u32::BITS - GROUP_BITS)) as usize
}

/// An even distribution whatever the ids are made of.
fn fingerprint(id: [u8; 16]) -> u32 {
    let number = u128::from_le_bytes(id);
    let folded = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number >> 64) as u64;
    (folded.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

impl Runs {
    /// The runs of a column of people; `None` when there are too many to be worth it.
    pub fn of(people: &FixedSizeBinaryArray) -> Option<Self> {
        let runs_max = people.len() / ROWS_OF_A_RUN_MIN;
        let (mut fingerprints, mut ends) = (Vec::new(), Vec::new());
        // Rows of nobody are those of an id that is not asked for.
        let person = |row| if people.is_null(row) { [0; 16] } else { id(people, row) };
        let mut before = None;
        for row in 0..people.len() {
            let person = person(row);
            if before != Some(person) {
                if ends.len() == runs_max {
                    return None;
                }
                before = Some(person);
                fingerprints.push(fingerprint(person));
                ends.push(0);
            }
            *ends.last_mut()? = u32::try_from(row + 1).ok()?;
        }
        (!ends.is_empty()).then_some(Self { fingerprints, ends })
    }

    /// A CRC32C of the rest, the number of runs, their fingerprints, and their lengths as LEB128. Numbers are little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let count = self.ends.len();
        let mut bytes = vec![0; WORD];
        bytes.extend((count as u32).to_le_bytes());
        bytes.extend(self.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
        let mut start = 0;
        for end in &self.ends {
            let mut length = end - start;
            while length > 0x7f {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            start = *end;
        }
        let sum = crc32c::crc32c(&bytes[WORD..]);
        bytes[..WORD].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The runs of a file of so many rows; `None` when the bytes are not those that were written for it.
    pub fn decode(bytes: &[u8], rows: u64) -> Option<Self> {
        let (sum, rest) = bytes.split_first_chunk::<WORD>()?;
        if u32::from_le_bytes(*sum) != crc32c::crc32c(rest) {
            return None;
        }
        let (count, rest) = rest.split_first_chunk::<WORD>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (words, mut lengths) = rest.split_at_checked(count.checked_mul(WORD)?)?;
        let fingerprints = words.as_chunks::<WORD>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let mut ends = Vec::with_capacity(count);
        let mut end: u32 = 0;
        for _ in 0..count {
            let (mut length, mut shift) = (0, 0);
            loop {
                let (byte, after) = lengths.split_first()?;
                lengths = after;
                length |= u32::from(byte & 0x7f).checked_shl(shift)?;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            end = end.checked_add(length)?;
            ends.push(end);
        }
        (lengths.is_empty() && u64::from(end) == rows).then_some(Self { fingerprints, ends })
    }
}

impl From<Runs> for Lookup {
    fn from(Runs { fingerprints, ends }: Runs) -> Self {
        let mut groups = vec![0; (1 << GROUP_BITS) + 1];
        for fingerprint in &fingerprints {
            groups[group(*fingerprint) + 1] += 1;
        }
        for at in 1..groups.len() {
            groups[at] += groups[at - 1];
        }
        let mut next = groups.clone();
        let mut runs = vec![(0, 0); fingerprints.len()];
        for (fingerprint, at) in fingerprints.into_iter().zip(0..) {
            let free = &mut next[group(fingerprint)];
            runs[*free as usize] = (fingerprint, at);
            *free += 1;
        }
        Self { runs, groups, ends }
    }
}

impl Lookup {
    /// The rows in which one of these people may stand, in order: runs that touch are one.
    pub fn rows_of(&self, people: &[[u8; 16]]) -> Vec<Range<usize>> {
        let mut wanted: Vec<u32> = people.iter().map(|person| fingerprint(*person)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let of_group = |wanted: u32| &self.runs[self.groups[group(wanted)] as usize..self.groups[group(wanted) + 1] as usize];
        let found = wanted.iter().flat_map(|wanted| of_group(*wanted).iter().filter(move |(fingerprint, _)| fingerprint == wanted));
        let mut found: Vec<usize> = found.map(|(_, at)| *at as usize).collect();
        found.sort_unstable();
        let mut rows: Vec<Range<usize>> = Vec::new();
        for at in found {
            let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
            let end = self.ends[at] as usize;
            match rows.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => rows.push(start..end),
            }
        }
        rows
    }

    fn bytes(&self) -> usize {
        size_of_val(self.runs.as_slice()) + size_of_val(self.groups.as_slice()) + size_of_val(self.ends.as_slice())
    }
}

/// The indexes that queries have in common. A file is written once under its name, so they never change.
pub(super) struct KeptRuns(Cache<String, Arc<Lookup>>);

impl KeptRuns {
    pub fn new() -> Self {
        let weight = |_: &String, runs: &Arc<Lookup>| u32::try_from(runs.bytes()).unwrap_or(u32::MAX);
        Self(Cache::builder().name("people's runs in history").weigher(weight).max_capacity(KEPT_BYTES_MAX).build())
    }
}

impl Core {
    /// The index of a file; `None`: it has none, or none that can be used.
    pub(super) async fn runs(&self, file: &FileEntry) -> Option<Arc<Lookup>> {
        let Extent { start, length } = file.runs?;
        if let Some(runs) = self.runs.0.get(&file.path) {
            return Some(runs);
        }
        let read = self.while_alive(self.place.range(&file.path, start..start.checked_add(length)?)).await.and_then(|read| read);
        let runs = match read {
            Ok(bytes) => Runs::decode(&bytes, file.rows).ok_or_else(|| "it is not what was written there".to_owned()),
            Err(error) => Err(error.describe()),
        };
        match runs {
            Ok(runs) => {
                let runs = Arc::new(Lookup::from(runs));
                self.runs.0.insert(file.path.clone(), Arc::clone(&runs));
                Some(runs)
            }
            Err(reason) => {
                tracing::warn!(path = file.path, reason, "the index of people of a file of history cannot be used; the file is read whole");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(people: &[Option<u8>]) -> FixedSizeBinaryArray {
        let ids = people.iter().map(|person| person.map(|person| [person; 16]));
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap()
    }

    #[test]
    fn people_who_come_and_go_row_by_row_have_no_index() {
        let gate: Vec<Option<u8>> = (0..64).map(|row| Some(row % 16)).collect();
        assert_eq!(Runs::of(&column(&gate)), None);
        assert_eq!(Runs::of(&column(&[])), None);
        let worn: Vec<Option<u8>> = (0..64).map(|row| Some(row / 8)).collect();
        let runs = Runs::of(&column(&worn)).unwrap();
        assert_eq!(runs.ends.len(), 8);
        assert_eq!(runs.encode().len(), 2 * WORD + 8 * (WORD + 1));
        let runs = Lookup::from(runs);
        assert_eq!(runs.rows_of(&[[3; 16]]), [24..32]);
        assert_eq!(runs.rows_of(&[[3; 16], [9; 16], [4; 16], [0; 16]]), [0..8, 24..40]);
    }

    /// Some groups have several of these, so that each must be told from its neighbours.
    #[test]
    fn everybody_of_many_is_found_where_they_stand() {
        let person = |number: usize| u128::from(number as u64 * 7 + 1).to_be_bytes();
        let people: Vec<[u8; 16]> = (0..2_000).map(person).collect();
        let rows = people.iter().flat_map(|person| std::iter::repeat_n(person, ROWS_OF_A_RUN_MIN));
        let lookup = Lookup::from(Runs::of(&FixedSizeBinaryArray::try_from_iter(rows).unwrap()).unwrap());
        for (number, person) in people.iter().enumerate() {
            assert_eq!(lookup.rows_of(&[*person]), [number * ROWS_OF_A_RUN_MIN..(number + 1) * ROWS_OF_A_RUN_MIN], "{number}");
        }
        assert_eq!(lookup.rows_of(&people), [0..people.len() * ROWS_OF_A_RUN_MIN]);
        assert_eq!(lookup.rows_of(&[person(5_000), people[0], people[0]]), [0..ROWS_OF_A_RUN_MIN]);
    }

    proptest! {
        /// Whatever a file has, the rows of a person are among those that the index gives, after writing and reading it too.
        #[test]
        fn no_row_is_missed(
            runs in prop::collection::vec((prop::option::of(0_u8..6), 1_usize..400), 1..20),
            asked in prop::collection::vec(0_u8..8, 1..4),
            (at, bit) in (any::<prop::sample::Index>(), 0_u8..8),
        ) {
            let people: Vec<Option<u8>> = runs.iter().flat_map(|(person, length)| std::iter::repeat_n(*person, *length)).collect();
            let made = Runs::of(&column(&people));
            let worth = people.chunk_by(|a, b| a == b).count() <= people.len() / ROWS_OF_A_RUN_MIN;
            prop_assert_eq!(made.is_some(), worth);
            let Some(made) = made else { return Ok(()) };
            let mut bytes = made.encode();
            let read = Runs::decode(&bytes, people.len() as u64).unwrap();
            prop_assert_eq!(&read, &made);
            let ids: Vec<[u8; 16]> = asked.iter().map(|person| [*person; 16]).collect();
            let given = Lookup::from(read).rows_of(&ids);
            // So few people have fingerprints of their own, so the rows are exact.
            let expected: Vec<usize> = (0..people.len()).filter(|row| people[*row].is_some_and(|person| asked.contains(&person))).collect();
            let listed: Vec<usize> = given.iter().cloned().flatten().filter(|row| people[*row].is_some()).collect();
            prop_assert_eq!(listed, expected);
            prop_assert!(given.is_sorted_by(|a, b| a.end < b.start));
            // Another file's, or not whole any more: not used.
            prop_assert_eq!(Runs::decode(&bytes, people.len() as u64 + 1), None);
            prop_assert_eq!(Runs::decode(&bytes[..bytes.len() - 1], people.len() as u64), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(Runs::decode(&bytes, people.len() as u64), None);
        }
    }
}
