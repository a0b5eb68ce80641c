//! Payloads whose sequence numbers can be replaced where they stand, so that a message is encoded once and sent many times.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{DictionaryArray, Float64Array, Int8Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use clap::ValueEnum;

/// Digits of a sequence number as text. All numbers of a run have as many: microseconds since the epoch.
const DIGITS: usize = 16;

/// Bytes of one event as JSON, as the issue fixes it.
pub const EVENT_BYTES: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    Json,
    /// JSON whose events name their `type`, as WebSocket and HTTP need it.
    TypedJson,
    Arrow,
}

/// One message's content and where its sequence numbers stand.
#[derive(Clone)]
pub struct Payload {
    pub bytes: Vec<u8>,
    pub encoding: Encoding,
    places: Vec<usize>,
}

impl Payload {
    /// Telemetry of `events` events with one metric each; `ts_ms` is their time.
    pub fn telemetry(encoding: Encoding, events: usize, ts_ms: i64, badge: Option<&str>) -> Result<Self> {
        match encoding {
            Encoding::Arrow => Self::arrow(events, ts_ms),
            Encoding::Json | Encoding::TypedJson => Ok(Self::json(encoding, events, ts_ms, badge)),
        }
    }

    fn json(encoding: Encoding, events: usize, ts_ms: i64, badge: Option<&str>) -> Self {
        let kind = if encoding == Encoding::TypedJson { "\"type\":\"telemetry\"," } else { "" };
        let badge = badge.map_or_else(String::new, |badge| format!(",\"badge\":\"{badge}\""));
        let head = format!("{{{kind}\"seq\":");
        let mut tail = format!(",\"ts\":{ts_ms}{badge},\"m\":{{\"steps\":12");
        // A fraction brings the event to its size; `type` comes on top.
        let bytes = head.len() - kind.len() + DIGITS + tail.len() + 2;
        if bytes < EVENT_BYTES {
            tail.push('.');
            tail.extend(std::iter::repeat_n('5', EVENT_BYTES - bytes - 1));
        }
        tail.push_str("}}");
        let (mut text, mut places) = (String::new(), Vec::with_capacity(events));
        for index in 0..events {
            text.push(if index > 0 { ',' } else { '[' });
            text.push_str(&head);
            places.push(text.len());
            text.push_str(&"0".repeat(DIGITS));
            text.push_str(&tail);
        }
        text.push(']');
        let mut bytes = text.into_bytes();
        if events == 1 {
            // One event stands without an array around it.
            bytes = bytes[1..bytes.len() - 1].to_vec();
            places[0] -= 1;
        }
        Self { bytes, encoding, places }
    }

    fn arrow(events: usize, ts_ms: i64) -> Result<Self> {
        /// A number that occurs nowhere else, to find the column in the stream by.
        const MARK: u64 = 0x5ec7_0a11_5ec7_0a11;
        let text = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
        let fields = vec![
            Field::new("seq", DataType::UInt64, false),
            Field::new("ts", DataType::Int64, false),
            Field::new("metric", text, false),
            Field::new("value", DataType::Float64, false),
        ];
        let schema = Arc::new(Schema::new_with_metadata(fields, [("type".to_owned(), "telemetry".to_owned())].into()));
        let metric = DictionaryArray::<Int8Type>::try_new(Int8Array::from(vec![0; events]), Arc::new(StringArray::from(vec!["steps"])))?;
        let columns = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(UInt64Array::from(vec![MARK; events])),
                Arc::new(Int64Array::from(vec![ts_ms; events])),
                Arc::new(metric),
                Arc::new(Float64Array::from(vec![12.5; events])),
            ],
        )?;
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
        writer.write(&columns)?;
        writer.finish()?;
        drop(writer);
        let first = bytes.windows(8).position(|window| window == MARK.to_le_bytes()).context("no column of numbers in the stream")?;
        Ok(Self { bytes, encoding: Encoding::Arrow, places: (0..events).map(|index| first + 8 * index).collect() })
    }

    pub fn events(&self) -> usize {
        self.places.len()
    }

    /// Numbers the events of a copy of this payload, which begins at `start` of `message`.
    pub fn number(&self, message: &mut [u8], start: usize, first: u64) {
        for (seq, place) in (first..).zip(&self.places) {
            let at = start + place;
            match self.encoding {
                Encoding::Arrow => message[at..at + 8].copy_from_slice(&seq.to_le_bytes()),
                Encoding::Json | Encoding::TypedJson => write_digits(&mut message[at..at + DIGITS], seq),
            }
        }
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[b'0'; 2]; 100];
        let mut i = 0;
        while i < 100 {
            pairs[i] = [b'0' + (i / 10) as u8, b'0' + (i % 10) as u8];
            i += 1;
        }
        pairs
    };
    for pair in place.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size_and_its_number() {
        let payload =
            Payload::telemetry(Encoding::Json, 1, 1_795_238_283_412, Some("b_0123456789012345678901234567890123456789012")).unwrap();
        let mut message = payload.bytes.clone();
        payload.number(&mut message, 0, 1_795_238_283_412_007);
        assert_eq!(message.len(), EVENT_BYTES);
        let event: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(event["seq"], 1_795_238_283_412_007_u64);
    }

    #[test]
    fn batches_number_every_event() {
        let payload = Payload::telemetry(Encoding::TypedJson, 3, 0, None).unwrap();
        let mut message = [&b"xy"[..], &payload.bytes].concat();
        payload.number(&mut message, 2, 1_000_000_000_000_000);
        let events: Vec<serde_json::Value> = serde_json::from_slice(&message[2..]).unwrap();
        assert_eq!(events[2]["seq"], 1_000_000_000_000_002_u64);
        assert_eq!(Payload::telemetry(Encoding::Arrow, 5, 0, None).unwrap().events(), 5);
    }
}
