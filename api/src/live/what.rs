//! What a subscription was allowed to follow, and whether it still may.

use rollcall_analytics::query::Caller as QueryCaller;

use super::access::Access;
use super::protocol;
use super::topic::Topic;

/// The topic that is a question.
pub const SQL: &str = "sql";

/// What a subscription was allowed to follow.
pub enum What {
    Topic(Topic),
    /// A question by whoever the account was then.
    Query(Box<QueryCaller>),
}

impl What {
    /// Why it may not be followed any longer, by the directory as it is now; said to the subscription's id where it has one.
    pub fn refused(&self, id: Option<u64>, access: &Access) -> Option<String> {
        let refused = match self {
            Self::Topic(topic) => access.check(*topic),
            Self::Query(asked) => match access.asks() {
                Ok(asks) if asks == **asked => Ok(()),
                Ok(_) => {
                    let message = "the rights of this account have changed; subscribe again";
                    return Some(protocol::refusal(id, "rights_changed", message));
                }
                Err(error) => Err(error),
            },
        };
        refused.err().map(|error| protocol::refused(id, &error))
    }
}
