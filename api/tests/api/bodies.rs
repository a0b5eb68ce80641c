//! Bodies that are too large, over a real socket.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::live::serve;
use crate::town::{As, PATIENCE, Town};

struct Connection(TcpStream);

impl Connection {
    async fn open(address: &str) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, cookie: &str, more: &str, body: &[u8]) {
        let head = format!(
            "POST /api/v1/sql HTTP/1.1\r\nHost: rollcall.example\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{more}\r\n",
            body.len()
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.write_all(body).await.unwrap();
    }

    /// The status line and the body of the next answer.
    async fn answer(&mut self) -> (String, Value) {
        let read = async {
            let mut bytes = Vec::new();
            loop {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
                    if body.len() >= length.expect("an answer with a length") {
                        return (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap());
                    }
                }
                let mut piece = [0; 8192];
                let count = self.0.read(&mut piece).await.unwrap();
                assert!(count > 0, "cut after {:?}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&piece[..count]);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("an answer")
    }
}

/// A client that sends all of it before it reads, as simple ones do, hears why it is refused and may go on.
#[tokio::test]
async fn a_body_that_is_too_large_is_read_to_its_end_and_refused() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let cookie = &town.cookies[&As::Office];
    let long = format!("{{\"sql\": \"select '{}'\"}}", "x".repeat(10 * 1024 * 1024));
    let mut connection = Connection::open(&address).await;
    for more in ["", "Idempotency-Key: a\r\n"] {
        connection.send(cookie, more, long.as_bytes()).await;
        let (status, problem) = connection.answer().await;
        assert!(status.starts_with("HTTP/1.1 413"), "{status}: {problem}");
        assert_eq!((&problem["status"], &problem["code"]), (&Value::from(413), &Value::from("body_too_large")), "{problem}");
    }
    // Who waits to be told is told before anything is sent.
    let mut waits = Connection::open(&address).await;
    let head = format!(
        "POST /api/v1/sql HTTP/1.1\r\nHost: rollcall.example\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n"
    );
    waits.0.write_all(head.as_bytes()).await.unwrap();
    let (status, problem) = waits.answer().await;
    assert!(status.starts_with("HTTP/1.1 413") && problem["code"] == "body_too_large", "{status}: {problem}");
}

/// What never ends is not read for ever.
#[tokio::test]
async fn a_body_without_an_end_is_cut() {
    let town = Town::start().await;
    let address = serve(&town).await;
    let mut connection = Connection::open(&address).await;
    let head = format!(
        "POST /api/v1/sql HTTP/1.1\r\nHost: rollcall.example\r\nCookie: {}\r\nSec-Fetch-Site: same-origin\r\n\
         Content-Type: application/json\r\nContent-Length: 100000000000\r\n\r\n",
        town.cookies[&As::Office]
    );
    connection.0.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 1024 * 1024];
    let endless = async {
        let mut sent = 0_u64;
        while connection.0.write_all(&piece).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let sent = tokio::time::timeout(PATIENCE, endless).await.expect("the connection is cut");
    // What lies in the buffers of both ends comes on top.
    assert!((16..64).contains(&sent), "{sent} MiB were taken");
}
