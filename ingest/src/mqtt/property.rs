//! MQTT 5 property blocks, checked before the codec sees them: each property belongs to its packet, stands there once
//! (user properties excepted), has a permitted value, and the block ends where it says.

use super::Violation;

/// Packets whose properties a client sends, as bits of a set.
pub const CONNECT: u16 = 1;
pub const WILL: u16 = 2;
pub const PUBLISH: u16 = 4;
pub const ACK: u16 = 8;
pub const SUBSCRIBE: u16 = 16;
pub const UNSUBSCRIBE: u16 = 32;
pub const DISCONNECT: u16 = 64;

pub const PAYLOAD_FORMAT: u8 = 1;
pub const MESSAGE_EXPIRY: u8 = 2;
pub const RESPONSE_TOPIC: u8 = 8;
pub const SUBSCRIPTION_ID: u8 = 11;
pub const TOPIC_ALIAS: u8 = 35;
pub const USER_PROPERTY: u8 = 38;

#[derive(Clone, Copy)]
enum Shape {
    /// A byte that is 0 or 1.
    Flag,
    Two,
    Four,
    Variable,
    Text,
    Binary,
    Pair,
}

fn shape(id: u8) -> Option<(Shape, u16)> {
    Some(match id {
        PAYLOAD_FORMAT => (Shape::Flag, PUBLISH | WILL),
        MESSAGE_EXPIRY => (Shape::Four, PUBLISH | WILL),
        3 | RESPONSE_TOPIC => (Shape::Text, PUBLISH | WILL),
        9 => (Shape::Binary, PUBLISH | WILL),
        SUBSCRIPTION_ID => (Shape::Variable, SUBSCRIBE),
        17 => (Shape::Four, CONNECT | DISCONNECT),
        21 => (Shape::Text, CONNECT),
        22 => (Shape::Binary, CONNECT),
        23 | 25 => (Shape::Flag, CONNECT),
        24 => (Shape::Four, WILL),
        31 => (Shape::Text, ACK | DISCONNECT),
        33 | 34 => (Shape::Two, CONNECT),
        TOPIC_ALIAS => (Shape::Two, PUBLISH),
        USER_PROPERTY => (Shape::Pair, u16::MAX),
        39 => (Shape::Four, CONNECT),
        _ => return None,
    })
}

/// One property as it stands in the block; `raw` includes its identifier.
#[derive(Clone, Copy)]
pub struct Property<'a> {
    pub id: u8,
    /// Value of a flag, integer or variable-length property.
    pub number: u32,
    pub raw: &'a [u8],
}

const SHORT: Violation = Violation::malformed("a property block ends inside a property");

/// A two-byte length and that many bytes.
pub fn take_binary<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Violation> {
    let (length, rest) = input.split_first_chunk::<2>().ok_or(SHORT)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (value, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
    *input = rest;
    Ok(value)
}

/// A string: UTF-8 without NUL.
pub fn take_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, Violation> {
    let bytes = take_binary(input)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Violation::malformed("a string is not UTF-8"))?;
    if bytes.contains(&0) {
        return Err(Violation::malformed("a string has NUL"));
    }
    Ok(text)
}

/// A variable-length integer.
pub fn take_variable(input: &mut &[u8]) -> Result<u32, Violation> {
    let mut value = 0;
    for i in 0..4 {
        let (&byte, rest) = input.split_first().ok_or(SHORT)?;
        *input = rest;
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Violation::malformed("a variable-length integer has more than four bytes"))
}

/// Takes a property block from the front of `input` and shows each property to `visit`.
pub fn take_block<'a>(input: &mut &'a [u8], packet: u16, mut visit: impl FnMut(Property<'a>)) -> Result<(), Violation> {
    let length = take_variable(input)? as usize;
    let (mut block, rest) = input.split_at_checked(length).ok_or(SHORT)?;
    *input = rest;
    let mut seen = 0u64;
    while let Some((&id, after)) = block.split_first() {
        let whole = block;
        let (shape, packets) = shape(id).ok_or(Violation::malformed("an unknown property"))?;
        if packets & packet == 0 {
            return Err(Violation::protocol("a property that this packet does not have"));
        }
        if id != USER_PROPERTY && seen & (1 << id) != 0 {
            return Err(Violation::protocol("a property stands twice"));
        }
        seen |= 1 << id;
        block = after;
        let number = take_value(&mut block, shape)?;
        let zero_is_forbidden = matches!(id, SUBSCRIPTION_ID | 33 | 39);
        if (matches!(shape, Shape::Flag) && number > 1) || (zero_is_forbidden && number == 0) {
            return Err(Violation::protocol("a property's value is not permitted"));
        }
        visit(Property { id, number, raw: &whole[..whole.len() - block.len()] });
    }
    Ok(())
}

fn take_value(block: &mut &[u8], shape: Shape) -> Result<u32, Violation> {
    let integer = |block: &mut &[u8], bytes: usize| -> Result<u32, Violation> {
        let (value, rest) = block.split_at_checked(bytes).ok_or(SHORT)?;
        *block = rest;
        Ok(value.iter().fold(0, |v, b| v << 8 | u32::from(*b)))
    };
    match shape {
        Shape::Flag => integer(block, 1),
        Shape::Two => integer(block, 2),
        Shape::Four => integer(block, 4),
        Shape::Variable => take_variable(block),
        Shape::Text => take_text(block).map(|_| 0),
        Shape::Binary => take_binary(block).map(|_| 0),
        Shape::Pair => {
            take_text(block)?;
            take_text(block).map(|_| 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(bytes: &[u8], packet: u16) -> Result<usize, Violation> {
        let (mut input, mut count) = (bytes, 0);
        take_block(&mut input, packet, |_| count += 1)?;
        Ok(count)
    }

    #[test]
    fn what_the_standard_forbids() {
        assert_eq!(block(&[0], PUBLISH), Ok(0));
        assert_eq!(block(&[3, 35, 0, 1], PUBLISH), Ok(1));
        assert!(block(&[6, 35, 0, 1, 35, 0, 1], PUBLISH).is_err(), "twice");
        assert!(block(&[2, 1, 2], PUBLISH).is_err(), "payload format 2");
        assert!(block(&[2, 11, 1], PUBLISH).is_err(), "subscription id from a client");
        assert!(block(&[3, 33, 0, 0], CONNECT).is_err(), "receive maximum 0");
        assert!(block(&[2, 35, 0], PUBLISH).is_err(), "short");
        assert!(block(&[9, 35], PUBLISH).is_err(), "short block");
        assert_eq!(block(&[14, 38, 0, 1, b'a', 0, 1, b'b', 38, 0, 1, b'a', 0, 1, b'b'], PUBLISH), Ok(2));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), packet in 0u16..128) {
            let _ = block(&bytes, packet);
        }
    }
}
