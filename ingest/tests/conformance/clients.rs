//! rumqttc, polled by a task of its own, with its packets handed to the test one at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Longer than any keep-alive that is waited for, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Packets that wait for the test; far more than any test lets come.
const PACKETS_MAX: usize = 1_024;

pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// One connection: its packets, and the task that polls it.
pub struct Line<P, M> {
    packets: mpsc::Receiver<P>,
    /// Messages that came while something else was awaited.
    inbox: VecDeque<M>,
    message: fn(P) -> Option<M>,
    frozen: Arc<Notify>,
    task: JoinHandle<()>,
}

impl<P, M> Drop for Line<P, M> {
    /// The network is lost: the stream ends without a DISCONNECT.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<P: Send + Clone + 'static, M> Line<P, M> {
    /// `poll` gives the next packet from the server, `Some(None)` for what the client itself did, `None` at the end.
    pub fn new<L, F>(mut events: L, mut poll: F, message: fn(P) -> Option<M>) -> Self
    where
        L: Send + 'static,
        F: for<'a> FnMut(&'a mut L) -> BoxFuture<'a, Option<Option<P>>> + Send + 'static,
    {
        let (sender, packets) = mpsc::channel(PACKETS_MAX);
        let frozen = Arc::new(Notify::new());
        let freeze = frozen.clone();
        let task = tokio::spawn(async move {
            let mut asked = Box::pin(freeze.notified());
            loop {
                let polled = tokio::select! {
                    polled = poll(&mut events) => polled,
                    () = &mut asked => std::future::pending().await,
                };
                match polled {
                    Some(Some(packet)) => sender.send(packet).await.unwrap(),
                    Some(None) => {}
                    None => return,
                }
            }
        });
        Self { packets, inbox: VecDeque::new(), message, frozen, task }
    }

    /// From here on the client says and reads nothing, but its stream stays.
    pub fn freeze(&self) {
        self.frozen.notify_one();
    }

    /// The first packet that `pick` takes; messages that come before it are kept.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&P) -> Option<T>) -> T {
        loop {
            let packet = patiently(what, self.packets.recv()).await.unwrap_or_else(|| panic!("{what}: the connection ended"));
            if let Some(found) = pick(&packet) {
                return found;
            }
            self.inbox.extend((self.message)(packet));
        }
    }

    pub async fn message(&mut self) -> M {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return message;
            }
            let packet = patiently("a message", self.packets.recv()).await.expect("a message: the connection ended");
            self.inbox.extend((self.message)(packet));
        }
    }

    /// The connection has ended.
    pub async fn ended(&mut self) {
        patiently("the end", async { while self.packets.recv().await.is_some() {} }).await;
    }
}
