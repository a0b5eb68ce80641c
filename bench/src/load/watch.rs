//! Subscribers of boards, one WebSocket each as an open page has, and the gates whose scans they wait for. Two reports: when
//! every subscriber has its snapshot, and when every scan has reached every subscriber of its board; between them it waits
//! for a line on standard input. Scans are published at their times (open loop), and a latency counts from then.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rollcall_tests::district;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::epoll::{Epoll, TIMER};
use super::talk::{Protocol, Talk, mqtt_publish};
use super::{flood, idle};
use crate::table::Latency;

/// How often due scans are looked for; what it adds to a latency is part of it.
const TICK: Duration = Duration::from_millis(1);

/// Connections that are opened before messages are taken again.
const OPEN_AT_ONCE: usize = 32;

const SNAPSHOTS_MAX: Duration = Duration::from_secs(60);
/// How long after its time the last scan may take to be on all boards.
const LAST_MAX: Duration = Duration::from_secs(30);

const INPUT_BYTES: usize = 256 * 1024;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// host:port of the live connections
    #[arg(long)]
    pub http: String,
    /// host:port of MQTT
    #[arg(long)]
    pub mqtt: String,
    /// A file of session cookies as JSON strings, one a line; subscribers take them in turn
    #[arg(long)]
    pub cookies: PathBuf,
    /// A file of topics, likewise
    #[arg(long)]
    pub topics: PathBuf,
    /// A file with the gates as id:token
    #[arg(long)]
    pub gates: PathBuf,
    /// A file with a [`Scan`] a line
    #[arg(long)]
    pub scans: PathBuf,
    #[arg(long)]
    pub subscribers: usize,
    #[arg(long)]
    pub scans_per_s: f64,
}

impl Options {
    pub fn args(&self) -> Vec<String> {
        let named = |name: &str, value: String| [format!("--{name}"), value];
        let path = |path: &PathBuf| path.display().to_string();
        let mut args = vec!["watch".to_owned()];
        args.extend(named("http", self.http.clone()));
        args.extend(named("mqtt", self.mqtt.clone()));
        args.extend(named("cookies", path(&self.cookies)));
        args.extend(named("topics", path(&self.topics)));
        args.extend(named("gates", path(&self.gates)));
        args.extend(named("scans", path(&self.scans)));
        args.extend(named("subscribers", self.subscribers.to_string()));
        args.extend(named("scans-per-s", self.scans_per_s.to_string()));
        args
    }
}

/// One arrival: through which gate, and on which topic's board it must appear.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    pub gate: usize,
    pub badge: String,
    pub student: String,
    pub topic: usize,
}

#[derive(Serialize, Deserialize)]
pub struct Following {
    pub subscribers: usize,
    pub seconds: f64,
    /// Bytes of all snapshots.
    pub snapshot_bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub struct Watched {
    pub scans: u64,
    pub seconds: f64,
    /// Messages that the subscribers got, and their bytes.
    pub messages: u64,
    pub bytes: u64,
    /// From when a scan was due until the last subscriber of its board had it.
    pub last: Latency,
    /// The same for each subscriber.
    pub each: Latency,
    pub cpu_s: f64,
}

struct Subscriber {
    stream: TcpStream,
    topic: usize,
    version: Option<u64>,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
}

/// What is read of a message.
#[derive(Deserialize)]
struct Message<'a> {
    op: &'a str,
    #[serde(default)]
    version: u64,
    from: Option<u64>,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    students: HashMap<String, Option<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    detail: Detail,
}

#[derive(Default, Deserialize)]
struct Detail {
    #[serde(default)]
    evidence: Vec<IgnoredAny>,
}

/// A scan on its way.
struct Flight {
    due: Instant,
    missing: usize,
}

struct Watch {
    epoll: Epoll,
    ready: Vec<(u64, bool)>,
    subscribers: Vec<Subscriber>,
    input: Box<[u8]>,
    scan_of: HashMap<String, usize>,
    flights: Vec<Flight>,
    seen: HashSet<(u32, u32)>,
    arrived: usize,
    last: Histogram<u64>,
    each: Histogram<u64>,
    messages: u64,
    bytes: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let scans: Vec<Scan> = super::read_lines(&options.scans)?;
    let mut gates = gates(options)?;
    let mut watch = Watch::new(&scans)?;
    watch.follow(options)?;
    watch.take_snapshots()?;
    let (subscribers, seconds) = (watch.subscribers.len(), began.elapsed().as_secs_f64());
    println!("{}", serde_json::to_string(&Following { subscribers, seconds, snapshot_bytes: watch.bytes })?);
    io::stdin().read_line(&mut String::new())?;
    println!("{}", serde_json::to_string(&watch.arrivals(options, &scans, &mut gates)?)?);
    Ok(())
}

