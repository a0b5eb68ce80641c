//! A gate that sends its scans one payload at a time and waits for each acknowledgement: for preparing a scenario.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use rollcall_tests::district::{self, Device, Student};
use serde_json::Value;

use crate::load::talk::{Protocol, Talk, mqtt_publish};

/// Scans of one payload.
const SCANS_PER_PAYLOAD: usize = 100;

pub struct Gate {
    stream: TcpStream,
    next_seq: u64,
}

impl Gate {
    pub fn connect(address: &str, device: &Device) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        Talk::open(Protocol::Mqtt, &mut stream, device, "v1/scan")?;
        Ok(Self { stream, next_seq: chrono::Utc::now().timestamp_micros() as u64 })
    }

    /// All of them arrive now; returns when that is durable.
    pub fn arrive(&mut self, students: &[Student]) -> Result<()> {
        for students in students.chunks(SCANS_PER_PAYLOAD) {
            let ts_ms = district::now_ms();
            let scans: Vec<Value> =
                students.iter().zip(self.next_seq..).map(|(student, seq)| district::scan(seq, &student.badge, "in", ts_ms)).collect();
            self.next_seq += scans.len() as u64;
            self.stream.write_all(&mqtt_publish("v1/scan", 1, Value::Array(scans).to_string().as_bytes()))?;
            let mut answer = [0; 4];
            self.stream.read_exact(&mut answer)?;
            ensure!(answer == [0x40, 2, 0, 1], "instead of PUBACK came {answer:x?}");
        }
        Ok(())
    }
}
