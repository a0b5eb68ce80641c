//! Runs the exports that are due: a saved question with its owner's rights as they are now, into one file of the
//! operator's place.
//!
//! # Promises
//! - A file is there whole or not at all, `<district>/<export>/<title>-<instant>.<format>`; on a local disk it survives a
//!   loss of power once the run is said to be done. A repeated run of one instant writes the same name.
//! - An export whose account is disabled or has lost the right is not run.
//! - A result that reaches a limit of queries is a failure with its reason, never a file with less in it. So is one that lacks what
//!   may be there later, such as history that does not answer: it is tried again. What is lost for good, such as a damaged file of
//!   history, is named with the outcome, and in a Parquet file's own metadata.
//! - One run at a time on each server, so that exports never take more than one turn from the desk.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use prometheus::IntCounterVec;
use rollcall_analytics::history::Place;
use rollcall_analytics::query::Lacks;
use rollcall_model::ids::{DistrictId, ExportId};
use rollcall_model::time::UtcMillis;
use rollcall_store::StoreError;
use rollcall_store::account::AccountRow;
use rollcall_store::export::{self, Claim, Ended, FileFormat};
use rollcall_store::session::{Session, SessionKind};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use crate::caller::Caller;
use crate::problem::ApiError;
use crate::query;
use crate::rights;
use crate::routes::sql::encode::{Encoder, Format};
use crate::state::ApiState;

/// How often it is looked whether one is due; an export begins at most this much late.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Exports of one look; the rest has its turn at the next.
const PER_LOOK_MAX: i32 = 50;
/// Longest part of a file's name that comes from the title.
const SLUG_CHARS_MAX: usize = 60;

/// The runner of exports.
#[derive(Clone)]
pub struct Exporter {
    state: ApiState,
    place: Place,
    runs: IntCounterVec,
}

/// A file that is there.
struct Written {
    rows: u64,
    bytes: u64,
    /// What its rows lack for good.
    warning: Option<String>,
}

/// Why a run has no file.
struct Fault {
    error: String,
    passing: bool,
}

impl Fault {
    fn place(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %cause, "an export could not be written");
        Self { error: "the file could not be written to the place of exports".to_owned(), passing: true }
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        let passing = matches!(error, ApiError::TooMany { .. } | ApiError::Unavailable { .. } | ApiError::Store(_) | ApiError::Internal(_));
        Self { error: error.to_string(), passing }
    }
}

impl Exporter {
    /// Fails when the registry already has the exporter's metric.
    pub fn new(state: ApiState, place: Place) -> Result<Self, prometheus::Error> {
        let opts = prometheus::Opts::new("rollcall_exports_total", "Exports of saved questions by how they ended");
        let runs = IntCounterVec::new(opts, &["outcome"])?;
        state.registry.register(Box::new(runs.clone()))?;
        Ok(Self { state, place, runs })
    }

