//! Tablets that classes share: WebSocket clients which say what the students who have arrived do in learning apps.
//!
//! Most students work on and off, some hardly, and some have no tablet: then there is no data of them, which the strip
//! of the board shows as what it is. The seed fixes who is who, the clock when what happens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

use super::{PlannedDevice, RECONNECT, now_ms};

/// Share of students who have a tablet, and of those who use it little.
const WITH_TABLET: f64 = 0.8;
const QUIET: f64 = 0.2;
/// A quiet student does every eighth thing.
const QUIET_DOES: f64 = 0.125;
const UNACKNOWLEDGED_MAX: u64 = 100;

/// What is opened; the quiz is what a whole class answers.
const RESOURCES: [&str; 4] = ["reader:chapter-3", "reader:chapter-4", "quiz:fractions-3", "sketch:free"];

/// Badges of students who are in the building, by school; filled as they arrive.
#[derive(Clone, Default)]
pub struct Arrived(Arc<Mutex<Vec<Pupil>>>);

#[derive(Clone)]
struct Pupil {
    badge: String,
    school: String,
    is_quiet: bool,
    /// Where the student is in the list of resources.
    resource: usize,
}

impl Arrived {
    /// A student has come in. Not everybody has a tablet.
    pub fn add(&self, badge: &str, school: &str, random: &mut StdRng) {
        if random.random_bool(WITH_TABLET) {
            let is_quiet = random.random_bool(QUIET);
            self.0.lock().push(Pupil { badge: badge.to_owned(), school: school.to_owned(), is_quiet, resource: 0 });
        }
    }

    pub fn remove(&self, badge: &str) {
        self.0.lock().retain(|pupil| pupil.badge != badge);
    }

    /// What some student of a school does next; `None`: nobody is there, or nothing happens.
    fn next(&self, school: &str, random: &mut StdRng) -> Option<(String, &'static str, &'static str)> {
        let mut pupils = self.0.lock();
        let of_school: Vec<usize> = (0..pupils.len()).filter(|place| pupils[*place].school == school).collect();
        let place = *of_school.get(random.random_range(0..of_school.len().max(1)))?;
        let pupil = &mut pupils[place];
        if pupil.is_quiet && !random.random_bool(QUIET_DOES) {
            return None;
        }
        let kind = match random.random_range(0..20) {
            0 => "opened",
            1..=5 => "answered",
            6 => "submitted",
            7..=9 => "advanced",
            _ => "interacted",
        };
        if kind == "opened" {
            pupil.resource = random.random_range(0..RESOURCES.len());
        }
        Some((pupil.badge.clone(), kind, RESOURCES[pupil.resource]))
    }
}

/// One tablet until the stop: what happens at its pace, at most [`UNACKNOWLEDGED_MAX`] frames unacknowledged.
pub async fn tablet(device: PlannedDevice, http: String, per_s: f64, seed: u64, arrived: Arrived, stop: CancellationToken) {
    let mut seq = now_ms();
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        if let Err(error) = connection(&device, &http, per_s, &mut seq, &mut random, &arrived, &stop).await {
            tracing::warn!(device = device.id, %error, "the simulated tablet lost its connection");
        }
        tokio::select! {
            () = tokio::time::sleep(RECONNECT) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn connection(
    device: &PlannedDevice,
    http: &str,
    per_s: f64,
    seq: &mut i64,
    random: &mut StdRng,
    arrived: &Arrived,
    stop: &CancellationToken,
) -> Result<()> {
    let mut request = format!("{}/ingest/v1", http.replacen("http", "ws", 1)).into_client_request()?;
    request.headers_mut().insert("Authorization", format!("Bearer {}:{}", device.id, device.token).parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let mut pace = interval(Duration::from_secs_f64(1.0 / per_s.max(0.01)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    loop {
        tokio::select! {
            _ = pace.tick(), if sent - acknowledged < UNACKNOWLEDGED_MAX => {
                if let Some((badge, kind, resource)) = arrived.next(&device.school, random) {
                    *seq += 1;
                    let event: Value = json!({"type": "activity", "seq": *seq, "ts": now_ms(), "badge": badge, "kind": kind, "resource": resource});
                    socket.send(Message::text(event.to_string())).await?;
                    sent += 1;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(_))) => acknowledged += 1,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            () = stop.cancelled() => { socket.close(None).await?; return Ok(()) }
        }
    }
}
