//! Rows to frame bodies and back. Encoding copies each column once, into the group's buffer; decoding shares the
//! buffer that was read from the file.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{MetadataVersion, reader::read_record_batch, root_as_message};
use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;

use super::frame::{ALIGN, FrameHeader};
use crate::batch::EventBatch;
use crate::schema::{SCHEMA_VERSION, TS, schema};

/// Most rows of a frame. Fewer make selective queries over many small batches slow; more make a reader that wants
/// one row decode much.
pub(super) const FRAME_ROWS_MAX: usize = 8_192;
/// Bytes of columns at which a frame takes no further batch.
pub(super) const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// An IPC message begins with a continuation marker and the length of its metadata.
const PREFIX_BYTES: usize = 8;

/// Encodes frames; keeps what Arrow allocates between them.
pub(super) struct Encoder {
    by_kind: HashMap<Kind, StreamEncoder>,
}

impl Encoder {
    pub fn new() -> Self {
        Self { by_kind: HashMap::new() }
    }

    /// Appends one frame to `out`, whose length is a multiple of 64, and returns its header.
    pub fn frame(&mut self, batch: &EventBatch, group: u64, salt: u64, out: &mut Vec<u8>) -> Result<FrameHeader, ArrowError> {
        let start = out.len();
        out.extend_from_slice(&[0; ALIGN]);
        for buffer in self.of(batch.kind)?.encode(&batch.rows)? {
            out.extend_from_slice(&buffer);
        }
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let body = &out[start + ALIGN..];
        let too_large = |_| ArrowError::InvalidArgumentError("a batch is too large for a frame".to_owned());
        let header = FrameHeader {
            kind: Some(batch.kind),
            schema_version: SCHEMA_VERSION,
            rows: u32::try_from(batch.len()).map_err(too_large)?,
            first: batch.first,
            group,
            ts: event_times(&batch.rows),
            body_bytes: u32::try_from(body.len()).map_err(too_large)?,
            body_crc: crc32c::crc32c(body),
        };
        out[start..start + ALIGN].copy_from_slice(&header.encode(salt));
        Ok(header)
    }

    fn of(&mut self, kind: Kind) -> Result<&mut StreamEncoder, ArrowError> {
        use std::collections::hash_map::Entry;
        match self.by_kind.entry(kind) {
            Entry::Occupied(encoder) => Ok(encoder.into_mut()),
            Entry::Vacant(place) => {
                let options = IpcWriteOptions::try_new(ALIGN, false, MetadataVersion::V5)?;
                let mut encoder = StreamEncoder::try_new_with_options(schema(kind), options)?;
                // The first message of a stream brings the schema, which the frames leave out.
                encoder.encode(&RecordBatch::new_empty(Arc::clone(schema(kind))))?;
                Ok(place.insert(encoder))
            }
        }
    }
}

fn event_times(rows: &RecordBatch) -> (i64, i64) {
    let times = rows.column(TS).as_primitive::<Int64Type>().values();
    times.iter().fold((i64::MAX, i64::MIN), |(least, greatest), ts| (least.min(*ts), greatest.max(*ts)))
}

/// The rows of a frame whose checksum is right; `body` is its body and is kept alive by them.
pub(super) fn decode(header: &FrameHeader, kind: Kind, body: &Buffer) -> Result<EventBatch, String> {
    let length = body.get(4..PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let metadata_bytes = length.ok_or("the body is too short")? as usize;
    let metadata = body.get(PREFIX_BYTES..PREFIX_BYTES + metadata_bytes).ok_or("the body is too short")?;
    let message = root_as_message(metadata).map_err(|error| error.to_string())?;
    let rows = message.header_as_record_batch().ok_or("the body is no record batch")?;
    let columns = body.slice(PREFIX_BYTES + metadata_bytes);
    let schema = Arc::clone(schema(kind));
    // A body whose checksum is right was written by us, unless somebody made it: Arrow's reader panics on buffers outside
    // of it, and a reader of the log must end with an error instead.
    let read = || read_record_batch(&columns, rows, schema, &HashMap::new(), None, &message.version());
    let rows = catch_unwind(AssertUnwindSafe(read)).map_err(|_| "the body is no valid record batch")?;
    let rows = rows.map_err(|error| error.to_string())?;
    if rows.num_rows() != header.rows as usize {
        return Err(format!("{} rows where the header says {}", rows.num_rows(), header.rows));
    }
    Ok(EventBatch { kind, first: header.first, rows: Arc::new(rows) })
}

/// Joins neighbours of one kind into frames of up to [`FRAME_ROWS_MAX`] rows, in order; cuts what is longer.
pub(super) fn coalesce(batches: &[EventBatch]) -> Result<Vec<EventBatch>, ArrowError> {
    let mut frames = Vec::new();
    let mut rest = batches;
    while let Some(head) = rest.first() {
        let (mut taken, mut rows, mut bytes) = (1, head.len(), head.bytes());
        for batch in &rest[1..] {
            (rows, bytes) = (rows + batch.len(), bytes + batch.bytes());
            if batch.kind != head.kind || rows > FRAME_ROWS_MAX || bytes > FRAME_BYTES_MAX {
                break;
            }
            taken += 1;
        }
        let (run, after) = rest.split_at(taken);
        rest = after;
        if taken > 1 {
            let joined = concat_batches(schema(head.kind), run.iter().map(|batch| batch.rows.as_ref()))?;
            frames.push(EventBatch { kind: head.kind, first: head.first, rows: Arc::new(joined) });
        } else {
            let cuts = (0..head.len()).step_by(FRAME_ROWS_MAX);
            frames.extend(cuts.map(|skip| head.slice(skip, FRAME_ROWS_MAX.min(head.len() - skip))));
        }
    }
    Ok(frames)
}
