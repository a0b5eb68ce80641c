//! A TCP proxy between the server and its database that can be slow, stand still, cut every connection or let nobody in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Pass,
    /// Each piece that arrives goes on so much later.
    Slow(Duration),
    /// Connections stay open and nothing moves.
    Stalled,
    /// Nobody is let in, and who was in is cut off.
    Down,
}

pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    /// Grows with each cut.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Listens on a free port and leads to a Unix socket.
    pub async fn start(upstream: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (mode, cuts) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let (modes, cut) = (mode.subscribe(), cuts.subscribe());
        let upstream = upstream.to_path_buf();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                if *modes.borrow() == Mode::Down {
                    continue;
                }
                tokio::spawn(connection(client, upstream.clone(), modes.clone(), cut.clone()));
            }
        });
        Ok(Self { port, mode, cuts })
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        if mode == Mode::Down {
            self.cut();
        }
    }

    /// Ends every connection of now.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn connection(client: tokio::net::TcpStream, upstream: PathBuf, modes: watch::Receiver<Mode>, mut cut: watch::Receiver<u64>) {
    let Ok(server) = UnixStream::connect(&upstream).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    cut.mark_unchanged();
    tokio::select! {
        () = pump(from_client, to_server, modes.clone()) => {}
        () = pump(from_server, to_client, modes) => {}
        _ = cut.changed() => {}
    }
}

async fn pump(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Slow(delay) => tokio::time::sleep(delay).await,
            Mode::Stalled => {
                if modes.wait_for(|mode| *mode != Mode::Stalled).await.is_err() {
                    return;
                }
            }
            Mode::Pass | Mode::Down => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
