//! Engagement: what learning apps and, with consent, wearables say of a class in windows of five minutes of event time.
//!
//! # What is computed
//! The metrics of definition 1 (`definition_1/*.sql`, run by DataFusion), for each meeting of a section and each window
//! that it touches. What the definition leaves open is decided in `docs/adr/0020-engagement-windows.md`.
//!
//! # What never is
//! No data is no data: metrics are null then, never low. Nothing is kept or computed without the consent on file for
//! the purpose, or out of school hours. Engagement feeds neither attendance nor marks.

pub mod calculate;
pub mod definition;
mod engine;
pub mod input;
mod known;
mod live;
pub mod meeting;
mod seam;
mod slot;
pub mod store;
pub mod table;
mod topics;

pub use engine::{Engagement, EngagementDeps, EngagementError, EngagementHandle, READER};
pub use seam::{
    ClassDay, ClassSource, ClassView, DayPresence, EngagementStore, MeetingCut, PresenceSource, Present, StudentRecord, WindowRecord,
    present_span,
};

#[cfg(test)]
mod tests;
