//! The file of what was taken. Written beside the log at a log offset; at start the log is replayed from there.
//!
//! Format, little-endian: magic `RCSEEN02`, offset u64, the numbers that were taken, number of connected devices u64, each
//! device, district and school id; the numbers that were refused; number of devices u64 with fingerprints of refused
//! payloads, each id 16 bytes, count u32, fingerprints u64; CRC32C of everything before it. Numbers are: number of devices
//! u64, then per device id 16 bytes, floor u64, number of runs u32, runs of (first u64, last u64, ts_max i64). `RCSEEN01`
//! ends after the connected devices and is read too. Replaced by an atomic rename, so it is whole or the one before.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rollcall_model::ids::{DeviceId, DistrictId, Offset, SchoolId};

use super::State;
use super::runs::{Run, Runs};

const MAGIC: &[u8; 8] = b"RCSEEN02";
const MAGIC_1: &[u8; 8] = b"RCSEEN01";

/// Encodes the state as of `offset`.
pub fn encode(state: &State, offset: Offset) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + state.seen.len() * 56 + state.connected.len() * 48);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&offset.0.to_le_bytes());
    put_numbers(&mut bytes, &state.seen);
    bytes.extend_from_slice(&(state.connected.len() as u64).to_le_bytes());
    for (device, (district, school)) in &state.connected {
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(district.as_bytes());
        bytes.extend_from_slice(school.as_bytes());
    }
    put_numbers(&mut bytes, &state.buried.seqs);
    bytes.extend_from_slice(&(state.buried.fingerprints.len() as u64).to_le_bytes());
    for (device, prints) in &state.buried.fingerprints {
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&(prints.len() as u32).to_le_bytes());
        prints.iter().for_each(|print| bytes.extend_from_slice(&print.to_le_bytes()));
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn put_numbers(bytes: &mut Vec<u8>, numbers: &HashMap<DeviceId, Runs>) {
    bytes.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
    for (device, runs) in numbers {
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&runs.floor().to_le_bytes());
        bytes.extend_from_slice(&(runs.runs().len() as u32).to_le_bytes());
        for run in runs.runs() {
            bytes.extend_from_slice(&run.first.to_le_bytes());
            bytes.extend_from_slice(&run.last.to_le_bytes());
            bytes.extend_from_slice(&run.ts_max.to_le_bytes());
        }
    }
}

/// Puts the bytes in place of the file, on stable storage before it returns.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The state and its offset; `None` when there is no file.
pub fn read(path: &Path) -> io::Result<Option<(State, Offset)>> {
    match std::fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(bytes: &[u8]) -> Option<(State, Offset)> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut input = Input(body);
    let magic = input.take::<8>()?;
    if magic != *MAGIC && magic != *MAGIC_1 {
        return None;
    }
    let offset = Offset(input.u64()?);
    let mut state = State { seen: take_numbers(&mut input)?, ..State::default() };
    for _ in 0..input.u64()? {
        let device = DeviceId::from_bytes(input.take()?);
        let place = (DistrictId::from_bytes(input.take()?), SchoolId::from_bytes(input.take()?));
        state.connected.insert(device, place);
    }
    if magic == *MAGIC {
        state.buried.seqs = take_numbers(&mut input)?;
        for _ in 0..input.u64()? {
            let device = DeviceId::from_bytes(input.take()?);
            let count = u32::from_le_bytes(input.take()?);
            let prints = (0..count).map(|_| input.u64()).collect::<Option<_>>()?;
            state.buried.fingerprints.insert(device, prints);
        }
    }
    input.0.is_empty().then_some((state, offset))
}

fn take_numbers(input: &mut Input<'_>) -> Option<HashMap<DeviceId, Runs>> {
    let mut numbers = HashMap::new();
    for _ in 0..input.u64()? {
        let device = DeviceId::from_bytes(input.take()?);
        let floor = input.u64()?;
        let count = u32::from_le_bytes(input.take()?);
        let run = |input: &mut Input<'_>| Some(Run { first: input.u64()?, last: input.u64()?, ts_max: i64::from_le_bytes(input.take()?) });
        let runs = (0..count).map(|_| run(input)).collect::<Option<Vec<_>>>()?;
        numbers.insert(device, Runs::restore(floor, runs));
    }
    Some(numbers)
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::buried::Key;
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
        let mut state = State::default();
        let runs = [Run { first: 1, last: 5, ts_max: -3 }, Run { first: 9, last: 9, ts_max: 7 }];
        state.seen.insert(DeviceId::random(), Runs::restore(1, runs));
        state.connected.insert(DeviceId::random(), (DistrictId::random(), SchoolId::random()));
        state.buried.insert(Key::Seq(DeviceId::random(), 4), 1);
        state.buried.insert(Key::Fingerprint(DeviceId::random(), 5), 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        assert!(read(&path).unwrap().is_none());
        let bytes = encode(&state, Offset(42));
        write(&path, &bytes).unwrap();
        let (found, offset) = read(&path).unwrap().unwrap();
        assert_eq!((found.seen, found.connected, offset), (state.seen, state.connected, Offset(42)));
        assert_eq!(found.buried, state.buried);
        for at in [0, 20, bytes.len() - 1] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            std::fs::write(&path, broken).unwrap();
            assert!(read(&path).is_err());
        }
    }
}