fn gates(options: &Options) -> Result<Vec<TcpStream>> {
    let gate = |device| {
        let mut stream = TcpStream::connect(&options.mqtt)?;
        Talk::open(Protocol::Mqtt, &mut stream, &device, "v1/scan")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    super::read_devices(&options.gates)?.into_iter().map(gate).collect()
}

impl Watch {
    fn new(scans: &[Scan]) -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            ready: Vec::new(),
            subscribers: Vec::new(),
            input: vec![0; INPUT_BYTES].into(),
            scan_of: scans.iter().enumerate().map(|(index, scan)| (scan.student.clone(), index)).collect(),
            flights: Vec::new(),
            seen: HashSet::new(),
            arrived: 0,
            last: Histogram::new(3)?,
            each: Histogram::new(3)?,
            messages: 0,
            bytes: 0,
        })
    }

    fn follow(&mut self, options: &Options) -> Result<()> {
        let address: SocketAddr = options.http.parse()?;
        let (cookies, topics): (Vec<String>, Vec<String>) = (super::read_lines(&options.cookies)?, super::read_lines(&options.topics)?);
        for index in 0..options.subscribers {
            let topic = index % topics.len();
            let stream = subscribe(index, address, &cookies[index % cookies.len()], &topics[topic])
                .with_context(|| format!("subscriber {index}"))?;
            self.epoll.add(stream.as_raw_fd(), index as u64, false)?;
            self.subscribers.push(Subscriber { stream, topic, version: None, partial: Vec::new() });
            if index % OPEN_AT_ONCE == 0 {
                self.take(Duration::from_millis(1))?;
            }
        }
        Ok(())
    }

    fn take_snapshots(&mut self) -> Result<()> {
        let end = Instant::now() + SNAPSHOTS_MAX;
        while let Some(missing) = self.subscribers.iter().position(|subscriber| subscriber.version.is_none()) {
            ensure!(Instant::now() < end, "subscriber {missing} got no snapshot within {SNAPSHOTS_MAX:?}");
            self.take(Duration::from_millis(100))?;
        }
        Ok(())
    }

    fn arrivals(&mut self, options: &Options, scans: &[Scan], gates: &mut [TcpStream]) -> Result<Watched> {
        (self.messages, self.bytes) = (0, 0);
        let mut of_topic: HashMap<usize, usize> = HashMap::new();
        self.subscribers.iter().for_each(|subscriber| *of_topic.entry(subscriber.topic).or_default() += 1);
        for (index, gate) in gates.iter().enumerate() {
            self.epoll.add(gate.as_raw_fd(), (self.subscribers.len() + index) as u64, false)?;
        }
        self.epoll.tick(TICK)?;
        let (cpu_before, begin, first_seq) = (flood::own_cpu_s(), Instant::now() + TICK, district::now_ms() as u64);
        let due = |index: usize| begin + Duration::from_secs_f64(index as f64 / options.scans_per_s);
        let end = due(scans.len()) + LAST_MAX;
        let mut packets = vec![0_u16; gates.len()];
        while self.arrived < scans.len() {
            ensure!(Instant::now() < end, "{} of {} scans are on all boards after {LAST_MAX:?}", self.arrived, scans.len());
            self.take(Duration::from_millis(10))?;
            while let Some(scan) = scans.get(self.flights.len()).filter(|_| due(self.flights.len()) <= Instant::now()) {
                let index = self.flights.len();
                let missing = of_topic.get(&scan.topic).copied().unwrap_or(0);
                ensure!(missing > 0, "nobody follows {}", scan.topic);
                let event = district::scan(first_seq + index as u64, &scan.badge, "in", district::now_ms());
                packets[scan.gate] = packets[scan.gate] % 60_000 + 1;
                gates[scan.gate].write_all(&mqtt_publish("v1/scan", packets[scan.gate], event.to_string().as_bytes()))?;
                self.flights.push(Flight { due: due(index), missing });
            }
            self.drain(gates)?;
        }
        let (last, each) = (Latency::of(&self.last), Latency::of(&self.each));
        let (seconds, cpu_s) = (begin.elapsed().as_secs_f64(), flood::own_cpu_s() - cpu_before);
        Ok(Watched { scans: scans.len() as u64, seconds, messages: self.messages, bytes: self.bytes, last, each, cpu_s })
    }

    /// Takes what the gates are answered; a connection that the server closed is an error.
    fn drain(&mut self, gates: &mut [TcpStream]) -> Result<()> {
        let first = self.subscribers.len() as u64;
        for &(token, _) in self.ready.iter().filter(|(token, _)| *token >= first && *token != TIMER) {
            let count = gates[(token - first) as usize].read(&mut self.input)?;
            ensure!(count > 0, "the server closed a gate's connection");
        }
        Ok(())
    }

    /// Takes what has come to the subscribers.
    fn take(&mut self, wait: Duration) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.epoll.wait(wait, &mut ready)?;
        let first_gate = self.subscribers.len() as u64;
        for &(token, _) in ready.iter().filter(|(token, _)| *token < first_gate) {
            self.read(token as usize).with_context(|| format!("subscriber {token}"))?;
        }
        self.ready = ready;
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let partial = std::mem::take(&mut self.subscribers[index].partial);
        if partial.len() >= input.len() / 2 {
            input = vec![0; 2 * input.len()].into();
        }
        input[..partial.len()].copy_from_slice(&partial);
        let count = match self.subscribers[index].stream.read(&mut input[partial.len()..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        let filled = &input[..partial.len() + count];
        let mut at = 0;
        while let Some((opcode, begin, end)) = frame(&filled[at..]) {
            let payload = &filled[at + begin..at + end];
            match opcode {
                0x1 => self.message(index, payload)?,
                0x8 => bail!("the server said good-bye: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default())),
                // A pong with an empty payload under a mask of zeros.
                0x9 => self.subscribers[index].stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0])?,
                _ => {}
            }
            at += end;
        }
        self.subscribers[index].partial = filled[at..].to_vec();
        self.input = input;
        Ok(())
    }

    fn message(&mut self, index: usize, payload: &[u8]) -> Result<()> {
        let message: Message<'_> = serde_json::from_slice(payload)?;
        self.messages += 1;
        self.bytes += payload.len() as u64;
        let subscriber = &mut self.subscribers[index];
        match (message.op, subscriber.version) {
            ("snapshot", _) => {
                subscriber.version = Some(message.version);
                return Ok(());
            }
            ("delta", Some(held)) => {
                let from = message.from.unwrap_or(message.version - 1);
                ensure!(from == held, "a delta from {from} does not fit version {held}");
                subscriber.version = Some(message.version);
            }
            _ => bail!("unexpected message {}", String::from_utf8_lossy(payload)),
        }
        let now = Instant::now();
        for (student, entry) in &message.data.students {
            let has_evidence = entry.as_ref().is_some_and(|entry| !entry.detail.evidence.is_empty());
            let Some(&scan) = self.scan_of.get(student).filter(|_| has_evidence) else { continue };
            let Some(flight) = self.flights.get_mut(scan) else { continue };
            if self.seen.insert((index as u32, scan as u32)) {
                let micros = now.saturating_duration_since(flight.due).as_micros() as u64;
                self.each.record(micros)?;
                flight.missing -= 1;
                if flight.missing == 0 {
                    self.last.record(micros)?;
                    self.arrived += 1;
                }
            }
        }
        Ok(())
    }
}

