//! The three ways in, as bytes: how a connection begins, what a message looks like, what its answer must be.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rollcall_tests::district::Device;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// MQTT 3.1.1 with QoS 1
    Mqtt,
    Websocket,
    /// One request at a time on a connection
    Http,
}

/// What one connection says.
pub struct Talk {
    protocol: Protocol,
    topic: String,
    /// Of HTTP: everything before the length of the body.
    head: String,
}

/// A packet of MQTT from its first byte and its content.
pub fn mqtt_packet(first: u8, content: &[&[u8]]) -> Vec<u8> {
    let mut length: usize = content.iter().map(|part| part.len()).sum();
    let mut packet = vec![first];
    while length >= 0x80 {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
    content.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

fn mqtt_text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT of a device with a clean session and a keep-alive of five minutes.
pub fn mqtt_connect(device: &Device, client_id: &str) -> Vec<u8> {
    let (user, password) = (mqtt_text(&device.id), mqtt_text(&device.token));
    mqtt_packet(0x10, &[&mqtt_text("MQTT"), &[4, 0b1100_0010], &300u16.to_be_bytes(), &mqtt_text(client_id), &user, &password])
}

/// A QoS 1 PUBLISH.
pub fn mqtt_publish(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    mqtt_packet(0x32, &[&mqtt_text(topic), &packet_id.to_be_bytes(), payload])
}

impl Talk {
    /// Greets the server; the socket still blocks.
    pub fn open(protocol: Protocol, stream: &mut TcpStream, device: &Device, topic: &str) -> Result<Self> {
        let bearer = format!("Authorization: Bearer {}:{}\r\n", device.id, device.token);
        let mut head = String::new();
        match protocol {
            Protocol::Mqtt => {
                stream.write_all(&mqtt_connect(device, &device.id))?;
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).context("no answer to CONNECT")?;
                ensure!(answer == [0x20, 2, 0, 0], "CONNECT was answered with {answer:x?}");
            }
            Protocol::Websocket => {
                let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                stream.write_all(format!("GET /ingest/v1 HTTP/1.1\r\nHost: bench\r\n{bearer}{upgrade}\r\n").as_bytes())?;
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).context("no answer to the upgrade")?;
                    answer.push(byte[0]);
                }
                ensure!(answer.starts_with(b"HTTP/1.1 101"), "the upgrade was answered with {}", String::from_utf8_lossy(&answer));
            }
            Protocol::Http => {
                head = format!("POST /ingest/v1 HTTP/1.1\r\nHost: bench\r\n{bearer}Content-Type: application/json\r\nContent-Length: ")
            }
        }
        Ok(Self { protocol, topic: topic.to_owned(), head })
    }

    /// A message whose last bytes are the payload.
    pub fn message(&self, payload: &[u8], slot: u64) -> Vec<u8> {
        match self.protocol {
            Protocol::Mqtt => mqtt_publish(&self.topic, slot as u16 + 1, payload),
            Protocol::Websocket => {
                let mut frame = vec![if payload.starts_with(&[0xff; 4]) { 0x82 } else { 0x81 }];
                match payload.len() {
                    length @ 0..=125 => frame.push(0x80 | length as u8),
                    length @ 126..=0xffff => {
                        frame.push(0x80 | 126);
                        frame.extend((length as u16).to_be_bytes());
                    }
                    length => {
                        frame.push(0x80 | 127);
                        frame.extend((length as u64).to_be_bytes());
                    }
                }
                // A mask of zeros is a mask: the payload stays as it is, and numbers can be replaced in it.
                frame.extend([0; 4]);
                frame.extend_from_slice(payload);
                frame
            }
            Protocol::Http => [format!("{}{}\r\n\r\n", self.head, payload.len()).as_bytes(), payload].concat(),
        }
    }

    /// The length of a whole answer at the front of `bytes`, which must acknowledge message `index`; `None`: not whole yet.
    pub fn answer(&self, bytes: &[u8], index: u64, window: u64) -> Result<Option<usize>> {
        match self.protocol {
            Protocol::Mqtt => {
                let Some(packet) = bytes.first_chunk::<4>() else { return Ok(None) };
                let expected = (index % window) as u16 + 1;
                ensure!(packet[..2] == [0x40, 2], "instead of PUBACK came {packet:x?}");
                ensure!(packet[2..] == expected.to_be_bytes(), "the acknowledgement of {packet:x?} came where {expected} was due");
                Ok(Some(4))
            }
            Protocol::Websocket => websocket_answer(bytes, index + 1),
            Protocol::Http => http_answer(bytes),
        }
    }
}

fn websocket_answer(bytes: &[u8], number: u64) -> Result<Option<usize>> {
    let Some([first, length]) = bytes.first_chunk::<2>() else { return Ok(None) };
    ensure!(*first == 0x81 && *length < 126, "an unexpected frame {first:x} of length {length}");
    let end = 2 + usize::from(*length);
    let Some(text) = bytes.get(2..end) else { return Ok(None) };
    let acknowledged = text.strip_prefix(b"{\"ack\":").and_then(|rest| rest.strip_suffix(b"}"));
    let acknowledged = acknowledged.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    if acknowledged != Some(number) {
        bail!("instead of the acknowledgement of {number} came {}", String::from_utf8_lossy(text));
    }
    Ok(Some(end))
}

fn http_answer(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head_bytes) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_bytes])?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let end = head_bytes + length.context("an answer without a length")?;
    let Some(body) = bytes.get(head_bytes..end) else { return Ok(None) };
    let taken = head.starts_with("HTTP/1.1 200") && body.windows(13).any(|window| window == b"\"rejected\":[]");
    ensure!(taken, "a request was answered with {head}{}", String::from_utf8_lossy(body));
    Ok(Some(end))
}
