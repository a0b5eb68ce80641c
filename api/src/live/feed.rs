//! What a connection pulls from: a topic of the hub, or a live query that is opened first.

use futures_util::future::BoxFuture;
use rollcall_analytics::hub::{Subscription, Update};
use rollcall_analytics::query::Caller as QueryCaller;
use rollcall_analytics::query::live::Following;

use crate::problem::ApiError;
use crate::query::Record;
use crate::state::ApiState;

/// Named in the audit.
const DOOR: &str = "live";

/// Where the updates of one subscription come from.
pub enum Feed {
    Topic(Subscription),
    /// The query lives as long as this does.
    Query(Subscription, Following),
    /// Still to be opened.
    Opening(BoxFuture<'static, Result<Feed, ApiError>>),
}

/// What a feed gives next.
pub enum Next {
    Update(Update),
    /// It gives nothing more.
    Ended,
    Failed(ApiError),
}

impl Feed {
    /// A live query of a caller. The question stands in the audit once, when its first result is there, it fails, or the
    /// client does not wait for it.
    pub fn query(state: ApiState, asks: QueryCaller, sql: String, since: Option<u64>) -> Self {
        Self::Opening(Box::pin(async move {
            let mut record = Record::new(&state, &asks, DOOR, &sql, &[]);
            match state.live_sql.follow(&asks, &sql).await {
                Ok(following) => {
                    record.end("done", following.rows);
                    let subscription = state.hub.subscribe(&following.topic, since);
                    Ok(Self::Query(subscription, following))
                }
                Err(error) => {
                    record.end(error.code(), 0);
                    Err(error.into())
                }
            }
        }))
    }

    /// Waits for what comes next.
    pub async fn next(self) -> (Self, Next) {
        let mut feed = match self {
            Self::Opening(opening) => match opening.await {
                Ok(feed) => feed,
                Err(error) => return (Self::Opening(Box::pin(std::future::pending())), Next::Failed(error)),
            },
            open => open,
        };
        let next = match &mut feed {
            Self::Topic(subscription) => subscription.next().await.map_or(Next::Ended, Next::Update),
            Self::Query(subscription, following) => match subscription.next().await {
                Some(update) => Next::Update(update),
                None => following.ended().map_or(Next::Ended, |error| Next::Failed(error.into())),
            },
            Self::Opening(_) => Next::Ended,
        };
        (feed, next)
    }
}
