//! Gates that publish what they have recorded, one scan a publish and in order of time, as fast as it is acknowledged. One
//! thread; everything is encoded beforehand. Two reports: when all gates are connected, and when everything is acknowledged;
//! between them it waits for a line on standard input.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use rollcall_tests::district;
use serde::{Deserialize, Serialize};

use super::epoll::Epoll;
use super::flood;
use super::talk::{Protocol, Talk, mqtt_publish};

/// Publishes that a gate may have in flight.
const WINDOW: usize = 50;

const LAST_MAX: Duration = Duration::from_secs(120);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// host:port of MQTT
    #[arg(long)]
    pub mqtt: String,
    /// A file with the gates as id:token
    #[arg(long)]
    pub gates: PathBuf,
    /// A file with a [`Recorded`] a line, in order of time
    #[arg(long)]
    pub scans: PathBuf,
}

impl Options {
    pub fn args(&self) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let pairs = [("--mqtt", self.mqtt.clone()), ("--gates", path(&self.gates)), ("--scans", path(&self.scans))];
        [vec!["replay".to_owned()], pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()].concat()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    pub gate: usize,
    pub badge: String,
    pub ts_ms: i64,
    /// `in` or `out`.
    pub dir: String,
}

#[derive(Serialize, Deserialize)]
pub struct Connected {
    pub gates: usize,
}

#[derive(Serialize, Deserialize)]
pub struct Replayed {
    pub scans: u64,
    /// Until the last one was acknowledged.
    pub seconds: f64,
    pub cpu_s: f64,
}

struct Gate {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Where each publish ends.
    ends: Vec<usize>,
    written: usize,
    acknowledged: usize,
    waits_for_room: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let mut gates: Vec<Gate> = super::read_devices(&options.gates)?
        .into_iter()
        .map(|device| {
            let mut stream = TcpStream::connect(&options.mqtt)?;
            Talk::open(Protocol::Mqtt, &mut stream, &device, "v1/scan")?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            Ok(Gate { stream, bytes: Vec::new(), ends: Vec::new(), written: 0, acknowledged: 0, waits_for_room: false })
        })
        .collect::<Result<_>>()?;
    let (scans, first_seq): (Vec<Recorded>, _) = (super::read_lines(&options.scans)?, district::now_ms() as u64);
    for scan in &scans {
        let gate = &mut gates[scan.gate];
        let event = district::scan(first_seq + gate.ends.len() as u64, &scan.badge, &scan.dir, scan.ts_ms);
        gate.bytes.extend(mqtt_publish("v1/scan", packet_id(gate.ends.len()), event.to_string().as_bytes()));
        gate.ends.push(gate.bytes.len());
    }
    let mut epoll = Epoll::new()?;
    for (index, gate) in gates.iter().enumerate() {
        epoll.add(gate.stream.as_raw_fd(), index as u64, false)?;
    }
    println!("{}", serde_json::to_string(&Connected { gates: gates.len() })?);
    io::stdin().read_line(&mut String::new())?;
    let (began, cpu_before) = (Instant::now(), flood::own_cpu_s());
    publish(&mut epoll, &mut gates, began + LAST_MAX)?;
    let (seconds, cpu_s) = (began.elapsed().as_secs_f64(), flood::own_cpu_s() - cpu_before);
    println!("{}", serde_json::to_string(&Replayed { scans: scans.len() as u64, seconds, cpu_s })?);
    Ok(())
}

fn packet_id(index: usize) -> u16 {
    (index % 60_000) as u16 + 1
}

fn publish(epoll: &mut Epoll, gates: &mut [Gate], end: Instant) -> Result<()> {
    let mut ready: Vec<(u64, bool)> = (0..gates.len() as u64).map(|index| (index, false)).collect();
    let mut open = gates.iter().filter(|gate| !gate.is_done()).count();
    while open > 0 {
        ensure!(Instant::now() < end, "{open} gates are not done after {LAST_MAX:?}");
        for &(token, _) in &ready {
            let gate = &mut gates[token as usize];
            let (done_before, waited) = (gate.is_done(), gate.waits_for_room);
            gate.read()?;
            gate.write()?;
            if gate.waits_for_room != waited {
                epoll.change(gate.stream.as_raw_fd(), token, gate.waits_for_room)?;
            }
            open -= usize::from(gate.is_done() && !done_before);
        }
        epoll.wait(Duration::from_millis(100), &mut ready)?;
    }
    Ok(())
}

impl Gate {
    fn is_done(&self) -> bool {
        self.acknowledged == self.ends.len()
    }

    fn write(&mut self) -> Result<()> {
        let may = self.ends.len().min(self.acknowledged + WINDOW);
        let until = may.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.waits_for_room = false;
        while self.written < until {
            match self.stream.write(&self.bytes[self.written..until]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waits_for_room = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Acknowledgements come in the order of the publishes; there are never more than [`WINDOW`], and each is whole.
    fn read(&mut self) -> Result<()> {
        let mut input = [0; 4 * WINDOW];
        let count = match self.stream.read(&mut input) {
            Ok(0) => bail!("the server closed the connection after {} acknowledgements", self.acknowledged),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ensure!(count % 4 == 0, "half an acknowledgement");
        for packet in input[..count].chunks_exact(4) {
            let [high, low] = packet_id(self.acknowledged).to_be_bytes();
            ensure!(packet == [0x40, 2, high, low], "{packet:x?} came where publish {} was due", self.acknowledged);
            self.acknowledged += 1;
        }
        Ok(())
    }
}
