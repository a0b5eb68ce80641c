//! Readings of many wearables over the last hours, as Arrow batches through the MQTT door: rows to ask questions of.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int8Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_tests::district::{self, Device, Student};

use crate::load::talk::{Protocol, Talk, mqtt_publish};

const ROWS_PER_PAYLOAD: u64 = 5_000;
const METRICS: [&str; 4] = ["battery", "steps", "temperature", "worn"];

/// Senders at once.
const SENDERS: usize = 4;

/// Sends `rows` readings, evenly from all devices; each speaks for the student at the same place. Returns when they are durable.
pub fn send(address: &str, devices: &[Device], students: &[Student], rows: u64, hours: f64) -> Result<()> {
    let each = rows.div_ceil(devices.len() as u64);
    let pairs: Vec<(usize, &Device, &Student)> =
        devices.iter().zip(students).enumerate().map(|(index, (device, student))| (index, device, student)).collect();
    std::thread::scope(|scope| {
        let send = |part: Vec<(usize, &Device, &Student)>| -> Result<()> {
            part.into_iter().try_for_each(|(index, device, student)| send_one(address, device, student, index as u64, each, hours))
        };
        let parts = pairs.chunks(pairs.len().div_ceil(SENDERS).max(1)).map(<[_]>::to_vec);
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || send(part))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a sender panicked")?)
    })
}

fn send_one(address: &str, device: &Device, student: &Student, seed: u64, rows: u64, hours: f64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    Talk::open(Protocol::Mqtt, &mut stream, device, "v1/batch")?;
    let mut random = StdRng::seed_from_u64(seed);
    let end_ms = district::now_ms();
    let step_ms = hours * 3_600_000.0 / rows as f64;
    let mut sent = 0;
    while sent < rows {
        let count = ROWS_PER_PAYLOAD.min(rows - sent);
        let ts = |row: u64| end_ms - ((rows - row) as f64 * step_ms) as i64;
        let payload = payload(sent..sent + count, ts, &student.badge, &mut random)?;
        stream.write_all(&mqtt_publish("v1/batch", 1, &payload))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [0x40, 2, 0, 1], "instead of PUBACK came {answer:x?}");
        sent += count;
    }
    Ok(())
}

fn payload(rows: std::ops::Range<u64>, ts: impl Fn(u64) -> i64, badge: &str, random: &mut StdRng) -> Result<Vec<u8>> {
    let count = (rows.end - rows.start) as usize;
    let text = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let dictionary = |keys: Vec<i8>, words: Vec<&str>| -> Result<ArrayRef> {
        Ok(Arc::new(DictionaryArray::<Int8Type>::try_new(Int8Array::from(keys), Arc::new(StringArray::from(words)))?))
    };
    let metrics: Vec<i8> = rows.clone().map(|row| (row % METRICS.len() as u64) as i8).collect();
    let values: Vec<f64> = metrics
        .iter()
        .map(|metric| match METRICS[*metric as usize] {
            "battery" => random.random_range(0.05..1.0),
            "steps" => f64::from(random.random_range(0..40)),
            "temperature" => random.random_range(17.0..29.0),
            _ => f64::from(u8::from(random.random_bool(0.9))),
        })
        .collect();
    let fields = vec![
        Field::new("seq", DataType::UInt64, false),
        Field::new("ts", DataType::Int64, false),
        Field::new("badge", text.clone(), false),
        Field::new("metric", text, false),
        Field::new("value", DataType::Float64, false),
    ];
    let schema = Arc::new(Schema::new_with_metadata(fields, [("type".to_owned(), "telemetry".to_owned())].into()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(rows.clone().map(|row| row + 1))),
        Arc::new(Int64Array::from_iter_values(rows.map(ts))),
        dictionary(vec![0; count], vec![badge])?,
        dictionary(metrics, METRICS.to_vec())?,
        Arc::new(Float64Array::from(values)),
    ];
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}
