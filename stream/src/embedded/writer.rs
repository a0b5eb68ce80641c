//! The one thread that writes: gather, write, fsync, publish.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::error::ArrowError;
use rollcall_model::ids::Offset;
use tokio::sync::watch;

use super::codec::{Encoder, coalesce};
use super::disk::{Disk, is_full, write_all};
use super::frame::{ALIGN, FrameHeader};
use super::queue::Wake;
use super::recovery::create_segment;
use super::segment::Segment;
use super::{LogConfig, Shared};
use crate::batch::EventBatch;
use crate::schema::SCHEMA_VERSION;

pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    durable: watch::Sender<Offset>,
    segment: Arc<Segment>,
    /// Where the next frame goes; always a multiple of 64.
    position: u64,
    encoder: Encoder,
    /// The frames of the group being written; kept for its capacity.
    buffer: Vec<u8>,
    sealed: bool,
}

/// Why a group was not written.
enum Failure {
    /// There is no space; nothing of the group is in the file.
    Full,
    Fatal(String),
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::Fatal(error.to_string())
    }
}

/// Stops the queue whichever way the thread ends, so that nobody appends to a log that nobody writes.
struct StopOnExit(Arc<Shared>);

impl Drop for StopOnExit {
    fn drop(&mut self) {
        self.0.queue.stop("the writer panicked".into());
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, dir: PathBuf, durable: watch::Sender<Offset>, sealed: bool) -> Self {
        let segment = shared.segments.last();
        let position = segment.durable_bytes();
        Self { shared, disk, dir, durable, segment, position, encoder: Encoder::new(), buffer: Vec::new(), sealed }
    }

    /// Until the log is closed or a write fails. The end of this function closes the durable watch.
    pub fn run(mut self) {
        let stop = StopOnExit(Arc::clone(&self.shared));
        let mut waiting = Vec::new();
        let result = loop {
            let idle = (!self.sealed).then_some(self.config().seal_after);
            let done = match self.shared.queue.take(&mut waiting, idle) {
                Wake::Work => {
                    self.delete_trimmed();
                    self.write(&waiting)
                }
                Wake::Idle => self.seal(),
                Wake::Close => {
                    self.delete_trimmed();
                    break self.seal();
                }
            };
            waiting.clear();
            if done.is_err() {
                break done;
            }
        };
        let reason: Arc<str> = match result {
            Ok(()) => "it was closed".into(),
            Err(reason) => {
                tracing::error!(%reason, segment = %self.segment.path.display(), "the log has stopped");
                reason.into()
            }
        };
        self.shared.queue.stop(reason);
        drop(stop);
    }

    fn config(&self) -> &LogConfig {
        &self.shared.config
    }

    fn delete_trimmed(&self) {
        if let Err(error) = self.shared.segments.delete_trimmed(|path| self.disk.remove(path)) {
            tracing::warn!(%error, "a segment that nobody needs could not be deleted; it will be tried again");
        }
    }

    fn write(&mut self, batches: &[EventBatch]) -> Result<(), String> {
        let mut rest = batches;
        while !rest.is_empty() {
            let (mut taken, mut bytes) = (0, 0);
            for batch in rest {
                let more = batch.bytes();
                if taken > 0 && bytes + more > self.config().group_bytes_max {
                    break;
                }
                (taken, bytes) = (taken + 1, bytes + more);
            }
            let (group, after) = rest.split_at(taken);
            rest = after;
            self.write_group(group, bytes)?;
        }
        Ok(())
    }

    fn write_group(&mut self, group: &[EventBatch], bytes: usize) -> Result<(), String> {
        let frames = coalesce(group).map_err(|error| error.to_string())?;
        let headers = loop {
            match self.try_write(&frames, bytes) {
                Ok(headers) => break headers,
                Err(Failure::Fatal(reason)) => return Err(reason),
                Err(Failure::Full) => {
                    tracing::warn!("the disk is full; nothing is acknowledged until there is space");
                    if !self.shared.queue.wait_for_space(self.config().full_retry) {
                        return Err("the disk was full when the log was closed".to_owned());
                    }
                    self.delete_trimmed();
                }
            }
        };
        self.publish(&headers, frames, group.len(), bytes);
        Ok(())
    }

