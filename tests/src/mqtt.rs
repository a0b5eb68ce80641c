//! An MQTT 3.1.1 client that decides every byte itself: which packet id goes out, what is sent again, whether anything is
//! ever read. A library that keeps sessions of its own would hide what the server did.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::district::Device;

const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// A CONNECT of a device with a clean session.
pub fn connect_packet(device: &Device, client_id: &str, keep_alive_s: u16) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\xc2".to_vec();
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    for text in [client_id, &device.id, &device.token] {
        put_text(&mut body, text);
    }
    packet(0x10, &body)
}

/// A PUBLISH with QoS 1.
pub fn publish_packet(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
    put_text(&mut body, topic);
    body.extend_from_slice(&packet_id.to_be_bytes());
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

/// Opens a connection whose receive buffer is small, so that a client which does not read is felt soon.
pub async fn open_narrow(address: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    Ok(socket.connect(address.parse()?).await?)
}

/// A signed-in connection.
pub struct Link {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl Link {
    pub async fn open(address: &str, device: &Device) -> Result<Self> {
        Self::greet(TcpStream::connect(address).await?, device, 0).await
    }

    /// Says CONNECT on an open connection; refused is an error.
    pub async fn greet(mut stream: TcpStream, device: &Device, keep_alive_s: u16) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.write_all(&connect_packet(device, &device.id, keep_alive_s)).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.context("no CONNACK")?;
        if answer[0] != CONNACK || answer[3] != 0 {
            bail!("CONNECT was answered {answer:?}");
        }
        Ok(Self { stream, input: Vec::new() })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Packet ids of the PUBACKs that have come, at least one unless the connection ended (an error). Other packets are
    /// passed over. Cancelling loses nothing.
    pub async fn acknowledged(&mut self) -> Result<Vec<u16>> {
        loop {
            let mut ids = Vec::new();
            let mut at = 0;
            while let Some(length) = whole(&self.input[at..]) {
                let bytes = &self.input[at..at + length];
                if bytes[0] == PUBACK {
                    ids.push(u16::from_be_bytes([bytes[2], bytes[3]]));
                }
                at += length;
            }
            self.input.drain(..at);
            if !ids.is_empty() {
                return Ok(ids);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the connection ended");
            }
        }
    }
}

/// Bytes of the whole packet at the front.
fn whole(bytes: &[u8]) -> Option<usize> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let total = 2 + index + length;
            return (bytes.len() >= total).then_some(total);
        }
    }
    None
}
