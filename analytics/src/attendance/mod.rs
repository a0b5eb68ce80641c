//! Live attendance: the rules of `rollcall_model::attendance` applied to the log while it grows, and to the clock.
//!
//! # What it promises
//! - The state is a function of the log, the directory and the clock. A day of a school is loaded from the database at
//!   a consistent cut and brought up by the log's rows from that cut; rows below a day's cut are ignored for that day.
//! - The clock alone moves statuses: each student's next change stands in a heap, so the cost grows with changes.
//! - Only students whom a batch of events touches are concluded anew, and each topic gets one update per read.
//! - What is concluded is written as transitions. After a kill the recomputed state is compared with the statuses
//!   last written, once everything that was durable at the start is applied, and the differences are written.
//! - The database may be away: the boards go on; transitions wait, merged to the newest of each key when many wait.
//!
//! Statuses of a period are written from its start on. Before it the board shows what is already known, but whether a
//! student is there in period 7 is no matter of record at 8 in the morning. `expected` is written only when it
//! replaces something else: no row says the same.

mod board;
mod boards;
mod changes;
mod day;
mod deadlines;
mod device;
mod engine;
mod handle;
mod live;
mod metrics;
mod pace;
mod present;
mod record;
mod seam;
mod statuses;
pub mod store;
mod tally;
mod writer;

pub use boards::groups_topic;
pub use changes::StatusChanges;
pub use engine::{Engine, EngineDeps, EngineError, READER};
pub use handle::{EngineHandle, Inside, StudentToday, WindowToday};
pub use seam::{
    AttendanceStore, BoxFuture, Cut, DayKey, DayPlan, DeviceInfo, DirectorySource, DirectoryView, LastStatus, PlannedMeeting, SchoolInfo,
    SeamError, SectionInfo, Transition,
};
pub use statuses::{DayStatuses, StatusNow};

#[cfg(test)]
mod tests;
