//! RFC 4180 records, streamed, with the physical line of every field and with broken quoting reported.
//!
//! The reader is stricter than common CSV libraries, which repair broken quotes silently and so shift columns: a
//! quote inside an unquoted field and text after a closing quote are faults of their line, which is skipped; a quote
//! that is never closed is told at the line where it opens. A leading byte order mark is ignored, line ends are LF or
//! CRLF, blank lines are passed over. A record has at most [`RECORD_BYTES_MAX`] bytes, so memory is bounded.

use std::io::{self, BufRead, BufReader, Read};

/// Longest record in bytes; OneRoster's longest fields are far below.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Most fields of a record.
pub const FIELDS_MAX: usize = 512;

const BUFFER_BYTES: usize = 256 * 1024;

/// One record: its fields one after the other, with where each ends and on which line it starts.
#[derive(Default)]
pub(crate) struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    lines: Vec<u64>,
}

impl Record {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Physical line on which the field starts.
    pub fn line_of(&self, index: usize) -> u64 {
        self.lines[index]
    }

    /// Physical line on which the record starts.
    pub fn line(&self) -> u64 {
        self.lines.first().copied().unwrap_or(0)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.lines.clear();
    }

    fn blank(&self) -> bool {
        self.ends.len() == 1 && self.bytes.is_empty()
    }
}

/// A record that cannot be read; `field` counts from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    QuoteInUnquoted { line: u64, field: usize },
    TextAfterQuote { line: u64, field: usize },
    Unclosed { line: u64, field: usize },
    TooLong { line: u64 },
    Utf16,
}

pub(crate) enum Step {
    Record,
    Fault(Fault),
    End,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    QuoteInQuoted,
    /// After a fault: everything up to the end of the line is passed over.
    Skipping,
}

pub(crate) struct Records<R> {
    input: BufReader<R>,
    line: u64,
    started: bool,
}

impl<R: Read> Records<R> {
    pub fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(BUFFER_BYTES, input), line: 1, started: false }
    }

    /// Reads the next record that is not blank into `record`.
    pub fn next(&mut self, record: &mut Record) -> io::Result<Step> {
        if !self.started {
            self.started = true;
            if self.skip_byte_order_mark()? {
                return Ok(Step::Fault(Fault::Utf16));
            }
        }
        loop {
            record.clear();
            match self.read(record)? {
                Step::Record if record.blank() => {}
                step => return Ok(step),
            }
        }
    }

    /// True when the file is UTF-16.
    fn skip_byte_order_mark(&mut self) -> io::Result<bool> {
        let start = self.input.fill_buf()?;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
            return Ok(true);
        }
        if start.starts_with(&[0xef, 0xbb, 0xbf]) {
            self.input.consume(3);
        }
        Ok(false)
    }

    fn read(&mut self, record: &mut Record) -> io::Result<Step> {
        let mut scan = Scan { record, state: State::FieldStart, field_line: self.line, line: self.line, fault: None };
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                let step = scan.end_of_file();
                self.line = scan.line;
                return Ok(step);
            }
            let mut used = 0;
            let mut done = false;
            for &byte in chunk {
                used += 1;
                if scan.push(byte) {
                    done = true;
                    break;
                }
            }
            self.input.consume(used);
            if done {
                self.line = scan.line;
                return Ok(scan.fault.map_or(Step::Record, Step::Fault));
            }
        }
    }
}

/// The state of reading one record.
struct Scan<'a> {
    record: &'a mut Record,
    state: State,
    field_line: u64,
    line: u64,
    fault: Option<Fault>,
}

