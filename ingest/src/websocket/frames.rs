//! The frames of a WebSocket as its server reads and writes them (RFC 6455), where they stand in a connection's buffers.
//!
//! A whole frame is unmasked in place and handed out as it is, without an allocation; only a message that comes in fragments
//! is put together in a buffer of its own. No extension is spoken here, so reserved bits are a breach.

use std::io::Write;

/// Why a connection must end: the close code and what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breach(pub u16, pub &'static str);

pub const PROTOCOL: u16 = 1002;
pub const INVALID: u16 = 1007;
pub const TOO_BIG: u16 = 1009;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The longest content of a control frame.
const CONTROL_BYTES_MAX: u8 = 125;

/// One frame of a client: what its first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub opcode: u8,
    last: bool,
    mask: [u8; 4],
    begin: usize,
    /// Bytes of the whole frame.
    pub end: usize,
}

/// What a client said.
#[derive(PartialEq, Eq, Debug)]
pub enum Said<'a> {
    /// Not checked to be UTF-8.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, if it has one.
    Close(Option<u16>),
    /// A fragment, whose message is not whole yet.
    Part,
}

/// A message that comes in fragments.
#[derive(Default)]
pub struct Fragments {
    /// Of the first one; 0 when none is open.
    opcode: u8,
    bytes: Vec<u8>,
}

/// The frame at the front of `bytes`; `None` when it is not whole yet.
pub fn header(bytes: &[u8], bytes_max: usize) -> Result<Option<Header>, Breach> {
    let Some([first, second]) = bytes.first_chunk::<2>() else { return Ok(None) };
    let opcode = first & 0x0f;
    let last = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(Breach(PROTOCOL, "a reserved bit"));
    }
    if second & 0x80 == 0 {
        return Err(Breach(PROTOCOL, "a frame without a mask"));
    }
    let (length_bytes, length) = match second & 0x7f {
        126 => (2, bytes.get(2..4).map(|at| u64::from(u16::from_be_bytes([at[0], at[1]])))),
        127 => (8, bytes[2..].first_chunk::<8>().map(|at| u64::from_be_bytes(*at))),
        short => (0, Some(u64::from(short))),
    };
    let Some(length) = length else { return Ok(None) };
    match opcode {
        CLOSE | PING | PONG if !last || second & 0x7f > CONTROL_BYTES_MAX => {
            return Err(Breach(PROTOCOL, "a control frame that is too long or in fragments"));
        }
        CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG => {}
        _ => return Err(Breach(PROTOCOL, "an unknown kind of frame")),
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
    let length = length.ok_or(Breach(TOO_BIG, "a frame above the permitted size"))?;
    let begin = 2 + length_bytes + 4;
    if bytes.len() < begin + length {
        return Ok(None);
    }
    let mask = bytes[begin - 4..].first_chunk::<4>().copied().unwrap_or_default();
    Ok(Some(Header { opcode, last, mask, begin, end: begin + length }))
}

/// The next frame of `bytes` and how many bytes it took; `None` when it is not whole yet.
pub fn next<'a>(bytes: &'a mut [u8], fragments: &'a mut Fragments, bytes_max: usize) -> Result<Option<(usize, Said<'a>)>, Breach> {
    let Some(header) = header(bytes, bytes_max)? else { return Ok(None) };
    let content = &mut bytes[header.begin..header.end];
    unmask(content, header.mask);
    let said = match header.opcode {
        PING => Said::Ping(content),
        PONG => Said::Pong,
        CLOSE => Said::Close(content.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))),
        opcode => fragments.take(opcode, header.last, content, bytes_max)?,
    };
    Ok(Some((header.end, said)))
}

impl Fragments {
    fn take<'a>(&'a mut self, opcode: u8, last: bool, content: &'a [u8], bytes_max: usize) -> Result<Said<'a>, Breach> {
        let whole = |opcode, bytes| if opcode == TEXT { Said::Text(bytes) } else { Said::Binary(bytes) };
        match (opcode, self.opcode) {
            (CONTINUATION, 0) => return Err(Breach(PROTOCOL, "a fragment of nothing")),
            (CONTINUATION, _) => {}
            (_, 0) if last => {
                // The last message that came in fragments may have been a large one.
                self.bytes = Vec::new();
                return Ok(whole(opcode, content));
            }
            (_, 0) => {
                self.opcode = opcode;
                self.bytes.clear();
            }
            _ => return Err(Breach(PROTOCOL, "a message within another's fragments")),
        }
        if self.bytes.len() + content.len() > bytes_max {
            return Err(Breach(TOO_BIG, "a message above the permitted size"));
        }
        self.bytes.extend_from_slice(content);
        if !last {
            return Ok(Said::Part);
        }
        Ok(whole(std::mem::take(&mut self.opcode), &self.bytes))
    }
}

/// Eight bytes at a time: a mask has four.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// The content of a ping where it stands, unmasked into a copy.
pub fn content(bytes: &[u8], header: Header) -> Vec<u8> {
    let mut content = bytes[header.begin..header.end].to_vec();
    unmask(&mut content, header.mask);
    content
}

fn put(out: &mut Vec<u8>, opcode: u8, content: &[u8]) {
    out.push(0x80 | opcode);
    match content.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}