/// Opens a live connection and asks for a topic.
fn subscribe(index: usize, address: SocketAddr, cookie: &str, topic: &str) -> Result<TcpStream> {
    let mut stream = idle::open(index, address)?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = format!("GET /live/v1 HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nCookie: {cookie}\r\n{upgrade}\r\n");
    stream.write_all(head.as_bytes())?;
    let (mut answer, mut filled) = ([0; 2048], 0);
    while !answer[..filled].ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut answer[filled..])?;
        ensure!(count > 0, "the upgrade was answered with {}", String::from_utf8_lossy(&answer[..filled]));
        filled += count;
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "the upgrade was answered with {}", String::from_utf8_lossy(&answer[..filled]));
    let wish = serde_json::json!({"op": "subscribe", "id": 1, "topic": topic}).to_string();
    let mut frame = vec![0x81];
    match wish.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(wish.into_bytes());
    stream.write_all(&frame)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Opcode, begin and end of the content of a whole frame of a server, which has no mask.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let [first, length] = *bytes.first_chunk::<2>()?;
    let (begin, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= begin + length).then_some((first & 0x0f, begin, begin + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_only_when_they_are_whole() {
        assert_eq!(frame(&[0x81, 2, b'h']), None);
        assert_eq!(frame(&[0x81, 2, b'h', b'i', 0x89]), Some((1, 2, 4)));
        let mut long = vec![0x81, 126, 1, 0];
        assert_eq!(frame(&long), None);
        long.extend([b'x'; 256]);
        assert_eq!(frame(&long), Some((1, 4, 260)));
    }

    #[test]
    fn evidence_makes_an_arrival() {
        let text = r#"{"op":"delta","id":1,"version":3,"data":{"students":{"a":{"status":"present","detail":{"evidence":[{"seq":1}]}},"b":null},"counts":{"present":1}}}"#;
        let message: Message<'_> = serde_json::from_str(text).unwrap();
        let evidence = |student: &str| message.data.students[student].as_ref().map(|entry| entry.detail.evidence.len());
        assert_eq!((evidence("a"), evidence("b"), message.version), (Some(1), None, 3));
    }
}
