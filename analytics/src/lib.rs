//! What is computed from the log while it happens: live attendance, engagement, and the live topics that show them.

pub mod attendance;
pub mod distributed;
pub mod engagement;
pub mod facts;
pub mod history;
pub mod hot;
pub mod hub;
pub mod query;
mod sealed;
