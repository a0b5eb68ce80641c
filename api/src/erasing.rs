//! Carries erasures into history: the database hides a person's rows as soon as an erasure is committed, and history follows here.
//!
//! # Promises
//! - Within about [`LOOK_EVERY`] of an erasure, while history can be written, no query in SQL shows the person's rows; then the files
//!   that hold them are written again. A crash in between is made good by the next look.
//! - An erasure is said to be done when no file can have the person's rows. One with a file that cannot be read stays open until the file
//!   is gone or readable again.

use std::time::Duration;

use rollcall_analytics::history::History;
use rollcall_model::ids::{DistrictId, Offset, PersonId};
use rollcall_store::{Store, erasure};
use tokio_util::sync::CancellationToken;

use crate::problem::ApiError;

/// How often it is looked whether somebody is to be erased.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The task that does so. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Eraser {
    store: Store,
    history: History,
}

impl Eraser {
    pub fn new(store: Store, history: History) -> Self {
        Self { store, history }
    }

    /// Runs until shut down; an erasure that has begun is ended first, because history must not be left in the middle of a step.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.look(&shutdown).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an erasure cannot be carried into history; it is tried again");
            }
        }
    }

    /// Carries out what is open, once. May be repeated. One that fails does not keep the others waiting; the last failure is returned.
    pub async fn look(&self, shutdown: &CancellationToken) -> Result<(), ApiError> {
        let (mut outcome, mut after) = (Ok(()), None);
        loop {
            let open = erasure::open(&self.store, after).await?;
            let Some((district, person, _)) = open.last() else { return outcome };
            after = Some((*district, *person));
            for (district, person, before) in open {
                if shutdown.is_cancelled() {
                    return outcome;
                }
                match self.carry_out(district, person, before).await {
                    Ok(true) => erasure::history_is_done(&self.store, district, person, before).await?,
                    Ok(false) => {}
                    Err(error) => outcome = Err(error),
                }
            }
        }
    }

    /// Whether no file can have rows of the person any more.
    async fn carry_out(&self, district: DistrictId, person: PersonId, before: Offset) -> Result<bool, ApiError> {
        let state = self.history.state();
        let stones = state.iter().flat_map(|state| &state.tombstones);
        let begun: Vec<bool> = stones
            .filter(|stone| (stone.district, stone.person) == (district, person) && stone.before >= before)
            .map(|stone| stone.pending)
            .collect();
        if !begun.is_empty() {
            // History itself goes on with what is pending.
            return Ok(begun.contains(&false));
        }
        let erased = self.history.erase(district, person).await.map_err(ApiError::internal)?;
        tracing::info!(rows = erased.rows, files = erased.files, unreadable = erased.unreadable.len(), "a person was erased from history");
        Ok(erased.unreadable.is_empty())
    }
}
