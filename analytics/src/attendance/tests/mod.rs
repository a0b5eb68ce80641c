//! Live attendance against a log in memory, a hand-made directory and a stepped clock.

mod boards;
mod changes;
mod clock;
mod late;
mod restart;
mod town;
