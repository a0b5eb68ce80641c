//! A subscriber of `/live/v1` that holds each topic as the protocol says: a snapshot, then deltas on top of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::session::Session;

/// What a topic holds: collections of entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    pub version: u64,
    pub data: Map<String, Value>,
}

impl Board {
    /// Applies one message; an error is a breach of the protocol.
    pub fn apply(&mut self, message: &Value) -> Result<()> {
        let version = message["version"].as_u64().with_context(|| format!("no version: {message}"))?;
        let data = message["data"].as_object().with_context(|| format!("no data: {message}"))?;
        match message["op"].as_str() {
            Some("snapshot") => self.data = data.clone(),
            Some("delta") => {
                let from = message["from"].as_u64().unwrap_or(version - 1);
                if from != self.version {
                    bail!("a delta from {from} does not fit version {}", self.version);
                }
                for (collection, changes) in data {
                    let held = self.data.entry(collection.clone()).or_insert_with(|| json!({}));
                    let (Some(held), Some(changes)) = (held.as_object_mut(), changes.as_object()) else {
                        bail!("{collection} is no collection")
                    };
                    for (key, value) in changes {
                        if value.is_null() {
                            held.remove(key);
                        } else {
                            held.insert(key.clone(), value.clone());
                        }
                    }
                }
            }
            _ => bail!("neither snapshot nor delta: {message}"),
        }
        self.version = version;
        Ok(())
    }

    pub fn entry(&self, collection: &str, key: &str) -> &Value {
        self.data.get(collection).and_then(|entries| entries.get(key)).unwrap_or(&Value::Null)
    }

    pub fn status(&self, student: &str) -> &str {
        self.entry("students", student)["status"].as_str().unwrap_or("")
    }
}

pub struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub boards: BTreeMap<u64, Board>,
    /// Messages that are neither snapshot nor delta.
    pub other: Vec<Value>,
}

impl Live {
    pub async fn connect(base: &str, session: &Session) -> Result<Self> {
        let mut request = format!("{}/live/v1", base.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("cookie", session.cookie.parse()?);
        request.headers_mut().insert("origin", base.parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.context("cannot open /live/v1")?;
        Ok(Self { socket, boards: BTreeMap::new(), other: Vec::new() })
    }

    pub async fn subscribe(&mut self, id: u64, topic: &str, since: Option<u64>) -> Result<()> {
        let mut message = json!({"op": "subscribe", "id": id, "topic": topic});
        if let Some(since) = since {
            message["since"] = since.into();
        }
        self.send(&message).await
    }

    pub async fn send(&mut self, message: &Value) -> Result<()> {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    /// Takes one message and applies it; returns it.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            match self.socket.next().await.context("the live connection ended")?? {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text)?;
                    match (message["op"].as_str(), message["id"].as_u64()) {
                        (Some("snapshot" | "delta"), Some(id)) => self.boards.entry(id).or_default().apply(&message)?,
                        _ => self.other.push(message.clone()),
                    }
                    return Ok(message);
                }
                Message::Close(frame) => bail!("the server closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Takes messages until the condition holds, bounded in time.
    pub async fn until(&mut self, what: &str, seconds: u64, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let waited = tokio::time::timeout(Duration::from_secs(seconds), async {
            while !condition(self) {
                self.next().await?;
            }
            anyhow::Ok(())
        })
        .await;
        match waited {
            Ok(result) => result,
            Err(_) => bail!("within {seconds} s there was no {what}; boards: {:?}; others: {:?}", self.boards, self.other),
        }
    }

    pub fn board(&self, id: u64) -> Board {
        self.boards.get(&id).cloned().unwrap_or_default()
    }
}
