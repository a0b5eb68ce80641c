//! Facts: one row a student and day (or meeting), for whatever dates, as it was known at an instant.
//!
//! # What it promises
//! - Every student has a row for every day in session on which the student was a member of the school, whether anything
//!   was ever concluded about that day or not: rows come from the calendar and the memberships, not from what is stored.
//! - A conclusion on record is taken as it stands, the newest that had been recorded by the instant. Where nothing final
//!   had been (the server was not running when the day ended), the rules are applied to the scans and marks that the
//!   server had by the instant, and the row says so in `basis`.
//! - Only days whose last bell had rung by the instant are `closed`, and only those are counted by [`report`].
//! - Scans, marks and conclusions are bitemporal. The directory is not: memberships, enrolments, calendars, bells and
//!   policies carry the dates for which they hold, but their present wording counts, also for an earlier instant. The
//!   grade is the present one.
//! - Rows come in chunks of one school and at most [`DATES_PER_CHUNK`] dates, each chunk from one snapshot of the
//!   database; memory does not grow with the range.

mod absence;
mod build;
pub(crate) mod columns;
mod missed;
pub(crate) mod narrow;
mod plan;
mod read;
pub mod report;
mod sessions;
mod table;
mod views;

pub use plan::Members;
pub use read::{Asked, DATES_PER_CHUNK, Reader};
pub use table::{Facts, FactsTable};
pub use views::{VIEWS, View};