/// Writes `{"ack":<number>}`. There is one for each frame, so its length is filled in afterwards instead of a text being made.
pub fn put_ack(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    out.extend_from_slice(b"\x81\0{\"ack\":");
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
    out.push(b'}');
    out[start + 1] = (out.len() - start - 2) as u8;
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, TEXT, text.as_bytes());
}

pub fn put_ping(out: &mut Vec<u8>) {
    put(out, PING, &[]);
}

pub fn put_pong(out: &mut Vec<u8>, content: &[u8]) {
    put(out, PONG, content);
}

/// `reason` has at most 123 bytes.
pub fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    put(out, CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameSocket};

    use super::*;

    const MAX: usize = 70_000;

    /// A frame as a client of another's making sends it.
    fn of_client(opcode: Data, content: &[u8], last: bool) -> Vec<u8> {
        let mut frame = Frame::message(content.to_vec(), OpCode::Data(opcode), last);
        frame.header_mut().mask = Some([7, 0, 250, 33]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_a_client_sends_is_read_in_any_pieces(content in proptest::collection::vec(any::<u8>(), 0..2_000), cut in 0usize..2_000) {
            let whole = of_client(Data::Binary, &content, true);
            let cut = cut.min(whole.len() - 1);
            let mut fragments = Fragments::default();
            let mut part = whole[..cut].to_vec();
            prop_assert_eq!(next(&mut part, &mut fragments, MAX), Ok(None));
            let mut bytes = [&whole[..], &[0x82]].concat();
            prop_assert_eq!(next(&mut bytes, &mut fragments, MAX), Ok(Some((whole.len(), Said::Binary(&content)))));
        }

        #[test]
        fn any_bytes_are_a_frame_a_breach_or_not_enough(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let length = bytes.len();
            if let Ok(Some((taken, _))) = next(&mut bytes, &mut Fragments::default(), MAX) {
                prop_assert!((6..=length).contains(&taken));
            }
        }
    }

    #[test]
    fn lengths_at_their_borders() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let content = vec![b'x'; length];
            let mut bytes = of_client(Data::Text, &content, true);
            let all = bytes.len();
            assert_eq!(next(&mut bytes, &mut Fragments::default(), MAX), Ok(Some((all, Said::Text(&content)))), "{length}");
        }
        let mut large = of_client(Data::Text, &vec![b'x'; MAX + 1], true);
        assert_eq!(next(&mut large, &mut Fragments::default(), MAX).unwrap_err().0, TOO_BIG);
    }

    #[test]
    fn fragments_become_one_message_with_a_ping_between_them() {
        let mut fragments = Fragments::default();
        let mut said = |mut bytes: Vec<u8>| match next(&mut bytes, &mut fragments, MAX) {
            Ok(Some((_, Said::Text(text)))) => String::from_utf8(text.to_vec()).unwrap(),
            other => format!("{other:?}"),
        };
        assert_eq!(said(of_client(Data::Text, b"ab", false)), "Ok(Some((8, Part)))");
        assert_eq!(said(vec![0x89, 0x81, 1, 2, 3, 4, b'p' ^ 1]), "Ok(Some((7, Ping([112]))))");
        assert_eq!(said(of_client(Data::Continue, b"cd", false)), "Ok(Some((8, Part)))");
        assert_eq!(said(of_client(Data::Continue, b"e", true)), "abcde");
        assert_eq!(said(of_client(Data::Text, b"next", true)), "next");
    }

    #[test]
    fn breaches_of_the_protocol() {
        let masked = |first: u8, second: u8| vec![first, 0x80 | second, 0, 0, 0, 0];
        let long_ping = [masked(0x89, 126), vec![0; 300]].concat();
        let cases = [
            ("no mask", vec![0x81, 0]),
            ("a reserved bit", masked(0xc1, 0)),
            ("an unknown kind", masked(0x83, 0)),
            ("a ping in fragments", masked(0x09, 0)),
            ("a long ping", long_ping),
            ("a fragment of nothing", masked(0x80, 0)),
        ];
        for (what, mut bytes) in cases {
            assert_eq!(next(&mut bytes, &mut Fragments::default(), MAX).unwrap_err().0, PROTOCOL, "{what}");
        }
        let mut fragments = Fragments::default();
        next(&mut masked(0x01, 0), &mut fragments, MAX).unwrap();
        assert_eq!(next(&mut masked(0x81, 0), &mut fragments, MAX).unwrap_err().0, PROTOCOL, "a message within another");
    }

    #[test]
    fn what_the_server_writes_is_read_by_a_client_of_anothers_making() {
        let mut out = Vec::new();
        for number in [1, 9, 10, 1_000, u64::MAX] {
            put_ack(&mut out, number);
        }
        put_text(&mut out, &"r".repeat(300));
        put_text(&mut out, &"r".repeat(66_000));
        put_pong(&mut out, b"again");
        put_close(&mut out, 1001, "bye");
        let mut client = FrameSocket::new(std::io::Cursor::new(out));
        let mut text = || client.read(None).unwrap().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned());
        for number in [1, 9, 10, 1_000, u64::MAX] {
            assert_eq!(text(), Some(format!("{{\"ack\":{number}}}")));
        }
        assert_eq!(text().map(|text| text.len()), Some(300));
        assert_eq!(text().map(|text| text.len()), Some(66_000));
        assert_eq!(text().as_deref(), Some("again"));
        assert_eq!(text().as_deref(), Some("\u{3}\u{fffd}bye"));
    }
}
