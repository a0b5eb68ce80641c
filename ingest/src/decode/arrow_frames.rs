//! A first look at an Arrow IPC stream. The reader allocates what lengths in the stream say before it has the bytes, and
//! panics on buffers outside the body; so every length and every buffer is held against the payload first.

use arrow::ipc::{RecordBatch, root_as_message};

use super::refusal::{Code, Fault};

fn invalid(message: &str) -> Fault {
    Fault::new(Code::ArrowInvalid, format!("no valid Arrow IPC stream: {message}"))
}

/// Checks the framing of a whole stream; `rows_max` bounds every array in it.
pub fn check(payload: &[u8], rows_max: usize) -> Result<(), Fault> {
    let mut rest = payload;
    while !rest.is_empty() {
        let (mark, after) = rest.split_first_chunk::<4>().ok_or_else(|| invalid("it breaks off"))?;
        if *mark != [0xff; 4] {
            return Err(invalid("a message does not begin with the continuation mark"));
        }
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(|| invalid("it breaks off"))?;
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| invalid("a negative length"))?;
        if length == 0 {
            return Ok(());
        }
        let (metadata, after) = after.split_at_checked(length).ok_or_else(|| invalid("a message is longer than the payload"))?;
        let message = root_as_message(metadata).map_err(|_| invalid("the metadata of a message"))?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| invalid("a negative length"))?;
        if body > after.len() {
            return Err(invalid("a body is longer than the payload"));
        }
        let dictionary = message.header_as_dictionary_batch().and_then(|batch| batch.data());
        if let Some(batch) = message.header_as_record_batch().or(dictionary) {
            check_batch(batch, body, rows_max)?;
        }
        rest = &after[body..];
    }
    Ok(())
}

fn check_batch(batch: RecordBatch<'_>, body: usize, rows_max: usize) -> Result<(), Fault> {
    if batch.compression().is_some() {
        return Err(invalid("compressed bodies are not taken"));
    }
    let fits = |rows: i64| usize::try_from(rows).is_ok_and(|rows| rows <= rows_max);
    let lengths_fit = batch.nodes().is_none_or(|nodes| nodes.iter().all(|node| fits(node.length()) && fits(node.null_count())));
    if !fits(batch.length()) || !lengths_fit {
        return Err(Fault::new(Code::TooManyEvents, "an array has more entries than a payload may hold"));
    }
    let inside = |offset: i64, length: i64| {
        let end = usize::try_from(offset).ok().zip(usize::try_from(length).ok()).and_then(|(offset, length)| offset.checked_add(length));
        end.is_some_and(|end| end <= body)
    };
    if batch.buffers().is_some_and(|buffers| !buffers.iter().all(|buffer| inside(buffer.offset(), buffer.length()))) {
        return Err(invalid("a buffer lies outside its body"));
    }
    Ok(())
}
