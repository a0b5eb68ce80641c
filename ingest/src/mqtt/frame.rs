//! MQTT framing: where a packet begins and ends, and whether a client may send it at all. The codec behind it sees only
//! whole frames of permitted types with correct flags; it panics on some others.

use super::Violation;

pub const CONNECT: u8 = 1;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBSCRIBE: u8 = 8;
pub const UNSUBSCRIBE: u8 = 10;
pub const PINGREQ: u8 = 12;
pub const DISCONNECT: u8 = 14;

/// A whole packet at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type in the upper half, flags in the lower.
    pub first: u8,
    /// Bytes of the fixed header.
    pub header: usize,
    /// Bytes of the packet, fixed header included.
    pub total: usize,
}

impl Frame {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }
}

/// The packet at the front of `bytes`; `None` when it is not complete yet. Everything that can be refused by its first
/// bytes is refused before the rest has arrived.
pub fn next(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Frame>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    check_first(first)?;
    let mut length = 0usize;
    for i in 0..4 {
        let Some(&byte) = bytes.get(1 + i) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let header = 2 + i;
            let total = header + length;
            if total > packet_bytes_max {
                return Err(Violation::TOO_LARGE);
            }
            return Ok((bytes.len() >= total).then_some(Frame { first, header, total }));
        }
    }
    Err(Violation::malformed("remaining length has more than four bytes"))
}

fn check_first(first: u8) -> Result<(), Violation> {
    let flags = first & 0x0f;
    let expected = match first >> 4 {
        PUBLISH if flags & 0b0110 == 0b0110 => return Err(Violation::malformed("QoS 3")),
        PUBLISH if flags & 0b1110 == 0b1000 => return Err(Violation::malformed("DUP with QoS 0")),
        PUBLISH => return Ok(()),
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => 0b0010,
        CONNECT | PUBACK | PUBREC | PUBCOMP | PINGREQ | DISCONNECT => 0,
        15 => return Err(Violation::protocol("no extended authentication was agreed")),
        _ => return Err(Violation::malformed("a packet that only a server may send")),
    };
    if flags != expected {
        return Err(Violation::malformed("reserved flags of the fixed header"));
    }
    Ok(())
}

/// Writes the remaining length.
pub fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Bytes that a variable-length integer takes.
pub fn length_of(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut bytes = vec![0x30];
            put_length(&mut bytes, length);
            assert_eq!(bytes.len() - 1, length_of(length));
            assert_eq!(next(&bytes, usize::MAX).unwrap().is_some(), length == 0);
            assert_eq!(next(&bytes, length), Err(Violation::TOO_LARGE));
        }
        assert!(next(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_never_promises_bytes_that_are_not_there(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = next(&bytes, 1_000) {
                prop_assert!(frame.total <= bytes.len() && frame.header <= frame.total);
            }
        }
    }
}
