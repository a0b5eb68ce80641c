//! One connection's messages, encoded once: a ring of as many as may be in flight. A message is numbered anew when its place
//! is free again, and bytes go to the socket straight from the ring.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;

use super::pace::Pace;
use super::payload::Payload;
use super::talk::Talk;

/// Answers read at once.
const INPUT_BYTES: usize = 32 * 1024;

pub struct Ring {
    stream: TcpStream,
    talk: Talk,
    payload: Payload,
    /// `window` messages of the same size, one behind the other.
    bytes: Vec<u8>,
    message_bytes: usize,
    /// Where the payload begins in a message.
    payload_at: usize,
    window: u64,
    first_seq: u64,
    /// Messages numbered and due, and messages answered, both since the beginning.
    pub sent: u64,
    pub answered: u64,
    /// Bytes that the socket has taken since the beginning.
    written: u64,
    input: Box<[u8]>,
    filled: usize,
    /// Sets this connection apart from the others in time.
    share: f64,
    pub waits_for_room: bool,
}

impl Ring {
    pub fn new(stream: TcpStream, talk: Talk, payload: Payload, window: u64, first_seq: u64, share: f64) -> Result<Self> {
        let messages: Vec<Vec<u8>> = (0..window).map(|slot| talk.message(&payload.bytes, slot)).collect();
        let message_bytes = messages[0].len();
        ensure!(messages.iter().all(|message| message.len() == message_bytes), "messages differ in size");
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let payload_at = message_bytes - payload.bytes.len();
        Ok(Self {
            stream,
            talk,
            payload,
            bytes: messages.concat(),
            message_bytes,
            payload_at,
            window,
            first_seq,
            sent: 0,
            answered: 0,
            written: 0,
            input: vec![0; INPUT_BYTES].into(),
            filled: 0,
            share,
            waits_for_room: false,
        })
    }

    /// Wakes this side only when so many bytes of answers have come. Woken for each answer alone, the generator would take the
    /// processor from a server that writes each in a call of its own.
    pub fn wake_at(&self, bytes: usize) -> Result<()> {
        let bytes = bytes as libc::c_int;
        // SAFETY: the option outlives the call.
        let set = unsafe {
            let (value, length) = ((&raw const bytes).cast(), size_of::<libc::c_int>() as libc::socklen_t);
            libc::setsockopt(self.stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, length)
        };
        ensure!(set == 0, "SO_RCVLOWAT: {}", io::Error::last_os_error());
        Ok(())
    }

    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub fn events_answered(&self) -> u64 {
        self.answered * self.payload.events() as u64
    }

    pub fn is_idle(&self) -> bool {
        self.sent == self.answered
    }

    /// Sends what is due and may be in flight.
    pub fn fill(&mut self, now: Instant, pace: &Pace) -> Result<()> {
        let until = pace.count(now, self.share).min(self.answered + self.window);
        while self.sent < until {
            let start = (self.sent % self.window) as usize * self.message_bytes;
            let message = &mut self.bytes[start..start + self.message_bytes];
            self.payload.number(message, self.payload_at, self.first_seq + self.sent * self.payload.events() as u64);
            self.sent += 1;
        }
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let end = self.sent * self.message_bytes as u64;
        while self.written < end {
            let from = (self.written % self.bytes.len() as u64) as usize;
            let to = self.bytes.len().min(from + (end - self.written) as usize);
            match self.stream.write(&self.bytes[from..to]) {
                Ok(0) => bail!("the server takes no more"),
                Ok(count) => self.written += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waits_for_room = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.waits_for_room = false;
        Ok(())
    }

    /// Takes the answers that have come; their latencies count from when the messages were due.
    pub fn read(&mut self, pace: &Pace, latencies: &mut Histogram<u64>) -> Result<()> {
        let count = match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed the connection after {} answers", self.answered),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.filled += count;
        let now = Instant::now();
        let (mut at, before) = (0, self.answered);
        while let Some(length) = self.talk.answer(&self.input[at..self.filled], self.answered, self.window)? {
            at += length;
            self.answered += 1;
            ensure!(self.answered <= self.sent, "an answer to a message that was not sent");
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        if pace.is_open() {
            for index in before..self.answered {
                latencies.record(now.saturating_duration_since(pace.due(index, self.share)).as_micros() as u64)?;
            }
        }
        Ok(())
    }
}
