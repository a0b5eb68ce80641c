//! The frames of the ingest WebSocket behind one function, for the fuzz target and the replay of its corpus.

use super::frames::{Fragments, Said, next};

/// No message that is looked at is larger.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// What a connection heard: a kind, and the content; at the end the close code of a breach, if there was one.
type Heard = Vec<(&'static str, Vec<u8>)>;

/// Reads the bytes as what one client sends, at once and in small pieces. Never panics on what a client sends; panics when the
/// pieces make a difference.
pub fn websocket(bytes: &[u8]) {
    assert_eq!(heard(bytes, bytes.len().max(1)), heard(bytes, 5), "what is heard depends on how it arrives");
}

fn heard(bytes: &[u8], piece: usize) -> Heard {
    let (mut input, mut fragments, mut heard) = (Vec::new(), Fragments::default(), Heard::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            let taken = match next(&mut input, &mut fragments, MESSAGE_BYTES_MAX) {
                Ok(Some((taken, said))) => {
                    heard.push(owned(said));
                    taken
                }
                Ok(None) => break,
                Err(breach) => {
                    heard.push(("breach", breach.0.to_be_bytes().to_vec()));
                    return heard;
                }
            };
            input.drain(..taken);
        }
    }
    heard
}

fn owned(said: Said<'_>) -> (&'static str, Vec<u8>) {
    match said {
        Said::Text(text) => ("text", text.to_vec()),
        Said::Binary(bytes) => ("binary", bytes.to_vec()),
        Said::Ping(content) => ("ping", content.to_vec()),
        Said::Pong => ("pong", Vec::new()),
        Said::Close(code) => ("close", code.unwrap_or_default().to_be_bytes().to_vec()),
        Said::Part => ("part", Vec::new()),
    }
}
