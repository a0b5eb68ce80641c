//! The two headers of the format, as bytes. Layout: see the module above.

use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;

/// Version of the segment and frame headers. Raise it when either changes, and keep reading the lower ones.
/// 2: a body may be packed.
pub const VERSION: u16 = 2;
/// Bytes of either header, and what every frame and every column buffer is aligned to.
pub const ALIGN: usize = 64;

const SEGMENT_MAGIC: &[u8; 8] = b"RCLOGSEG";
const FRAME_MAGIC: &[u8; 4] = b"RCFR";
const SEAL: u8 = 0;

pub(super) type HeaderBytes = [u8; ALIGN];

/// How a frame's body stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As Arrow wrote it.
    Plain,
    /// Its length and that of what follows, u32 each, then one LZ4 block.
    Lz4,
}

impl Packing {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Plain),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// Why bytes are not a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotAHeader {
    Damaged(&'static str),
    /// It is a whole header, of a program newer than this one.
    Version(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub first: Offset,
    pub salt: u64,
}

impl SegmentHeader {
    pub fn encode(self) -> HeaderBytes {
        let mut bytes = [0; ALIGN];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &HeaderBytes) -> Result<Self, NotAHeader> {
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(NotAHeader::Damaged("no segment header"));
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(NotAHeader::Damaged("the segment header's checksum is wrong"));
        }
        match u16_at(bytes, 8) {
            1..=VERSION => Ok(Self { first: Offset(u64_at(bytes, 16)), salt: u64_at(bytes, 24) }),
            version => Err(NotAHeader::Version(version)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// `None` for a seal.
    pub kind: Option<Kind>,
    pub packing: Packing,
    pub schema_version: u16,
    pub rows: u32,
    pub first: Offset,
    /// Where the write began that this frame was part of: all bytes before it were durable by then.
    pub group: u64,
    /// Least and greatest event time in milliseconds; zeros for a seal.
    pub ts: (i64, i64),
    pub body_bytes: u32,
    pub body_crc: u32,
}

impl FrameHeader {
    pub fn seal(end: Offset, group: u64, schema_version: u16) -> Self {
        let body_crc = crc32c::crc32c(&[]);
        Self { kind: None, packing: Packing::Plain, schema_version, rows: 0, first: end, group, ts: (0, 0), body_bytes: 0, body_crc }
    }

    /// One past the last row.
    pub fn next(&self) -> Offset {
        Offset(self.first.0 + u64::from(self.rows))
    }

    /// Bytes of header and body.
    pub fn frame_bytes(&self) -> u64 {
        ALIGN as u64 + u64::from(self.body_bytes)
    }

    pub fn encode(&self, salt: u64) -> HeaderBytes {
        let mut bytes = [0; ALIGN];
        bytes[..4].copy_from_slice(FRAME_MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.kind.map_or(SEAL, Kind::code);
        bytes[7] = self.packing as u8;
        bytes[8..10].copy_from_slice(&self.schema_version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.rows.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.group.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.ts.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.ts.1.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = header_crc(&bytes, salt);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &HeaderBytes, salt: u64) -> Result<Self, NotAHeader> {
        if &bytes[..4] != FRAME_MAGIC {
            return Err(NotAHeader::Damaged("no frame header"));
        }
        if u32_at(bytes, 60) != header_crc(bytes, salt) {
            return Err(NotAHeader::Damaged("the frame header's checksum is wrong"));
        }
        let version = u16_at(bytes, 4);
        if !(1..=VERSION).contains(&version) {
            return Err(NotAHeader::Version(version));
        }
        let kind = match bytes[6] {
            SEAL => None,
            code => Some(Kind::from_code(code).ok_or(NotAHeader::Damaged("unknown kind of frame"))?),
        };
        // Version 1 has a zero there.
        let packing = Packing::from_code(bytes[7]).ok_or(NotAHeader::Damaged("unknown packing of a frame"))?;
        let (rows, first) = (u32_at(bytes, 12), u64_at(bytes, 16));
        if first.checked_add(u64::from(rows)).is_none() {
            return Err(NotAHeader::Damaged("a frame's rows lie beyond the last offset"));
        }
        Ok(Self {
            kind,
            packing,
            schema_version: u16_at(bytes, 8),
            rows,
            first: Offset(first),
            group: u64_at(bytes, 24),
            ts: (u64_at(bytes, 32) as i64, u64_at(bytes, 40) as i64),
            body_bytes: u32_at(bytes, 48),
            body_crc: u32_at(bytes, 52),
        })
    }
}

fn header_crc(bytes: &HeaderBytes, salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &bytes[..60])
}

fn u16_at(bytes: &HeaderBytes, at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &HeaderBytes, at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &HeaderBytes, at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
