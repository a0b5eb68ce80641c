//! Bodies packed and plain, and frames of the format before there was packing.

use arrow::buffer::Buffer;
use proptest::prelude::*;
use rollcall_model::event::Kind;

use super::scans;
use crate::embedded::codec::{self, Encoder};
use crate::embedded::frame::{ALIGN, FrameHeader, HeaderBytes, Packing};

/// One frame of these rows as bytes, and its header.
fn encoded(seqs: std::ops::Range<u64>, salt: u64) -> (FrameHeader, Vec<u8>) {
    let mut bytes = Vec::new();
    let header = Encoder::new().frame(&scans(seqs), 64, salt, &mut bytes).unwrap();
    (header, bytes)
}

#[test]
fn rows_come_back_from_a_packed_frame_which_is_much_smaller() {
    let (header, bytes) = encoded(0..1_000, 7);
    assert_eq!(header.packing, Packing::Lz4);
    assert!(bytes.len() * 4 < scans(0..1_000).bytes(), "{} bytes", bytes.len());
    let read = FrameHeader::decode(&HeaderBytes::try_from(&bytes[..ALIGN]).unwrap(), 7).unwrap();
    assert_eq!(read, header);
    let rows = codec::decode(&read, Kind::Scan, &Buffer::from(&bytes[ALIGN..])).unwrap();
    assert_eq!(rows.rows, scans(0..1_000).rows);
}

/// What the program before wrote: version 1, a zero where the packing stands now, and the message as it is.
#[test]
fn a_frame_of_version_1_is_read() {
    let (packed, bytes) = encoded(0..10, 7);
    let unpacked = codec::unpack(&Buffer::from(&bytes[ALIGN..])).unwrap();
    let header = FrameHeader { packing: Packing::Plain, body_bytes: unpacked.len() as u32, body_crc: crc32c::crc32c(&unpacked), ..packed };
    let mut old = header.encode(7);
    old[4..6].copy_from_slice(&1u16.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&7u64.to_le_bytes()), &old[..60]);
    old[60..].copy_from_slice(&crc.to_le_bytes());
    let read = FrameHeader::decode(&old, 7).unwrap();
    assert_eq!(codec::decode(&read, Kind::Scan, &unpacked).unwrap().rows, scans(0..10).rows);
}

proptest! {
    /// A body that is not what it says is an error, never a panic and never a great allocation.
    #[test]
    fn a_wrong_body_is_refused(edits in proptest::collection::vec((0usize..2_000, any::<u8>()), 1..5), cut in 0usize..2_000) {
        let (_, mut bytes) = encoded(0..50, 7);
        for (at, byte) in edits {
            let at = ALIGN + at % (bytes.len() - ALIGN);
            bytes[at] = byte;
        }
        bytes.truncate(ALIGN + cut.min(bytes.len() - ALIGN));
        if let Ok(plain) = codec::unpack(&Buffer::from(&bytes[ALIGN..])) {
            prop_assert!(plain.len() <= 256 * bytes.len());
        }
    }
}
