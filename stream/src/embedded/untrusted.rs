//! The readers of frames behind one function, for the fuzz target and the replay of its corpus.

use arrow::buffer::Buffer;

use super::codec;
use super::frame::{ALIGN, FrameHeader, HeaderBytes, SegmentHeader};

/// Reads the bytes as a segment header and, once more, as a frame. The frame's checksums are set right first, or no mutation
/// would ever get past them. Never panics; a header that was read is written the same.
pub fn frames(bytes: &[u8]) {
    let Some((head, body)) = bytes.split_first_chunk::<ALIGN>() else { return };
    let mut segment: HeaderBytes = *head;
    seal(&mut segment, 0);
    if let Ok(header) = SegmentHeader::decode(&segment) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
    let mut frame: HeaderBytes = *head;
    frame[52..56].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    const SALT: u64 = 7;
    seal(&mut frame, crc32c::crc32c(&SALT.to_le_bytes()));
    let Ok(header) = FrameHeader::decode(&frame, SALT) else { return };
    assert_eq!(FrameHeader::decode(&header.encode(SALT), SALT), Ok(header));
    let _ = (header.next(), header.frame_bytes());
    let Some(kind) = header.kind else { return };
    if let Ok(batch) = codec::decode(&header, kind, &Buffer::from(body)) {
        assert_eq!(batch.len(), header.rows as usize);
        assert_eq!(batch.rows.schema(), *crate::schema::schema(kind));
    }
}

/// `before` is the checksum of what comes before the header's bytes.
fn seal(header: &mut HeaderBytes, before: u32) {
    let crc = crc32c::crc32c_append(before, &header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
}
