//! Many MQTT connections that stand still, then send one message each. Two reports: when all are connected, and when all have
//! been acknowledged; between them it waits for a line on standard input.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rollcall_tests::district::Device;
use serde::{Deserialize, Serialize};

use super::epoll::Epoll;
use super::talk;
use crate::table::Latency;

/// Connections that are being opened at once.
const OPENING_MAX: usize = 256;

/// Connections from one loopback address; each has some 28,000 ports, and the gateway a limit for each address.
const PER_ADDRESS: usize = 12_500;

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// host:port
    #[arg(long)]
    pub address: String,
    #[arg(long)]
    pub devices: PathBuf,
    /// Connections of each device, with client ids of their own
    #[arg(long)]
    pub sessions: usize,
}

impl Options {
    pub fn args(&self) -> Vec<String> {
        let named = |name: &str, value: String| [format!("--{name}"), value];
        let mut args = vec!["idle".to_owned()];
        args.extend(named("address", self.address.clone()));
        args.extend(named("devices", self.devices.display().to_string()));
        args.extend(named("sessions", self.sessions.to_string()));
        args
    }
}

#[derive(Serialize, Deserialize)]
pub struct Connected {
    pub connections: u64,
    pub seconds: f64,
    /// From the first SYN to CONNACK.
    pub latency: Latency,
}

#[derive(Serialize, Deserialize)]
pub struct Spoke {
    pub seconds: f64,
    pub latency: Latency,
}

struct Client {
    stream: TcpStream,
    began: Instant,
    hello: Vec<u8>,
    seq: u64,
}

pub fn run(options: &Options) -> Result<()> {
    let devices = super::read_devices(&options.devices)?;
    let address: SocketAddr = options.address.parse()?;
    let mut epoll = Epoll::new()?;
    let began = Instant::now();
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut clients = connect_all(&mut epoll, address, &devices, options.sessions, &mut latencies)?;
    let (connections, seconds, latency) = (clients.len() as u64, began.elapsed().as_secs_f64(), Latency::of(&latencies));
    println!("{}", serde_json::to_string(&Connected { connections, seconds, latency })?);
    io::stdin().read_line(&mut String::new())?;
    println!("{}", serde_json::to_string(&speak(&mut epoll, &mut clients)?)?);
    Ok(())
}

fn connect_all(
    epoll: &mut Epoll,
    address: SocketAddr,
    devices: &[Device],
    sessions: usize,
    latencies: &mut Histogram<u64>,
) -> Result<Vec<Client>> {
    let total = devices.len() * sessions;
    let end = Instant::now() + TIMEOUT;
    let mut clients: Vec<Client> = Vec::with_capacity(total);
    let (mut done, mut ready) = (0, Vec::new());
    while done < total {
        ensure!(Instant::now() < end, "{done} of {total} connections stand after {TIMEOUT:?}");
        while clients.len() < total && clients.len() - done < OPENING_MAX {
            let index = clients.len();
            // The sessions of one device come apart in time.
            let (device, session) = (&devices[index % devices.len()], index / devices.len());
            let hello = talk::mqtt_connect(device, &format!("{}-{session}", device.id));
            let stream = open(index, address).with_context(|| format!("connection {index}"))?;
            epoll.add(stream.as_raw_fd(), index as u64, true)?;
            let seq = chrono::Utc::now().timestamp_micros() as u64 + index as u64;
            clients.push(Client { stream, began: Instant::now(), hello, seq });
        }
        epoll.wait(Duration::from_millis(100), &mut ready)?;
        for &(token, writable) in &ready {
            let client = &mut clients[token as usize];
            if writable && !client.hello.is_empty() {
                client.stream.write_all(&client.hello)?;
                client.hello = Vec::new();
                epoll.change(client.stream.as_raw_fd(), token, false)?;
                continue;
            }
            if take(&mut client.stream, [0x20, 2, 0, 0])? {
                latencies.record(client.began.elapsed().as_micros() as u64)?;
                done += 1;
            }
        }
    }
    Ok(clients)
}

/// Whether the whole answer is there; another one is an error.
fn take(stream: &mut TcpStream, expected: [u8; 4]) -> Result<bool> {
    let mut answer = [0; 4];
    match stream.read(&mut answer) {
        Ok(4) if answer == expected => Ok(true),
        Ok(count) => bail!("{:x?} came instead of {expected:x?}", &answer[..count]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Begins a connection from one of several loopback addresses without waiting for it.
pub(super) fn open(index: usize, address: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(to) = address else { return Err(io::ErrorKind::Unsupported.into()) };
    let from = [127, 0, 0, 2 + (index / PER_ADDRESS) as u8];
    let name = |ip: [u8; 4], port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    };
    let (from, to) = (name(from, 0), name(to.ip().octets(), to.port()));
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the descriptor is new and ours, the option and both addresses outlive the calls that read them.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let stream = TcpStream::from(OwnedFd::from_raw_fd(fd));
        let on: libc::c_int = 1;
        // The port is chosen at connect, so that it needs to be free for this pair of addresses only.
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), size_of::<libc::c_int>() as u32);
        if libc::bind(fd, (&raw const from).cast(), length) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::connect(fd, (&raw const to).cast(), length) != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINPROGRESS) {
                return Err(error);
            }
        }
        Ok(stream)
    }
}

/// One event from each, all at once.
fn speak(epoll: &mut Epoll, clients: &mut [Client]) -> Result<Spoke> {
    let (began, ts_ms) = (Instant::now(), chrono::Utc::now().timestamp_millis());
    for client in clients.iter_mut() {
        let event = format!("{{\"seq\":{},\"ts\":{ts_ms},\"m\":{{\"battery\":0.5}}}}", client.seq);
        client.stream.write_all(&talk::mqtt_publish("v1/telemetry", 1, event.as_bytes()))?;
    }
    let (mut done, mut ready, mut latencies) = (0, Vec::new(), Histogram::<u64>::new(3)?);
    while done < clients.len() {
        ensure!(began.elapsed() < TIMEOUT, "{done} of {} messages were acknowledged within {TIMEOUT:?}", clients.len());
        epoll.wait(Duration::from_millis(100), &mut ready)?;
        for &(token, _) in &ready {
            if take(&mut clients[token as usize].stream, [0x40, 2, 0, 1])? {
                latencies.record(began.elapsed().as_micros() as u64)?;
                done += 1;
            }
        }
    }
    Ok(Spoke { seconds: began.elapsed().as_secs_f64(), latency: Latency::of(&latencies) })
}
