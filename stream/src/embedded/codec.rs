//! Rows to frame bodies and back. Encoding copies each column once and packs the result into the group's buffer; decoding
//! shares the buffer that was unpacked, or read from the file where packing had saved nothing.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{MetadataVersion, reader::read_record_batch, root_as_message};
use arrow::record_batch::RecordBatch;
use rollcall_model::event::Kind;

use super::frame::{ALIGN, FrameHeader, Packing};
use super::lz4;
use crate::batch::EventBatch;
use crate::schema::{SCHEMA_VERSION, TS, schema};

/// Most rows of a frame. Fewer make selective queries over many small batches slow; more make a reader that wants
/// one row decode much.
pub(super) const FRAME_ROWS_MAX: usize = 8_192;
/// Bytes of columns at which a frame takes no further batch.
pub(super) const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// An IPC message begins with a continuation marker and the length of its metadata.
const PREFIX_BYTES: usize = 8;

/// Before a packed body: its length unpacked and packed, u32 each.
const LENGTHS_BYTES: usize = 8;

/// Encodes frames; keeps what Arrow allocates between them.
pub(super) struct Encoder {
    by_kind: HashMap<Kind, StreamEncoder>,
    /// A body before it is packed.
    plain: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self { by_kind: HashMap::new(), plain: Vec::new() }
    }

    /// Appends one frame to `out`, whose length is a multiple of 64, and returns its header.
    pub fn frame(&mut self, batch: &EventBatch, group: u64, salt: u64, out: &mut Vec<u8>) -> Result<FrameHeader, ArrowError> {
        let start = out.len();
        out.extend_from_slice(&[0; ALIGN]);
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.shrink_to(FRAME_BYTES_MAX);
        for buffer in self.of(batch.kind)?.encode(&batch.rows)? {
            plain.extend_from_slice(&buffer);
        }
        let packing = pack(&plain, out);
        self.plain = plain;
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        let body = &out[start + ALIGN..];
        let too_large = |_| ArrowError::InvalidArgumentError("a batch is too large for a frame".to_owned());
        let header = FrameHeader {
            kind: Some(batch.kind),
            packing,
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

/// Appends a body, packed where that makes it smaller: rows of neighbours share most of their ids, and the disk is what limits
/// how many become durable in a second.
fn pack(plain: &[u8], out: &mut Vec<u8>) -> Packing {
    let start = out.len();
    out.resize(start + LENGTHS_BYTES + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
    let packed = lz4_flex::block::compress_into(plain, &mut out[start + LENGTHS_BYTES..]).ok();
    let lengths = packed.and_then(|packed| Some((u32::try_from(plain.len()).ok()?, u32::try_from(packed).ok()?)));
    match lengths.filter(|(unpacked, packed)| *packed as usize + LENGTHS_BYTES < *unpacked as usize) {
        Some((unpacked, packed)) => {
            out.truncate(start + LENGTHS_BYTES + packed as usize);
            out[start..start + 4].copy_from_slice(&unpacked.to_le_bytes());
            out[start + 4..start + LENGTHS_BYTES].copy_from_slice(&packed.to_le_bytes());
            Packing::Lz4
        }
        None => {
            out.truncate(start);
            out.extend_from_slice(plain);
            Packing::Plain
        }
    }
}

pub(super) fn unpack(body: &Buffer) -> Result<Buffer, String> {
    let length = |at: usize| body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (unpacked, packed) = length(0).zip(length(4)).ok_or("the body is too short")?;
    let packed = body.get(LENGTHS_BYTES..LENGTHS_BYTES + packed as usize).ok_or("the body is too short")?;
    // A block of LZ4 grows at most 255 times, so a length beyond it was never written.
    if unpacked as usize / 255 > packed.len() {
        return Err("the body is too short".to_owned());
    }
    let mut plain = MutableBuffer::from_len_zeroed(unpacked as usize);
    lz4::unpack(packed, plain.as_slice_mut()).ok_or("the body cannot be unpacked")?;
    Ok(plain.into())
}

fn event_times(rows: &RecordBatch) -> (i64, i64) {
    let times = rows.column(TS).as_primitive::<Int64Type>().values();
    times.iter().fold((i64::MAX, i64::MIN), |(least, greatest), ts| (least.min(*ts), greatest.max(*ts)))
}

/// The rows of a frame whose checksum is right; `body` is its body, and is kept alive by them if it is not packed.
pub(super) fn decode(header: &FrameHeader, kind: Kind, body: &Buffer) -> Result<EventBatch, String> {
    let unpacked = match header.packing {
        Packing::Plain => body.clone(),
        Packing::Lz4 => unpack(body)?,
    };
    let body = &unpacked;
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
