//! Tasks with names, owners and stop tokens; the private database is one of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;
use rollcall_store::embedded::EmbeddedPostgres;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long one subsystem may take to end before the next is told to.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the private database is looked at, and the bounds of the pause before it is started again.
const DATABASE_WATCH: Duration = Duration::from_millis(500);
const DATABASE_RETRY_MAX: Duration = Duration::from_secs(30);

/// All running subsystems. Any that ends by itself, with an error, by a panic or without one, ends the program: a board
/// that stands still must not look alive.
pub struct Subsystems {
    tasks: Mutex<BTreeMap<&'static str, JoinHandle<()>>>,
    stops: Mutex<BTreeMap<&'static str, CancellationToken>>,
    ended: (mpsc::Sender<(&'static str, Result<()>)>, Mutex<mpsc::Receiver<(&'static str, Result<()>)>>),
}

impl Default for Subsystems {
    fn default() -> Self {
        // One place for each subsystem's last word.
        let (send, receive) = mpsc::channel(32);
        Self { tasks: Mutex::default(), stops: Mutex::default(), ended: (send, Mutex::new(receive)) }
    }
}

impl Subsystems {
    /// The token that tells this subsystem to end.
    pub fn stop(&self, name: &'static str) -> CancellationToken {
        self.stops.lock().entry(name).or_default().clone()
    }

    pub fn spawn(&mut self, name: &'static str, work: impl Future<Output = Result<()>> + Send + 'static) {
        let (stop, ended) = (self.stop(name), self.ended.0.clone());
        let task = tokio::spawn(async move {
            let outcome = match tokio::spawn(work).await {
                Ok(outcome) => outcome,
                Err(panic) => Err(anyhow!("{panic}")),
            };
            if stop.is_cancelled() && outcome.is_ok() {
                return;
            }
            let outcome = outcome.and_then(|()| Err(anyhow!("it ended without being told to")));
            let _ = ended.send((name, outcome)).await;
        });
        self.tasks.lock().insert(name, task);
    }

    /// Waits for the wish to stop or for the first subsystem that fails.
    pub async fn until(&self, shutdown: CancellationToken) -> Result<()> {
        let failed = std::future::poll_fn(|context| self.ended.1.lock().poll_recv(context));
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failed = failed => match failed {
                Some((name, Err(error))) => {
                    tracing::error!(subsystem = name, error = format!("{error:#}"), "a subsystem failed; the program ends");
                    Err(error.context(format!("{name} failed")))
                }
                _ => Ok(()),
            },
        }
    }

    /// Tells one subsystem to end and waits for it, bounded.
    pub async fn end(&self, name: &'static str) {
        self.stop(name).cancel();
        let task = self.tasks.lock().remove(name);
        let Some(mut task) = task else { return };
        if tokio::time::timeout(END_TIMEOUT, &mut task).await.is_err() {
            tracing::warn!(subsystem = name, "did not end in time and was cut");
            task.abort();
        }
    }

    /// Lets a subsystem go on until it has caught up, at most for a time, then ends it.
    pub async fn end_after(&self, name: &'static str, at_most: Duration, caught_up: impl Fn() -> bool) {
        let caught_up = async {
            while !caught_up() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(at_most, caught_up).await.is_err() {
            tracing::warn!(subsystem = name, "had not caught up at the stop; it goes on at the next start");
        }
        self.end(name).await;
    }
}

/// Starts the private database again whenever it has ended, and stops it in order at the end. Meanwhile the log holds.
pub async fn database(mut server: EmbeddedPostgres, stop: CancellationToken) -> Result<()> {
    let mut retry = DATABASE_WATCH;
    loop {
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            () = stop.cancelled() => break,
        }
        if server.is_running() {
            retry = DATABASE_WATCH;
            continue;
        }
        tracing::error!("the private database ended; starting it again");
        if let Err(error) = server.restart().await {
            retry = (retry * 2).min(DATABASE_RETRY_MAX);
            tracing::error!(%error, "the private database could not be started");
        }
    }
    server.stop().await;
    Ok(())
}