impl Scan<'_> {
    /// Takes one byte; true when it ended the record.
    fn push(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            self.line += 1;
        }
        match (self.state, byte) {
            (State::Skipping, b'\n') => return true,
            (State::Skipping, _) => {}
            (State::FieldStart, b'"') => self.state = State::Quoted,
            (State::FieldStart | State::Unquoted | State::QuoteInQuoted, b',') => self.end_field(false),
            (State::FieldStart | State::Unquoted | State::QuoteInQuoted, b'\n') => {
                self.end_field(true);
                return true;
            }
            (State::Unquoted, b'"') => self.fail(Fault::QuoteInUnquoted { line: self.field_line, field: self.record.len() }),
            (State::FieldStart | State::Unquoted, _) => {
                self.state = State::Unquoted;
                self.keep(byte);
            }
            (State::Quoted, b'"') => self.state = State::QuoteInQuoted,
            (State::Quoted, _) => self.keep(byte),
            (State::QuoteInQuoted, b'"') => {
                self.state = State::Quoted;
                self.keep(byte);
            }
            // A carriage return belongs to the line end that follows, or is dropped like other trailing white space.
            (State::QuoteInQuoted, b'\r') => {}
            (State::QuoteInQuoted, _) => self.fail(Fault::TextAfterQuote { line: self.line, field: self.record.len() }),
        }
        false
    }

    fn keep(&mut self, byte: u8) {
        if self.record.bytes.len() >= RECORD_BYTES_MAX {
            self.fail(Fault::TooLong { line: self.record.lines.first().copied().unwrap_or(self.field_line) });
        } else {
            self.record.bytes.push(byte);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.state = State::Skipping;
    }

    fn end_field(&mut self, last: bool) {
        if last && self.state == State::Unquoted && self.record.bytes.last() == Some(&b'\r') {
            self.record.bytes.pop();
        }
        if self.record.len() >= FIELDS_MAX {
            self.fail(Fault::TooLong { line: self.field_line });
            return;
        }
        self.record.ends.push(self.record.bytes.len());
        self.record.lines.push(self.field_line);
        self.field_line = self.line;
        self.state = State::FieldStart;
    }

    fn end_of_file(&mut self) -> Step {
        match self.state {
            State::Quoted => Step::Fault(Fault::Unclosed { line: self.field_line, field: self.record.len() }),
            State::Skipping => Step::Fault(self.fault.unwrap_or(Fault::TooLong { line: self.line })),
            State::FieldStart if self.record.len() == 0 => Step::End,
            _ => {
                self.end_field(true);
                Step::Record
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<Result<(u64, Vec<String>), Fault>> {
        let mut records = Records::new(text);
        let mut record = Record::default();
        let mut found = Vec::new();
        loop {
            match records.next(&mut record).unwrap() {
                Step::Record => found
                    .push(Ok((record.line(), (0..record.len()).map(|i| String::from_utf8_lossy(record.field(i)).into_owned()).collect()))),
                Step::Fault(fault) => found.push(Err(fault)),
                Step::End => return found,
            }
        }
    }

    fn ok(line: u64, fields: &[&str]) -> Result<(u64, Vec<String>), Fault> {
        Ok((line, fields.iter().map(|f| (*f).to_owned()).collect()))
    }

    #[test]
    fn quoting_line_ends_and_the_byte_order_mark() {
        let text = "\u{feff}a,b\r\n\"x \"\"y\"\"\",\"1\n2\"\n\n\"\",z\r\nlast,";
        assert_eq!(all(text.as_bytes()), [ok(1, &["a", "b"]), ok(2, &["x \"y\"", "1\n2"]), ok(5, &["", "z"]), ok(6, &["last", ""])]);
        assert_eq!(all(b""), []);
        let utf16 = all(b"\xff\xfea\0\n");
        assert_eq!(utf16[0], Err(Fault::Utf16));
    }

    #[test]
    fn a_broken_record_is_told_and_the_next_is_read() {
        assert_eq!(all(b"a\"b,c\nd,e\n"), [Err(Fault::QuoteInUnquoted { line: 1, field: 0 }), ok(2, &["d", "e"])]);
        assert_eq!(all(b"a,\"b\"c\nd,e\n"), [Err(Fault::TextAfterQuote { line: 1, field: 1 }), ok(2, &["d", "e"])]);
        assert_eq!(all(b"a,b\nc,\"d\ne,f\n"), [ok(1, &["a", "b"]), Err(Fault::Unclosed { line: 2, field: 1 })]);
    }

    #[test]
    fn a_record_without_end_is_refused_in_bounded_memory() {
        let endless = io::repeat(b'x').take(8 << 20);
        let mut records = Records::new(endless);
        let mut record = Record::default();
        assert!(matches!(records.next(&mut record).unwrap(), Step::Fault(Fault::TooLong { line: 1 })));
        assert!(record.bytes.capacity() <= 2 * RECORD_BYTES_MAX);
    }
}
