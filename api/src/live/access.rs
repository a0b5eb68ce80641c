//! Whether a live connection's session still holds and which topics it may follow, kept up with the directory.

use std::borrow::Cow;
use std::time::Duration;

use rollcall_analytics::query::Caller as QueryCaller;
use rollcall_model::ids::{AccountId, DistrictId};
use rollcall_model::time::UtcMillis;
use rollcall_store::StoreError;
use rollcall_store::secret::SecretHash;
use rollcall_store::session::{self, Session};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::problem::ApiError;
use crate::query;
use crate::rights::Who;
use crate::state::ApiState;

use super::topic::Topic;

/// How often a session is looked at again although nothing was heard of it: it may have ended in another process, and
/// rights also change with the date.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a connection learns while it waits.
pub enum Change {
    /// Rights may have changed: every subscription is to be checked with [`Access::check`].
    Rights,
    /// The session has ended; so does the connection.
    Ended,
}

type Looking = JoinHandle<Result<Option<Session>, StoreError>>;

/// One connection's session and rights.
pub struct Access {
    state: ApiState,
    who: Who,
    district: DistrictId,
    token_hash: SecretHash,
    expires: UtcMillis,
    directory_changed: watch::Receiver<u64>,
    sessions_ended: broadcast::Receiver<SecretHash>,
    /// The session is to be looked at in the database.
    is_due: bool,
    /// The look that is under way. A task of its own, so that a busy connection cannot keep interrupting it.
    looking: Option<Looking>,
    look_again: Instant,
}

impl Access {
    pub fn new(state: &ApiState, caller: &Caller) -> Self {
        let mut directory_changed = state.directory.changed();
        // The caller's rights were found in an earlier snapshot.
        directory_changed.mark_changed();
        Self {
            state: state.clone(),
            who: caller.who.clone(),
            district: caller.district,
            token_hash: caller.token_hash,
            expires: caller.expires,
            directory_changed,
            sessions_ended: state.ended_sessions(),
            // It may have ended between the request and the line above.
            is_due: true,
            looking: None,
            look_again: Instant::now() + LOOK_AGAIN,
        }
    }

    pub fn account(&self) -> AccountId {
        self.who.account
    }

    /// The hub's name of a topic that was checked.
    pub fn told_as<'a>(&self, topic: Topic, name: &'a str) -> Cow<'a, str> {
        topic.told_as(name, &self.who)
    }

    /// Refuses when the topic is not this connection's to follow, by the directory as it is now.
    pub fn check(&self, topic: Topic) -> Result<(), ApiError> {
        let directory = self.state.directory.current();
        let district = directory.district(self.district).ok_or(ApiError::NotFound("district"))?;
        topic.check(&self.who, district, self.state.clock.now())
    }

    /// Who asks on this connection, by the directory as it is now.
    pub fn asks(&self) -> Result<QueryCaller, ApiError> {
        let directory = self.state.directory.current();
        let district = directory.district(self.district).ok_or(ApiError::NotFound("district"))?;
        Ok(query::asks(&self.state, &self.who, district, self.state.clock.now()))
    }

    /// Whether the directory has changed since this was last asked: then every subscription is checked before anything is
    /// sent. The session is looked at too, which [`Access::changed`] tells of.
    pub fn take_stale(&mut self) -> bool {
        let stale = self.directory_changed.has_changed().unwrap_or(true);
        if stale {
            self.directory_changed.mark_unchanged();
            self.is_due = true;
        }
        stale
    }

    /// Waits for the next change. Cancel-safe.
    pub async fn changed(&mut self) -> Change {
        loop {
            if self.is_due && self.looking.is_none() {
                self.is_due = false;
                self.look_again = Instant::now() + LOOK_AGAIN;
                self.looking = Some(look(self.state.clone(), self.token_hash));
            }
            tokio::select! {
                biased;
                ended = self.sessions_ended.recv() => match ended {
                    Ok(token_hash) if token_hash == self.token_hash => return Change::Ended,
                    Ok(_) => {}
                    // Some were missed, maybe this one: ask.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.is_due = true,
                    Err(broadcast::error::RecvError::Closed) => return Change::Ended,
                },
                changed = self.directory_changed.changed() => {
                    if changed.is_err() {
                        return Change::Ended;
                    }
                    self.is_due = true;
                    return Change::Rights;
                }
                looked = finished(&mut self.looking) => {
                    self.looking = None;
                    if let Some(change) = self.learn(looked) {
                        return change;
                    }
                }
                () = tokio::time::sleep_until(self.look_again), if self.looking.is_none() => {
                    self.is_due = true;
                    return Change::Rights;
                }
            }
        }
    }

    /// What a look at the session says. While the database is away what was known goes on until the session's own end.
    fn learn(&mut self, looked: Result<Option<Session>, StoreError>) -> Option<Change> {
        match looked {
            Ok(Some(session)) => {
                self.expires = session.expires;
                let who = Who { account: session.account, role: session.role, person: session.person, school: session.school };
                let changed = who != self.who;
                self.who = who;
                changed.then_some(Change::Rights)
            }
            Ok(None) => Some(Change::Ended),
            Err(error) => {
                tracing::warn!(%error, "a live session could not be looked at");
                (self.state.clock.now() >= self.expires).then_some(Change::Ended)
            }
        }
    }
}

/// Few at a time: a change of the directory makes every connection look.
fn look(state: ApiState, token_hash: SecretHash) -> Looking {
    tokio::spawn(async move {
        let _turn = state.session_looks.acquire().await;
        session::by_token(&state.store, &token_hash).await
    })
}

async fn finished(looking: &mut Option<Looking>) -> Result<Option<Session>, StoreError> {
    match looking {
        // A look that panicked says nothing about the session; the next one will.
        Some(task) => task.await.unwrap_or_else(|panic| Err(StoreError::Invalid(panic.to_string()))),
        None => std::future::pending().await,
    }
}
