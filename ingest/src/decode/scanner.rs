//! A strict JSON scanner over one payload. It yields borrowed strings and number tokens where they stand and never
//! builds a tree: what an event does not need is stepped over, checked but not kept.

use std::borrow::Cow;

use super::refusal::{Code, Fault};

/// Arrays and objects inside one another. An event needs three; the rest is room for fields we ignore.
pub const DEPTH_MAX: usize = 16;

pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

type Scan<T> = Result<T, Fault>;

/// How many bytes come before a quotation mark, a backslash or a control character. Eight at a time: tokens of badges are long.
#[inline]
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        // The high bit of each byte that is below `than`. Above the first such byte a carry may set more, and only the first counts.
        let below = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGHS;
        let found = below(word ^ ONES * u64::from(b'"'), 1) | below(word ^ ONES * u64::from(b'\\'), 1) | below(word, 0x20);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count()
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn seek(&mut self, position: usize) {
        self.at = position;
    }

    /// The payload from `start` to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    #[cold]
    pub fn error(&self, what: &str) -> Fault {
        Fault::new(Code::JsonSyntax, format!("{what} at byte {}", self.at))
    }

    /// The next byte that is not white space, which is not consumed; `None` at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&b) = self.bytes.get(self.at) {
            if !matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(b);
            }
            self.at += 1;
        }
        None
    }

    #[inline]
    pub fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(&format!("expected '{}'", byte as char)))
    }

    /// Consumes the byte if it comes next.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// After an element: `true` when another follows, `false` when `close` ended the list.
    #[inline]
    pub fn more(&mut self, close: u8) -> Scan<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b) if b == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error(&format!("expected ',' or '{}'", close as char))),
        }
    }

    /// A string; borrowed unless it has escapes.
    #[inline]
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        self.at += plain_bytes(&self.bytes[start..]);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                // Both ends are quotation marks, so the slice lies on character boundaries.
                let text = &self.text[start..self.at];
                self.at += 1;
                Ok(Cow::Borrowed(text))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            Some(_) => Err(self.error("control character in a string")),
            None => Err(self.error("string without an end")),
        }
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Scan<String> {
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            let from = self.at;
            while self.bytes.get(self.at).is_some_and(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            text.push_str(&self.text[from..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("string without an end")),
            }
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let kind = *self.bytes.get(self.at).ok_or_else(|| self.error("string without an end"))?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(self.error("unknown escape")),
        })
    }

    fn unicode(&mut self) -> Scan<char> {
        let high = self.hex4()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high).ok_or_else(|| self.error("lone surrogate"));
        }
        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(self.error("lone surrogate"));
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(self.error("lone surrogate"));
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(|| self.error("lone surrogate"))
    }

    fn hex4(&mut self) -> Scan<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or_else(|| self.error("short \\u escape"))?;
        let value = digits.iter().try_fold(0, |v, &b| (b as char).to_digit(16).map(|d| v * 16 + d));
        let value = value.ok_or_else(|| self.error("bad \\u escape"))?;
        self.at += 4;
        Ok(value)
    }

    /// The token of a number, checked against JSON's grammar, and whether it is an integer.
    #[inline]
    pub fn number(&mut self) -> Scan<(&'a str, bool)> {
        self.peek();
        let start = self.at;
        let mut at = start + usize::from(self.bytes.get(start) == Some(&b'-'));
        let run = |from: usize| self.bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let whole = run(at.min(self.bytes.len()));
        if whole == 0 || (whole > 1 && self.bytes[at] == b'0') {
            return Err(self.error("bad number"));
        }
        at += whole;
        let mut integer = true;
        if self.bytes.get(at) == Some(&b'.') {
            let digits = run(at + 1);
            if digits == 0 {
                return Err(self.error("bad number"));
            }
            at += 1 + digits;
            integer = false;
        }
        if matches!(self.bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            let digits = run(at.min(self.bytes.len()));
            if digits == 0 {
                return Err(self.error("bad number"));
            }
            at += digits;
            integer = false;
        }
        self.at = at;
        Ok((&self.text[start..at], integer))
    }

    /// `true`, `false` or `null`.
    pub fn word(&mut self) -> Scan<&'a str> {
        self.peek();
        for word in ["true", "false", "null"] {
            if self.bytes[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(&self.text[self.at - word.len()..self.at]);
            }
        }
        Err(self.error("expected a value"))
    }

    /// Steps over one value of any type. `depth` is how many arrays and objects it already stands in.
    pub fn skip(&mut self, depth: usize) -> Scan<()> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(Code::JsonDepth, format!("nested deeper than {DEPTH_MAX} at byte {}", self.at)));
        }
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(open @ (b'{' | b'[')) => {
                self.at += 1;
                let close = if open == b'{' { b'}' } else { b']' };
                if self.take(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.string()?;
                        self.expect(b':')?;
                    }
                    self.skip(depth + 1)?;
                    if !self.more(close)? {
                        return Ok(());
                    }
                }
            }
            _ => self.word().map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain_bytes;

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x1eu8..0x24, 0x5bu8..0x5e], 0..40)) {
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_bytes(&bytes), expected);
        }
    }
}
