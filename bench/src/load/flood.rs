//! Many connections that publish numbered telemetry: as fast as acknowledgements come, or at a fixed rate (open loop). One
//! thread, messages encoded beforehand. Every acknowledgement is checked against the message that it must belong to.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::epoll::{Epoll, TIMER};
use super::pace::Pace;
use super::payload::{Encoding, Payload};
use super::ring::Ring;
use super::talk::{Protocol, Talk};
use crate::table::Latency;

/// Not counted: connections find their pace and caches are filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// How often due messages are looked for in an open loop. What it adds to a latency is part of the latency.
const TICK: Duration = Duration::from_micros(250);

/// How long the last acknowledgements may take.
const DRAIN: Duration = Duration::from_secs(20);

/// The shortest answer: a PUBACK.
const ANSWER_BYTES: u64 = 4;

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long, value_enum)]
    pub protocol: Protocol,
    /// host:port
    #[arg(long)]
    pub address: String,
    /// A file with a device in each line, as id:token; each gets one connection
    #[arg(long)]
    pub devices: PathBuf,
    #[arg(long, value_enum)]
    pub encoding: Encoding,
    #[arg(long)]
    pub events_per_message: usize,
    /// Whose telemetry it is; without it that of the device
    #[arg(long)]
    pub badge: Option<String>,
    #[arg(long, default_value = "v1/telemetry")]
    pub topic: String,
    /// Messages in flight on each connection
    #[arg(long)]
    pub window: u64,
    #[arg(long)]
    pub seconds: f64,
    /// Events a second over all connections; 0: as fast as acknowledgements come
    #[arg(long, default_value_t = 0.0)]
    pub events_per_s: f64,
}

impl Options {
    /// The command line that says the same.
    pub fn args(&self) -> Vec<String> {
        let word = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        let named = |name: &str, value: String| [format!("--{name}"), value];
        use clap::ValueEnum;
        let mut args = vec!["flood".to_owned()];
        args.extend(named("protocol", self.protocol.to_possible_value().map(word).unwrap_or_default()));
        args.extend(named("address", self.address.clone()));
        args.extend(named("devices", self.devices.display().to_string()));
        args.extend(named("encoding", self.encoding.to_possible_value().map(word).unwrap_or_default()));
        args.extend(named("events-per-message", self.events_per_message.to_string()));
        args.extend(self.badge.iter().flat_map(|badge| named("badge", badge.clone())));
        args.extend(named("topic", self.topic.clone()));
        args.extend(named("window", self.window.to_string()));
        args.extend(named("seconds", self.seconds.to_string()));
        args.extend(named("events-per-s", self.events_per_s.to_string()));
        args
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Events acknowledged over the whole run, all that were sent among them.
    pub acknowledged: u64,
    /// Events acknowledged in the measured time, and that time.
    pub events: u64,
    pub seconds: f64,
    /// Of messages, from when they were due; only of an open loop.
    pub latency: Option<Latency>,
    /// The generator's own processor time.
    pub cpu_s: f64,
}

pub fn run(options: &Options) -> Result<Report> {
    let mut rings = connect(options)?;
    let begin = Instant::now();
    let pace = Pace::new(begin, options.events_per_s / options.events_per_message as f64 / rings.len() as f64);
    let mut latencies = Histogram::new(3)?;
    let mut pump = Pump::new(&rings, pace)?;
    let quarter = options.window / 4 * ANSWER_BYTES;
    if !pace.is_open() && quarter > 0 {
        rings.iter().try_for_each(|ring| ring.wake_at(quarter as usize))?;
    }
    pump.run(&mut rings, begin + WARM_UP, &mut latencies)?;
    latencies.reset();
    let (counted_from, before) = (Instant::now(), answered(&rings));
    pump.run(&mut rings, begin + WARM_UP + Duration::from_secs_f64(options.seconds), &mut latencies)?;
    let (seconds, events) = (counted_from.elapsed().as_secs_f64(), answered(&rings) - before);
    pump.drain(&mut rings, &mut latencies)?;
    let latency = pace.is_open().then(|| Latency::of(&latencies));
    Ok(Report { acknowledged: answered(&rings), events, seconds, latency, cpu_s: own_cpu_s() })
}

fn answered(rings: &[Ring]) -> u64 {
    rings.iter().map(Ring::events_answered).sum()
}

fn connect(options: &Options) -> Result<Vec<Ring>> {
    let devices = super::read_devices(&options.devices)?;
    let now = chrono::Utc::now();
    let payload = Payload::telemetry(options.encoding, options.events_per_message, now.timestamp_millis(), options.badge.as_deref())?;
    let first_seq = now.timestamp_micros() as u64;
    let count = devices.len();
    let ring = |(index, device): (usize, rollcall_tests::district::Device)| {
        let mut stream = TcpStream::connect(&options.address).with_context(|| format!("cannot connect to {}", options.address))?;
        let talk = Talk::open(options.protocol, &mut stream, &device, &options.topic)?;
        Ring::new(stream, talk, payload.clone(), options.window, first_seq, index as f64 / count as f64)
    };
    devices.into_iter().enumerate().map(ring).collect()
}

struct Pump {
    epoll: Epoll,
    pace: Pace,
    ready: Vec<(u64, bool)>,
}

impl Pump {
    fn new(rings: &[Ring], pace: Pace) -> Result<Self> {
        let mut epoll = Epoll::new()?;
        for (index, ring) in rings.iter().enumerate() {
            epoll.add(ring.socket().as_raw_fd(), index as u64, false)?;
        }
        if pace.is_open() {
            epoll.tick(TICK)?;
        }
        Ok(Self { epoll, pace, ready: Vec::new() })
    }

