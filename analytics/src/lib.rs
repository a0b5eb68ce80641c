//! What is computed from the log while it happens: live attendance and the live topics that show it.

pub mod attendance;
pub mod hub;