    /// Puts the frames behind the last one and makes them durable, or leaves the file as it was.
    fn try_write(&mut self, frames: &[EventBatch], bytes: usize) -> Result<Vec<FrameHeader>, Failure> {
        if self.position > ALIGN as u64 && self.position + bytes as u64 > self.config().segment_bytes_max {
            self.rotate()?;
        }
        self.buffer.clear();
        self.buffer.shrink_to(2 * self.shared.config.group_bytes_max);
        let mut headers = Vec::with_capacity(frames.len());
        for frame in frames {
            headers.push(self.encoder.frame(frame, self.position, self.segment.salt, &mut self.buffer)?);
        }
        self.append_buffer()?;
        Ok(headers)
    }

    fn append_buffer(&self) -> Result<(), Failure> {
        if let Err(error) = write_all(self.disk.as_ref(), &self.segment.file, &self.buffer, self.position) {
            if !is_full(&error) {
                return Err(Failure::Fatal(format!("write: {error}")));
            }
            let cut = self.disk.truncate(&self.segment.file, self.position);
            return Err(cut.map_or_else(|error| Failure::Fatal(format!("truncate: {error}")), |()| Failure::Full));
        }
        let timer = self.shared.metrics.fsync_seconds.start_timer();
        let synced = self.disk.sync(&self.segment.file);
        timer.observe_duration();
        synced.map_err(|error| Failure::Fatal(format!("fsync: {error}")))
    }

    /// Ends the segment, whose rows are all durable, and begins the next.
    fn rotate(&mut self) -> Result<(), Failure> {
        let failed = |what: &str, error: io::Error| {
            if is_full(&error) { Failure::Full } else { Failure::Fatal(format!("{what}: {error}")) }
        };
        self.disk.truncate(&self.segment.file, self.position).map_err(|error| failed("truncate", error))?;
        let end = *self.durable.borrow();
        let segment = create_segment(self.disk.as_ref(), &self.dir, end, self.config().segment_bytes_max);
        self.segment = Arc::new(segment.map_err(|error| failed("new segment", error))?);
        self.position = self.segment.durable_bytes();
        self.shared.segments.push(Arc::clone(&self.segment));
        Ok(())
    }

    fn publish(&mut self, headers: &[FrameHeader], frames: Vec<EventBatch>, batches: usize, bytes: usize) {
        let shared = &self.shared;
        let mut position = self.position;
        let starts = headers.iter().map(|header| {
            let start = position;
            position += header.frame_bytes();
            (header.first, start)
        });
        self.segment.extend(starts, self.position + self.buffer.len() as u64);
        self.position += self.buffer.len() as u64;
        self.sealed = false;
        shared.segments.grew(self.buffer.len() as u64);
        let end = headers.last().map(FrameHeader::next).unwrap_or_default();
        shared.metrics.appended(&frames);
        shared.metrics.written_bytes.inc_by(self.buffer.len() as u64);
        shared.cache.push(frames.into_iter());
        let queued = shared.queue.done(batches, bytes);
        self.durable.send_replace(end);
        shared.metrics.queue_bytes.set(queued as i64);
        shared.metrics.disk_bytes.set(shared.segments.disk_bytes() as i64);
        for (reader, committed) in shared.readers.all() {
            shared.metrics.reader_moved(&reader, committed, end);
        }
    }

    /// Writes a frame without rows that proves the last group. It is small, and done without when the disk is full.
    fn seal(&mut self) -> Result<(), String> {
        if self.sealed {
            return Ok(());
        }
        self.sealed = true;
        let seal = FrameHeader::seal(*self.durable.borrow(), self.position, SCHEMA_VERSION);
        self.buffer.clear();
        self.buffer.extend_from_slice(&seal.encode(self.segment.salt));
        match self.append_buffer() {
            Ok(()) => {
                self.position += seal.frame_bytes();
                self.segment.extend(std::iter::empty(), self.position);
                self.shared.segments.grew(seal.frame_bytes());
                Ok(())
            }
            Err(Failure::Full) => Ok(()),
            Err(Failure::Fatal(reason)) => Err(reason),
        }
    }
}