    /// Runs what is due until shut down. A run that is cut by the stop is done again after the next start.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.run_due() => {
                    if let Err(error) = done {
                        tracing::warn!(%error, "exports could not be looked for; trying again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Runs every export that is due and that no other server has; returns how many ended here, whichever way.
    pub async fn run_due(&self) -> Result<usize, StoreError> {
        let mut ended = 0;
        for (district, id) in export::due(&self.state.store, self.state.clock.now(), PER_LOOK_MAX).await? {
            match self.run_one(district, id).await {
                Ok(ran) => ended += usize::from(ran),
                // The lock has ended with the transaction; the next look takes it again.
                Err(error) => tracing::error!(%error, export = %id, "the outcome of an export could not be written down"),
            }
        }
        Ok(ended)
    }

    async fn run_one(&self, district: DistrictId, id: ExportId) -> Result<bool, StoreError> {
        let Some(claim) = export::claim(&self.state.store, district, id, self.state.clock.now()).await? else { return Ok(false) };
        let ended = match self.caller_of(district, &claim) {
            Ok(Some(caller)) => self.write(&caller, &claim).await,
            Ok(None) => Ended::Skipped { reason: "the account is disabled or may not export any more".to_owned() },
            Err(error) => Ended::Failed { error: error.to_string(), passing: true },
        };
        let outcome = match &ended {
            Ended::Done { .. } => "done",
            Ended::Failed { .. } => "failed",
            Ended::Skipped { .. } => "skipped",
        };
        tracing::info!(%district, export = %id, outcome, "an export has ended");
        self.runs.with_label_values(&[outcome]).inc();
        claim.finish(&ended, self.state.clock.now()).await?;
        Ok(true)
    }

    /// The owner as somebody who asks now; `None`: may not.
    fn caller_of(&self, district: DistrictId, claim: &Claim) -> Result<Option<Caller>, ApiError> {
        let Some(owner) = claim.owner.as_ref().filter(|owner| !owner.disabled) else { return Ok(None) };
        let directory = self.state.directory.current().district(district).cloned();
        let directory = directory.ok_or_else(|| ApiError::Unavailable {
            code: "directory_not_loaded",
            message: "the district's directory is not loaded yet".to_owned(),
        })?;
        let now = self.state.clock.now();
        // Nobody is signed in: the session lives as long as the run and is known to nobody.
        let caller = Caller::new(session(district, owner, now), [0; 32], directory, now);
        Ok(Some(caller).filter(|caller| rights::may_export(&caller.who)))
    }

    async fn write(&self, caller: &Caller, claim: &Claim) -> Ended {
        let file = file_name(caller.district, claim);
        match self.write_file(caller, claim, &file).await {
            Ok(Written { rows, bytes, warning }) => Ended::Done { file, rows, bytes, warning },
            Err(Fault { error, passing }) => Ended::Failed { error, passing },
        }
    }

    async fn write_file(&self, caller: &Caller, claim: &Claim, file: &str) -> Result<Written, Fault> {
        let mut answer = query::ask(&self.state, caller, "export", &claim.sql).await?;
        lacks_for_good(answer.lacks.clone())?;
        let format = match claim.export.format {
            FileFormat::Csv => Format::Csv,
            FileFormat::Parquet => Format::Parquet,
        };
        let broken = |error: crate::routes::sql::encode::Broken| Fault::from(ApiError::internal(error));
        let mut encoder = Encoder::new(format, &answer.schema, answer.warnings.clone()).map_err(broken)?;
        let mut writer = self.place.writer(file).map_err(|error| Fault::place(&error))?;
        let (mut rows, mut bytes) = (0, 0);
        let copied = async {
            loop {
                let next = answer.next().await.transpose().map_err(|error| Fault::from(ApiError::from(error)))?;
                let chunk = match &next {
                    Some(batch) => encoder.rows(batch),
                    None => {
                        encoder.warn(answer.later_warnings());
                        encoder.end(None)
                    }
                };
                let chunk = chunk.map_err(broken)?;
                rows += next.as_ref().map_or(0, |batch| batch.num_rows() as u64);
                bytes += chunk.len() as u64;
                writer.write_all(&chunk).await.map_err(|error| Fault::place(&error))?;
                if next.is_none() {
                    return lacks_for_good(answer.later_lacks());
                }
            }
        };
        let warning = match copied.await {
            Ok(warning) => warning,
            Err(fault) => {
                // What has been sent of a large file is taken back; a small one was never sent.
                let _ = writer.abort().await;
                return Err(fault);
            }
        };
        writer.shutdown().await.map_err(|error| Fault::place(&error))?;
        self.place.settle(vec![file.to_owned()]).await.map_err(|error| Fault::place(&error))?;
        Ok(Written { rows, bytes, warning })
    }
}

/// What an answer has not and will not have, in words; what may be there later is a fault.
fn lacks_for_good(lacks: Lacks) -> Result<Option<String>, Fault> {
    let words = Some(lacks.what.join("; ")).filter(|words| !words.is_empty());
    if lacks.for_now { Err(Fault { error: words.unwrap_or_default(), passing: true }) } else { Ok(words) }
}

fn session(district: DistrictId, owner: &AccountRow, now: UtcMillis) -> Session {
    Session {
        district,
        account: owner.id,
        kind: SessionKind::Api,
        email: owner.email.clone(),
        role: owner.role,
        person: owner.person,
        school: owner.school,
        created: now,
        seen: now,
        expires: now,
    }
}

/// Below a folder of the district and one of the export, so that a new title moves nothing.
fn file_name(district: DistrictId, claim: &Claim) -> String {
    let due: DateTime<Utc> = claim.export.due.to_chrono().unwrap_or_default();
    let (slug, format) = (slug(&claim.export.title), claim.export.format.as_str());
    format!("{district}/{}/{slug}-{}.{format}", claim.export.id, due.format("%Y%m%dT%H%M%SZ"))
}

/// A title as every object store takes it in a name.
fn slug(title: &str) -> String {
    let mut slug = String::new();
    for character in title.chars().map(|character| character.to_ascii_lowercase()) {
        if slug.len() >= SLUG_CHARS_MAX {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "export".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn a_title_becomes_a_name_that_leaves_its_folder_nowhere() {
        assert_eq!(slug("Absent by week (2026)"), "absent-by-week-2026");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("欠席"), "export");
        assert_eq!(slug(&"x".repeat(500)).len(), 60);
    }
}