    fn run(&mut self, rings: &mut [Ring], until: Instant, latencies: &mut Histogram<u64>) -> Result<()> {
        let mut now = Instant::now();
        for (index, ring) in rings.iter_mut().enumerate() {
            fill(&self.epoll, index, ring, now, &self.pace)?;
        }
        while now < until {
            self.epoll.wait(until - now, &mut self.ready)?;
            now = Instant::now();
            for &(token, _) in &self.ready {
                if token == TIMER {
                    for (index, ring) in rings.iter_mut().enumerate() {
                        fill(&self.epoll, index, ring, now, &self.pace)?;
                    }
                    continue;
                }
                let index = token as usize;
                rings[index].read(&self.pace, latencies)?;
                fill(&self.epoll, index, &mut rings[index], now, &self.pace)?;
            }
        }
        Ok(())
    }

    /// Sends nothing new and waits for what is owed.
    fn drain(&mut self, rings: &mut [Ring], latencies: &mut Histogram<u64>) -> Result<()> {
        let end = Instant::now() + DRAIN;
        rings.iter().try_for_each(|ring| ring.wake_at(1))?;
        // Nothing is ever due any more, but what was begun must leave.
        let stopped = Pace::new(Instant::now() + 10 * DRAIN, 1.0);
        while rings.iter().any(|ring| !ring.is_idle()) {
            let owed: u64 = rings.iter().map(|ring| ring.sent - ring.answered).sum();
            ensure!(Instant::now() < end, "{owed} messages were not acknowledged within {DRAIN:?}");
            self.epoll.wait(Duration::from_millis(100), &mut self.ready)?;
            for &(token, _) in self.ready.iter().filter(|(token, _)| *token != TIMER) {
                let index = token as usize;
                rings[index].read(&self.pace, latencies)?;
                fill(&self.epoll, index, &mut rings[index], Instant::now(), &stopped)?;
            }
        }
        Ok(())
    }
}

/// Sends what may be sent and asks for room when the socket had none.
fn fill(epoll: &Epoll, index: usize, ring: &mut Ring, now: Instant, pace: &Pace) -> Result<()> {
    let waited = ring.waits_for_room;
    ring.fill(now, pace)?;
    if ring.waits_for_room != waited {
        epoll.change(ring.socket().as_raw_fd(), index as u64, ring.waits_for_room)?;
    }
    Ok(())
}

pub(super) fn own_cpu_s() -> f64 {
    // SAFETY: a zeroed rusage is valid, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
