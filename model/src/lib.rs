//! The words of the product as types, and its attendance rules as pure functions.
//!
//! Nothing here does I/O, reads a clock or knows a wire format: whatever an instant, a roster or a policy is
//! needed for is passed in. Ids, events, statuses, marks and policy are data; the rules are in [`attendance`].

pub mod attendance;
pub mod event;
pub mod ids;
pub mod limits;
pub mod policy;
pub mod reports;
pub mod schedule;
pub mod status;
pub mod time;
